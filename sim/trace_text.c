/*
 * trace_text.c -- writes trace.yaml and requests.csv.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "trace_internal.h"

/* Flushes, syncs and closes; a full disk shows here at the latest. */
static enum status close_text(FILE *file, const char *path, struct error *error)
{
    bool failed = ferror(file) != 0;
    failed = fflush(file) != 0 || failed;
    failed = fsync(fileno(file)) != 0 || failed;
    int code = errno;
    failed = fclose(file) != 0 || failed;
    return failed ? error_add(error, STATUS_IO, "%s: cannot be written: %s", path, strerror(code))
                  : STATUS_OK;
}

static enum status open_text(FILE **file, char path[TRACE_PATH_BYTES], const char *directory,
                             const char *name, struct error *error)
{
    *file = NULL;
    if (!trace_join(path, directory, name)) {
        return error_add(error, STATUS_INVALID, "%s: the path is too long", directory);
    }
    *file = fopen(path, "wb");
    return *file != NULL
               ? STATUS_OK
               : error_add(error, STATUS_IO, "%s: cannot be created: %s", path, strerror(errno));
}

/* A double-quoted YAML scalar: any text comes back as it was. */
static void write_yaml_text(FILE *file, const char *key, const char *text)
{
    (void)fprintf(file, "%s: \"", key);
    for (; *text != '\0'; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte == '"' || byte == '\\') {
            (void)fprintf(file, "\\%c", byte);
        } else if (byte < ' ' || byte == 0x7f) {
            (void)fprintf(file, "\\x%02x", byte);
        } else {
            (void)fputc(byte, file);
        }
    }
    (void)fputs("\"\n", file);
}

enum status trace_yaml_write(const char *directory, const struct trace_description *description,
                             int64_t num_tokens, struct error *error)
{
    char path[TRACE_PATH_BYTES];
    FILE *file;
    enum status status = open_text(&file, path, directory, "trace.yaml", error);
    if (status != STATUS_OK) {
        return status;
    }
    (void)fprintf(file, "version: %d\n", TRACE_VERSION);
    write_yaml_text(file, "model", description->model);
    (void)fprintf(file, "num_experts: %d\ntop_k: %d\nlayers: [", description->num_experts,
                  description->top_k);
    for (int32_t i = 0; i < description->num_layers; i++) {
        (void)fprintf(file, "%s%d", i == 0 ? "" : ", ", description->model_layer[i]);
    }
    (void)fprintf(file, "]\ntokens_per_shard: %lld\nnum_tokens: %lld\norigin: %s\n",
                  (long long)description->tokens_per_shard, (long long)num_tokens,
                  description->origin);
    if (description->has_scores && description->score == TRACE_SCORE_SIGMOIDS) {
        (void)fputs("scores: sigmoids\n", file);
    }
    write_yaml_text(file, "source", description->source == NULL ? "" : description->source);
    write_yaml_text(file, "licence", description->licence == NULL ? "" : description->licence);
    return close_text(file, path, error);
}

/* The fewest digits that read back as the same number. */
static void write_seconds(FILE *file, double seconds)
{
    char text[32];
    (void)snprintf(text, sizeof text, "%.15g", seconds);
    if (strtod(text, NULL) < seconds || strtod(text, NULL) > seconds) {
        (void)snprintf(text, sizeof text, "%.17g", seconds);
    }
    (void)fputs(text, file);
}

/* A tag as a CSV field, quoted when it must be. */
static void write_tag(FILE *file, const char *tag)
{
    if (strpbrk(tag, ",\"") == NULL) {
        (void)fputs(tag, file);
        return;
    }
    (void)fputc('"', file);
    for (; *tag != '\0'; tag++) {
        if (*tag == '"') {
            (void)fputc('"', file);
        }
        (void)fputc(*tag, file);
    }
    (void)fputc('"', file);
}

/* What trace_requests_read would refuse is refused before it is written. */
static enum status check_request(const struct trace_request *request, int64_t index, int64_t row,
                                 const char *path, struct error *error)
{
    const char *problem = NULL;
    if (request->row_offset != row || request->num_rows < 1) {
        problem = "must begin where the one before it ends and have rows";
    } else if (!isfinite(request->arrival_s) || request->arrival_s < 0.0) {
        problem = "must arrive at a time of at least 0";
    } else if (request->prompt_tokens < 0 || request->num_rows > INT32_MAX) {
        problem = "has a number of tokens out of range";
    } else if (strpbrk(request->tag, "\r\n") != NULL) {
        problem = "has a line break in its tag";
    }
    return problem == NULL ? STATUS_OK
                           : error_add(error, STATUS_INVALID, "%s: request %lld %s", path,
                                       (long long)index, problem);
}

enum status trace_requests_write(const char *directory, const struct trace_request *requests,
                                 int64_t num_requests, int64_t num_tokens, struct error *error)
{
    char path[TRACE_PATH_BYTES];
    FILE *file;
    int64_t row = 0;
    enum status status = open_text(&file, path, directory, "requests.csv", error);
    if (status != STATUS_OK) {
        return status;
    }
    (void)fputs("request,tag,arrival_s,prompt_tokens,decode_tokens,row_offset\n", file);
    for (int64_t i = 0; i < num_requests && status == STATUS_OK; i++) {
        const struct trace_request *request = &requests[i];
        status = check_request(request, i, row, path, error);
        row += request->num_rows;
        (void)fprintf(file, "%lld,", (long long)i);
        write_tag(file, request->tag);
        (void)fputc(',', file);
        write_seconds(file, request->arrival_s);
        (void)fprintf(file, ",%d,%lld,%lld\n", request->prompt_tokens, (long long)request->num_rows,
                      (long long)request->row_offset);
    }
    if (status == STATUS_OK && row != num_tokens) {
        status = error_add(error, STATUS_INVALID,
                           "%s: the requests have %lld rows but the trace has %lld tokens", path,
                           (long long)row, (long long)num_tokens);
    }
    enum status close_status = close_text(file, path, error);
    return status == STATUS_OK ? close_status : status;
}
