/*
 * test_trace.c -- traces are read as they were written, from files and from memory.
 */
#include "trace.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "npy.h"
#include "small_trace.h"
#include "trace_internal.h"
#include "trace_writer.h"

/* Of the small trace: a change here changes the identity of every run. */
#define GOLDEN_DIGEST UINT64_C(0x8747a10bcfeca477)

TestSuite(trace, .init = small_make_directory, .fini = small_remove_directory);

static void expect_small_ids(const struct trace *trace)
{
    const int64_t rows[SMALL_TOKENS] = {4, 0, 1, 2, 3}; /* runs within and across shards */
    for (int32_t layer = 0; layer < SMALL_LAYERS; layer++) {
        int32_t expert[SMALL_TOKENS][SMALL_TOP_K];
        cr_assert_eq(trace_read(trace, expert[0], NULL, layer, rows, SMALL_TOKENS, &small_error),
                     STATUS_OK, "%s", small_error.text);
        for (int32_t i = 0; i < SMALL_TOKENS; i++) {
            cr_expect_arr_eq(expert[i], small_ids[layer][rows[i]], sizeof expert[i]);
        }
    }
}

Test(trace, what_is_written_is_read_back)
{
    struct trace trace;
    const int64_t row = 3;
    int32_t expert[SMALL_TOP_K];
    float weight[SMALL_TOP_K];

    small_write();
    cr_assert_eq(trace_open(&trace, small_path, &small_error), STATUS_OK, "%s", small_error.text);

    cr_expect_str_eq(trace.name, "small");
    cr_expect_str_eq(trace.model, "tiny \"one\"");
    cr_expect_str_eq(trace.origin, "mock");
    cr_expect_str_eq(trace.source, "made up: here");
    cr_expect_str_eq(trace.licence, "CC0");
    cr_expect_eq(trace.num_experts, 8);
    cr_expect_eq(trace.num_tokens, SMALL_TOKENS);
    cr_expect_eq(trace.num_shards, 3);
    cr_expect_eq(trace.model_layer[1], 5);
    cr_expect_eq(trace.num_requests, 2);
    cr_expect_str_eq(trace.requests[0].tag, "a, \"b\"");
    cr_expect_eq(trace.requests[0].arrival_s, 0.1);
    cr_expect_eq(trace.requests[0].prompt_tokens, 7);
    cr_expect_eq(trace.requests[1].row_offset, 3);
    cr_expect_eq(trace.requests[1].num_rows, 2);
    expect_small_ids(&trace);
    cr_assert_eq(trace_read(&trace, expert, weight, 0, &row, 1, &small_error), STATUS_OK);
    cr_expect_eq(weight[0], 2.5f);
    cr_expect_eq(weight[1], 0.125f);
    cr_expect_eq(trace_check(&trace, &small_error), STATUS_OK, "%s", small_error.text);
    trace_close(&trace);
    trace_close(&trace);
}

Test(trace, a_slot_without_an_expert_weighs_nothing_and_one_without_a_weight_one)
{
    struct trace trace;
    const int64_t row = 2;
    int32_t expert[SMALL_TOP_K];
    float weight[SMALL_TOP_K];
    small_write();
    char command[256];
    (void)snprintf(command, sizeof command, "rm %s/gate_weights*", small_path);
    cr_assert_eq(system(command), 0);
    cr_assert_eq(trace_open(&trace, small_path, &small_error), STATUS_OK, "%s", small_error.text);

    cr_assert_eq(trace_read(&trace, expert, weight, 1, &row, 1, &small_error), STATUS_OK);

    cr_expect_eq(weight[0], 1.0f);
    cr_expect_eq(weight[1], 0.0f);
    trace_close(&trace);
}

/* Layer 1, tokens 1 to 4: {1,2}, {1,-}, {1,4}, {-,-}. */
Test(trace, counts_each_assignment_once)
{
    struct trace trace;
    int64_t load_tokens[8] = {0};
    const int64_t expected[8] = {0, 3, 1, 0, 1, 0, 0, 0};
    small_write();
    cr_assert_eq(trace_open(&trace, small_path, &small_error), STATUS_OK, "%s", small_error.text);

    cr_assert_eq(trace_count(&trace, load_tokens, 1, 1, 4, &small_error), STATUS_OK);

    cr_expect_arr_eq(load_tokens, expected, sizeof expected);
    trace_close(&trace);
}

