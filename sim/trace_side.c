/* trace_side.c -- the optional arrays of a trace, mapped shard by shard. */
#include "trace_side.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "digest.h"
#include "trace_internal.h"

#define NUM_HALVES 65536 /* numbers that 16 bits can be */

const char *const trace_side_stem[TRACE_SIDE_COUNT] = {"scores", "phase", "source_rank"};

static const enum npy_type types[TRACE_SIDE_COUNT] = {NPY_FLOAT16, NPY_UINT8, NPY_UINT16};

/* Maps one array of a shard; a missing file leaves it zero. */
static enum status open_array(struct npy *file, const struct trace *trace,
                              enum trace_side_kind kind, int32_t shard, struct error *error)
{
    char path[TRACE_PATH_BYTES];
    struct stat info;
    int64_t tokens = trace->shards[shard].num_tokens;
    const int64_t scores_dim[3] = {trace->num_layers, tokens, trace->num_experts};
    bool is_scores = kind == TRACE_SIDE_SCORES;
    if (!trace_shard_path(path, trace->directory, trace_side_stem[kind], shard)) {
        return error_add(error, STATUS_INVALID, "%s: the path is too long", trace->directory);
    }
    if (stat(path, &info) != 0 && errno == ENOENT) {
        return STATUS_OK;
    }
    enum status status = npy_open(file, path, error);
    return status == STATUS_OK ? trace_shape_check(file, path, types[kind], is_scores ? 3 : 1,
                                                   is_scores ? scores_dim : &tokens, error)
                               : status;
}

static enum status open_kind(struct trace_side *side, enum trace_side_kind kind,
                             struct error *error)
{
    const struct trace *trace = side->trace;
    int32_t num_found = 0;
    enum status status = STATUS_OK;
    side->file[kind] = calloc((size_t)trace->num_shards, sizeof **side->file);
    if (side->file[kind] == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "%s: no memory", trace->name);
    }
    for (int32_t shard = 0; status == STATUS_OK && shard < trace->num_shards; shard++) {
        status = open_array(&side->file[kind][shard], trace, kind, shard, error);
        num_found += side->file[kind][shard].mapping != NULL ? 1 : 0;
    }
    if (status == STATUS_OK && num_found > 0 && num_found < trace->num_shards) {
        status = error_add(error, STATUS_INVALID, "%s: %d of %d shards have a file %s",
                           trace->directory, num_found, trace->num_shards, trace_side_stem[kind]);
    }
    if (num_found == 0) {
        free(side->file[kind]);
        side->file[kind] = NULL;
    }
    return status;
}

/* Rounded to a grid, so that every machine's libm gives the same. */
static enum status fill_logits(struct trace_side *side, struct error *error)
{
    side->logit_of_sigmoid = malloc(NUM_HALVES * sizeof *side->logit_of_sigmoid);
    if (side->logit_of_sigmoid == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "%s: no memory", side->trace->name);
    }
    for (int32_t half = 0; half < NUM_HALVES; half++) {
        double sigmoid = (double)npy_half_to_float((uint16_t)half);
        side->logit_of_sigmoid[half] =
            (float)(round(log(sigmoid / (1.0 - sigmoid)) * 0x1p18) * 0x1p-18);
    }
    return STATUS_OK;
}

enum status trace_side_open(struct trace_side *side, const struct trace *trace, struct error *error)
{
    enum status status = STATUS_OK;
    *side = (struct trace_side){.trace = trace};
    for (int32_t kind = 0; trace->directory != NULL && kind < TRACE_SIDE_COUNT; kind++) {
        enum status outcome = open_kind(side, (enum trace_side_kind)kind, error);
        status = outcome != STATUS_OK ? outcome : status;
    }
    bool has_sigmoids =
        side->file[TRACE_SIDE_SCORES] != NULL && trace->score == TRACE_SCORE_SIGMOIDS;
    return status == STATUS_OK && has_sigmoids ? fill_logits(side, error) : status;
}

