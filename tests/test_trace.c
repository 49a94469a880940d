/*
 * test_trace.c -- trace directories: what is written is read back, what is broken is named.
 *
 * The small trace: 2 layers (3 and 5 of the model), 5 tokens, top 2 of 8 experts, shards of 2.
 */
#include "trace.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "npy.h"
#include "trace_internal.h"
#include "trace_writer.h"

#define LAYERS 2
#define TOKENS 5
#define TOP_K  2

static const int32_t model_layer[LAYERS] = {3, 5};

static const int32_t ids[LAYERS][TOKENS][TOP_K] = {
    {{0, 1}, {2, 3}, {4, 5}, {6, 7}, {7, 0}},
    {{1, 0}, {1, 2}, {1, EXPERT_NOT_ROUTED}, {1, 4}, {EXPERT_NOT_ROUTED, EXPERT_NOT_ROUTED}},
};

static const float weights[LAYERS][TOKENS][TOP_K] = {
    {{0.75f, 0.25f}, {0.5f, 0.5f}, {1.0f, 0.0f}, {2.5f, 0.125f}, {0.25f, 0.25f}},
    {{0.75f, 0.25f}, {0.5f, 0.5f}, {1.0f, 0.0f}, {2.5f, 0.125f}, {0.25f, 0.25f}},
};

static struct error error;
static char directory[] = "/tmp/moesim_trace_XXXXXX";
static char path[64];

static void make_directory(void)
{
    cr_assert_not_null(mkdtemp(directory));
    (void)snprintf(path, sizeof path, "%s/small", directory);
}

static void remove_directory(void)
{
    char command[256];
    (void)snprintf(command, sizeof command, "rm -rf %s", directory);
    cr_assert_eq(system(command), 0);
}

TestSuite(trace, .init = make_directory, .fini = remove_directory);

static struct trace_description small_description(void)
{
    return (struct trace_description){
        .model = "tiny \"one\"",
        .num_experts = 8,
        .top_k = TOP_K,
        .num_layers = LAYERS,
        .model_layer = model_layer,
        .tokens_per_shard = 2,
        .has_gate_weights = true,
        .has_gaps = true,
        .origin = "mock",
        .source = "made up: here",
        .licence = "CC0",
    };
}

/* The requests of the small trace: rows 0 to 2 and 3 to 4. */
static void small_requests(struct trace_request requests[2])
{
    requests[0] = (struct trace_request){
        .tag = "a, \"b\"", .arrival_s = 0.1, .prompt_tokens = 7, .row_offset = 0, .num_rows = 3};
    requests[1] =
        (struct trace_request){.tag = "", .arrival_s = 2.0, .row_offset = 3, .num_rows = 2};
}

/* Appends the small trace a shard at a time. */
static void append_small(struct trace_writer *writer, bool with_weights)
{
    for (int64_t first = 0; first < TOKENS; first += 2) {
        int64_t count = first + 2 <= TOKENS ? 2 : 1;
        int32_t expert[LAYERS * 2 * TOP_K];
        float gate_weight[LAYERS * 2 * TOP_K];
        for (int64_t layer = 0; layer < LAYERS; layer++) {
            for (int64_t i = 0; i < count * TOP_K; i++) {
                int64_t token = first + i / TOP_K;
                expert[layer * count * TOP_K + i] = ids[layer][token][i % TOP_K];
                gate_weight[layer * count * TOP_K + i] = weights[layer][token][i % TOP_K];
            }
        }
        cr_assert_eq(
            trace_writer_append(writer, expert, with_weights ? gate_weight : NULL, count, &error),
            STATUS_OK, "%s", error.text);
    }
}

static void write_small(void)
{
    struct trace_description description = small_description();
    struct trace_request requests[2];
    struct trace_writer *writer;
    small_requests(requests);
    cr_assert_eq(trace_writer_open(&writer, path, &description, true, &error), STATUS_OK, "%s",
                 error.text);
    append_small(writer, true);
    cr_assert_eq(trace_writer_finish(writer, requests, 2, &error), STATUS_OK, "%s", error.text);
}