/* Builds the small trace in memory, ids of one or two bytes. */
static void small_in_memory(struct trace *trace, int32_t num_experts)
{
    struct trace_description description = small_description();
    struct trace_request *requests = malloc(2 * sizeof *requests);
    size_t count = SMALL_LAYERS * SMALL_TOKENS * SMALL_TOP_K;
    uint8_t *narrow = malloc(count);
    uint16_t *wide = malloc(count * sizeof *wide);
    uint16_t *half = malloc(count * sizeof *half);
    cr_assert(requests != NULL && narrow != NULL && wide != NULL && half != NULL);
    description.num_experts = num_experts;
    small_requests(requests);
    for (size_t i = 0; i < count; i++) {
        narrow[i] = (uint8_t)small_ids[i / 10][i / SMALL_TOP_K % SMALL_TOKENS][i % SMALL_TOP_K];
        wide[i] = (uint16_t)small_ids[i / 10][i / SMALL_TOP_K % SMALL_TOKENS][i % SMALL_TOP_K];
        half[i] = npy_float_to_half(
            small_weights[i / 10][i / SMALL_TOP_K % SMALL_TOKENS][i % SMALL_TOP_K]);
    }
    bool is_narrow = trace_id_bytes(num_experts, true) == 1;
    cr_assert_eq(trace_from_memory(trace, &description, is_narrow ? (void *)narrow : (void *)wide,
                                   half, requests, 2, SMALL_TOKENS, &small_error),
                 STATUS_OK);
    free(is_narrow ? (void *)wide : (void *)narrow);
}

Test(trace, reads_alike_from_memory_and_from_files_and_has_one_digest)
{
    struct trace from_files;
    struct trace from_memory;
    small_write();
    cr_assert_eq(trace_open(&from_files, small_path, &small_error), STATUS_OK, "%s",
                 small_error.text);
    small_in_memory(&from_memory, 8);

    expect_small_ids(&from_memory);
    cr_assert_eq(trace_digest(&from_files, &small_error), STATUS_OK);
    cr_assert_eq(trace_digest(&from_memory, &small_error), STATUS_OK);

    cr_expect_eq(from_files.digest, from_memory.digest);
    cr_expect_eq(from_files.digest, GOLDEN_DIGEST, "%llx", (unsigned long long)from_files.digest);
    cr_expect_eq(trace_check(&from_memory, &small_error), STATUS_OK, "%s", small_error.text);
    trace_close(&from_files);
    trace_close(&from_memory);
}

Test(trace, ids_of_two_bytes_read_as_those_of_one)
{
    struct trace trace;

    small_in_memory(&trace, 300);

    expect_small_ids(&trace);
    trace_close(&trace);
}

Test(trace, the_digest_tells_changed_ids_requests_and_weights_apart)
{
    struct trace trace;
    uint64_t digest[4];
    small_in_memory(&trace, 8);

    cr_assert_eq(trace_digest(&trace, &small_error), STATUS_OK);
    digest[0] = trace.digest;
    ((uint8_t *)trace.shards[0].expert_memory)[19] = 3; /* the last id */
    cr_assert_eq(trace_digest(&trace, &small_error), STATUS_OK);
    digest[1] = trace.digest;
    trace.requests[0].prompt_tokens++;
    cr_assert_eq(trace_digest(&trace, &small_error), STATUS_OK);
    digest[2] = trace.digest;
    ((uint16_t *)trace.shards[0].gate_weight_memory)[0] ^= 1;
    cr_assert_eq(trace_digest(&trace, &small_error), STATUS_OK);
    digest[3] = trace.digest;

    for (int32_t i = 0; i < 4; i++) {
        for (int32_t j = 0; j < i; j++) {
            cr_expect_neq(digest[i], digest[j]);
        }
    }
    trace_close(&trace);
}

/* With exactly 256 experts a byte of 255 is expert 255; with 255 it is a gap. */
Test(trace, a_byte_of_255_is_an_expert_only_among_256)
{
    const uint8_t id[2] = {254, 255};
    const int64_t dim[3] = {1, 2, 1};
    const int64_t rows[2] = {0, 1};
    static const char *const yaml[2] = {
        "version: 1\nmodel: m\nnum_experts: 255\ntop_k: 1\nlayers: [0]\norigin: mock\n",
        "version: 1\nmodel: m\nnum_experts: 256\ntop_k: 1\nlayers: [0]\norigin: mock\n"};
    cr_assert_eq(mkdir(small_path, 0777), 0);
    small_write_array("experts-00000.npy", NPY_UINT8, 3, dim, id);

    for (int32_t i = 0; i < 2; i++) {
        struct trace trace;
        int32_t expert[2];
        small_write_text("trace.yaml", yaml[i]);
        cr_assert_eq(trace_open(&trace, small_path, &small_error), STATUS_OK, "%s",
                     small_error.text);
        cr_assert_eq(trace_read(&trace, expert, NULL, 0, rows, 2, &small_error), STATUS_OK);
        cr_expect_eq(expert[0], 254);
        cr_expect_eq(expert[1], i == 0 ? EXPERT_NOT_ROUTED : 255);
        trace_close(&trace);
    }
}

