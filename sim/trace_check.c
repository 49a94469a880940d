/*
 * trace_check.c -- reads every byte of a trace and says what is wrong with it.
 *
 * Damage seldom comes alone: of each file the first few problems are told in full and the rest are
 * counted, so that a thousand bad tokens do not hide the next file's first one.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "trace_internal.h"

#define PROBLEMS_SHOWN 4 /* a file */

/* What is being checked, and how much was wrong with it so far. */
struct check {
    const struct trace *trace;
    struct error *error;
    char path[TRACE_PATH_BYTES]; /* of the file at hand */
    int64_t problems;            /* in it */
    bool has_problem;            /* in any file */
    int64_t *seen; /* [num_experts] serial number of the last token with this expert */
    int64_t serial;
};

static void begin_file(struct check *check, const char *stem, int32_t shard)
{
    const struct trace *trace = check->trace;
    const char *directory = trace->directory != NULL ? trace->directory : trace->name;
    if (!trace_shard_path(check->path, directory, stem, shard)) {
        memcpy(check->path, stem, strlen(stem) + 1);
    }
    check->problems = 0;
}

/* Counts a problem; true when it is to be told in full. */
static bool is_shown(struct check *check)
{
    check->has_problem = true;
    return check->problems++ < PROBLEMS_SHOWN;
}

static void end_file(struct check *check)
{
    if (check->problems > PROBLEMS_SHOWN) {
        (void)error_add(check->error, STATUS_INVALID, "%s: and %lld more problems", check->path,
                        (long long)(check->problems - PROBLEMS_SHOWN));
    }
}

static void check_ids(struct check *check, int32_t shard_index)
{
    const struct trace *trace = check->trace;
    const struct trace_shard *shard = &trace->shards[shard_index];
    const int32_t not_routed = shard->expert_u8 != NULL ? 0xff : 0xffff;
    int64_t num_tokens = trace->num_layers * shard->num_tokens;
    begin_file(check, "experts", shard_index);
    for (int64_t token = 0; token < num_tokens; token++) { /* of all layers, one after the other */
        check->serial++;
        for (int64_t i = token * trace->top_k; i < (token + 1) * trace->top_k; i++) {
            int32_t id = shard->expert_u8 != NULL ? shard->expert_u8[i] : shard->expert_u16[i];
            bool is_expert = id < trace->num_experts;
            bool is_twice = is_expert && check->seen[id] == check->serial;
            if (is_expert) {
                check->seen[id] = check->serial;
            }
            if ((is_twice || (!is_expert && id != not_routed)) && is_shown(check)) {
                int64_t first = shard_index * trace->tokens_per_shard;
                (void)error_add(check->error, STATUS_INVALID,
                                "%s: layer %lld, token %lld: expert %d %s", check->path,
                                (long long)(token / shard->num_tokens),
                                (long long)(first + token % shard->num_tokens), id,
                                is_twice ? "stands twice" : "is out of range");
            }
        }
    }
    end_file(check);
}

/* What is wrong with a gate weight, given the one before it in its token; NULL: nothing. */
static const char *weight_problem(uint16_t half, uint16_t before)
{
    bool is_zero = half == 0x8000; /* -0 */
    if (half >= 0x7c00 && !is_zero) {
        return "is not a number of at least 0";
    }
    return !is_zero && half > before ? "is larger than the one before it" : NULL;
}

static void check_weights(struct check *check, int32_t shard_index)
{
    const struct trace *trace = check->trace;
    const struct trace_shard *shard = &trace->shards[shard_index];
    const int32_t not_routed = shard->expert_u8 != NULL ? 0xff : 0xffff;
    int64_t num_tokens = trace->num_layers * shard->num_tokens;
    begin_file(check, "gate_weights", shard_index);
    for (int64_t token = 0; token < num_tokens; token++) {
        uint16_t before = 0x7bff; /* the largest finite half */
        for (int64_t i = token * trace->top_k; i < (token + 1) * trace->top_k; i++) {
            int32_t id = shard->expert_u8 != NULL ? shard->expert_u8[i] : shard->expert_u16[i];
            if (id >= trace->num_experts && id == not_routed) {
                continue;
            }
            uint16_t half = shard->gate_weight[i];
            const char *problem = weight_problem(half, before);
            before = half == 0x8000 ? 0 : half;
            if (problem != NULL && is_shown(check)) {
                int64_t first = shard_index * trace->tokens_per_shard;
                (void)error_add(check->error, STATUS_INVALID,
                                "%s: layer %lld, token %lld: gate weight %g %s", check->path,
                                (long long)(token / shard->num_tokens),
                                (long long)(first + token % shard->num_tokens),
                                (double)npy_half_to_float(half), problem);
            }
        }
    }
    end_file(check);
}

/* An optional file: right type and shape if it is there. */
static void check_optional(struct check *check, const char *stem, int32_t shard, enum npy_type type,
                           int32_t num_dims, const int64_t *dim)
{
    struct stat info;
    struct npy npy;
    begin_file(check, stem, shard);
    if (stat(check->path, &info) != 0 && errno == ENOENT) {
        return;
    }
    enum status status = npy_open(&npy, check->path, check->error);
    if (status == STATUS_OK) {
        status = trace_shape_check(&npy, check->path, type, num_dims, dim, check->error);
    }
    check->has_problem = check->has_problem || status != STATUS_OK;
    npy_close(&npy);
}

enum status trace_check(const struct trace *trace, struct error *error)
{
    struct check check = {.trace = trace, .error = error};
    check.seen = calloc((size_t)trace->num_experts, sizeof *check.seen);
    if (check.seen == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "%s: no memory to check it", trace->name);
    }
    for (int32_t shard = 0; shard < trace->num_shards; shard++) {
        check_ids(&check, shard);
        if (trace->has_gate_weights) {
            check_weights(&check, shard);
        }
        if (trace->directory == NULL) {
            continue; /* made in memory: no files stand beside it */
        }
        const int64_t tokens = trace->shards[shard].num_tokens;
        const int64_t scores_dim[3] = {trace->num_layers, tokens, trace->num_experts};
        check_optional(&check, "scores", shard, NPY_FLOAT16, 3, scores_dim);
        check_optional(&check, "phase", shard, NPY_UINT8, 1, &tokens);
        check_optional(&check, "source_rank", shard, NPY_UINT16, 1, &tokens);
    }
    free(check.seen);
    return check.has_problem ? STATUS_INVALID : STATUS_OK;
}
