/*
 * test_trace_import.c -- one trace, whatever order and type its array came in; and every refusal.
 */
#include "import/import.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "npy.h"
#include "trace.h"

#define TOKENS 5
#define LAYERS 3
#define TOP_K  2

static char directory[64];
static char array_path[96];
static const char *const array_paths[] = {array_path};
static char weight_path[96];
static char request_path[96];
static char out_path[96];
static struct error error;
static struct import_summary summary;

/* 6 experts; one token with a pad, one without any expert in layer 2. */
static const int64_t ids[TOKENS][LAYERS][TOP_K] = {
    {{0, 1}, {2, 3}, {4, 5}},   {{1, 0}, {3, 2}, {5, 4}}, {{2, 1}, {0, -1}, {5, 0}},
    {{5, 4}, {4, 3}, {-1, -1}}, {{0, 5}, {1, 4}, {2, 3}},
};

static void make_directory(void)
{
    (void)snprintf(directory, sizeof directory, "/tmp/moesim-import-XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
    (void)snprintf(array_path, sizeof array_path, "%s/experts.npy", directory);
    (void)snprintf(weight_path, sizeof weight_path, "%s/weights.npy", directory);
    (void)snprintf(request_path, sizeof request_path, "%s/list.csv", directory);
    (void)snprintf(out_path, sizeof out_path, "%s/trace", directory);
}

static void remove_directory(void)
{
    char command[96];
    (void)snprintf(command, sizeof command, "rm -r %s", directory);
    cr_assert_eq(system(command), 0);
}

TestSuite(trace_import, .init = make_directory, .fini = remove_directory);

/* The id as the type writes it; -1 becomes all ones. */
static void write_id(struct npy_writer *writer, enum npy_type type, int64_t id)
{
    cr_assert_eq(npy_writer_append(writer, &id, (size_t)npy_type_bytes(type), &error), STATUS_OK);
}

static const int64_t dims[TRACE_AXIS_COUNT] = {TOKENS, LAYERS, TOP_K};

/* Writes values[TOKENS][LAYERS][TOP_K] with its axes in the given order. */
static void write_array(enum npy_type type, const enum trace_axis axis[TRACE_AXIS_COUNT],
                        const int64_t *values)
{
    struct npy_writer writer;
    int64_t dim[TRACE_AXIS_COUNT];
    int64_t at[TRACE_AXIS_COUNT];
    for (int32_t i = 0; i < TRACE_AXIS_COUNT; i++) {
        dim[i] = dims[axis[i]];
    }
    cr_assert_eq(npy_writer_open(&writer, array_path, type, 3, dim, &error), STATUS_OK);
    for (at[axis[0]] = 0; at[axis[0]] < dim[0]; at[axis[0]]++) {
        for (at[axis[1]] = 0; at[axis[1]] < dim[1]; at[axis[1]]++) {
            for (at[axis[2]] = 0; at[axis[2]] < dim[2]; at[axis[2]]++) {
                int64_t row = at[TRACE_AXIS_TOKEN] * LAYERS + at[TRACE_AXIS_LAYER];
                write_id(&writer, type, values[row * TOP_K + at[TRACE_AXIS_K]]);
            }
        }
    }
    cr_assert_eq(npy_writer_close(&writer, &error), STATUS_OK, "%s", error.text);
}

static const enum trace_axis plain_axes[] = {TRACE_AXIS_TOKEN, TRACE_AXIS_LAYER, TRACE_AXIS_K};
static const int32_t model_layer[] = {1, 2, 5};

static struct import_options plain_options(void)
{
    struct import_options options = {
        .format = "npy",
        .paths = array_paths,
        .num_paths = 1,
        .model = "tiny",
        .num_experts = 6,
        .model_layer = model_layer,
        .num_layers = LAYERS,
    };
    memcpy(options.axis, plain_axes, sizeof plain_axes);
    return options;
}

/* The trace must hold ids at the given layers of the array. */
static void expect_trace(int64_t num_tokens)
{
    struct trace trace;
    const int64_t rows[TOKENS] = {0, 1, 2, 3, 4};
    cr_assert_eq(trace_open(&trace, out_path, &error), STATUS_OK, "%s", error.text);
    cr_expect_eq(trace.num_tokens, num_tokens);
    cr_expect_eq(trace.num_layers, LAYERS);
    cr_expect_eq(trace_check(&trace, &error), STATUS_OK, "%s", error.text);
    for (int32_t layer = 0; layer < LAYERS; layer++) {
        int32_t expert[TOKENS][TOP_K];
        cr_assert_eq(trace_read(&trace, expert[0], NULL, layer, rows, (int32_t)num_tokens, &error),
                     STATUS_OK);
        for (int64_t token = 0; token < num_tokens; token++) {
            for (int32_t k = 0; k < TOP_K; k++) {
                cr_expect_eq(expert[token][k], ids[token][layer][k]);
            }
        }
    }
    trace_close(&trace);
}

/* The import must fail with these words and leave nothing behind but the files of the test. */
static void expect_refusal(const struct import_options *options, const char *words)
{
    char partial[112];
    error = (struct error){0};
    cr_expect_neq(import_run(out_path, options, &summary, &error), STATUS_OK);
    cr_expect_not_null(strstr(error.text, words), "'%s' is not in: %s", words, error.text);
    (void)snprintf(partial, sizeof partial, "%s.partial", out_path);
    cr_expect_neq(access(out_path, F_OK), 0);
    cr_expect_neq(access(partial, F_OK), 0);
}

static void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    fputs(text, file);
    cr_assert_eq(fclose(file), 0);
}

