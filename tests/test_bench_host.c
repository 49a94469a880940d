/* test_bench_host.c -- moe-bench's routings, CSV rows and options. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "bench_csv.h"
#include "bench_routing.h"
#include "bench_work.h"
#include "npy.h"
#include "permute.h"

#define TOKENS  500
#define EXPERTS 12
#define TOP_K   3

static struct bench_routing_request request(const char *name, double sigma)
{
    return (struct bench_routing_request){name, TOKENS, EXPERTS, TOP_K, sigma, 1};
}

static void count_load(const int32_t *expert, int32_t *load)
{
    memset(load, 0, EXPERTS * sizeof *load);
    for (int32_t i = 0; i < TOKENS * TOP_K; i++) {
        load[expert[i]]++;
    }
}

Test(bench_host, made_routings_send_a_token_to_different_experts)
{
    const char *const names[] = {"balanced", "uniform", "lognormal", "one"};
    for (size_t n = 0; n < sizeof names / sizeof names[0]; n++) {
        int32_t expert[TOKENS * TOP_K];
        cr_assert_eq(bench_routing(request(names[n], 1.0), expert, NULL), STATUS_OK);
        for (int32_t token = 0; token < TOKENS; token++) {
            const int32_t *chosen = &expert[token * TOP_K];
            cr_expect(chosen[0] != chosen[1] && chosen[0] != chosen[2] && chosen[1] != chosen[2],
                      "%s, token %d", names[n], (int)token);
        }
    }
}

Test(bench_host, loads_are_as_even_as_the_routing_says)
{
    int32_t expert[TOKENS * TOP_K];
    int32_t load[EXPERTS];
    cr_assert_eq(bench_routing(request("balanced", 0.0), expert, NULL), STATUS_OK);
    count_load(expert, load);
    for (int32_t e = 0; e < EXPERTS; e++) {
        cr_expect_eq(load[e], TOKENS * TOP_K / EXPERTS);
    }
    int32_t busiest[2];
    const double sigma[2] = {0.0, 1.5};
    for (int32_t i = 0; i < 2; i++) {
        cr_assert_eq(bench_routing(request("lognormal", sigma[i]), expert, NULL), STATUS_OK);
        count_load(expert, load);
        busiest[i] = 0;
        for (int32_t e = 0; e < EXPERTS; e++) {
            busiest[i] = load[e] > busiest[i] ? load[e] : busiest[i];
        }
    }
    cr_expect_leq(busiest[0], TOKENS * TOP_K / EXPERTS * 13 / 10, "sigma 0: %d", (int)busiest[0]);
    cr_expect_geq(busiest[1], TOKENS * TOP_K / EXPERTS * 2, "sigma 1.5: %d", (int)busiest[1]);
}

Test(bench_host, a_file_is_replayed_from_its_layer_and_joined_at_its_end)
{
    char path[64];
    snprintf(path, sizeof path, "/tmp/bench_routing_%d.npy", (int)getpid());
    struct npy_writer writer;
    const int64_t dim[] = {2, 4, TOP_K}; /* two layers, four tokens */
    uint8_t data[2 * 4 * TOP_K];
    for (size_t i = 0; i < sizeof data; i++) {
        data[i] = (uint8_t)(i / 12 * 6 + i % 12 % 6); /* layer 1: experts 6 to 11 */
    }
    data[23] = 0xff; /* layer 1, token 3: not routed */
    cr_assert_eq(npy_writer_open(&writer, path, NPY_UINT8, 3, dim, NULL), STATUS_OK);
    cr_assert_eq(npy_writer_append(&writer, data, sizeof data, NULL), STATUS_OK);
    cr_assert_eq(npy_writer_close(&writer, NULL), STATUS_OK);
    char name[80];
    snprintf(name, sizeof name, "%s:1", path);
    int32_t expert[TOKENS * TOP_K];

    cr_assert_eq(bench_routing(request(name, 0.0), expert, NULL), STATUS_OK);

    int32_t none = 0;
    for (int32_t i = 0; i < TOKENS * TOP_K; i++) {
        none += expert[i] == EXPERT_NONE;
        cr_assert(expert[i] == EXPERT_NONE || expert[i] >= 6);
        cr_assert(i < 4 * TOP_K || expert[i] == expert[i - 4 * TOP_K]);
    }
    cr_expect_eq(none, TOKENS / 4);
    struct error error = {0};
    snprintf(name, sizeof name, "%s:2", path);
    cr_expect_eq(bench_routing(request(name, 0.0), expert, &error), STATUS_INVALID);
    struct bench_routing_request few = request(path, 0.0);
    few.num_experts = 4;
    cr_expect_eq(bench_routing(few, expert, &error), STATUS_INVALID);
    few.top_k = 2;
    cr_expect_eq(bench_routing(few, expert, &error), STATUS_INVALID);
    cr_expect_eq(bench_routing(request("skewed", 0.0), expert, &error), STATUS_INVALID);
    cr_expect_eq(error.num_problems, 4, "%s", error.text);
    remove(path);
}

static int32_t commas(const char *line)
{
    int32_t count = 0;
    for (; *line != '\0'; line++) {
        count += *line == ',';
    }
    return count;
}

