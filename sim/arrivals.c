/*
 * arrivals.c -- writes arrivals, and gives them to a trace.
 */
#include "arrivals.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "directory.h"
#include "trace_internal.h"

void arrivals_free(struct arrivals *arrivals)
{
    free(arrivals->arrival);
    free(arrivals->tag);
    free(arrivals->hash);
    *arrivals = (struct arrivals){.count = 0};
}

/* A tag may hold what CSV needs quotes for; quotes themselves are doubled. */
static void write_tag(FILE *stream, const char *tag)
{
    bool is_plain = strpbrk(tag, ",\"") == NULL;
    fputs(is_plain ? "" : "\"", stream);
    for (const char *at = tag; *at != '\0'; at++) {
        fputs(*at == '"' ? "\"" : "", stream);
        fputc(*at, stream);
    }
    fputs(is_plain ? "" : "\"", stream);
}

static enum status write_file(const struct arrivals *arrivals, const char *path,
                              struct error *error)
{
    FILE *stream = fopen(path, "w");
    if (stream == NULL) {
        return error_add(error, STATUS_IO, "%s: %s", path, strerror(errno));
    }
    fputs("request,tag,arrival_s,prompt_tokens,decode_tokens,row_offset\n", stream);
    for (int64_t i = 0; i < arrivals->count; i++) {
        const struct arrival *arrival = &arrivals->arrival[i];
        fprintf(stream, "%lld,", (long long)i);
        write_tag(stream, arrivals->tag[arrival->tag]);
        fprintf(stream, ",%.9f,%d,%d,\n", arrival->arrival_s, arrival->prompt_tokens,
                arrival->decode_tokens);
    }
    bool is_written = fflush(stream) == 0 && ferror(stream) == 0 && fsync(fileno(stream)) == 0;
    is_written = fclose(stream) == 0 && is_written;
    return is_written
               ? STATUS_OK
               : error_add(error, STATUS_IO, "%s: cannot be written: %s", path, strerror(errno));
}

enum status arrivals_write(const struct arrivals *arrivals, const char *path, bool replace,
                           struct error *error)
{
    char partial[TRACE_PATH_BYTES];
    struct stat info;
    int length = snprintf(partial, sizeof partial, "%s.partial", path);
    if (length < 0 || length >= (int)sizeof partial) {
        return error_add(error, STATUS_INVALID, "%s: the path is too long", path);
    }
    if (lstat(path, &info) == 0 && (!replace || !S_ISREG(info.st_mode))) {
        return error_add(error, STATUS_INVALID, "%s: exists%s", path,
                         replace ? " and is no file"
                                 : "; name another, or replace it with --force");
    }
    enum status status = directory_make_parents(path, error);
    if (status == STATUS_OK) {
        status = write_file(arrivals, partial, error);
        if (status == STATUS_OK && rename(partial, path) != 0) {
            status = error_add(error, STATUS_IO, "%s: cannot be put in place: %s", path,
                               strerror(errno));
        }
        if (status != STATUS_OK) {
            (void)unlink(partial);
        }
    }
    return status;
}

/* Writes DIRECTORY.partial/requests.csv and renames it over that of the trace. */
static enum status replace_requests(const struct trace *trace, const char *directory,
                                    struct error *error)
{
    char partial[TRACE_PATH_BYTES];
    char from[TRACE_PATH_BYTES];
    char to[TRACE_PATH_BYTES];
    int length = (int)strlen(directory);
    while (length > 1 && directory[length - 1] == '/') {
        length--;
    }
    int used = snprintf(partial, sizeof partial, "%.*s.partial", length, directory);
    if (used < 0 || used >= (int)sizeof partial || !trace_join(from, partial, "requests.csv") ||
        !trace_join(to, directory, "requests.csv")) {
        return error_add(error, STATUS_INVALID, "%s: the path is too long", directory);
    }
    enum status status = trace_remove(partial, error);
    if (status == STATUS_OK && mkdir(partial, 0777) != 0) {
        status = error_add(error, STATUS_IO, "%s: cannot be created: %s", partial, strerror(errno));
    }
    if (status == STATUS_OK) {
        status = trace_requests_write(partial, trace->requests, trace->num_requests,
                                      trace->num_tokens, error);
        if (status == STATUS_OK && rename(from, to) != 0) {
            status =
                error_add(error, STATUS_IO, "%s: cannot be put in place: %s", to, strerror(errno));
        }
        enum status removed = trace_remove(partial, status == STATUS_OK ? error : NULL);
        status = status == STATUS_OK ? removed : status;
    }
    return status == STATUS_OK ? trace_sync_directory(directory, error) : status;
}

enum status arrivals_attach(const struct arrivals *arrivals, const char *directory,
                            int64_t *num_requests, struct error *error)
{
    struct trace trace;
    *num_requests = 0;
    enum status status = trace_open(&trace, directory, error);
    if (status == STATUS_OK && trace.num_requests == 0) {
        status =
            error_add(error, STATUS_INVALID,
                      "%s: names no requests, so there is nothing that could arrive", directory);
    } else if (status == STATUS_OK && trace.num_requests > arrivals->count) {
        status = error_add(error, STATUS_INVALID,
                           "%s: has %lld requests, but there are only %lld arrivals", directory,
                           (long long)trace.num_requests, (long long)arrivals->count);
    }
    if (status == STATUS_OK) {
        for (int64_t i = 0; i < trace.num_requests; i++) {
            trace.requests[i].arrival_s = arrivals->arrival[i].arrival_s;
        }
        status = replace_requests(&trace, directory, error);
        *num_requests = status == STATUS_OK ? trace.num_requests : 0;
    }
    trace_close(&trace);
    return status;
}