Test(trace_import, gives_the_same_trace_for_every_order_of_axes_and_every_integer_type)
{
    static const char *const orders[] = {"token,layer,k", "token,k,layer", "layer,token,k",
                                         "layer,k,token", "k,token,layer", "k,layer,token"};
    for (size_t order = 0; order < sizeof orders / sizeof orders[0]; order++) {
        for (int32_t type = NPY_INT8; type <= NPY_UINT64; type++) {
            struct import_options options = plain_options();
            options.replace = true;
            cr_assert(trace_axes_parse(options.axis, orders[order]));
            write_array((enum npy_type)type, options.axis, ids[0][0]);

            cr_assert_eq(import_run(out_path, &options, &summary, &error), STATUS_OK, "%s %s: %s",
                         orders[order], npy_type_name((enum npy_type)type), error.text);

            expect_trace(TOKENS);
            cr_expect_eq(summary.num_pads, 3);
            cr_expect_eq(summary.num_tokens, TOKENS);
            cr_expect_eq(summary.num_rows_reordered, 0);
        }
    }
}

Test(trace_import, gives_the_same_trace_for_every_size_of_shard)
{
    write_array(NPY_INT16, plain_axes, ids[0][0]);
    for (int64_t tokens = 1; tokens <= TOKENS + 1; tokens++) {
        struct import_options options = plain_options();
        options.replace = true;
        options.tokens_per_shard = tokens;

        cr_assert_eq(import_run(out_path, &options, &summary, &error), STATUS_OK, "%s", error.text);

        cr_expect_eq(summary.num_shards, (TOKENS + tokens - 1) / tokens);
        expect_trace(TOKENS);
    }
}

Test(trace_import, stops_after_the_tokens_asked_for)
{
    struct import_options options = plain_options();
    options.num_tokens_max = 2;
    options.requests_path = request_path;
    write_array(NPY_UINT8, plain_axes, ids[0][0]);
    write_text(request_path, "row_offset\n0\n1\n3\n");

    cr_assert_eq(import_run(out_path, &options, &summary, &error), STATUS_OK, "%s", error.text);

    expect_trace(2);
    cr_expect_eq(summary.num_tokens_in_file, TOKENS);
    cr_expect_eq(summary.num_requests, 2);
    struct trace trace;
    cr_assert_eq(trace_open(&trace, out_path, &error), STATUS_OK, "%s", error.text);
    cr_expect_eq(trace.requests[1].num_rows, 1);
    trace_close(&trace);
}

Test(trace_axes, are_the_three_names_once_each)
{
    enum trace_axis axis[TRACE_AXIS_COUNT];

    cr_expect(trace_axes_parse(axis, "k,token,layer"));
    cr_expect_eq(axis[0], TRACE_AXIS_K);
    cr_expect_eq(axis[1], TRACE_AXIS_TOKEN);
    cr_expect_eq(axis[2], TRACE_AXIS_LAYER);
    static const char *const bad[] = {"",          "token,layer",     "token,layer,k,",
                                      "k,k,layer", "token,layer,top", "token;layer;k",
                                      ",,",        "token,layer,k,k"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_expect_not(trace_axes_parse(axis, bad[i]), "%s", bad[i]);
    }
}

