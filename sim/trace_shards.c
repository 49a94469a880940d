/*
 * trace_shards.c -- finds, maps and checks the shard files of a trace directory.
 */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "trace_internal.h"

#define SHAPE_TEXT_BYTES 128

/* "[24, 100, 4]", "*" for any. */
static void shape_text(char text[SHAPE_TEXT_BYTES], int32_t num_dims, const int64_t *dim)
{
    size_t used = 1;
    text[0] = '[';
    for (int32_t i = 0; i < num_dims; i++) {
        const char *comma = i == 0 ? "" : ", ";
        int length = dim[i] < 0 ? snprintf(text + used, SHAPE_TEXT_BYTES - used, "%s*", comma)
                                : snprintf(text + used, SHAPE_TEXT_BYTES - used, "%s%lld", comma,
                                           (long long)dim[i]);
        assert(length > 0 && (size_t)length + 2 < SHAPE_TEXT_BYTES - used);
        used += (size_t)length;
    }
    memcpy(text + used, "]", 2);
}

enum status trace_shape_check(const struct npy *npy, const char *path, enum npy_type type,
                              int32_t num_dims, const int64_t *dim, struct error *error)
{
    bool same = npy->num_dims == num_dims;
    for (int32_t i = 0; i < num_dims && same; i++) {
        same = dim[i] < 0 || npy->dim[i] == dim[i];
    }
    if (npy->type == type && same) {
        return STATUS_OK;
    }
    char found[SHAPE_TEXT_BYTES];
    char wanted[SHAPE_TEXT_BYTES];
    shape_text(found, npy->num_dims, npy->dim);
    shape_text(wanted, num_dims, dim);
    return error_add(error, STATUS_INVALID, "%s: is %s %s where %s %s belongs", path,
                     npy_type_name(npy->type), found, npy_type_name(type), wanted);
}

/* Counts the shards of a stem: its highest number + 1. A number left out is reported. */
static enum status count_shards(int32_t *num_shards, const char *directory, const char *stem,
                                struct error *error)
{
    int32_t found = 0;
    *num_shards = 0;
    DIR *stream = opendir(directory);
    if (stream == NULL) {
        return error_add(error, STATUS_IO, "%s: %s", directory, strerror(errno));
    }
    size_t length = strlen(stem);
    enum status status = STATUS_OK;
    for (const struct dirent *entry = readdir(stream); entry != NULL; entry = readdir(stream)) {
        int32_t shard = trace_shard_number(entry->d_name, stem);
        if (shard >= 0) {
            found++;
            *num_shards = shard >= *num_shards ? shard + 1 : *num_shards;
        } else if (strncmp(entry->d_name, stem, length) == 0 && entry->d_name[length] == '-') {
            status = error_add(error, STATUS_INVALID, "%s/%s: is not named %s-NNNNN.npy", directory,
                               entry->d_name, stem);
        }
    }
    closedir(stream);
    if (*num_shards > TRACE_SHARDS_MAX) {
        return error_add(error, STATUS_INVALID, "%s: has shards beyond %s-%0*d.npy", directory,
                         stem, TRACE_DIGITS, TRACE_SHARDS_MAX - 1);
    }
    if (found != *num_shards) {
        return error_add(error, STATUS_INVALID, "%s: %d of the files up to %s-%0*d.npy are missing",
                         directory, *num_shards - found, stem, TRACE_DIGITS, *num_shards - 1);
    }
    return status;
}

/* Checks ids' type and shape. described: trace.yaml was good, so its numbers can be relied on. */
static enum status check_experts(const struct trace *trace, const struct npy *npy, const char *path,
                                 bool described, struct error *error)
{
    int64_t wanted[3] = {-1, -1, -1};
    if (described) {
        wanted[0] = trace->num_layers;
        wanted[2] = trace->top_k;
    }
    enum npy_type type = npy->type == NPY_UINT8 ? NPY_UINT8 : NPY_UINT16;
    enum status status = trace_shape_check(npy, path, type, 3, wanted, error);
    if (status == STATUS_OK && npy->dim[1] < 1) {
        status = error_add(error, STATUS_INVALID, "%s: holds no tokens", path);
    }
    if (status == STATUS_OK && npy->dim[1] > TRACE_TOKENS_MAX) {
        status = error_add(error, STATUS_INVALID, "%s: holds too many tokens", path);
    }
    if (status == STATUS_OK && described && type == NPY_UINT8 && trace->num_experts > 256) {
        status = error_add(error, STATUS_INVALID, "%s: uint8 cannot hold %d experts; save uint16",
                           path, trace->num_experts);
    }
    return status;
}

