/*
 * trace_files.c -- names and paths of a trace's files, how they are put in place and removed.
 *
 * Only files with a name that a trace may have are ever removed: a user who names the wrong
 * directory loses nothing.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "directory.h"
#include "trace_internal.h"

static const char *const stems[] = {"experts", "gate_weights", "scores", "phase", "source_rank"};
static const char *const others[] = {"trace.yaml", "requests.csv", "steps.npy"};

bool trace_join(char path[TRACE_PATH_BYTES], const char *directory, const char *name)
{
    int length = snprintf(path, TRACE_PATH_BYTES, "%s/%s", directory, name);
    return length >= 0 && length < TRACE_PATH_BYTES;
}

bool trace_shard_path(char path[TRACE_PATH_BYTES], const char *directory, const char *stem,
                      int32_t shard)
{
    int length =
        snprintf(path, TRACE_PATH_BYTES, "%s/%s-%0*d.npy", directory, stem, TRACE_DIGITS, shard);
    return length >= 0 && length < TRACE_PATH_BYTES;
}

int32_t trace_shard_number(const char *name, const char *stem)
{
    size_t length = strlen(stem);
    if (strncmp(name, stem, length) != 0 || name[length] != '-') {
        return -1;
    }
    const char *digits = name + length + 1;
    if (strspn(digits, "0123456789") != TRACE_DIGITS ||
        strcmp(digits + TRACE_DIGITS, ".npy") != 0) {
        return -1;
    }
    return (int32_t)strtol(digits, NULL, 10);
}

bool trace_is_file_name(const char *name)
{
    bool is_file = false;
    for (size_t i = 0; i < sizeof stems / sizeof stems[0]; i++) {
        is_file = is_file || trace_shard_number(name, stems[i]) >= 0;
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        is_file = is_file || strcmp(name, others[i]) == 0;
    }
    return is_file;
}

bool trace_is_pure_directory(const char *directory)
{
    DIR *stream = opendir(directory);
    bool only = stream != NULL;
    while (only) {
        const struct dirent *entry = readdir(stream);
        if (entry == NULL) {
            break;
        }
        bool is_link = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
        only = is_link || trace_is_file_name(entry->d_name);
    }
    if (stream != NULL) {
        closedir(stream);
    }
    return only;
}

enum status trace_remove(const char *directory, struct error *error)
{
    char path[TRACE_PATH_BYTES];
    struct stat info;
    if (lstat(directory, &info) != 0 && errno == ENOENT) {
        return STATUS_OK;
    }
    if (!S_ISDIR(info.st_mode) || !trace_is_pure_directory(directory)) {
        return error_add(error, STATUS_INVALID,
                         "%s: is or holds something else than a trace and is in the way; move it",
                         directory);
    }
    DIR *stream = opendir(directory);
    if (stream == NULL) {
        return error_add(error, STATUS_IO, "%s: %s", directory, strerror(errno));
    }
    for (const struct dirent *entry = readdir(stream); entry != NULL; entry = readdir(stream)) {
        if (trace_is_file_name(entry->d_name) && trace_join(path, directory, entry->d_name)) {
            (void)unlink(path); /* rmdir tells if it failed */
        }
    }
    closedir(stream);
    if (rmdir(directory) != 0) {
        return error_add(error, STATUS_IO, "%s: cannot be removed: %s", directory, strerror(errno));
    }
    return STATUS_OK;
}

enum status trace_sync_directory(const char *directory, struct error *error)
{
    int descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool is_synced = descriptor >= 0 && fsync(descriptor) == 0;
    enum status status = STATUS_OK;
    if (!is_synced) {
        status =
            error_add(error, STATUS_IO, "%s: cannot be synced: %s", directory, strerror(errno));
    }
    if (descriptor >= 0) {
        close(descriptor);
    }
    return status;
}

/* Removes what a crash left there. Whoever still writes there holds its lock. */
static enum status clear_partial(const char *partial, struct error *error)
{
    int lock = open(partial, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum status status = STATUS_OK;
    if (lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        status = error_add(error, STATUS_IO, "%s: another process writes there; wait for its end",
                           partial);
    } else {
        status = trace_remove(partial, error);
    }
    if (lock >= 0) {
        close(lock);
    }
    return status;
}

/* Where a file system has no locks, there is none. */
static enum status make_partial(int *lock, const char *partial, struct error *error)
{
    if (mkdir(partial, 0777) != 0) {
        return error_add(error, STATUS_IO, "%s: cannot be created: %s", partial, strerror(errno));
    }
    *lock = open(partial, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*lock >= 0) {
        (void)flock(*lock, LOCK_EX | LOCK_NB);
    }
    return STATUS_OK;
}

enum status trace_prepare_paths(char path[TRACE_PATH_BYTES], char partial[TRACE_PATH_BYTES],
                                char replaced[TRACE_PATH_BYTES], int *lock, const char *given,
                                bool replace, struct error *error)
{
    struct stat info;
    size_t length = strlen(given);
    while (length > 1 && given[length - 1] == '/') {
        length--;
    }
    if (length == 0 || length > TRACE_PATH_BYTES - sizeof ".replaced") {
        return error_add(error, STATUS_INVALID, "%s: the path is empty or too long", given);
    }
    memcpy(path, given, length);
    path[length] = '\0';
    (void)snprintf(partial, TRACE_PATH_BYTES, "%.*s.partial", (int)length, given);
    (void)snprintf(replaced, TRACE_PATH_BYTES, "%.*s.replaced", (int)length, given);
    if (lstat(path, &info) == 0) {
        if (!replace) {
            return error_add(error, STATUS_INVALID,
                             "%s: exists; name another, or replace it with --force", path);
        }
        if (!S_ISDIR(info.st_mode) || !trace_is_pure_directory(path)) {
            return error_add(error, STATUS_INVALID,
                             "%s: is or holds something else than a trace; it is not replaced",
                             path);
        }
    }
    enum status status = directory_make_parents(path, error);
    if (status == STATUS_OK) {
        status = clear_partial(partial, error);
    }
    if (status == STATUS_OK) {
        status = trace_remove(replaced, error);
    }
    return status == STATUS_OK ? make_partial(lock, partial, error) : status;
}

enum status trace_move_into_place(const char *path, const char *partial, const char *replaced,
                                  bool replace, struct error *error)
{
    char parent[TRACE_PATH_BYTES];
    bool was_there = replace && rename(path, replaced) == 0;
    if (rename(partial, path) != 0) {
        enum status status =
            error_add(error, STATUS_IO, "%s: cannot be put in place: %s", path, strerror(errno));
        if (was_there && rename(replaced, path) != 0) {
            status = error_add(error, STATUS_IO, "%s: now holds the trace of before: %s", replaced,
                               strerror(errno));
        }
        return status;
    }
    const char *slash = strrchr(path, '/');
    int32_t length = slash == NULL ? 0 : (int32_t)(slash - path);
    const char *rest = slash == NULL ? "." : length == 0 ? "/" : "";
    (void)snprintf(parent, sizeof parent, "%.*s%s", length, path, rest);
    enum status status = trace_sync_directory(parent, error);
    if (status == STATUS_OK && was_there) {
        status = trace_remove(replaced, error);
    }
    return status;
}