Test(trace_import, names_file_token_and_layer_of_a_bad_id)
{
    static const int64_t bad[] = {6, 127, -2};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char words[96];
        int64_t values[TOKENS][LAYERS][TOP_K];
        struct import_options options = plain_options();
        memcpy(values, ids, sizeof ids);
        values[3][2][1] = bad[i];
        write_array(NPY_INT8, plain_axes, values[0][0]);
        (void)snprintf(words, sizeof words,
                       "experts.npy: token 3, layer 2 of the file (model layer 5): expert %lld: "
                       "ids go from 0 to 5",
                       (long long)bad[i]);

        expect_refusal(&options, words);
        cr_expect_eq(error.num_problems, 1);
    }
}

Test(trace_import, refuses_an_unsigned_id_that_only_looks_like_a_pad)
{
    int64_t values[TOKENS][LAYERS][TOP_K];
    struct import_options options = plain_options();
    memcpy(values, ids, sizeof ids);
    values[0][0][0] = -2; /* 2^64 - 2, all ones but the last */
    write_array(NPY_UINT64, plain_axes, values[0][0]);

    expect_refusal(&options, "token 0, layer 0");
}

Test(trace_import, refuses_a_row_with_the_same_expert_twice)
{
    int64_t values[TOKENS][LAYERS][TOP_K];
    struct import_options options = plain_options();
    memcpy(values, ids, sizeof ids);
    values[4][1][0] = 4;
    write_array(NPY_INT32, plain_axes, values[0][0]);

    expect_refusal(&options,
                   "token 4, layer 1 of the file (model layer 2): twice the expert 4: a token");
}

Test(trace_import, stops_reading_a_file_that_is_wrong_everywhere)
{
    static int64_t values[TOKENS][LAYERS][TOP_K]; /* zeros: 15 rows with expert 0 twice */
    struct import_options options = plain_options();
    write_array(NPY_INT32, plain_axes, values[0][0]);

    expect_refusal(&options, "stopped reading after 10 problems");
    cr_expect_eq(error.num_problems, 11);
    cr_expect_not_null(strstr(error.text, "if the layer or token was not recorded, write -1"));
}

/* With 256 experts all ids of one byte are experts; pads then need a wider type, and the trace too.
 */
Test(trace_import, takes_255_for_an_expert_when_there_are_256)
{
    int64_t values[TOKENS][LAYERS][TOP_K];
    struct trace trace;
    struct import_options options = plain_options();
    options.num_experts = 256;
    options.replace = true;
    memcpy(values, ids, sizeof ids);
    values[2][1][1] = 255;
    values[3][2][0] = 255;
    values[3][2][1] = 254;
    for (int32_t type = NPY_UINT8; type <= NPY_UINT16; type++) {
        const int64_t row = 3;
        int32_t expert[TOP_K];
        values[0][0][1] = type == NPY_UINT8 ? 1 : -1;
        write_array((enum npy_type)type, plain_axes, values[0][0]);

        cr_assert_eq(import_run(out_path, &options, &summary, &error), STATUS_OK, "%s", error.text);

        cr_expect_eq(summary.num_pads, type == NPY_UINT8 ? 0 : 1);
        cr_assert_eq(trace_open(&trace, out_path, &error), STATUS_OK, "%s", error.text);
        cr_assert_eq(trace_read(&trace, expert, NULL, 2, &row, 1, &error), STATUS_OK);
        cr_expect_eq(expert[0], 255);
        trace_close(&trace);
    }
}

/* Writes weights[TOKENS][LAYERS][TOP_K] = 0.5, 0.25 but for token 1, layer 0: 0.25, 0.75. */
static void write_weights(enum npy_type type, int64_t num_tokens)
{
    struct npy_writer writer;
    const int64_t dim[] = {num_tokens, LAYERS, TOP_K};
    cr_assert_eq(npy_writer_open(&writer, weight_path, type, 3, dim, &error), STATUS_OK);
    for (int64_t i = 0; i < num_tokens * LAYERS * TOP_K; i++) {
        bool swapped = i / TOP_K == LAYERS;
        double value = i % 2 == 0 ? 0.5 : 0.25;
        value = swapped ? (i % 2 == 0 ? 0.25 : 0.75) : value;
        float single = (float)value;
        uint16_t half = npy_float_to_half(single);
        const void *bytes = type == NPY_FLOAT64   ? (const void *)&value
                            : type == NPY_FLOAT32 ? (const void *)&single
                                                  : (const void *)&half;
        cr_assert_eq(npy_writer_append(&writer, bytes, (size_t)npy_type_bytes(type), &error),
                     STATUS_OK);
    }
    cr_assert_eq(npy_writer_close(&writer, &error), STATUS_OK);
}