Test(trace, requests_csv_may_come_from_any_spreadsheet)
{
    struct trace trace;
    small_write();
    small_write_text("requests.csv",
                     "\xef\xbb\xbfrow_offset,note,request,\"tag\",arrival_s,decode_tokens,"
                     "prompt_tokens\r\n0,,0,\"say \"\"hi\"\", you\",1e-3,2,9\r\n"
                     "4,,1,b,2.5,1,0");

    cr_assert_eq(trace_open(&trace, small_path, &small_error), STATUS_OK, "%s", small_error.text);

    cr_expect_eq(trace.num_requests, 2);
    cr_expect_str_eq(trace.requests[0].tag, "say \"hi\", you");
    cr_expect_eq(trace.requests[0].arrival_s, 0.001);
    cr_expect_eq(trace.requests[0].prompt_tokens, 9);
    cr_expect_eq(trace.requests[0].num_rows, 4);
    cr_expect_eq(trace.requests[1].num_rows, 1);
    trace_close(&trace);
}

Test(trace, recorded_steps_are_read_and_checked)
{
    struct trace trace;
    const int64_t good[3] = {0, 2, 5};
    const int64_t beyond[3] = {0, 2, 6};
    const int64_t back[3] = {0, 3, 3};
    const int64_t three = 3;
    const int64_t one = 1;
    small_write();

    small_write_array("steps.npy", NPY_INT64, 1, &three, good);
    cr_assert_eq(trace_open(&trace, small_path, &small_error), STATUS_OK, "%s", small_error.text);
    cr_expect_eq(trace.num_steps, 2);
    cr_expect_eq(trace.step_begin[2], 5);
    trace_close(&trace);
    small_write_array("steps.npy", NPY_INT64, 1, &three, beyond);
    small_expect_refused("steps.npy: rows 0 to 6 are not within 0 to 5", NULL);
    small_write_array("steps.npy", NPY_INT64, 1, &three, back);
    small_expect_refused("steps.npy: element 1: a step must have", NULL);
    small_write_array("steps.npy", NPY_INT64, 1, &one, good);
    small_expect_refused("steps.npy: needs two rows", NULL);
    small_write_array("steps.npy", NPY_UINT64, 1, &three, good);
    small_expect_refused("steps.npy: is uint64 [3] where int64 [*] belongs", NULL);
}

Test(trace, an_id_out_of_range_is_found_when_it_is_read)
{
    struct trace trace;
    const int64_t row = 3;
    int32_t expert[SMALL_TOP_K];
    int64_t load_tokens[8] = {0};
    const uint8_t id[8] = {0, 1, 2, 3, 4, 5, 6, 8}; /* shard 1 holds tokens 2 and 3 */
    const int64_t dim[3] = {2, 2, 2};
    small_write();
    small_write_array("experts-00001.npy", NPY_UINT8, 3, dim, id);
    cr_assert_eq(trace_open(&trace, small_path, &small_error), STATUS_OK, "%s", small_error.text);

    cr_expect_eq(trace_read(&trace, expert, NULL, 0, &row, 1, &small_error), STATUS_OK);
    cr_expect_eq(trace_read(&trace, expert, NULL, 1, &row, 1, &small_error), STATUS_INVALID);
    cr_expect_eq(trace_count(&trace, load_tokens, 1, 0, SMALL_TOKENS, &small_error),
                 STATUS_INVALID);
    cr_expect_eq(trace_digest(&trace, &small_error), STATUS_INVALID);
    cr_expect_eq(trace_check(&trace, &small_error), STATUS_INVALID);

    cr_expect_eq(small_error.num_problems, 2, "%s", small_error.text); /* three say the same */
    cr_expect_not_null(strstr(small_error.text,
                              "experts-00001.npy: layer 1, token 3: expert 8 is not one"
                              " of 0 to 7\n"));
    trace_close(&trace);
}

