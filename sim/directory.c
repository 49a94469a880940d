/* directory.c -- mkdir -p. */
#include "directory.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "textfile.h"

/* Makes every directory that ends at a slash, or at the end of path, within its first length
 * bytes. */
static enum status make_parts(const char *path, size_t length, struct error *error)
{
    char part[FILE_PATH_BYTES];
    for (size_t i = 1; i <= length; i++) {
        if (path[i] != '/' && path[i] != '\0') {
            continue;
        }
        memcpy(part, path, i);
        part[i] = '\0';
        struct stat entry;
        if (mkdir(part, 0777) != 0 && errno != EEXIST) {
            return error_add(error, STATUS_IO, "%s: %s", part, strerror(errno));
        }
        if (stat(part, &entry) == 0 && !S_ISDIR(entry.st_mode)) {
            return error_add(error, STATUS_IO, "%s: is not a directory", part);
        }
    }
    return STATUS_OK;
}

static enum status check_length(const char *path, struct error *error)
{
    size_t length = strlen(path);
    return length > 0 && length < FILE_PATH_BYTES
               ? STATUS_OK
               : error_add(error, STATUS_INVALID, "\"%s\" is no name for a file or directory",
                           path);
}

enum status directory_make(const char *path, struct error *error)
{
    enum status status = check_length(path, error);
    if (status == STATUS_OK) {
        status = make_parts(path, strlen(path), error);
    }
    return status;
}

enum status directory_make_parents(const char *path, struct error *error)
{
    enum status status = check_length(path, error);
    if (status != STATUS_OK) {
        return status;
    }
    size_t length = strlen(path);
    while (length > 0 && path[length - 1] == '/') {
        length--;
    }
    while (length > 0 && path[length - 1] != '/') {
        length--;
    }
    return length > 1 ? make_parts(path, length - 1, error) : STATUS_OK;
}

size_t directory_existing(const char *path)
{
    char part[FILE_PATH_BYTES];
    struct stat entry;
    size_t length = strlen(path) < sizeof part ? strlen(path) : 0;
    memcpy(part, path, length);
    part[length] = '\0';
    while (length > 0 && stat(part, &entry) != 0) {
        do {
            length--;
        } while (length > 0 && path[length] != '/');
        part[length] = '\0';
    }
    return length;
}

void directory_unmake(const char *path, size_t existing)
{
    char part[FILE_PATH_BYTES];
    size_t length = strlen(path) < sizeof part ? strlen(path) : 0;
    memcpy(part, path, length);
    part[length] = '\0';
    while (length > existing && (rmdir(part) == 0 || errno == ENOENT)) {
        do {
            length--;
        } while (length > 0 && path[length] != '/');
        part[length] = '\0';
    }
}

enum status directory_check(const char *path, struct error *error)
{
    size_t existing = directory_existing(path);
    enum status status = directory_make(path, error);
    directory_unmake(path, existing);
    return status;
}