/* Maps experts-NNNNN.npy, and gate_weights-NNNNN.npy if the trace has such files. */
static enum status open_shard(struct trace *trace, int32_t index, bool described,
                              struct error *error)
{
    struct trace_shard *shard = &trace->shards[index];
    char path[TRACE_PATH_BYTES];
    if (!trace_shard_path(path, trace->directory, "gate_weights", index)) {
        return error_add(error, STATUS_INVALID, "%s: the path is too long", trace->directory);
    }
    struct npy *weights = &shard->gate_weight_file;
    enum status weight_status = STATUS_OK;
    if (trace->has_gate_weights) {
        weight_status = npy_open(weights, path, error);
    }
    char expert_path[TRACE_PATH_BYTES];
    bool fits = trace_shard_path(expert_path, trace->directory, "experts", index);
    assert(fits); /* the longer name did */
    enum status status = npy_open(&shard->expert_file, expert_path, error);
    if (status == STATUS_OK) {
        status = check_experts(trace, &shard->expert_file, expert_path, described, error);
    }
    if (status != STATUS_OK || weight_status != STATUS_OK) {
        return status != STATUS_OK ? status : weight_status;
    }
    if (trace->has_gate_weights) {
        const int64_t *wanted = shard->expert_file.dim;
        status = trace_shape_check(weights, path, NPY_FLOAT16, 3, wanted, error);
        shard->gate_weight = weights->data;
    }
    shard->num_tokens = shard->expert_file.dim[1];
    if (shard->expert_file.type == NPY_UINT8) {
        shard->expert_u8 = shard->expert_file.data;
    } else {
        shard->expert_u16 = shard->expert_file.data;
    }
    return status;
}

/* Every shard but the last must be full, so that a row finds its shard by one division. */
static enum status check_tokens(struct trace *trace, struct error *error)
{
    enum status status = STATUS_OK;
    int64_t full = trace->tokens_per_shard;
    if (full == 0) {
        full = trace->tokens_per_shard = trace->shards[0].num_tokens;
    }
    for (int32_t i = 0; i < trace->num_shards; i++) {
        int64_t tokens = trace->shards[i].num_tokens;
        bool is_last = i == trace->num_shards - 1;
        if (tokens > full || (tokens < full && !is_last)) {
            status = error_add(error, STATUS_INVALID,
                               "%s/experts-%0*d.npy: has %lld tokens; tokens_per_shard is %lld%s",
                               trace->directory, TRACE_DIGITS, i, (long long)tokens,
                               (long long)full, is_last ? "" : " and only the last may have fewer");
        }
        if (trace->num_tokens > TRACE_TOKENS_MAX - tokens) {
            return error_add(error, STATUS_INVALID, "%s: holds too many tokens", trace->directory);
        }
        trace->num_tokens += tokens;
    }
    return status;
}

enum status trace_shards_open(struct trace *trace, bool described, struct error *error)
{
    int32_t num_shards = 0;
    int32_t num_weights = 0;
    enum status status = count_shards(&num_shards, trace->directory, "experts", error);
    enum status weight_status = count_shards(&num_weights, trace->directory, "gate_weights", error);
    if (status == STATUS_OK && num_shards == 0) {
        status = error_add(error, STATUS_INVALID, "%s: has no experts-00000.npy", trace->directory);
    }
    if (status != STATUS_OK || weight_status != STATUS_OK) {
        return status != STATUS_OK ? status : weight_status;
    }
    if (num_weights != 0 && num_weights != num_shards) {
        return error_add(error, STATUS_INVALID,
                         "%s: %d files experts-*.npy but %d files gate_weights-*.npy",
                         trace->directory, num_shards, num_weights);
    }
    trace->has_gate_weights = num_weights != 0;
    trace->shards = calloc((size_t)num_shards, sizeof *trace->shards);
    if (trace->shards == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "no memory for %d shards", num_shards);
    }
    trace->num_shards = num_shards;
    for (int32_t i = 0; i < num_shards; i++) {
        enum status shard_status = open_shard(trace, i, described, error);
        status = status == STATUS_OK ? shard_status : status;
    }
    if (status == STATUS_OK) {
        status = check_tokens(trace, error);
    }
    if (status != STATUS_OK) {
        trace->num_tokens = 0;
    }
    return status;
}
