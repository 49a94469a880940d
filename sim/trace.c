/*
 * trace.c -- a trace from a directory or from memory.
 *
 * When a directory is opened, each part is looked at even if another is broken, so that one call
 * reports every problem; only what depends on a broken part is left out then.
 */
#include "trace.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "trace_internal.h"

/* Copies text into a fixed field; what does not fit is cut. */
static void copy_text(char *field, size_t field_bytes, const char *text)
{
    size_t length = text == NULL ? 0 : strnlen(text, field_bytes - 1);
    if (length > 0) {
        memcpy(field, text, length);
    }
    field[length] = '\0';
}

/* The last part of the path, trailing slashes aside, is the trace's name. */
static enum status name_trace(struct trace *trace, const char *path, struct error *error)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') {
        length--;
    }
    trace->directory = malloc(length + 1);
    if (trace->directory == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "%s: no memory", path);
    }
    memcpy(trace->directory, path, length);
    trace->directory[length] = '\0';
    const char *slash = strrchr(trace->directory, '/');
    copy_text(trace->name, sizeof trace->name, slash != NULL ? slash + 1 : trace->directory);
    return STATUS_OK;
}

/* num_tokens 0: the shards are broken, and rows cannot be checked. */
static enum status check_steps(const struct npy *npy, const char *path, int64_t num_tokens,
                               struct error *error)
{
    const int64_t any[1] = {-1};
    enum status status = trace_shape_check(npy, path, NPY_INT64, 1, any, error);
    if (status != STATUS_OK) {
        return status;
    }
    if (npy->dim[0] < 2) {
        return error_add(error, STATUS_INVALID, "%s: needs two rows at least: begin and end", path);
    }
    const int64_t *row = npy->data;
    int64_t last = npy->dim[0] - 1;
    if (row[0] < 0 || (num_tokens != 0 && row[last] > num_tokens)) {
        return error_add(error, STATUS_INVALID, "%s: rows %lld to %lld are not within 0 to %lld",
                         path, (long long)row[0], (long long)row[last], (long long)num_tokens);
    }
    for (int64_t i = 0; i < last; i++) {
        /* row[i] >= 0 by induction, so row[i] + INT32_MAX is compared without overflow */
        if (row[i + 1] <= row[i] || row[i + 1] - row[i] > INT32_MAX) {
            return error_add(error, STATUS_INVALID,
                             "%s: element %lld: a step must have 1 to %d rows, this one goes from "
                             "%lld to %lld",
                             path, (long long)i, INT32_MAX, (long long)row[i],
                             (long long)row[i + 1]);
        }
    }
    return STATUS_OK;
}

static enum status open_steps(struct trace *trace, struct error *error)
{
    char path[TRACE_PATH_BYTES];
    struct stat info;
    if (!trace_join(path, trace->directory, "steps.npy")) {
        return error_add(error, STATUS_INVALID, "%s: the path is too long", trace->directory);
    }
    if (stat(path, &info) != 0 && errno == ENOENT) {
        return STATUS_OK;
    }
    struct npy *npy = calloc(1, sizeof *npy);
    if (npy == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "%s: no memory", path);
    }
    trace->steps_mapping = npy;
    enum status status = npy_open(npy, path, error);
    if (status == STATUS_OK) {
        status = check_steps(npy, path, trace->num_tokens, error);
    }
    if (status == STATUS_OK) {
        trace->step_begin = npy->data;
        trace->num_steps = npy->dim[0] - 1;
    }
    return status;
}

