/* draft.c -- written aside, moved when whole, cleared by who outlives the writer. */
#include "draft.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "directory.h"
#include "model.h"

#define PARTIAL "/report.partial"

/* A draft holds plain files; what else somebody put there keeps the directory in being. */
static void remove_draft(const char *directory)
{
    DIR *stream = opendir(directory);
    if (stream == NULL) {
        return;
    }
    for (const struct dirent *entry = readdir(stream); entry != NULL; entry = readdir(stream)) {
        (void)unlinkat(dirfd(stream), entry->d_name, 0); /* rmdir tells if it failed */
    }
    closedir(stream);
    (void)rmdir(directory);
}

/* Removes what a crash left; who still writes there holds its lock. Where a file system has no
 * locks, there is none. */
static enum status make_directory(struct draft *draft, struct error *error)
{
    const char *directory = draft->directory;
    int lock = open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (lock >= 0) {
        bool is_held = flock(lock, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
        if (!is_held) {
            remove_draft(directory);
        }
        close(lock);
        if (is_held) {
            return error_add(error, STATUS_IO,
                             "%s: another report is written there; wait for its end", draft->out);
        }
    }
    if (mkdir(directory, 0777) != 0) {
        return error_add(error, STATUS_IO, "%s: %s", directory, strerror(errno));
    }
    draft->lock = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    (void)flock(draft->lock, LOCK_EX | LOCK_NB);
    return STATUS_OK;
}

static void clear_away(const void *context)
{
    const struct draft *draft = context;
    remove_draft(draft->directory);
    directory_unmake(draft->out, draft->out_existing);
}

static enum status start_sweeper(struct draft *draft, struct error *error)
{
    if (sweeper_start(&draft->sweeper, clear_away, draft)) {
        return STATUS_OK;
    }
    int reason = errno;
    clear_away(draft);
    return error_add(error, STATUS_IO, "%s: no process for the report: %s", draft->out,
                     strerror(reason));
}

enum status draft_open(struct draft *draft, const char *out, struct error *error)
{
    *draft = (struct draft){.lock = -1};
    if (strlen(out) + 64 >= sizeof draft->out) { /* names of figures come behind */
        return error_add(error, STATUS_INVALID, "%.40s...: too long a name", out);
    }
    (void)snprintf(draft->out, sizeof draft->out, "%s", out);
    memcpy(draft->directory, out, strlen(out));
    memcpy(draft->directory + strlen(out), PARTIAL, sizeof PARTIAL);
    draft->out_existing = directory_existing(out);
    enum status status = directory_make(out, error);
    if (status == STATUS_OK) {
        status = make_directory(draft, error);
    }
    if (status == STATUS_OK) {
        status = start_sweeper(draft, error);
    } else {
        directory_unmake(out, draft->out_existing);
    }
    return status;
}

enum status draft_create(FILE **file, const struct draft *draft, const char *name,
                         struct error *error)
{
    char path[FILE_PATH_BYTES + NAME_BYTES];
    (void)snprintf(path, sizeof path, "%s/%s", draft->directory, name);
    *file = fopen(path, "w");
    return *file != NULL ? STATUS_OK : error_add(error, STATUS_IO, "%s: %s", path, strerror(errno));
}

/* What is written last may be what finds the disk full. */
enum status draft_finish(FILE *file, const struct draft *draft, const char *name,
                         struct error *error)
{
    bool failed = fflush(file) != 0 || ferror(file) != 0;
    int reason = errno;
    failed = fclose(file) != 0 || failed;
    return failed ? error_add(error, STATUS_IO, "%s/%s: cannot be written: %s", draft->directory,
                              name, strerror(reason))
                  : STATUS_OK;
}

enum status draft_publish(const struct draft *draft, const char *name, const char *path,
                          struct error *error)
{
    char from[FILE_PATH_BYTES + NAME_BYTES], to[FILE_PATH_BYTES];
    (void)snprintf(from, sizeof from, "%s/%s", draft->directory, name);
    int length = snprintf(to, sizeof to, "%s/%s", draft->out, path);
    if (length < 0 || length >= (int)sizeof to) {
        return error_add(error, STATUS_INVALID, "%.40s...: too long a name", draft->out);
    }
    enum status status = directory_make_parents(to, error);
    if (status == STATUS_OK && rename(from, to) != 0) {
        status = error_add(error, STATUS_IO, "%s: %s", to, strerror(errno));
    }
    return status;
}

void draft_close(struct draft *draft)
{
    if (draft->sweeper.process > 0) {
        sweeper_end(&draft->sweeper);
        if (draft->lock >= 0) {
            close(draft->lock);
        }
    }
    *draft = (struct draft){0};
}
