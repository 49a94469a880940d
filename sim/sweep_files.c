/* sweep_files.c -- what a sweep keeps beside its results: a lock, files of ranks, failures. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "directory.h"
#include "sweep_internal.h"

#define RANK_SUFFIX ".rank-"

static void path_beside(char path[SWEEP_PATH_BYTES], const char *results, const char *suffix)
{
    (void)snprintf(path, SWEEP_PATH_BYTES, "%s%s", results, suffix);
}

/* A lock whose file was removed by the sweep that held it before is worth nothing. */
static bool is_still_there(int lock, const char *path)
{
    struct stat held;
    struct stat there;
    return fstat(lock, &held) == 0 && stat(path, &there) == 0 && held.st_ino == there.st_ino;
}

enum status sweep_lock(int *lock, const char *results, struct error *error)
{
    char path[SWEEP_PATH_BYTES];
    path_beside(path, results, ".lock");
    if (strlen(results) + 64 > SWEEP_PATH_BYTES) {
        return error_add(error, STATUS_INVALID, "%.64s...: the path is too long", results);
    }
    enum status status = directory_make_parents(results, error);
    while (status == STATUS_OK) {
        *lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        if (*lock < 0) {
            return error_add(error, STATUS_IO, "%s: %s", path, strerror(errno));
        }
        if (flock(*lock, LOCK_EX | LOCK_NB) != 0) {
            status = error_add(error, STATUS_IO,
                               errno == EWOULDBLOCK ? "%s: another sweep is writing these results"
                                                    : "%s: cannot be locked",
                               results);
        } else if (is_still_there(*lock, path)) {
            return STATUS_OK;
        }
        close(*lock);
    }
    return status;
}

void sweep_unlock(int lock, const char *results)
{
    char path[SWEEP_PATH_BYTES];
    path_beside(path, results, ".lock");
    unlink(path);
    close(lock);
}

void sweep_rank_path(char path[SWEEP_PATH_BYTES], const char *results, int32_t rank)
{
    (void)snprintf(path, SWEEP_PATH_BYTES, "%s%s%d", results, RANK_SUFFIX, (int)rank);
}

/* "results.db.rank-12" of "results.db", and not the journal of one. */
static int is_rank_file(const char *name, const char *results)
{
    size_t length = strlen(results);
    if (strncmp(name, results, length) != 0 ||
        strncmp(name + length, RANK_SUFFIX, sizeof RANK_SUFFIX - 1) != 0) {
        return 0;
    }
    const char *digit = name + length + sizeof RANK_SUFFIX - 1;
    while (isdigit((unsigned char)*digit)) {
        digit++;
    }
    return *digit == '\0' && digit[-1] != '-';
}

enum status sweep_merge(struct store *store, const char *results, struct error *error)
{
    const char *slash = strrchr(results, '/');
    int length = slash != NULL ? (int)(slash - results) + 1 : 0;
    char folder[SWEEP_PATH_BYTES];
    (void)snprintf(folder, sizeof folder, "%.*s", length, results);
    struct dirent **entry = NULL;
    int count = scandir(length > 0 ? folder : ".", &entry, NULL, alphasort);
    enum status status =
        count < 0 ? error_add(error, STATUS_IO, "%s: %s", folder, strerror(errno)) : STATUS_OK;
    for (int i = 0; i < count; i++) {
        char part[2 * SWEEP_PATH_BYTES];
        bool is_part = is_rank_file(entry[i]->d_name, results + length);
        (void)snprintf(part, sizeof part, "%s%s", folder, entry[i]->d_name);
        free(entry[i]);
        if (is_part && status == STATUS_OK) {
            status = store_merge(store, part, error);
        }
        if (is_part && status == STATUS_OK && unlink(part) != 0) {
            status = error_add(error, STATUS_IO, "%s: %s", part, strerror(errno));
        }
    }
    free(entry);
    return status;
}

void sweep_forget_failures(const char *results)
{
    char path[SWEEP_PATH_BYTES];
    path_beside(path, results, ".failed.csv");
    unlink(path);
}

static void write_cell(FILE *file, const char *text)
{
    fputc('"', file);
    for (; *text != '\0'; text++) {
        if (*text == '"') {
            fputc('"', file);
        }
        if (*text != '\n' || text[1] != '\0') {
            fputc(*text == '\n' ? ' ' : *text, file);
        }
    }
    fputc('"', file);
}

void sweep_tell_failure(const char *results, int64_t point, const char *label, const char *problem)
{
    char path[SWEEP_PATH_BYTES];
    path_beside(path, results, ".failed.csv");
    FILE *file = fopen(path, "a");
    if (file == NULL) {
        return; /* it is told on the terminal too */
    }
    if (ftell(file) == 0) {
        fputs("point,label,problem\n", file);
    }
    fprintf(file, "%lld,", (long long)point);
    write_cell(file, label);
    fputc(',', file);
    write_cell(file, problem);
    fputc('\n', file);
    fclose(file);
}
