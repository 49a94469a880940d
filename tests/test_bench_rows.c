/* test_bench_rows.c -- reading what moe-bench measured, fitting phases, predicting steps. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench_model.h"
#include "text_file.h"
#include "validate_bench.h"

#define HEADER                                                                                     \
    "device,num_sms,command,version,phase,model,dtype,num_experts,top_k,hidden_dim,ffn_dim,"       \
    "shared_ffn_dim,activation,num_tokens,routing,rank,num_ranks,median_ns,min_ns,status,"         \
    "expert_tokens\n"
#define LINE(version, phase, rank, ranks, ns, status, tokens)                                      \
    "Box,1,forward," version "," phase ",m,fp32,4,2,64,32,0,swiglu,8,balanced," rank "," ranks     \
    ",999," ns "," status "," tokens "\n"

static struct error error;
static struct bench_rows rows;

static enum status read_text(const char *text)
{
    const char *path = text_file(".csv", text);
    enum status status = bench_rows_read(&rows, path, &error);
    unlink(path);
    return status;
}

Test(bench_rows, reads_what_moe_bench_writes)
{
    cr_assert_eq(read_text(HEADER LINE("cpu", "gate_up", "1", "2", "500", "ok", "3 0")
                               LINE("graph", "gate_up", "", "", "500", "ok", "4 4 4 4")
                                   LINE("cublas", "", "", "", "500", "ok", "4 4 4 4")
                                       LINE("cpu", "twiddle", "0", "1", "500", "ok", "1")
                                           LINE("cpu", "down", "0", "1", "500", "failed", "1")
                                               LINE("cpu", "down", "0", "1", "-3", "ok", "1")),
                 STATUS_OK, "%s", error.text);

    cr_assert_eq(rows.num_rows, 6);
    const struct bench_row *row = rows.row;
    cr_expect(row->skip == BENCH_USED && row->phase == BENCH_GATE_UP && row->is_cpu);
    cr_expect(row->rank == 1 && row->num_ranks == 2 && row->num_slots == 2);
    cr_expect(row->slot_tokens[0] == 3 && row->slot_tokens[1] == 0);
    cr_expect_eq(row->ns, 500.0);   /* the least of a CPU */
    cr_expect_eq(row[1].ns, 999.0); /* the median of a GPU */
    cr_expect_eq(row[1].num_ranks, 1);
    cr_expect_eq(row[2].skip, BENCH_SKIP_PEER);
    cr_expect_eq(row[3].skip, BENCH_SKIP_PHASE);
    cr_expect_eq(row[4].skip, BENCH_SKIP_STATUS);
    cr_expect_eq(row[5].skip, BENCH_SKIP_STATUS); /* no time at all */
    bench_rows_free(&rows);
    bench_rows_free(&rows);
}

Test(bench_rows, tells_file_and_line_of_what_is_wrong)
{
    cr_expect_eq(read_text("device,phase\n"), STATUS_INVALID);
    cr_expect_not_null(strstr(error.text, ":1: columns are missing: num_sms, command,"));
    cr_expect_not_null(strstr(error.text, ", expert_tokens; is it")); /* all of them at once */
    error = (struct error){0};
    cr_expect_eq(read_text(HEADER LINE("cpu", "down", "0", "1", "fast", "ok", "1")),
                 STATUS_INVALID);
    cr_expect_not_null(strstr(error.text, ":2: min_ns is 'fast'"));
    error = (struct error){0};
    cr_expect_eq(read_text(HEADER LINE("cpu", "down", "0", "1", "5", "ok", "1 2 3 4 5")),
                 STATUS_INVALID);
    cr_expect_not_null(strstr(error.text, "expert_tokens is no list of at most 4"));
    error = (struct error){0};
    cr_expect_eq(read_text(HEADER LINE("cpu", "down", "2", "2", "5", "ok", "1")), STATUS_INVALID);
    cr_expect_not_null(strstr(error.text, ":2: rank 2 of 2"));
    cr_expect_eq(read_text(HEADER LINE("cpu", "down", "0.5", "2", "5", "ok", "1")), STATUS_INVALID);
    cr_expect_not_null(strstr(error.text, ":2: rank is '0.5', not a count"));
    error = (struct error){0};
    cr_expect_eq(read_text(HEADER "Box,1\n"), STATUS_INVALID);
    cr_expect_not_null(strstr(error.text, ":2: 2 cells"));
    cr_expect_eq(read_text(HEADER), STATUS_INVALID);
    cr_expect_eq(bench_rows_read(&rows, "/nowhere/at/all.csv", &error), STATUS_IO);
    bench_rows_free(&rows);
}

/* A row of a made-up machine, timed by known constants. */
static void add(struct bench_rows *to, enum bench_phase phase, int32_t hidden_dim, int32_t tokens,
                const struct fitted_kernels *truth)
{
    struct bench_row *row = &to->row[to->num_rows++];
    *row = (struct bench_row){.phase = phase,
                              .is_cpu = true,
                              .device = "Box",
                              .dtype = "fp32",
                              .num_sms = 1,
                              .num_experts = 8,
                              .top_k = 2,
                              .hidden_dim = hidden_dim,
                              .ffn_dim = 2 * hidden_dim,
                              .is_gated = true,
                              .num_tokens = tokens,
                              .num_ranks = 1,
                              .num_slots = 8,
                              .step = tokens};
    row->slot_tokens = arena_alloc(&to->arena, 8, sizeof *row->slot_tokens);
    cr_assert_not_null(row->slot_tokens);
    for (int32_t slot = 0; slot < 8; slot++) {
        row->slot_tokens[slot] = (2 * tokens + 7 * slot) / 8 % (tokens + 1);
    }
    row->ns = bench_phase_ns(row, truth);
}

