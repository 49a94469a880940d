/*
 * test_replay.c -- replay counts what the rows say, on every path that this processor has.
 */
#include "replay.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define RANKS_MAX 300

/* xorshift64* (Vigna 2016): the test wants many small draws, not a good generator. */
static uint64_t draw(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545f4914f6cdd1d) >> 32;
}

static int32_t draw_below(uint64_t *state, int32_t bound)
{
    return (int32_t)(draw(state) % (uint64_t)bound);
}

/* Rows of a layer and where their experts are. */
struct example {
    struct replay_shape shape;
    int32_t rank_of_expert[2048];
    int32_t node_of_rank[2048];
    int64_t num_rows;
    void *id; /* aligned to id_bytes and to nothing more */
    void *memory;
};

static void put_id(struct example *example, int64_t index, int32_t id)
{
    if (example->shape.id_bytes == 1) {
        ((uint8_t *)example->id)[index] = (uint8_t)id;
    } else {
        ((uint16_t *)example->id)[index] = (uint16_t)id;
    }
}

/* What the rows shall have. */
struct flaws {
    int32_t gap_percent;       /* of ids that are "not routed", where the shape knows such */
    int32_t duplicate_percent; /* of rows that name an expert twice */
    int64_t alike_of_source;   /* > 0: many rows, all like the first, so many of a source */
    int64_t grouped_of_source; /* > 0: many rows, so many of a source, ranks of 8 and nodes of 64 */
};

static void fill_rows(struct example *example, uint64_t *state, struct flaws flaws)
{
    const struct replay_shape *shape = &example->shape;
    bool has_gaps = shape->id_bytes == 2 || shape->num_experts < 256;
    for (int64_t row = 0; row < example->num_rows; row++) {
        int32_t chosen[16];
        for (int32_t k = 0; k < shape->top_k; k++) {
            bool is_new = false;
            while (!is_new) {
                chosen[k] = draw_below(state, shape->num_experts);
                is_new = true;
                for (int32_t other = 0; other < k; other++) {
                    is_new = is_new && chosen[other] != chosen[k];
                }
            }
        }
        if (shape->top_k > 1 && draw_below(state, 100) < flaws.duplicate_percent) {
            chosen[draw_below(state, shape->top_k - 1) + 1] = chosen[0];
        }
        for (int32_t k = 0; k < shape->top_k; k++) {
            bool is_gap = has_gaps && draw_below(state, 100) < flaws.gap_percent;
            put_id(example, row * shape->top_k + k, is_gap ? 0xffff : chosen[k]);
        }
    }
}