Test(bench_host, rows_have_the_columns_of_the_header_and_files_grow)
{
    char path[] = "/tmp/bench_csv_XXXXXX";
    int descriptor = mkstemp(path);
    cr_assert_geq(descriptor, 0);
    close(descriptor);
    const int32_t load[] = {3, 0, 5};
    struct bench_layer layer = {.name = "m", .dtype = DTYPE_FP8_E4M3};
    struct bench_row row = {.command = "time",
                            .kernel = "gate",
                            .layer = &layer,
                            .expert_tokens = load,
                            .num_expert_tokens = 3,
                            .flops = 4e9,
                            .bytes = 2e6,
                            .copy_bytes_per_s = 4e12,
                            .relative_error = -1.0};
    double sample_ns[] = {3000.0, 1000.0, 2000.0};
    bench_row_samples(&row, sample_ns, 3);
    for (int32_t time = 0; time < 2; time++) {
        struct bench_csv csv;
        cr_assert_eq(bench_csv_open(&csv, path, 7, NULL), STATUS_OK);
        csv.table = stderr;
        cr_assert_eq(bench_csv_row(&csv, &row), STATUS_OK);
        cr_assert_eq(bench_csv_close(&csv), STATUS_OK);
    }
    FILE *file = fopen(path, "r");
    char line[3][2048];
    for (int32_t i = 0; i < 3; i++) {
        cr_assert_not_null(fgets(line[i], sizeof line[i], file));
    }
    cr_expect_null(fgets(line[2], sizeof line[2], file), "the header stands once");
    fclose(file);
    line[0][strcspn(line[0], "\n")] = '\0';
    cr_expect_str_eq(line[0], bench_csv_header());
    cr_expect_eq(commas(line[1]), commas(line[0]));
    /* 4e9 operations in 2 us are 2e15 a second; 2e6 bytes 1e12, a quarter of the ceiling. */
    cr_expect_not_null(
        strstr(line[1], ",2,8,3,2000,1000,1000,3000,4e+09,2e+06,2e+15,1e+12,,0.2500"), "%s",
        line[1]);
    cr_expect_not_null(strstr(line[1], ",3 0 5\n"), "%s", line[1]);
    int32_t when[6]; /* behind the seven columns of a machine of which nothing is known */
    cr_expect_eq(sscanf(line[1], ",,,,,,,%4d-%2d-%2dT%2d:%2d:%2dZ,", &when[0], &when[1], &when[2],
                        &when[3], &when[4], &when[5]),
                 6, "%s", line[1]);

    file = fopen(path, "w");
    fputs("a,b\n", file);
    fclose(file);
    struct bench_csv csv;
    cr_expect_eq(bench_csv_open(&csv, path, 7, NULL), STATUS_INVALID, "another file's columns");
    remove(path);
}

Test(bench_host, every_wrong_option_is_reported_at_once)
{
    static struct error error;
    struct bench_options options;
    char routing[] = "uniform,lognormal";
    char *good[] = {(char[]){"moe-bench"}, (char[]){"time"},      (char[]){"--tokens"},
                    (char[]){"1,64,4096"}, (char[]){"--routing"}, routing,
                    (char[]){"--size"},    (char[]){"small"},     (char[]){"--dtype"},
                    (char[]){"fp8"},       (char[]){"--kernels"}, (char[]){"gate,combine"},
                    (char[]){"--device"},  (char[]){"cuda"},      (char[]){"--renormalize"}};
    cr_assert_eq(bench_options_parse(&options, sizeof good / sizeof good[0], good, &error),
                 STATUS_OK, "%s", error.text);
    cr_expect_eq(options.num_tokens_count, 3);
    cr_expect_eq(options.num_tokens[2], 4096);
    cr_expect_str_eq(options.routing[1], "lognormal");
    cr_expect(options.small && options.layer.dtype == DTYPE_FP8_E4M3);
    cr_expect(bench_wants_kernel(&options, "combine") && !bench_wants_kernel(&options, "permute"));

    char *bad[] = {(char[]){"moe-bench"},     (char[]){"time"},    (char[]){"--tokens"},
                   (char[]){"1,x"},           (char[]){"--score"}, (char[]){"tanh"},
                   (char[]){"--top-k"},       (char[]){"17"},      (char[]){"--nothing"},
                   (char[]){"--choice-bias"}, (char[]){"--csv"}};
    cr_expect_eq(bench_options_parse(&options, sizeof bad / sizeof bad[0], bad, &error),
                 STATUS_INVALID);
    cr_expect_eq(error.num_problems, 6, "%s", error.text);
}

Test(bench_host, work_counts_every_byte_and_operation_once)
{
    const int32_t expert_tokens[] = {3, 0, 2, 0};
    struct bench_layer layer = {.dtype = DTYPE_BF16,
                                .expert = {4, 128, 64, ACTIVATION_SWIGLU},
                                .gate = {.num_experts = 4, .top_k = 1}};

    struct bench_load load = bench_load_of(expert_tokens, 4, 5);
    struct bench_work up = bench_work_of(&layer, BENCH_GATE_UP, load);
    struct bench_work rows = bench_work_of(&layer, BENCH_ROWS, load);

    cr_expect(load.rows == 5 && load.active_experts == 2);
    /* 5 rows x 128 columns of gate and up x depth 128; two experts' weights, x in, h out */
    cr_expect_eq(up.flops, 2.0 * 5 * 128 * 128);
    cr_expect_eq(up.bytes, 2.0 * (2 * 128 * 128 + 5 * 128 + 5 * 64));
    cr_expect_eq(rows.bytes, 2.0 * (5 * 128 + 5 * 128));
    layer.dtype = DTYPE_FP8_E4M3; /* tokens stay bf16; rows are a byte an element and one scale */
    rows = bench_work_of(&layer, BENCH_ROWS, load);
    cr_expect_eq(rows.bytes, 2.0 * 5 * 128 + 5.0 * (128 + 4));
}