Test(trace, check_finds_twins_bad_weights_and_odd_files_and_counts_what_it_does_not_show)
{
    struct trace trace;
    const uint8_t twins[8] = {1, 1, 2, 3, 4, 5, 6, 7};
    const uint8_t wrong[8] = {9, 10, 11, 12, 13, 14, 15, 16};
    const uint16_t half[8] = {0x3c00, 0x3c01, 0x7e00, 0x0000, 0x8000, 0x8001, 0x3c00, 0x3c00};
    const int64_t dim[3] = {2, 2, 2};
    const int64_t two = 2;
    small_write();
    small_write_array("experts-00000.npy", NPY_UINT8, 3, dim, twins);
    small_write_array("gate_weights-00000.npy", NPY_FLOAT16, 3, dim, half);
    small_write_array("experts-00001.npy", NPY_UINT8, 3, dim, wrong);
    small_write_array("phase-00000.npy", NPY_UINT16, 1, &two, half);
    small_write_array("source_rank-00000.npy", NPY_UINT16, 1, &two, half);
    small_write_array("scores-00000.npy", NPY_FLOAT16, 3, dim, half);
    cr_assert_eq(trace_open(&trace, small_path, &small_error), STATUS_OK, "%s", small_error.text);

    cr_expect_eq(trace_check(&trace, &small_error), STATUS_INVALID);

    cr_expect_not_null(strstr(small_error.text, "layer 0, token 0: expert 1 stands twice\n"));
    cr_expect_not_null(
        strstr(small_error.text, "token 0: gate weight 1.00098 is larger than the one"));
    cr_expect_not_null(
        strstr(small_error.text, "layer 0, token 1: gate weight nan is not a number"));
    cr_expect_not_null(
        strstr(small_error.text, "layer 1, token 0: gate weight -5.96046e-08 is not"));
    cr_expect_not_null(strstr(small_error.text, "experts-00001.npy: and 4 more problems\n"));
    cr_expect_not_null(strstr(small_error.text, "phase-00000.npy: is uint16 [2] where uint8 [2]"));
    cr_expect_not_null(strstr(small_error.text,
                              "scores-00000.npy: is float16 [2, 2, 2] where float16 "
                              "[2, 2, 8]"));
    cr_expect_eq(small_error.num_problems, 1 + 3 + 5 + 2, "%s", small_error.text);
    trace_close(&trace);
}

/* The measured trace is token-major; it is turned to the directory format here. Its loads are
 * counted once more from the source's own layout. */
Test(trace, the_measured_trace_survives_the_round_trip)
{
    struct npy npy;
    const char *source = SHARED_DATA "/traces/gpt-oss-20b/experts.npy";
    if (access(source, R_OK) != 0) {
        cr_skip("%s is not here", source);
    }
    cr_assert_eq(npy_open(&npy, source, &small_error), STATUS_OK, "%s", small_error.text);
    const int64_t num_tokens = npy.dim[0];
    const uint8_t *id = npy.data; /* [num_tokens][24][4] */
    int32_t layers[24];
    for (int32_t i = 0; i < 24; i++) {
        layers[i] = i;
    }
    struct trace_description description = {.model = "gpt-oss-20b",
                                            .num_experts = 32,
                                            .top_k = 4,
                                            .num_layers = 24,
                                            .model_layer = layers,
                                            .tokens_per_shard = 50000,
                                            .origin = "measured"};
    struct trace_writer *writer;
    int32_t *expert = malloc(24 * 10000 * 4 * sizeof *expert);
    cr_assert_not_null(expert);
    cr_assert_eq(trace_writer_open(&writer, small_path, &description, false, &small_error),
                 STATUS_OK);
    for (int64_t first = 0; first < num_tokens; first += 10000) {
        int64_t count = num_tokens - first < 10000 ? num_tokens - first : 10000;
        for (int64_t i = 0; i < 24 * count * 4; i++) {
            int64_t layer = i / (count * 4);
            int64_t token = first + i / 4 % count;
            expert[i] = id[(token * 24 + layer) * 4 + i % 4];
        }
        cr_assert_eq(trace_writer_append(writer, expert, NULL, count, &small_error), STATUS_OK);
    }
    cr_assert_eq(trace_writer_finish(writer, NULL, 0, &small_error), STATUS_OK, "%s",
                 small_error.text);

    struct trace trace;
    cr_assert_eq(trace_open(&trace, small_path, &small_error), STATUS_OK, "%s", small_error.text);
    cr_expect_eq(trace.num_tokens, 168657);
    cr_expect_eq(trace.num_shards, 4);
    cr_expect_eq(trace_check(&trace, &small_error), STATUS_OK, "%s", small_error.text);
    for (int32_t layer = 0; layer < 24; layer++) {
        int64_t load_tokens[32] = {0};
        int64_t expected[32] = {0};
        cr_assert_eq(trace_count(&trace, load_tokens, layer, 0, num_tokens, &small_error),
                     STATUS_OK);
        for (int64_t i = 0; i < num_tokens * 4; i++) {
            expected[id[(i / 4 * 24 + layer) * 4 + i % 4]]++;
        }
        cr_expect_arr_eq(load_tokens, expected, sizeof expected);
    }
    trace_close(&trace);
    npy_close(&npy);
    free(expert);
}