static void write_text(const char *name, const char *text)
{
    char file_path[128];
    (void)snprintf(file_path, sizeof file_path, "%s/%s", path, name);
    FILE *file = fopen(file_path, "wb");
    cr_assert_not_null(file);
    fputs(text, file);
    cr_assert_eq(fclose(file), 0);
}

static void write_array(const char *name, enum npy_type type, int32_t num_dims, const int64_t *dim,
                        const void *data)
{
    char file_path[128];
    struct npy_writer writer;
    size_t bytes = (size_t)npy_type_bytes(type);
    for (int32_t i = 0; i < num_dims; i++) {
        bytes *= (size_t)dim[i];
    }
    (void)snprintf(file_path, sizeof file_path, "%s/%s", path, name);
    cr_assert_eq(npy_writer_open(&writer, file_path, type, num_dims, dim, &error), STATUS_OK);
    cr_assert_eq(npy_writer_append(&writer, data, bytes, &error), STATUS_OK);
    cr_assert_eq(npy_writer_close(&writer, &error), STATUS_OK);
}

static bool exists(const char *name)
{
    char file_path[128];
    (void)snprintf(file_path, sizeof file_path, "%s/%s", directory, name);
    return access(file_path, F_OK) == 0;
}

/* Opening fails with exactly these parts, one a problem, in this order. */
static void expect_refused(const char *first, const char *second)
{
    struct trace trace;
    error = (struct error){0};
    cr_expect_neq(trace_open(&trace, path, &error), STATUS_OK);
    cr_expect_eq(error.num_problems, second == NULL ? 1 : 2, "%s", error.text);
    const char *found = strstr(error.text, first);
    cr_expect_not_null(found, "'%s' not in: %s", first, error.text);
    cr_expect_eq(strncmp(error.text, path, strlen(path)), 0, "%s", error.text);
    if (second != NULL && found != NULL) {
        cr_expect_not_null(strstr(found, second), "'%s' not in: %s", second, error.text);
    }
    trace_close(&trace);
}

static void expect_small_ids(const struct trace *trace)
{
    const int64_t rows[TOKENS] = {4, 0, 1, 2, 3}; /* runs within and across shards */
    for (int32_t layer = 0; layer < LAYERS; layer++) {
        int32_t expert[TOKENS][TOP_K];
        cr_assert_eq(trace_read(trace, expert[0], NULL, layer, rows, TOKENS, &error), STATUS_OK,
                     "%s", error.text);
        for (int32_t i = 0; i < TOKENS; i++) {
            cr_expect_arr_eq(expert[i], ids[layer][rows[i]], sizeof expert[i]);
        }
    }
}

Test(trace, what_is_written_is_read_back)
{
    struct trace trace;
    const int64_t row = 3;
    int32_t expert[TOP_K];
    float weight[TOP_K];

    write_small();
    cr_assert_eq(trace_open(&trace, path, &error), STATUS_OK, "%s", error.text);

    cr_expect_str_eq(trace.name, "small");
    cr_expect_str_eq(trace.model, "tiny \"one\"");
    cr_expect_str_eq(trace.origin, "mock");
    cr_expect_str_eq(trace.source, "made up: here");
    cr_expect_str_eq(trace.licence, "CC0");
    cr_expect_eq(trace.num_experts, 8);
    cr_expect_eq(trace.num_tokens, TOKENS);
    cr_expect_eq(trace.num_shards, 3);
    cr_expect_eq(trace.model_layer[1], 5);
    cr_expect_eq(trace.num_requests, 2);
    cr_expect_str_eq(trace.requests[0].tag, "a, \"b\"");
    cr_expect_eq(trace.requests[0].arrival_s, 0.1);
    cr_expect_eq(trace.requests[0].prompt_tokens, 7);
    cr_expect_eq(trace.requests[1].row_offset, 3);
    cr_expect_eq(trace.requests[1].num_rows, 2);
    expect_small_ids(&trace);
    cr_assert_eq(trace_read(&trace, expert, weight, 0, &row, 1, &error), STATUS_OK);
    cr_expect_eq(weight[0], 2.5f);
    cr_expect_eq(weight[1], 0.125f);
    cr_expect_eq(trace_check(&trace, &error), STATUS_OK, "%s", error.text);
    trace_close(&trace);
    trace_close(&trace);
}

