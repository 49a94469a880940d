/*
 * input.c -- files for functions under fuzz that take a path.
 */
#include "input.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATHS_MAX  32
#define PATH_CHARS 512

static char directory[PATH_CHARS];
static char paths[PATHS_MAX][PATH_CHARS];
static int num_paths;

static void remove_files(const char *folder)
{
    DIR *stream = opendir(folder);
    if (stream == NULL) {
        return;
    }
    for (struct dirent *entry = readdir(stream); entry != NULL; entry = readdir(stream)) {
        unlinkat(dirfd(stream), entry->d_name, 0);
    }
    closedir(stream);
    rmdir(folder);
}

/* Paths may be folders by now; what they hold goes too. */
static void remove_all(void)
{
    for (int index = 0; index < num_paths; index++) {
        remove_files(paths[index]);
        unlink(paths[index]);
    }
    remove_files(directory);
}

static void make_directory(void)
{
    const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(directory, sizeof directory, "%s/fuzz-XXXXXX", base);
    if (mkdtemp(directory) == NULL) {
        perror(directory);
        abort();
    }
    atexit(remove_all);
}

const char *input_path(const char *name)
{
    if (directory[0] == '\0') {
        make_directory();
    }
    size_t base = strlen(directory) + 1;
    for (int index = 0; index < num_paths; index++) {
        if (strcmp(paths[index] + base, name) == 0) {
            return paths[index];
        }
    }
    if (num_paths == PATHS_MAX || base + strlen(name) >= PATH_CHARS) {
        abort();
    }
    memcpy(paths[num_paths], directory, base - 1);
    paths[num_paths][base - 1] = '/';
    strcpy(paths[num_paths] + base, name);
    return paths[num_paths++];
}

const char *input_write(const char *name, const uint8_t *data, size_t bytes)
{
    const char *path = input_path(name);
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(data, 1, bytes, file) != bytes || fclose(file) != 0) {
        perror(path);
        abort();
    }
    return path;
}

void input_write_pieces(const char *const *names, int32_t num_names, const uint8_t *data,
                        size_t bytes)
{
    static const char cut[] = "\n----\n";
    const size_t cut_bytes = sizeof cut - 1;
    size_t begin = 0;
    for (int32_t index = 0; index < num_names; index++) {
        size_t end = begin;
        while (end < bytes &&
               (bytes - end < cut_bytes || memcmp(data + end, cut, cut_bytes) != 0)) {
            end++;
        }
        if (end > begin) {
            input_write(names[index], data + begin, end - begin);
        } else {
            unlink(input_path(names[index]));
        }
        begin = bytes - end < cut_bytes ? bytes : end + cut_bytes;
    }
}