static int32_t smaller(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

/* Placements of three kinds: neighbours share a rank, eight of them do, or chance has it. */
static void place_experts(struct example *example, uint64_t *state)
{
    struct replay_shape *shape = &example->shape;
    int32_t kind = draw_below(state, 3);
    shape->num_ranks = kind == 1 ? (shape->num_experts + 7) / 8
                                 : 1 + draw_below(state, smaller(shape->num_experts, RANKS_MAX));
    for (int32_t expert = 0; expert < shape->num_experts; expert++) {
        example->rank_of_expert[expert] =
            kind == 0   ? (int32_t)((int64_t)expert * shape->num_ranks / shape->num_experts)
            : kind == 1 ? shape->num_ranks - 1 - expert / 8
                        : draw_below(state, shape->num_ranks);
    }
    shape->num_nodes = 1 + draw_below(state, shape->num_ranks);
    for (int32_t rank = 0; rank < shape->num_ranks; rank++) {
        example->node_of_rank[rank] = kind == 2 ? draw_below(state, shape->num_nodes)
                                                : rank * shape->num_nodes / shape->num_ranks;
    }
    shape->num_sources = 1 + draw_below(state, 9);
    shape->rows_per_source = 1 + draw_below(state, draw_below(state, 2) == 0 ? 300 : 5000);
}

/* Eight neighbours share a rank and eight ranks a node, the nodes upwards or downwards. */
static void place_groups(struct example *example, bool upwards)
{
    struct replay_shape *shape = &example->shape;
    shape->num_ranks = (shape->num_experts + 7) / 8;
    shape->num_nodes = (shape->num_ranks + 7) / 8;
    for (int32_t expert = 0; expert < shape->num_experts; expert++) {
        example->rank_of_expert[expert] = expert / 8;
    }
    for (int32_t rank = 0; rank < shape->num_ranks; rank++) {
        example->node_of_rank[rank] = upwards ? rank / 8 : shape->num_nodes - 1 - rank / 8;
    }
}

static void make_example(struct example *example, uint64_t seed, struct flaws flaws)
{
    static const int32_t experts[] = {8, 16, 60, 64, 96, 128, 160, 255, 256, 384, 512, 1000, 1024};
    static const int32_t rows[] = {0, 1, 7, 8, 63, 64, 65, 500, 1983, 1984, 1985, 5000};
    uint64_t state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    memset(example, 0, sizeof *example);
    struct replay_shape *shape = &example->shape;
    shape->num_experts = experts[draw_below(&state, 13)];
    shape->top_k = draw_below(&state, 3) == 0
                       ? smaller(8, shape->num_experts)
                       : 1 + draw_below(&state, smaller(16, shape->num_experts));
    shape->id_bytes = shape->num_experts > 256 || draw_below(&state, 4) == 0 ? 2 : 1;
    shape->rank_of_expert = example->rank_of_expert;
    shape->node_of_rank = example->node_of_rank;
    place_experts(example, &state);
    example->num_rows = rows[draw_below(&state, 12)];
    if (flaws.alike_of_source > 0) {
        shape->rows_per_source = flaws.alike_of_source;
        example->num_rows = 2 * 2048 + 77;
    }
    if (flaws.grouped_of_source > 0) {
        place_groups(example, draw_below(&state, 2) == 0);
        shape->rows_per_source = flaws.grouped_of_source;
        example->num_rows = 6 * 2048 + 77;
    }
    size_t offset = (size_t)(draw_below(&state, 64) * shape->id_bytes);
    size_t bytes = (size_t)(example->num_rows * shape->top_k * shape->id_bytes);
    example->memory = malloc(bytes + offset);
    example->id = (char *)example->memory + offset;
    fill_rows(example, &state, flaws);
    size_t row_bytes = (size_t)(shape->top_k * shape->id_bytes);
    for (int64_t row = 1; row < example->num_rows && flaws.alike_of_source > 0; row++) {
        memcpy((char *)example->id + (size_t)row * row_bytes, example->id, row_bytes);
    }
}

/* Counts of an example, as one array: experts, ranks, nodes by source. */
struct tally {
    struct replay_counts counts;
    size_t length;
    int64_t *all;
};

static struct tally make_tally(const struct replay_shape *shape)
{
    struct tally tally = {.length = (size_t)(shape->num_experts + shape->num_ranks) +
                                    (size_t)shape->num_sources * (size_t)shape->num_nodes};
    tally.all = calloc(tally.length, sizeof *tally.all);
    tally.counts.expert_tokens = tally.all;
    tally.counts.rank_tokens = tally.all + shape->num_experts;
    tally.counts.node_tokens = tally.all + shape->num_experts + shape->num_ranks;
    return tally;
}

/* Counts rows first .. of the example by the path, in two calls; returns the bad id or -1. */
static int64_t count(struct tally *tally, const struct example *example, enum replay_path path,
                     int64_t first_row)
{
    struct replay *replay;
    cr_assert_eq(replay_open(&replay, &example->shape, path), STATUS_OK);
    int64_t half = example->num_rows / 3;
    const char *rest =
        (const char *)example->id + half * example->shape.top_k * example->shape.id_bytes;
    int64_t bad = replay_count(replay, &tally->counts, example->id, first_row, half);
    if (bad < 0) {
        bad =
            replay_count(replay, &tally->counts, rest, first_row + half, example->num_rows - half);
        bad = bad < 0 ? bad : bad + half * example->shape.top_k;
    }
    replay_close(replay);
    return bad;
}

static void expect_twins(uint64_t seed, struct flaws flaws, int64_t damaged_id)
{
    struct example example;
    make_example(&example, seed, flaws);
    int64_t num_ids = example.num_rows * example.shape.top_k;
    if (damaged_id >= 0 && example.shape.num_experts != 256 && num_ids > 0) {
        put_id(&example, damaged_id % num_ids, example.shape.num_experts);
    }
    struct tally scalar = make_tally(&example.shape);
    int64_t bad = count(&scalar, &example, REPLAY_SCALAR, (int64_t)seed * 100);
    for (int path = REPLAY_SCALAR + 1; path < REPLAY_PATH_COUNT; path++) {
        if (!replay_path_runs((enum replay_path)path)) {
            continue;
        }
        struct tally tally = make_tally(&example.shape);
        int64_t found = count(&tally, &example, (enum replay_path)path, (int64_t)seed * 100);
        cr_expect_eq(found, bad, "%s, seed %d", replay_path_name((enum replay_path)path),
                     (int)seed);
        for (size_t i = 0; i < tally.length && bad < 0; i++) {
            cr_assert_eq(tally.all[i], scalar.all[i],
                         "%s, seed %d (%d experts, top-%d, %d bytes, %d ranks, %d nodes, %d rows): "
                         "count %d is %lld, not %lld",
                         replay_path_name((enum replay_path)path), (int)seed,
                         example.shape.num_experts, example.shape.top_k, example.shape.id_bytes,
                         example.shape.num_ranks, example.shape.num_nodes, (int)example.num_rows,
                         (int)i, (long long)tally.all[i], (long long)scalar.all[i]);
        }
        free(tally.all);
    }
    free(scalar.all);
    free(example.memory);
}

Test(replay, every_path_equals_the_scalar_path)
{
    for (uint64_t seed = 1; seed <= 600; seed++) {
        expect_twins(seed, (struct flaws){0}, -1);
    }
}

Test(replay, gaps_are_counted_nowhere)
{
    for (uint64_t seed = 1; seed <= 300; seed++) {
        expect_twins(seed, (struct flaws){.gap_percent = seed % 2 == 0 ? 3 : 60}, -1);
    }
}

Test(replay, an_expert_named_twice_in_a_row_counts_twice_on_every_path)
{
    for (uint64_t seed = 1; seed <= 300; seed++) {
        expect_twins(
            seed, (struct flaws){.gap_percent = 5, .duplicate_percent = 1 + (int32_t)(seed % 20)},
            -1);
    }
}

Test(replay, every_path_finds_the_same_damaged_id)
{
    for (uint64_t seed = 1; seed <= 300; seed++) {
        expect_twins(seed, (struct flaws){.gap_percent = 5}, (int64_t)(seed * 7919));
    }
}

/* Two sources of two rows each, four ranks of two experts on two nodes:
 *
 *   row  experts  ranks  nodes  source
 *    0   0 1 7    0 3    0 1    0
 *    1   2 3 -    1      0      0
 *    2   - - -                  1
 *    3   4 6 5    2 3    1      1
 *    4   0 2 4    0 1 2  0 1    0 again
 */
static const uint8_t hand_id[] = {0, 1, 7, 2, 3, 255, 255, 255, 255, 4, 6, 5, 0, 2, 4};
static const int32_t hand_rank_of_expert[] = {0, 0, 1, 1, 2, 2, 3, 3};
static const int32_t hand_node_of_rank[] = {0, 0, 1, 1};

static struct replay_shape hand_shape(void)
{
    return (struct replay_shape){.num_experts = 8,
                                 .top_k = 3,
                                 .id_bytes = 1,
                                 .num_ranks = 4,
                                 .num_nodes = 2,
                                 .rank_of_expert = hand_rank_of_expert,
                                 .node_of_rank = hand_node_of_rank,
                                 .num_sources = 2,
                                 .rows_per_source = 2};
}

Test(replay, counts_by_hand)
{
    static const int64_t expert_tokens[] = {2, 1, 2, 1, 2, 1, 1, 1};
    static const int64_t rank_tokens[] = {2, 2, 2, 2};
    static const int64_t node_tokens[] = {3, 2, 0, 1};
    static const int64_t load_tokens[] = {3, 3, 3, 2};
    struct replay_shape shape = hand_shape();
    for (int path = REPLAY_SCALAR; path < REPLAY_PATH_COUNT; path++) {
        if (!replay_path_runs((enum replay_path)path)) {
            continue;
        }
        int64_t tokens[8 + 4 + 4] = {0};
        int64_t load[4];
        struct replay_counts counts = {tokens, tokens + 8, tokens + 12};
        struct replay *replay;
        cr_assert_eq(replay_open(&replay, &shape, (enum replay_path)path), STATUS_OK);

        int64_t bad = replay_count(replay, &counts, hand_id, 0, 5);
        replay_rank_load(load, &shape, counts.expert_tokens);

        cr_expect_eq(bad, -1);
        cr_expect_eq((int)replay_path_of(replay), path);
        cr_expect_arr_eq(counts.expert_tokens, expert_tokens, sizeof expert_tokens);
        cr_expect_arr_eq(counts.rank_tokens, rank_tokens, sizeof rank_tokens);
        cr_expect_arr_eq(counts.node_tokens, node_tokens, sizeof node_tokens);
        cr_expect_arr_eq(load, load_tokens, sizeof load_tokens);
        replay_close(replay);
    }
}

Test(replay, counts_experts_alone)
{
    struct replay_shape shape = {.num_experts = 8, .top_k = 3, .id_bytes = 1};
    for (int path = REPLAY_SCALAR; path < REPLAY_PATH_COUNT; path++) {
        int64_t tokens[8] = {0};
        struct replay_counts counts = {.expert_tokens = tokens};
        struct replay *replay;
        if (!replay_path_runs((enum replay_path)path)) {
            continue;
        }
        cr_assert_eq(replay_open(&replay, &shape, (enum replay_path)path), STATUS_OK);

        cr_expect_eq(replay_count(replay, &counts, hand_id, 7, 5), -1);

        cr_expect_eq(tokens[0] + tokens[1] + tokens[2] + tokens[3], 6);
        cr_expect_eq(tokens[4] + tokens[5] + tokens[6] + tokens[7], 5);
        replay_close(replay);
    }
}

/* A chunk is 2^18 rows; the second of three names an expert twice, the last row of all is damaged
 * or not. Each row is expert 3 and one of 0 to 2. */
Test(replay, chunks_are_checked_one_by_one)
{
    const int64_t num_rows = 3 * (INT64_C(1) << 18) - 5;
    const int64_t twice = (INT64_C(1) << 18) + 1234;
    struct replay_shape shape = {.num_experts = 40, .top_k = 2, .id_bytes = 1};
    uint8_t *id = malloc((size_t)num_rows * 2);
    for (int64_t row = 0; row < num_rows; row++) {
        id[2 * row] = 3;
        id[2 * row + 1] = (uint8_t)(row % 3);
    }
    id[2 * twice + 1] = 3;
    for (int path = REPLAY_SCALAR; path < REPLAY_PATH_COUNT; path++) {
        int64_t tokens[40] = {0};
        struct replay_counts counts = {.expert_tokens = tokens};
        struct replay *replay;
        if (!replay_path_runs((enum replay_path)path)) {
            continue;
        }
        cr_assert_eq(replay_open(&replay, &shape, (enum replay_path)path), STATUS_OK);

        cr_expect_eq(replay_count(replay, &counts, id, 0, num_rows), -1);
        cr_expect_eq(tokens[3], num_rows + 1);
        cr_expect_eq(tokens[0], 262143); /* rows 0, 3, ...: num_rows / 3, rounded up */
        cr_expect_eq(tokens[1], 262142);
        cr_expect_eq(tokens[2], 262141); /* less the row that names expert 3 twice */
        id[2 * num_rows - 1] = 40;
        cr_expect_eq(replay_count(replay, &counts, id, 0, num_rows), 2 * num_rows - 1);
        id[2 * num_rows - 1] = (uint8_t)((num_rows - 1) % 3);
        replay_close(replay);
    }
    free(id);
}

/* Rows that all meet the same ranks drive every narrow counter as far as it goes. */
Test(replay, no_counter_overflows_where_all_rows_are_alike)
{
    static const int64_t rows_per_source[] = {1, 100, 128, 2048, INT64_MAX};
    for (int32_t i = 0; i < 300; i++) {
        expect_twins((uint64_t)i + 1, (struct flaws){.alike_of_source = rows_per_source[i % 5]},
                     -1);
    }
}

/* Of these, sources begin with the rows of a call (seeds that 32 divides) or within. */
Test(replay, sources_of_many_rows_and_nodes_of_64_experts)
{
    static const int64_t rows_per_source[] = {128, 384, 2048, 200};
    for (int32_t i = 0; i < 96; i++) {
        uint64_t seed = (uint64_t)(i % 3 == 2 ? i : 32 * i);
        expect_twins(seed, (struct flaws){.grouped_of_source = rows_per_source[i % 4]}, -1);
    }
}

Test(replay, shapes_beyond_the_vectors_run_scalar)
{
    struct replay_shape many = {.num_experts = REPLAY_EXPERTS_MAX + 1, .top_k = 8, .id_bytes = 2};
    struct replay_shape wide = {.num_experts = 64, .top_k = REPLAY_TOP_K_MAX + 1, .id_bytes = 1};
    struct replay *replay;
    cr_assert_eq(replay_open(&replay, &many, replay_path_best()), STATUS_OK);
    cr_expect_eq(replay_path_of(replay), REPLAY_SCALAR);
    replay_close(replay);
    cr_assert_eq(replay_open(&replay, &wide, replay_path_best()), STATUS_OK);
    cr_expect_eq(replay_path_of(replay), REPLAY_SCALAR);
    replay_close(replay);
}
