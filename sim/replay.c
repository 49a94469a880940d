/*
 * replay.c -- chooses the path, cuts rows into chunks and checks each.
 *
 * A chunk whose ids are damaged, or that names an expert twice in a row, is found by its sum (see
 * replay_internal.h) and its experts are counted again by the scalar path, which knows the id to
 * blame. Ranks and nodes of such a chunk are right as they are.
 */
#include "replay.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "replay_internal.h"

static const char *const path_names[REPLAY_PATH_COUNT] = {"scalar", "neon", "avx2", "avx512"};

const char *replay_path_name(enum replay_path path)
{
    return path_names[path];
}

bool replay_path_runs(enum replay_path path)
{
    switch (path) {
    case REPLAY_SCALAR:
        return true;
    case REPLAY_NEON:
#ifdef __aarch64__
        return true;
#else
        return false;
#endif
    case REPLAY_AVX2:
#ifdef __x86_64__
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2");
#else
        return false;
#endif
    case REPLAY_AVX512:
#ifdef __x86_64__
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi") &&
               __builtin_cpu_supports("avx512bitalg") && __builtin_cpu_supports("gfni");
#else
        return false;
#endif
    case REPLAY_PATH_COUNT:
        break;
    }
    return false;
}

enum replay_path replay_path_best(void)
{
    int path = REPLAY_PATH_COUNT - 1;
    while (!replay_path_runs((enum replay_path)path)) {
        path--; /* scalar, the first, always runs */
    }
    return (enum replay_path)path;
}

static const struct replay_kernel *find_kernel(enum replay_path path)
{
    switch (path) {
    case REPLAY_SCALAR:
        break;
    case REPLAY_NEON:
#ifdef __aarch64__
        return &replay_kernel_neon;
#endif
        break;
    case REPLAY_AVX2:
#ifdef __x86_64__
        return &replay_kernel_avx2;
#endif
        break;
    case REPLAY_AVX512:
#ifdef __x86_64__
        return &replay_kernel_avx512;
#endif
        break;
    case REPLAY_PATH_COUNT:
        break;
    }
    return NULL;
}

static bool has_kernel(const struct replay_shape *shape)
{
    return shape->num_experts <= REPLAY_EXPERTS_MAX && shape->top_k <= REPLAY_TOP_K_MAX &&
           shape->num_ranks <= REPLAY_EXPERTS_MAX && shape->num_nodes <= REPLAY_EXPERTS_MAX;
}

static void check_shape(const struct replay_shape *shape)
{
    assert(shape->num_experts >= 1 && shape->num_experts <= 0xffff);
    assert(shape->top_k >= 1);
    assert(shape->id_bytes == 2 || (shape->id_bytes == 1 && shape->num_experts <= 256));
    assert(shape->num_ranks > 0 || shape->num_nodes == 0);
    assert(shape->num_nodes == 0 || (shape->num_sources >= 1 && shape->rows_per_source >= 1));
}

static bool copy_shape(struct replay *replay, const struct replay_shape *shape)
{
    size_t experts = (size_t)shape->num_experts;
    size_t ranks = (size_t)shape->num_ranks;
    size_t nodes = (size_t)shape->num_nodes;
    replay->expert_tokens = calloc(experts, sizeof *replay->expert_tokens);
    replay->rank_of_expert = calloc(experts, sizeof *replay->rank_of_expert);
    replay->node_of_expert = calloc(experts, sizeof *replay->node_of_expert);
    replay->node_of_rank = calloc(ranks + 1, sizeof *replay->node_of_rank);
    replay->rank_last_row = calloc(ranks + 1, sizeof *replay->rank_last_row);
    replay->node_last_row = calloc(nodes + 1, sizeof *replay->node_last_row);
    if (replay->expert_tokens == NULL || replay->rank_of_expert == NULL ||
        replay->node_of_expert == NULL || replay->node_of_rank == NULL ||
        replay->rank_last_row == NULL || replay->node_last_row == NULL) {
        return false;
    }
    for (int32_t expert = 0; expert < shape->num_experts && shape->num_ranks > 0; expert++) {
        int32_t rank = shape->rank_of_expert[expert];
        assert(rank >= 0 && rank < shape->num_ranks);
        replay->rank_of_expert[expert] = rank;
        if (shape->num_nodes > 0) {
            assert(shape->node_of_rank[rank] >= 0 && shape->node_of_rank[rank] < shape->num_nodes);
            replay->node_of_expert[expert] = shape->node_of_rank[rank];
        }
    }
    if (shape->num_nodes > 0) {
        memcpy(replay->node_of_rank, shape->node_of_rank, ranks * sizeof *replay->node_of_rank);
    }
    replay->shape = *shape;
    replay->shape.rank_of_expert = replay->rank_of_expert;
    replay->shape.node_of_rank = replay->node_of_rank;
    return true;
}

