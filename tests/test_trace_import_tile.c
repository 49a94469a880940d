/*
 * test_trace_import_tile.c -- ids of one byte, which vectors check, import as ids of eight bytes,
 * which are read one by one: the same trace, or the same words about the same place. So do shards
 * written in place and shards gathered in memory.
 */
#include "import/import.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "import_directory.h"
#include "npy.h"
#include "trace.h"

#define TOKENS_MAX 100
#define LAYERS_MAX 11
#define TOP_K_MAX  8

TestSuite(trace_import_tile, .init = make_directory, .fini = remove_directory);

/* An array [num_tokens][num_layers][top_k]; -1: a pad. */
struct example {
    int32_t num_experts;
    int32_t top_k;
    int32_t num_layers;
    int32_t num_tokens;
    int32_t tokens_per_shard; /* 0: all in one */
    int64_t id[TOKENS_MAX * LAYERS_MAX * TOP_K_MAX];
};

/* What an import has come to. */
struct outcome {
    enum status status;
    struct import_summary summary;
    struct error error;
    int32_t id[TOKENS_MAX * LAYERS_MAX * TOP_K_MAX]; /* [num_layers][num_tokens][top_k] */
};

/* xorshift64* (Vigna 2016). */
static int32_t draw_below(uint64_t *state, int32_t bound)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return (int32_t)((*state * UINT64_C(0x2545f4914f6cdd1d) >> 32) % (uint64_t)bound);
}

static void draw_row(int64_t *id, const struct example *example, uint64_t *state)
{
    for (int32_t k = 0; k < example->top_k; k++) {
        bool is_new = false;
        while (!is_new) {
            id[k] = draw_below(state, example->num_experts);
            is_new = true;
            for (int32_t other = 0; other < k; other++) {
                is_new = is_new && id[other] != id[k];
            }
        }
    }
}

/* Rows that are sound, but for some: every pair of places is equal in one of them or another, and
 * there are pads and ids that are no expert. A layer that says nothing is not recorded. */
static void make_example(struct example *example, uint64_t seed)
{
    static const int32_t experts[] = {16, 32, 60, 128, 255, 256};
    static const int32_t tokens[] = {33, 64, 70, 100};
    uint64_t state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    example->num_experts = experts[draw_below(&state, 6)];
    example->top_k = draw_below(&state, 2) == 0 ? 4 : 8;
    example->num_layers = 4 + draw_below(&state, LAYERS_MAX - 3);
    example->num_tokens = tokens[draw_below(&state, 4)];
    example->tokens_per_shard = draw_below(&state, 2 * example->num_tokens);
    int32_t silent = draw_below(&state, 2 * example->num_layers);
    int32_t flaws = draw_below(&state, 4); /* of so many kinds, none at 0 */
    for (int32_t row = 0; row < example->num_tokens * example->num_layers; row++) {
        int64_t *id = example->id + row * example->top_k;
        draw_row(id, example, &state);
        if (row % example->num_layers == silent) {
            memset(id, 0, (size_t)example->top_k * sizeof *id);
        } else if (flaws > 0 && draw_below(&state, 40) == 0) {
            int32_t kind = draw_below(&state, flaws);
            int32_t k = draw_below(&state, example->top_k);
            bool has_pads = example->num_experts < 255; /* one byte has no room else */
            id[k] = kind == 1 && has_pads   ? -1
                    : kind == 2 && has_pads ? example->num_experts
                                            : id[draw_below(&state, example->top_k)];
        }
    }
}

static void write_example(const struct example *example, enum npy_type type)
{
    struct npy_writer writer;
    struct error error = {0};
    const int64_t dim[] = {example->num_tokens, example->num_layers, example->top_k};
    cr_assert_eq(npy_writer_open(&writer, array_path, type, 3, dim, &error), STATUS_OK);
    for (int64_t i = 0; i < dim[0] * dim[1] * dim[2]; i++) {
        cr_assert_eq(
            npy_writer_append(&writer, &example->id[i], (size_t)npy_type_bytes(type), &error),
            STATUS_OK);
    }
    cr_assert_eq(npy_writer_close(&writer, &error), STATUS_OK);
}

/* With the search for dummies it is not known how many tokens will be left: shards are gathered. */
static struct outcome *import(const struct example *example, enum npy_type type, bool is_gathered)
{
    static const char *const paths[] = {array_path};
    struct outcome *outcome = calloc(1, sizeof *outcome);
    const struct import_options options = {
        .format = "npy",
        .paths = paths,
        .num_paths = 1,
        .axis = {TRACE_AXIS_TOKEN, TRACE_AXIS_LAYER, TRACE_AXIS_K},
        .model = "tiny",
        .num_experts = example->num_experts,
        .top_k = example->top_k,
        .tokens_per_shard = example->tokens_per_shard,
        .strip_dummy = is_gathered,
        .replace = true,
    };
    write_example(example, type);
    outcome->status = import_run(out_path, &options, &outcome->summary, &outcome->error);
    if (outcome->status == STATUS_OK) {
        struct trace trace;
        int64_t rows[TOKENS_MAX];
        for (int64_t row = 0; row < TOKENS_MAX; row++) {
            rows[row] = row;
        }
        cr_assert_eq(trace_open(&trace, out_path, &outcome->error), STATUS_OK);
        for (int32_t layer = 0; layer < trace.num_layers; layer++) {
            int32_t *to = outcome->id + layer * example->num_tokens * example->top_k;
            cr_assert_eq(
                trace_read(&trace, to, NULL, layer, rows, example->num_tokens, &outcome->error),
                STATUS_OK);
        }
        trace_close(&trace);
    }
    return outcome;
}

Test(trace_import_tile, bytes_import_as_integers_do)
{
    static struct example example;
    int32_t num_sound = 0;
    const uint64_t num_examples = 200;
    for (uint64_t seed = 1; seed <= num_examples; seed++) {
        make_example(&example, seed);
        struct outcome *bytes = import(&example, NPY_UINT8, seed % 4 == 0);
        struct outcome *integers = import(&example, NPY_INT64, seed % 2 == 1);

        cr_expect_eq(bytes->status, integers->status, "seed %d: %s / %s", (int)seed,
                     bytes->error.text, integers->error.text);
        cr_expect_str_eq(bytes->error.text, integers->error.text, "seed %d", (int)seed);
        cr_expect_eq(bytes->summary.num_pads, integers->summary.num_pads);
        cr_expect_eq(bytes->summary.num_shards, integers->summary.num_shards);
        cr_expect_eq(bytes->summary.num_layers, integers->summary.num_layers);
        cr_expect_arr_eq(bytes->id, integers->id, sizeof bytes->id, "seed %d", (int)seed);
        num_sound += bytes->status == STATUS_OK;
        free(bytes);
        free(integers);
    }
    cr_expect(num_sound > 20 && num_sound < 180, "%d of 200 sound", num_sound);
}