enum status trace_side_open_scores(struct trace_side *side, const struct trace *trace,
                                   const char *whoever, struct error *error)
{
    enum status status = trace_side_open(side, trace, error);
    if (status == STATUS_OK && side->file[TRACE_SIDE_SCORES] == NULL) {
        status =
            error_add(error, STATUS_INVALID,
                      "trace %s has no scores (files scores-NNNNN.npy), from which %s chooses: "
                      "record them, generate with --scores, or replay with routing.policy: "
                      "trace",
                      trace->name, whoever);
    }
    return status;
}

void trace_side_close(struct trace_side *side)
{
    for (int32_t kind = 0; kind < TRACE_SIDE_COUNT; kind++) {
        for (int32_t shard = 0; side->file[kind] != NULL && shard < side->trace->num_shards;
             shard++) {
            npy_close(&side->file[kind][shard]);
        }
        free(side->file[kind]);
    }
    free(side->logit_of_sigmoid);
    *side = (struct trace_side){.trace = NULL};
}

/* The shard of a row, and the row's number in it. */
static int64_t shard_of(const struct trace *trace, int64_t *row)
{
    int64_t shard = *row / trace->tokens_per_shard;
    *row -= shard * trace->tokens_per_shard;
    return shard;
}

/* The half-precision scores of a row at a layer, [num_experts]. */
static const uint16_t *halves_of(const struct trace_side *side, int32_t layer, int64_t row)
{
    int64_t shard = shard_of(side->trace, &row);
    int64_t tokens = side->trace->shards[shard].num_tokens;
    return (const uint16_t *)side->file[TRACE_SIDE_SCORES][shard].data +
           (layer * tokens + row) * side->trace->num_experts;
}

void trace_side_scores(const struct trace_side *side, float *score, int32_t layer,
                       const int64_t *row, int32_t num_rows)
{
    int32_t num_experts = side->trace->num_experts;
    for (int32_t i = 0; i < num_rows; i++) {
        npy_halves_to_floats(score + (int64_t)i * num_experts, halves_of(side, layer, row[i]),
                             num_experts);
    }
}

void trace_side_logits(const struct trace_side *side, float *logit, int32_t layer,
                       const int64_t *row, int32_t num_rows)
{
    if (side->trace->score == TRACE_SCORE_LOGITS) {
        trace_side_scores(side, logit, layer, row, num_rows);
        return;
    }
    int32_t num_experts = side->trace->num_experts;
    for (int32_t i = 0; i < num_rows; i++) {
        const uint16_t *half = halves_of(side, layer, row[i]);
        for (int32_t expert = 0; expert < num_experts; expert++) {
            *logit++ = side->logit_of_sigmoid[half[expert]];
        }
    }
}

uint64_t trace_side_digest_scores(const struct trace_side *side, uint64_t digest)
{
    const struct trace *trace = side->trace;
    digest = digest_u64(digest, (uint64_t)trace->score);
    for (int32_t layer = 0; layer < trace->num_layers; layer++) {
        for (int32_t shard = 0; shard < trace->num_shards; shard++) {
            int64_t count = trace->shards[shard].num_tokens * trace->num_experts;
            const uint16_t *half =
                (const uint16_t *)side->file[TRACE_SIDE_SCORES][shard].data + layer * count;
            for (int64_t i = 0; i < count; i++) {
                digest = digest_u64(digest, half[i]);
            }
        }
    }
    return digest;
}

void trace_side_phase(const struct trace_side *side, uint8_t *phase, const int64_t *row,
                      int32_t num_rows)
{
    for (int32_t i = 0; i < num_rows; i++) {
        int64_t at = row[i];
        int64_t shard = shard_of(side->trace, &at);
        phase[i] = ((const uint8_t *)side->file[TRACE_SIDE_PHASE][shard].data)[at];
    }
}

void trace_side_source_rank(const struct trace_side *side, uint16_t *source_rank,
                            const int64_t *row, int32_t num_rows)
{
    for (int32_t i = 0; i < num_rows; i++) {
        int64_t at = row[i];
        int64_t shard = shard_of(side->trace, &at);
        source_rank[i] = ((const uint16_t *)side->file[TRACE_SIDE_SOURCE_RANK][shard].data)[at];
    }
}