Test(trace, a_slot_without_an_expert_weighs_nothing_and_one_without_a_weight_one)
{
    struct trace trace;
    const int64_t row = 2;
    int32_t expert[TOP_K];
    float weight[TOP_K];
    write_small();
    char command[256];
    (void)snprintf(command, sizeof command, "rm %s/gate_weights*", path);
    cr_assert_eq(system(command), 0);
    cr_assert_eq(trace_open(&trace, path, &error), STATUS_OK, "%s", error.text);

    cr_assert_eq(trace_read(&trace, expert, weight, 1, &row, 1, &error), STATUS_OK);

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
    write_small();
    cr_assert_eq(trace_open(&trace, path, &error), STATUS_OK, "%s", error.text);

    cr_assert_eq(trace_count(&trace, load_tokens, 1, 1, 4, &error), STATUS_OK);

    cr_expect_arr_eq(load_tokens, expected, sizeof expected);
    trace_close(&trace);
}

/* Builds the small trace in memory, ids of one or two bytes. */
static void small_in_memory(struct trace *trace, int32_t num_experts)
{
    struct trace_description description = small_description();
    struct trace_request *requests = malloc(2 * sizeof *requests);
    size_t count = LAYERS * TOKENS * TOP_K;
    uint8_t *narrow = malloc(count);
    uint16_t *wide = malloc(count * sizeof *wide);
    uint16_t *half = malloc(count * sizeof *half);
    cr_assert(requests != NULL && narrow != NULL && wide != NULL && half != NULL);
    description.num_experts = num_experts;
    small_requests(requests);
    for (size_t i = 0; i < count; i++) {
        narrow[i] = (uint8_t)ids[i / 10][i / TOP_K % TOKENS][i % TOP_K];
        wide[i] = (uint16_t)ids[i / 10][i / TOP_K % TOKENS][i % TOP_K];
        half[i] = npy_float_to_half(weights[i / 10][i / TOP_K % TOKENS][i % TOP_K]);
    }
    bool is_narrow = trace_id_bytes(num_experts, true) == 1;
    cr_assert_eq(trace_from_memory(trace, &description, is_narrow ? (void *)narrow : (void *)wide,
                                   half, requests, 2, TOKENS, &error),
                 STATUS_OK);
    free(is_narrow ? (void *)wide : (void *)narrow);
}

Test(trace, reads_alike_from_memory_and_from_files_and_has_one_digest)
{
    struct trace from_files;
    struct trace from_memory;
    write_small();
    cr_assert_eq(trace_open(&from_files, path, &error), STATUS_OK, "%s", error.text);
    small_in_memory(&from_memory, 8);

    expect_small_ids(&from_memory);
    cr_assert_eq(trace_digest(&from_files, &error), STATUS_OK);
    cr_assert_eq(trace_digest(&from_memory, &error), STATUS_OK);

    cr_expect_neq(from_files.digest, 0);
    cr_expect_eq(from_files.digest, from_memory.digest);
    cr_expect_eq(trace_check(&from_memory, &error), STATUS_OK, "%s", error.text);
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

    cr_assert_eq(trace_digest(&trace, &error), STATUS_OK);
    digest[0] = trace.digest;
    ((uint8_t *)trace.shards[0].expert_memory)[19] = 3; /* the last id */
    cr_assert_eq(trace_digest(&trace, &error), STATUS_OK);
    digest[1] = trace.digest;
    trace.requests[0].prompt_tokens++;
    cr_assert_eq(trace_digest(&trace, &error), STATUS_OK);
    digest[2] = trace.digest;
    ((uint16_t *)trace.shards[0].gate_weight_memory)[0] ^= 1;
    cr_assert_eq(trace_digest(&trace, &error), STATUS_OK);
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
    cr_assert_eq(mkdir(path, 0777), 0);
    write_array("experts-00000.npy", NPY_UINT8, 3, dim, id);

    for (int32_t i = 0; i < 2; i++) {
        struct trace trace;
        int32_t expert[2];
        write_text("trace.yaml", yaml[i]);
        cr_assert_eq(trace_open(&trace, path, &error), STATUS_OK, "%s", error.text);
        cr_assert_eq(trace_read(&trace, expert, NULL, 0, rows, 2, &error), STATUS_OK);
        cr_expect_eq(expert[0], 254);
        cr_expect_eq(expert[1], i == 0 ? EXPERT_NOT_ROUTED : 255);
        trace_close(&trace);
    }
}

