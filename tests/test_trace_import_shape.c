/*
 * test_trace_import_shape.c -- an array is held against the model that it is said to come from.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "import/import.h"
#include "import_directory.h"
#include "npy.h"
#include "trace.h"

static const char *const array_paths[] = {array_path};
static struct error error;
static struct import_summary summary;

TestSuite(trace_import_shape, .init = make_directory, .fini = remove_directory);

static struct import_options token_layer_k(const char *model)
{
    return (struct import_options){
        .format = "npy",
        .paths = array_paths,
        .num_paths = 1,
        .model = model,
        .axis = {TRACE_AXIS_TOKEN, TRACE_AXIS_LAYER, TRACE_AXIS_K},
    };
}

static void write_array(enum npy_type type, const int64_t dim[3], const void *values)
{
    struct npy_writer writer;
    int64_t bytes = dim[0] * dim[1] * dim[2] * npy_type_bytes(type);
    cr_assert_eq(npy_writer_open(&writer, array_path, type, 3, dim, &error), STATUS_OK);
    cr_assert_eq(npy_writer_append(&writer, values, (size_t)bytes, &error), STATUS_OK);
    cr_assert_eq(npy_writer_close(&writer, &error), STATUS_OK);
}

static void expect_refusal(const struct import_options *options, const char *words)
{
    error = (struct error){0};
    cr_expect_neq(import_run(out_path, options, &summary, &error), STATUS_OK);
    cr_expect_not_null(strstr(error.text, words), "'%s' is not in: %s", words, error.text);
    cr_expect_neq(access(out_path, F_OK), 0);
}

/* 2 tokens of 24 layers and top-4, layer by layer: only one order of axes has 24 layers and k 4. */
Test(trace_import_shape, names_the_only_order_of_axes_that_fits_the_model)
{
    static const uint8_t zeros[24 * 2 * 4];
    const int64_t dim[] = {24, 2, 4};
    struct import_options options = token_layer_k("gpt-oss-20b");
    write_array(NPY_UINT8, dim, zeros);

    expect_refusal(&options, "--axes layer,token,k would fit");
}

/* Writes tokens of a model with 61 layers, 3 of them dense, 256 experts and top-8. A recorder of
 * all layers leaves zeros in the dense ones. */
Test(trace_import_shape, drops_the_dense_layers_of_the_model)
{
    enum { NUM_TOKENS = 3, NUM_LAYERS = 61, K = 8 };
    static uint16_t values[NUM_TOKENS][NUM_LAYERS][K];
    const int64_t dim[] = {NUM_TOKENS, NUM_LAYERS, K};
    struct trace trace;
    const int64_t row = 2;
    int32_t expert[K];
    struct import_options options = token_layer_k("deepseek-v3");
    for (int32_t i = 0; i < NUM_TOKENS * NUM_LAYERS * K; i++) {
        int32_t layer = i / K % NUM_LAYERS;
        values[i / K / NUM_LAYERS][layer][i % K] = (uint16_t)(layer < 3 ? 0 : layer + i % K);
    }
    write_array(NPY_UINT16, dim, values);

    cr_assert_eq(import_run(out_path, &options, &summary, &error), STATUS_OK, "%s", error.text);

    cr_expect_eq(summary.num_dense_layers_dropped, 3);
    cr_assert_eq(trace_open(&trace, out_path, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(trace.num_layers, 58);
    cr_expect_eq(trace.model_layer[0], 3);
    cr_assert_eq(trace_read(&trace, expert, NULL, 57, &row, 1, &error), STATUS_OK);
    cr_expect_eq(expert[7], 67); /* layer 60 + 7 */
    trace_close(&trace);
}

Test(trace_import_shape, names_what_the_model_has_when_no_order_of_axes_fits)
{
    static const uint8_t zeros[2 * 24 * 8];
    static const int32_t dense[] = {2, 3};
    const int64_t dim[] = {2, 24, 8};
    struct import_options options = token_layer_k("gpt-oss-20b");
    write_array(NPY_UINT8, dim, zeros);

    expect_refusal(&options, "it has 24 layers and top-8, but gpt-oss-20b has 24 and top-4: look");
    options.model = "deepseek-v3";
    expect_refusal(&options, "but deepseek-v3 has 58 with experts and top-8: look");
    options.model_layer = dense;
    options.num_layers = 2;
    expect_refusal(&options, "--layers: layer 2 of deepseek-v3 is not a MoE layer");
}

Test(trace_import_shape, refuses_models_that_are_unknown_or_dense)
{
    static const uint8_t zeros[2];
    const int64_t dim[] = {2, 1, 1};
    struct import_options options = token_layer_k("llama-2-70b");
    write_array(NPY_UINT8, dim, zeros);

    expect_refusal(&options, "model llama-2-70b is dense: it routes nothing");
    options.model = "gpt-oss-21b";
    expect_refusal(&options, "gpt-oss-20b");
}

Test(trace_import_shape, refuses_an_array_without_a_token)
{
    const int64_t dim[] = {0, 24, 4};
    struct import_options options = token_layer_k("gpt-oss-20b");
    write_array(NPY_INT32, dim, dim);

    expect_refusal(&options, "0 tokens with top-4 of 32 experts: there must be a token");
}
