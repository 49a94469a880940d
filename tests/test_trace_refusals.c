/*
 * test_trace_refusals.c -- what is wrong with a trace directory is named, all of it at once.
 */
#include "trace.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "npy.h"
#include "small_trace.h"

TestSuite(trace_refusals, .init = small_make_directory, .fini = small_remove_directory);

Test(trace_refusals, what_is_no_trace_directory_is_refused)
{
    struct trace trace;

    cr_expect_eq(trace_open(&trace, small_path, &small_error), STATUS_IO);
    cr_expect_eq(small_error.num_problems, 1);
    cr_expect_not_null(strstr(small_error.text, "small: No such file"), "%s", small_error.text);
    trace_close(&trace);
    FILE *file = fopen(small_path, "w");
    cr_assert_not_null(file);
    fclose(file);
    small_expect_refused("a trace is a directory", NULL);
    unlink(small_path);
    cr_assert_eq(mkdir(small_path, 0777), 0);
    small_expect_refused("trace.yaml", "has no experts-00000.npy");
}

#define HEAD "version: 1\nmodel: m\nnum_experts: 8\ntop_k: 2\norigin: mock\n"

Test(trace_refusals, a_wrong_trace_yaml_is_named_with_its_line)
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
        small_write();
        if (i == 5) { /* two shards, so that two problems are all */
            char command[256];
            (void)snprintf(command, sizeof command, "rm %s/*-00002.npy", small_path);
            cr_assert_eq(system(command), 0);
            small_write_text("requests.csv", "request,tag,arrival_s,prompt_tokens,decode_tokens,"
                                             "row_offset\n");
        }
        small_write_text("trace.yaml", cases[i].text);
        small_expect_refused(cases[i].first, cases[i].second);
    }
}

Test(trace_refusals, broken_shards_are_named)
{
    const int64_t dim[3] = {2, 2, 2};
    const uint16_t zero[8] = {0};
    char command[256];

    small_write();
    small_write_array("experts-00001.npy", NPY_INT32, 3, (const int64_t[3]){2, 1, 2}, zero);
    small_expect_refused("experts-00001.npy: is int32 [2, 1, 2] where uint16 [2, *, 2] belongs",
                         NULL);
    small_write();
    small_write_array("experts-00001.npy", NPY_UINT8, 3, (const int64_t[3]){2, 0, 2}, zero);
    small_expect_refused("experts-00001.npy: holds no tokens", NULL);
    small_write();
    small_write_array("gate_weights-00002.npy", NPY_FLOAT16, 3, dim, zero);
    small_expect_refused("gate_weights-00002.npy: is float16 [2, 2, 2] where float16 [2, 1, 2]",
                         NULL);
    small_write();
    (void)snprintf(command, sizeof command, "rm %s/gate_weights-00002.npy", small_path);
    cr_assert_eq(system(command), 0);
    small_expect_refused("3 files experts-*.npy but 2 files gate_weights-*.npy", NULL);
    small_write();
    (void)snprintf(command, sizeof command, "mv %s/experts-00002.npy %s/experts-2.npy", small_path,
                   small_path);
    cr_assert_eq(system(command), 0);
    small_expect_refused("experts-2.npy: is not named experts-NNNNN.npy", NULL);
    (void)snprintf(command, sizeof command, "rm %s/experts-2.npy", small_path);
    cr_assert_eq(system(command), 0);
    small_write();
    (void)snprintf(command, sizeof command, "rm %s/experts-00001.npy", small_path);
    cr_assert_eq(system(command), 0);
    small_expect_refused("1 of the files up to experts-00002.npy are missing", NULL);
    small_write();
    (void)snprintf(command, sizeof command, "truncate -s -1 %s/experts-00001.npy", small_path);
    cr_assert_eq(system(command), 0);
    small_expect_refused("experts-00001.npy: its shape asks for 8 bytes but 7 follow", NULL);
}

#define COLUMNS "request,tag,arrival_s,prompt_tokens,decode_tokens,row_offset\n"

Test(trace_refusals, a_wrong_requests_csv_is_named_with_its_line)
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
        small_write();
        small_write_text("requests.csv", cases[i].text);
        small_expect_refused(cases[i].first, cases[i].second);
    }
}

Test(trace_refusals, problems_of_all_files_are_reported_at_once)
{
    struct trace trace;
    small_write();
    small_write_text("trace.yaml", HEAD "layers: [0, 1]\ncolour: red\n");
    small_write_text("experts-00001.npy", "no array");
    small_write_text("requests.csv", COLUMNS "0,x,0,1,2,1\n");
    small_write_text("steps.npy", "");

    small_error = (struct error){0};
    cr_expect_eq(trace_open(&trace, small_path, &small_error), STATUS_INVALID);

    cr_expect_eq(small_error.num_problems, 4, "%s", small_error.text);
    cr_expect_not_null(strstr(small_error.text, "trace.yaml:7: colour"));
    cr_expect_not_null(strstr(small_error.text, "experts-00001.npy: is no .npy file"));
    cr_expect_not_null(strstr(small_error.text, "requests.csv:2: "));
    cr_expect_not_null(strstr(small_error.text, "steps.npy: is empty"));
    trace_close(&trace);
}