enum status trace_open(struct trace *trace, const char *path, struct error *error)
{
    struct stat info;
    int64_t num_tokens_stated;
    *trace = (struct trace){.num_experts = 0};
    if (stat(path, &info) != 0) {
        return error_add(error, STATUS_IO, "%s: %s", path, strerror(errno));
    }
    if (!S_ISDIR(info.st_mode)) {
        return error_add(error, STATUS_INVALID,
                         "%s: is a file; a trace is a directory with a trace.yaml", path);
    }
    enum status status = name_trace(trace, path, error);
    if (status != STATUS_OK) {
        return status;
    }
    enum status part[4];
    part[0] = trace_yaml_read(trace, &num_tokens_stated, trace->directory, error);
    part[1] = trace_shards_open(trace, part[0] == STATUS_OK, error);
    part[2] = trace_requests_read(&trace->requests, &trace->num_requests, trace->directory,
                                  trace->num_tokens, error);
    part[3] = open_steps(trace, error);
    for (int32_t i = 0; i < 4 && status == STATUS_OK; i++) {
        status = part[i];
    }
    if (part[0] == STATUS_OK && part[1] == STATUS_OK && num_tokens_stated != 0 &&
        num_tokens_stated != trace->num_tokens) {
        status =
            error_add(error, STATUS_INVALID,
                      "%s/trace.yaml: num_tokens is %lld but the shards hold %lld; is one "
                      "missing?",
                      trace->directory, (long long)num_tokens_stated, (long long)trace->num_tokens);
    }
    return status;
}

void trace_close(struct trace *trace)
{
    for (int32_t i = 0; i < trace->num_shards; i++) {
        npy_close(&trace->shards[i].expert_file);
        npy_close(&trace->shards[i].gate_weight_file);
        free(trace->shards[i].expert_memory);
        free(trace->shards[i].gate_weight_memory);
    }
    if (trace->steps_mapping != NULL) {
        npy_close(trace->steps_mapping);
    }
    free(trace->steps_mapping);
    free(trace->shards);
    free(trace->model_layer);
    free(trace->requests);
    free(trace->directory);
    *trace = (struct trace){.num_experts = 0};
}

/* Requests must tile the rows: what the CSV reader makes sure of for files. */
static void assert_requests(const struct trace_request *requests, int64_t num_requests,
                            int64_t num_tokens)
{
    int64_t row = 0;
    for (int64_t i = 0; i < num_requests; i++) {
        assert(requests[i].row_offset == row);
        assert(requests[i].num_rows >= 1);
        row += requests[i].num_rows;
    }
    assert(num_requests == 0 || row == num_tokens);
}

enum status trace_from_memory(struct trace *trace, const struct trace_description *description,
                              void *expert, uint16_t *gate_weight, struct trace_request *requests,
                              int64_t num_requests, int64_t num_tokens, struct error *error)
{
    int32_t num_layers = description->num_layers;
    assert(expert != NULL);
    assert((gate_weight != NULL) == description->has_gate_weights);
    assert(num_layers >= 1 && num_tokens >= 1);
    assert(description->top_k >= 1 && description->top_k <= description->num_experts);
    assert_requests(requests, num_requests, num_tokens);
    *trace = (struct trace){.requests = requests, .num_requests = num_requests};
    trace->model_layer = malloc((size_t)num_layers * sizeof *trace->model_layer);
    trace->shards = calloc(1, sizeof *trace->shards);
    if (trace->model_layer == NULL || trace->shards == NULL) {
        free(expert);
        free(gate_weight);
        return error_add(error, STATUS_NO_MEMORY, "no memory for a trace");
    }
    copy_text(trace->name, sizeof trace->name, description->model);
    copy_text(trace->model, sizeof trace->model, description->model);
    copy_text(trace->origin, sizeof trace->origin, description->origin);
    copy_text(trace->source, sizeof trace->source, description->source);
    copy_text(trace->licence, sizeof trace->licence, description->licence);
    memcpy(trace->model_layer, description->model_layer,
           (size_t)num_layers * sizeof *trace->model_layer);
    trace->num_experts = description->num_experts;
    trace->top_k = description->top_k;
    trace->num_layers = num_layers;
    trace->num_tokens = num_tokens;
    trace->tokens_per_shard = num_tokens;
    trace->num_shards = 1;
    trace->has_gate_weights = gate_weight != NULL;
    struct trace_shard *shard = trace->shards;
    *shard = (struct trace_shard){.num_tokens = num_tokens,
                                  .gate_weight = gate_weight,
                                  .expert_memory = expert,
                                  .gate_weight_memory = gate_weight};
    if (trace_id_bytes(description->num_experts, description->has_gaps) == 1) {
        shard->expert_u8 = expert;
    } else {
        shard->expert_u16 = expert;
    }
    return STATUS_OK;
}