enum status replay_open(struct replay **replay, const struct replay_shape *shape,
                        enum replay_path path)
{
    check_shape(shape);
    assert(replay_path_runs(path));
    *replay = NULL;
    struct replay *fresh = calloc(1, sizeof *fresh);
    if (fresh == NULL) {
        return STATUS_NO_MEMORY;
    }
    fresh->path = has_kernel(shape) ? path : REPLAY_SCALAR;
    fresh->kernel = find_kernel(fresh->path);
    enum status status = copy_shape(fresh, shape) ? STATUS_OK : STATUS_NO_MEMORY;
    if (status == STATUS_OK && fresh->kernel != NULL) {
        status = fresh->kernel->open(&fresh->state, fresh);
    }
    if (status != STATUS_OK) {
        replay_close(fresh);
        return status;
    }
    *replay = fresh;
    return STATUS_OK;
}

void replay_close(struct replay *replay)
{
    if (replay == NULL) {
        return;
    }
    if (replay->kernel != NULL) {
        replay->kernel->close(replay->state);
    }
    free(replay->expert_tokens);
    free(replay->rank_of_expert);
    free(replay->node_of_expert);
    free(replay->node_of_rank);
    free(replay->rank_last_row);
    free(replay->node_last_row);
    free(replay);
}

enum replay_path replay_path_of(const struct replay *replay)
{
    return replay->path;
}

static int64_t count_chunk(struct replay *replay, const struct replay_counts *counts,
                           const uint8_t *id, int64_t first_row, int64_t num_rows)
{
    const struct replay_shape *shape = &replay->shape;
    const int64_t row_bytes = (int64_t)shape->top_k * shape->id_bytes;
    int64_t missing = num_rows * shape->top_k;
    for (int64_t row = 0; row < num_rows; row += REPLAY_BLOCK_ROWS) {
        int64_t left = num_rows - row;
        missing -=
            replay->kernel->count(replay->state, counts, id + row * row_bytes, first_row + row,
                                  left < REPLAY_BLOCK_ROWS ? left : REPLAY_BLOCK_ROWS);
    }
    memset(replay->expert_tokens, 0, (size_t)shape->num_experts * sizeof *replay->expert_tokens);
    replay->kernel->fold(replay->state, counts, replay->expert_tokens);
    for (int32_t expert = 0; expert < shape->num_experts; expert++) {
        missing -= replay->expert_tokens[expert];
    }
    if (missing != 0) {
        struct replay_counts experts = {.expert_tokens = counts->expert_tokens};
        return replay_count_scalar(replay, &experts, id, first_row, num_rows);
    }
    for (int32_t expert = 0; expert < shape->num_experts; expert++) {
        counts->expert_tokens[expert] += replay->expert_tokens[expert];
    }
    return -1;
}

int64_t replay_count(struct replay *replay, const struct replay_counts *counts, const void *id,
                     int64_t first_row, int64_t num_rows)
{
    const struct replay_shape *shape = &replay->shape;
    assert(first_row >= 0 && num_rows >= 0);
    assert(shape->num_ranks == 0 || counts->rank_tokens != NULL);
    assert(shape->num_nodes == 0 || counts->node_tokens != NULL);
    struct replay_counts wanted = {
        .expert_tokens = counts->expert_tokens,
        .rank_tokens = shape->num_ranks > 0 ? counts->rank_tokens : NULL,
        .node_tokens = shape->num_nodes > 0 ? counts->node_tokens : NULL,
    };
    if (replay->kernel == NULL) {
        return replay_count_scalar(replay, &wanted, id, first_row, num_rows);
    }
    for (int64_t row = 0; row < num_rows; row += REPLAY_CHUNK_ROWS) {
        int64_t left = num_rows - row;
        int64_t begin = row * shape->top_k;
        int64_t bad =
            count_chunk(replay, &wanted, (const uint8_t *)id + begin * shape->id_bytes,
                        first_row + row, left < REPLAY_CHUNK_ROWS ? left : REPLAY_CHUNK_ROWS);
        if (bad >= 0) {
            return begin + bad;
        }
    }
    return -1;
}

void replay_rank_load(int64_t *load_tokens, const struct replay_shape *shape,
                      const int64_t *expert_tokens)
{
    memset(load_tokens, 0, (size_t)shape->num_ranks * sizeof *load_tokens);
    for (int32_t expert = 0; expert < shape->num_experts; expert++) {
        load_tokens[shape->rank_of_expert[expert]] += expert_tokens[expert];
    }
}

void replay_fold_plane(int64_t *tokens, const uint64_t *plane, int32_t num_words, int32_t lanes,
                       int64_t weight)
{
    const uint64_t bytes = UINT64_C(0x0101010101010101);
    for (int32_t word = 0; word < num_words; word++) {
        uint64_t any = 0;
        for (int32_t lane = 0; lane < lanes; lane++) {
            any |= plane[word * lanes + lane];
        }
        for (int32_t bit = 0; bit < 8 && any != 0; bit++) { /* of every byte at once */
            uint64_t sum = 0;
            for (int32_t lane = 0; lane < lanes; lane++) {
                sum += plane[word * lanes + lane] >> bit & bytes;
            }
            for (int32_t byte = 0; byte < 8; byte++) {
                tokens[64 * word + 8 * byte + bit] += (int64_t)(sum >> 8 * byte & 0xff) * weight;
            }
        }
    }
}