Test(trace, the_writer_takes_two_bytes_for_256_experts_only_with_gaps)
{
    for (int32_t gaps = 0; gaps < 2; gaps++) {
        struct trace_description description = small_description();
        struct trace_writer *writer;
        struct trace trace;
        const int32_t expert[LAYERS * TOP_K] = {255, 0, 1, 2};
        description.num_experts = 256;
        description.has_gaps = gaps != 0;
        description.has_gate_weights = false;
        cr_assert_eq(trace_writer_open(&writer, path, &description, true, &error), STATUS_OK);
        cr_assert_eq(trace_writer_append(writer, expert, NULL, 1, &error), STATUS_OK);
        cr_assert_eq(trace_writer_finish(writer, NULL, 0, &error), STATUS_OK, "%s", error.text);
        cr_assert_eq(trace_open(&trace, path, &error), STATUS_OK, "%s", error.text);
        cr_expect_eq(trace.shards[0].expert_u8 != NULL, gaps == 0);
        int32_t read[TOP_K];
        const int64_t row = 0;
        cr_assert_eq(trace_read(&trace, read, NULL, 0, &row, 1, &error), STATUS_OK);
        cr_expect_eq(read[0], 255);
        trace_close(&trace);
    }
}

Test(trace, the_writer_refuses_ids_and_weights_it_cannot_hold)
{
    struct trace_description description = small_description();
    struct trace_writer *writer;
    int32_t expert[LAYERS * TOP_K] = {0, 1, 2, 8};
    float weight[LAYERS * TOP_K] = {1, 1, 1, 1};
    cr_assert_eq(trace_writer_open(&writer, path, &description, false, &error), STATUS_OK);

    cr_expect_eq(trace_writer_append(writer, expert, weight, 1, &error), STATUS_INVALID);
    expert[3] = 7;
    weight[2] = NAN;
    cr_expect_eq(trace_writer_append(writer, expert, weight, 1, &error), STATUS_INVALID);
    trace_writer_abandon(writer);

    cr_expect_not_null(strstr(error.text, "layer 1, token 0: expert 8 is out of range\n"));
    cr_expect_not_null(strstr(error.text, "layer 1, token 0: gate weight nan is not between"));
    cr_expect_eq(error.num_problems, 2);
}

Test(trace, an_abandoned_or_failed_trace_leaves_nothing)
{
    struct trace_description description = small_description();
    struct trace_request requests[2];
    struct trace_writer *writer;
    small_requests(requests);
    requests[1].row_offset = 4; /* row 3 belongs to nobody */

    cr_assert_eq(trace_writer_open(&writer, path, &description, false, &error), STATUS_OK);
    cr_expect(exists("small.partial"));
    append_small(writer, true);
    trace_writer_abandon(writer);
    cr_expect(!exists("small.partial") && !exists("small"));
    cr_assert_eq(trace_writer_open(&writer, path, &description, false, &error), STATUS_OK);
    append_small(writer, true);
    cr_expect_eq(trace_writer_finish(writer, requests, 2, &error), STATUS_INVALID);

    cr_expect(!exists("small.partial") && !exists("small"));
    cr_expect_not_null(strstr(error.text, "request 1 must begin where"), "%s", error.text);
    trace_writer_abandon(NULL);
}