Test(trace_import, puts_rows_into_the_order_of_their_weights)
{
    write_array(NPY_INT8, plain_axes, ids[0][0]);
    for (int32_t type = NPY_FLOAT16; type <= NPY_FLOAT64; type++) {
        struct trace trace;
        const int64_t row = 1;
        int32_t expert[TOP_K];
        float weight[TOP_K];
        struct import_options options = plain_options();
        options.gate_weight_path = weight_path;
        options.replace = true;
        write_weights((enum npy_type)type, TOKENS);

        cr_assert_eq(import_run(out_path, &options, &summary, &error), STATUS_OK, "%s", error.text);

        cr_expect_eq(summary.num_rows_reordered, 1);
        cr_assert_eq(trace_open(&trace, out_path, &error), STATUS_OK, "%s", error.text);
        cr_expect_eq(trace_check(&trace, &error), STATUS_OK, "%s", error.text);
        cr_assert_eq(trace_read(&trace, expert, weight, 0, &row, 1, &error), STATUS_OK);
        cr_expect_eq(expert[0], 0); /* was {1, 0} */
        cr_expect_eq(expert[1], 1);
        cr_expect_eq(weight[0], 0.75f);
        cr_expect_eq(weight[1], 0.25f);
        trace_close(&trace);
    }
}

Test(trace_import, says_how_many_tokens_the_weights_cover)
{
    struct import_options options = plain_options();
    options.gate_weight_path = weight_path;
    write_array(NPY_INT8, plain_axes, ids[0][0]);
    write_weights(NPY_FLOAT16, 3);

    expect_refusal(&options, "weights.npy: covers 3 of 5 tokens: add --tokens 3");
    options.num_tokens_max = 3;
    cr_expect_eq(import_run(out_path, &options, &summary, &error), STATUS_OK, "%s", error.text);
}

Test(trace_import, refuses_arrays_that_are_something_else)
{
    struct import_options options = plain_options();
    const int64_t two_dims[] = {2, 2};
    const int32_t four[4] = {0, 1, 2, 3};
    struct npy_writer writer;

    expect_refusal(&options, "experts.npy");
    write_array(NPY_INT8, plain_axes, ids[0][0]);
    options.gate_weight_path = array_path;
    expect_refusal(&options, "experts.npy: holds int8, but gate weights are float16");
    write_weights(NPY_FLOAT32, TOKENS);
    options = plain_options();
    const char *const weight_paths[] = {weight_path};
    options.paths = weight_paths;
    expect_refusal(&options, "weights.npy: holds float32, but expert ids are integers");
    cr_assert_eq(npy_writer_open(&writer, array_path, NPY_INT32, 2, two_dims, &error), STATUS_OK);
    cr_assert_eq(npy_writer_append(&writer, four, sizeof four, &error), STATUS_OK);
    cr_assert_eq(npy_writer_close(&writer, &error), STATUS_OK);
    options = plain_options();
    expect_refusal(&options, "experts.npy: has 2 axes");
}

Test(trace_import, compares_the_shape_with_the_model)
{
    struct import_options options = plain_options();
    write_array(NPY_INT8, plain_axes, ids[0][0]);
    cr_assert(trace_axes_parse(options.axis, "layer,k,token"));

    expect_refusal(&options, "it has 5 layers and top-3, but --layers names 3: look at --axes");
}

Test(trace_import, does_not_replace_what_is_there_unless_asked)
{
    struct import_options options = plain_options();
    write_array(NPY_INT8, plain_axes, ids[0][0]);
    cr_assert_eq(import_run(out_path, &options, &summary, &error), STATUS_OK);

    cr_expect_eq(import_run(out_path, &options, &summary, &error), STATUS_INVALID);

    cr_expect_not_null(strstr(error.text, "exists"), "%s", error.text);
    expect_trace(TOKENS);
}
