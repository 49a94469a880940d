/* textfile.c -- whole small files as text. */
#include "textfile.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define TEXT_FILE_BYTES_MAX (INT64_C(16) << 20)

static enum status read_open_file(const char **text, FILE *file, const char *path,
                                  struct arena *arena, struct error *error)
{
    long bytes = fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
    if (bytes < 0 || fseek(file, 0, SEEK_SET) != 0) {
        return error_add(error, STATUS_IO, "%s: %s", path, strerror(errno));
    }
    if (bytes > TEXT_FILE_BYTES_MAX) {
        return error_add(error, STATUS_INVALID, "%s: larger than 16 MiB", path);
    }
    char *memory = arena_alloc(arena, (size_t)bytes + 1, 1);
    if (memory == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "%s: out of memory", path);
    }
    if (fread(memory, 1, (size_t)bytes, file) != (size_t)bytes) {
        return error_add(error, STATUS_IO, "%s: cannot be read", path);
    }
    if (strlen(memory) != (size_t)bytes) {
        return error_add(error, STATUS_INVALID, "%s: is no text", path);
    }
    *text = memory;
    return STATUS_OK;
}

enum status text_read(const char **text, const char *path, struct arena *arena, struct error *error)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return error_add(error, STATUS_IO, "%s: %s", path, strerror(errno));
    }
    struct stat info; /* a folder opens, and says that it is endless */
    bool is_folder = fstat(fileno(file), &info) == 0 && S_ISDIR(info.st_mode);
    enum status status = is_folder ? error_add(error, STATUS_INVALID, "%s: is a folder", path)
                                   : read_open_file(text, file, path, arena, error);
    fclose(file);
    return status;
}