static const struct fitted_kernels gemm_truth = {.t0_ns = 2e4,
                                                 .weight_bytes_per_s = 12e9,
                                                 .flops_per_s = 100e9,
                                                 .activation_bytes_per_s = 8e9,
                                                 .row_bytes_per_s = 1e9,
                                                 .slot_ns = 1e3,
                                                 .blend = 1.3};
static const struct fitted_kernels copy_truth = {.t0_ns = 900.0,
                                                 .weight_bytes_per_s = 1.0,
                                                 .flops_per_s = 1.0,
                                                 .activation_bytes_per_s = 15e9,
                                                 .row_bytes_per_s = 1e9,
                                                 .slot_ns = 40.0,
                                                 .blend = 1.5};

static void fill(struct bench_rows *to, int32_t hidden_dim)
{
    static const int32_t tokens[] = {1, 2, 5, 13, 40, 100, 300, 1000};
    for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++) {
        add(to, BENCH_GATE_UP, hidden_dim, tokens[i], &gemm_truth);
        add(to, BENCH_PERMUTE, hidden_dim, tokens[i], &copy_truth);
    }
}

Test(bench_model, predicts_shapes_it_has_not_seen_where_its_form_is_true)
{
    static struct bench_model model;
    static struct bench_validation validation;
    struct bench_rows fitted = {.row = calloc(64, sizeof *fitted.row)};
    struct bench_rows unseen = {.row = calloc(64, sizeof *unseen.row)};
    cr_assert(fitted.row != NULL && unseen.row != NULL);
    fill(&fitted, 128);
    fill(&fitted, 256);
    fill(&fitted, 512);
    fill(&unseen, 384);

    cr_assert_eq(bench_model_fit(&model, &fitted, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(validate_bench(&validation, &unseen, &model, &error), STATUS_OK);

    cr_assert_eq(model.num_constants, 2);
    cr_expect_eq(validation.total.num_rows, 16);
    cr_expect_lt(validation.total.max, 0.02, "%g", validation.total.max);
    cr_expect_eq(model.constants[0].held_out.num_rows, 24);
    /* The smallest shape left out, t0 is anybody's guess. */
    cr_expect_lt(model.constants[0].held_out.median, 0.02);
    cr_expect_lt(model.constants[0].held_out.p90, 0.1);
    unseen.row[3].num_ranks = 2; /* nothing was fitted for several ranks */
    cr_assert_eq(validate_bench(&validation, &unseen, &model, &error), STATUS_OK);
    cr_expect(validation.num_skipped == 1 && validation.no_constants == 1);
    bench_rows_free(&fitted);
    bench_rows_free(&unseen);
}

Test(bench_model, a_step_of_two_ranks_waits_for_the_slower_at_each_exchange)
{
    /* ns of rank 0 and 1; the longest way: 10 + 5 + 40 + 6 + 8 */
    static const struct {
        enum bench_phase phase;
        double ns[2];
    } parts[] = {{BENCH_GATE, {7.0, 2.0}},     {BENCH_PERMUTE, {3.0, 1.0}},
                 {BENCH_DISPATCH, {5.0, 4.0}}, {BENCH_GATE_UP, {10.0, 25.0}},
                 {BENCH_DOWN, {5.0, 15.0}},    {BENCH_RETURN, {6.0, 6.0}},
                 {BENCH_COMBINE, {8.0, 2.0}}};
    static struct bench_model model;
    struct bench_row row[15];
    int32_t slot_tokens = 1;
    struct bench_rows step = {.row = row};
    const size_t num_parts = sizeof parts / sizeof parts[0];
    for (size_t i = 0; i < 2 * num_parts; i++) {
        struct bench_constants *constants = &model.constants[model.num_constants++];
        row[step.num_rows++] = (struct bench_row){.phase = parts[i / 2].phase,
                                                  .is_cpu = true,
                                                  .device = "Box",
                                                  .dtype = "fp32",
                                                  .rank = (int32_t)(i % 2),
                                                  .num_ranks = 2,
                                                  .num_experts = 2,
                                                  .top_k = 1,
                                                  .hidden_dim = 1,
                                                  .ffn_dim = 1,
                                                  .num_slots = 1,
                                                  .slot_tokens = &slot_tokens};
        /* One set of constants a phase: tell the ranks apart by what they have to do. */
        *constants = (struct bench_constants){.device = "Box",
                                              .dtype = "fp32",
                                              .is_parallel = true,
                                              .phase = parts[i / 2].phase,
                                              .fitted = {.t0_ns = parts[i / 2].ns[i % 2],
                                                         .weight_bytes_per_s = 1e30,
                                                         .flops_per_s = 1e30,
                                                         .activation_bytes_per_s = 1e30,
                                                         .row_bytes_per_s = 1e30,
                                                         .blend = 2.0}};
        constants->dtype[3] = (char)('2' + (char)(i % 2)); /* fp32 for rank 0, fp33 for rank 1 */
        row[i].dtype[3] = constants->dtype[3];
    }
    row[step.num_rows] = row[0];
    row[step.num_rows].phase = BENCH_LAYER;

    cr_expect_float_eq(bench_model_predict(&model, &step, &row[step.num_rows]), 69.0, 1e-6);
    step.num_rows = 1; /* rank 1 is missing */
    cr_expect_lt(bench_model_predict(&model, &step, &row[14]), 0.0);
}