Test(trace, a_trace_is_replaced_only_on_demand_and_nothing_else_ever)
{
    struct trace_description description = small_description();
    struct trace_writer *writer;
    write_small();

    cr_expect_eq(trace_writer_open(&writer, path, &description, false, &error), STATUS_INVALID);
    cr_expect_not_null(strstr(error.text, "small: exists"), "%s", error.text);
    write_small();
    cr_expect(exists("small/trace.yaml"));
    cr_expect(!exists("small.partial") && !exists("small.replaced"));
    write_text("thesis.tex", "ten years");
    cr_expect_eq(trace_writer_open(&writer, path, &description, true, &error), STATUS_INVALID);
    cr_expect_not_null(strstr(error.text, "not replaced"), "%s", error.text);
    cr_expect(exists("small/thesis.tex") && !exists("small.partial"));
}

Test(trace, what_a_crash_left_is_cleared_by_the_next_writer)
{
    char partial[128];
    (void)snprintf(partial, sizeof partial, "%s.partial", path);
    cr_assert_eq(mkdir(partial, 0777), 0);
    (void)snprintf(partial, sizeof partial, "%s.partial/experts-00000.npy", path);
    FILE *file = fopen(partial, "w");
    cr_assert_not_null(file);
    fclose(file);

    write_small();

    cr_expect(exists("small") && !exists("small.partial"));
}

Test(trace, what_is_no_trace_directory_is_refused)
{
    struct trace trace;

    cr_expect_eq(trace_open(&trace, path, &error), STATUS_IO);
    cr_expect_eq(error.num_problems, 1);
    cr_expect_not_null(strstr(error.text, "small: No such file"), "%s", error.text);
    trace_close(&trace);
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    fclose(file);
    expect_refused("a trace is a directory", NULL);
    unlink(path);
    cr_assert_eq(mkdir(path, 0777), 0);
    expect_refused("trace.yaml", "has no experts-00000.npy");
}

#define HEAD "version: 1\nmodel: m\nnum_experts: 8\ntop_k: 2\norigin: mock\n"

Test(trace, a_wrong_trace_yaml_is_named_with_its_line)
{
    static const struct {
        const char *text;
        const char *first;
        const char *second;
    } cases[] = {
        {HEAD "layers: [3, 3]\n", "trace.yaml:6: layers: expected ascending", NULL},
        {HEAD "layers: [3, -1]\n", "trace.yaml:6: layers: expected ascending", NULL},
        {HEAD "layers: 3\n", "trace.yaml:6: layers: expected a list", NULL},
        {HEAD "layers: []\n", "trace.yaml:6: layers: expected a list", NULL},
        {HEAD, "layers", NULL},
        {HEAD "layers: [0, 1, 2]\n",
         "experts-00000.npy: is uint8 [2, 2, 2] where uint8 [3, *, 2] belongs",
         "experts-00001.npy"},
        {HEAD "layers: [3, 5]\nnum_tokens: 7\n", "num_tokens is 7 but the shards hold 5", NULL},
        {HEAD "layers: [3, 5]\ntokens_per_shard: 3\n", "experts-00000.npy: has 2 tokens;",
         "experts-00001.npy: has 2 tokens;"},
        {HEAD "layers: [3, 5]\ncolour: 3\n", "trace.yaml:7: colour", NULL},
        {"version: 2\nmodel: m\nnum_experts: 8\ntop_k: 2\norigin: none\nlayers: [0, 1]\n",
         "trace.yaml:1: version", "trace.yaml:5: origin"},
        {"version: 1\nmodel: m\nnum_experts: 1\ntop_k: 2\norigin: mock\nlayers: [0, 1]\n",
         "top_k is 2, more than num_experts 1", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_small();
        if (i == 5) { /* two shards, so that two problems are all */
            char command[256];
            (void)snprintf(command, sizeof command, "rm %s/*-00002.npy", path);
            cr_assert_eq(system(command), 0);
            write_text("requests.csv", "request,tag,arrival_s,prompt_tokens,decode_tokens,"
                                       "row_offset\n");
        }
        write_text("trace.yaml", cases[i].text);
        expect_refused(cases[i].first, cases[i].second);
    }
}

Test(trace, broken_shards_are_named)
{
    const int64_t dim[3] = {2, 2, 2};
    const uint16_t zero[8] = {0};
    char command[256];

    write_small();
    write_array("experts-00001.npy", NPY_INT32, 3, (const int64_t[3]){2, 1, 2}, zero);
    expect_refused("experts-00001.npy: is int32 [2, 1, 2] where uint16 [2, *, 2] belongs", NULL);
    write_small();
    write_array("experts-00001.npy", NPY_UINT8, 3, (const int64_t[3]){2, 0, 2}, zero);
    expect_refused("experts-00001.npy: holds no tokens", NULL);
    write_small();
    write_array("gate_weights-00002.npy", NPY_FLOAT16, 3, dim, zero);
    expect_refused("gate_weights-00002.npy: is float16 [2, 2, 2] where float16 [2, 1, 2]", NULL);
    write_small();
    (void)snprintf(command, sizeof command, "rm %s/gate_weights-00002.npy", path);
    cr_assert_eq(system(command), 0);
    expect_refused("3 files experts-*.npy but 2 files gate_weights-*.npy", NULL);
    write_small();
    (void)snprintf(command, sizeof command, "mv %s/experts-00002.npy %s/experts-2.npy", path, path);
    cr_assert_eq(system(command), 0);
    expect_refused("experts-2.npy: is not named experts-NNNNN.npy", NULL);
    (void)snprintf(command, sizeof command, "rm %s/experts-2.npy", path);
    cr_assert_eq(system(command), 0);
    write_small();
    (void)snprintf(command, sizeof command, "rm %s/experts-00001.npy", path);
    cr_assert_eq(system(command), 0);
    expect_refused("1 of the files up to experts-00002.npy are missing", NULL);
    write_small();
    (void)snprintf(command, sizeof command, "truncate -s -1 %s/experts-00001.npy", path);
    cr_assert_eq(system(command), 0);
    expect_refused("experts-00001.npy: its shape asks for 8 bytes but 7 follow", NULL);
}

#define COLUMNS "request,tag,arrival_s,prompt_tokens,decode_tokens,row_offset\n"

Test(trace, a_wrong_requests_csv_is_named_with_its_line)
{
    static const struct {
        const char *text;
        const char *first;
        const char *second;
    } cases[] = {
        {"", "requests.csv: is empty", NULL},
        {"request,tag,arrival_s,prompt_tokens\n", "1: column 'decode_tokens' is missing",
         "1: column 'row_offset' is missing"},
        {"tag," COLUMNS, "1: this column stands twice, got 'tag'", NULL},
        {COLUMNS "0,x,0,1,2,1\n", "2: the first row_offset must be 0, got '1'", NULL},
        {COLUMNS "0,x,0,1,2,0\n1,x,0,1,2,0\n", "3: row_offset must be larger", NULL},
        {COLUMNS "0,x,0,1,2,0\n1,x,0,1,2,5\n", "3: row_offset must be less than", NULL},
        {COLUMNS "0,x,0,1,2,0\n1,x,0,1,2\n", "3: expected as many fields", NULL},
        {COLUMNS "0,\"x,0,1,2,0\n", "2: expected a closing quote", NULL},
        {COLUMNS "0,x,later,1,2,0\n\n\n1,x,0,-1,2,3\n", "2: arrival_s must be",
         "5: prompt_tokens must be a whole number from 0 to 2147483647, got '-1'"},
        {COLUMNS "0,x,-1,1,99999999999,0\n", "2: arrival_s", "2: decode_tokens must be"},
        {COLUMNS "0,x,nan,1,1,0.0\n", "2: arrival_s", "2: row_offset must be a whole number"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_small();
        write_text("requests.csv", cases[i].text);
        expect_refused(cases[i].first, cases[i].second);
    }
}

Test(trace, requests_csv_may_come_from_any_spreadsheet)
{
    struct trace trace;
    write_small();
    write_text("requests.csv",
               "\xef\xbb\xbfrow_offset,note,request,\"tag\",arrival_s,decode_tokens,"
               "prompt_tokens\r\n0,,0,\"say \"\"hi\"\", you\",1e-3,2,9\r\n"
               "4,,1,b,2.5,1,0");

    cr_assert_eq(trace_open(&trace, path, &error), STATUS_OK, "%s", error.text);

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
    write_small();

    write_array("steps.npy", NPY_INT64, 1, &three, good);
    cr_assert_eq(trace_open(&trace, path, &error), STATUS_OK, "%s", error.text);
    cr_expect_eq(trace.num_steps, 2);
    cr_expect_eq(trace.step_begin[2], 5);
    trace_close(&trace);
    write_array("steps.npy", NPY_INT64, 1, &three, beyond);
    expect_refused("steps.npy: rows 0 to 6 are not within 0 to 5", NULL);
    write_array("steps.npy", NPY_INT64, 1, &three, back);
    expect_refused("steps.npy: element 1: a step must have", NULL);
    write_array("steps.npy", NPY_INT64, 1, &one, good);
    expect_refused("steps.npy: needs two rows", NULL);
    write_array("steps.npy", NPY_UINT64, 1, &three, good);
    expect_refused("steps.npy: is uint64 [3] where int64 [*] belongs", NULL);
}

Test(trace, problems_of_all_files_are_reported_at_once)
{
    struct trace trace;
    write_small();
    write_text("trace.yaml", HEAD "layers: [0, 1]\ncolour: red\n");
    write_text("experts-00001.npy", "no array");
    write_text("requests.csv", COLUMNS "0,x,0,1,2,1\n");
    write_text("steps.npy", "");

    error = (struct error){0};
    cr_expect_eq(trace_open(&trace, path, &error), STATUS_INVALID);

    cr_expect_eq(error.num_problems, 4, "%s", error.text);
    cr_expect_not_null(strstr(error.text, "trace.yaml:7: colour"));
    cr_expect_not_null(strstr(error.text, "experts-00001.npy: is no .npy file"));
    cr_expect_not_null(strstr(error.text, "requests.csv:2: "));
    cr_expect_not_null(strstr(error.text, "steps.npy: is empty"));
    trace_close(&trace);
}

Test(trace, an_id_out_of_range_is_found_when_it_is_read)
{
    struct trace trace;
    const int64_t row = 3;
    int32_t expert[TOP_K];
    int64_t load_tokens[8] = {0};
    const uint8_t id[8] = {0, 1, 2, 3, 4, 5, 6, 8}; /* shard 1 holds tokens 2 and 3 */
    const int64_t dim[3] = {2, 2, 2};
    write_small();
    write_array("experts-00001.npy", NPY_UINT8, 3, dim, id);
    cr_assert_eq(trace_open(&trace, path, &error), STATUS_OK, "%s", error.text);

    cr_expect_eq(trace_read(&trace, expert, NULL, 0, &row, 1, &error), STATUS_OK);
    cr_expect_eq(trace_read(&trace, expert, NULL, 1, &row, 1, &error), STATUS_INVALID);
    cr_expect_eq(trace_count(&trace, load_tokens, 1, 0, TOKENS, &error), STATUS_INVALID);
    cr_expect_eq(trace_digest(&trace, &error), STATUS_INVALID);
    cr_expect_eq(trace_check(&trace, &error), STATUS_INVALID);

    cr_expect_eq(error.num_problems, 4, "%s", error.text);
    cr_expect_not_null(strstr(error.text, "experts-00001.npy: layer 1, token 3: expert 8 is not one"
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
    write_small();
    write_array("experts-00000.npy", NPY_UINT8, 3, dim, twins);
    write_array("gate_weights-00000.npy", NPY_FLOAT16, 3, dim, half);
    write_array("experts-00001.npy", NPY_UINT8, 3, dim, wrong);
    write_array("phase-00000.npy", NPY_UINT16, 1, &two, half);
    write_array("source_rank-00000.npy", NPY_UINT16, 1, &two, half);
    write_array("scores-00000.npy", NPY_FLOAT16, 3, dim, half);
    cr_assert_eq(trace_open(&trace, path, &error), STATUS_OK, "%s", error.text);

    cr_expect_eq(trace_check(&trace, &error), STATUS_INVALID);

    cr_expect_not_null(strstr(error.text, "layer 0, token 0: expert 1 stands twice\n"));
    cr_expect_not_null(strstr(error.text, "token 0: gate weight 1.00098 is larger than the one"));
    cr_expect_not_null(strstr(error.text, "layer 0, token 1: gate weight nan is not a number"));
    cr_expect_not_null(strstr(error.text, "layer 1, token 0: gate weight -5.96046e-08 is not"));
    cr_expect_not_null(strstr(error.text, "experts-00001.npy: and 4 more problems\n"));
    cr_expect_not_null(strstr(error.text, "phase-00000.npy: is uint16 [2] where uint8 [2]"));
    cr_expect_not_null(strstr(error.text, "scores-00000.npy: is float16 [2, 2, 2] where float16 "
                                          "[2, 2, 8]"));
    cr_expect_eq(error.num_problems, 1 + 3 + 5 + 2, "%s", error.text);
    trace_close(&trace);
}

/* The measured trace is token-major; it is turned to the directory format here. Its hottest
 * expert and the number of rows were counted with NumPy. */
Test(trace, the_measured_trace_survives_the_round_trip)
{
    struct npy npy;
    const char *source = SHARED_DATA "/traces/gpt-oss-20b/experts.npy";
    if (access(source, R_OK) != 0) {
        cr_skip("%s is not here", source);
    }
    cr_assert_eq(npy_open(&npy, source, &error), STATUS_OK, "%s", error.text);
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
    cr_assert_eq(trace_writer_open(&writer, path, &description, false, &error), STATUS_OK);
    for (int64_t first = 0; first < num_tokens; first += 10000) {
        int64_t count = num_tokens - first < 10000 ? num_tokens - first : 10000;
        for (int64_t i = 0; i < 24 * count * 4; i++) {
            int64_t layer = i / (count * 4);
            int64_t token = first + i / 4 % count;
            expert[i] = id[(token * 24 + layer) * 4 + i % 4];
        }
        cr_assert_eq(trace_writer_append(writer, expert, NULL, count, &error), STATUS_OK);
    }
    cr_assert_eq(trace_writer_finish(writer, NULL, 0, &error), STATUS_OK, "%s", error.text);

    struct trace trace;
    cr_assert_eq(trace_open(&trace, path, &error), STATUS_OK, "%s", error.text);
    cr_expect_eq(trace.num_tokens, 168657);
    cr_expect_eq(trace.num_shards, 4);
    cr_expect_eq(trace_check(&trace, &error), STATUS_OK, "%s", error.text);
    for (int32_t layer = 0; layer < 24; layer++) {
        int64_t load_tokens[32] = {0};
        int64_t expected[32] = {0};
        cr_assert_eq(trace_count(&trace, load_tokens, layer, 0, num_tokens, &error), STATUS_OK);
        for (int64_t i = 0; i < num_tokens * 4; i++) {
            expected[id[(i / 4 * 24 + layer) * 4 + i % 4]]++;
        }
        cr_expect_arr_eq(load_tokens, expected, sizeof expected);
    }
    trace_close(&trace);
    npy_close(&npy);
    free(expert);
}
