/* test_measured.c -- tables of measured kernels: interpolation, what they are read from, and the
 * compute model over them. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gpu/gpu.h"
#include "gpu/measured.h"
#include "measured_read.h"
#include "moe_rows.h"
#include "scenario.h"
#include "text_file.h"
#include "validate.h"

#define MOE_HEADER                                                                                 \
    "row_id,gpu,framework,version,kernel_source,dtype,model_shape,num_experts,topk,hidden,inter,"  \
    "moe_tp,moe_ep,tokens,distribution,latency_us,source\n"
#define MOE_ROW(gpu, source, tokens, distribution, us)                                             \
    "1," gpu ",TRTLLM,1," source ",bfloat16,Qwen3-30B,128,8,2048,768,1,8," #tokens                 \
    "," distribution "," #us ",us\n"
#define H100_ROW(tokens, us)                                                                       \
    MOE_ROW("NVIDIA H100 80GB HBM3", "moe_torch_flow_cutlass", tokens, "balanced", us)
#define KERNELS_HEADER                                                                             \
    "row_id,kernel,gpu,library,dtype,kv_dtype,phase,model_shape,m,n,k,num_groups,num_experts,"     \
    "topk,hidden,inter,ep,tp,local_experts,tokens,tokens_scope,tokens_per_expert,batch,"           \
    "seq_or_kv_len,q_heads,kv_heads,head_dim,distribution,num_slots,rank0_tokens,latency_us\n"
#define GEMM_ROW(m, n, k, us)                                                                      \
    "1,dense GEMM,NVIDIA H100 80GB HBM3,TRT-LLM 1,bfloat16,,,," #m "," #n "," #k                   \
    ",,,,,,,,,,,,,,,,,,,," #us "\n"

#define BENCH_HEADER                                                                               \
    "device,num_sms,command,version,phase,model,dtype,num_experts,top_k,hidden_dim,ffn_dim,"       \
    "shared_ffn_dim,activation,num_tokens,routing,rank,num_ranks,median_ns,min_ns,status,"         \
    "expert_tokens\n"
#define BENCH_ROW(phase, ns)                                                                       \
    "NVIDIA H100 80GB HBM3,132,forward,graph," phase                                               \
    ",m,bf16,16,8,2048,768,0,swiglu,8,balanced,,," #ns "," #ns                                     \
    ",ok,4 4 4 4 4 4 4 4 4 4 4 4 4 4 4 4\n"

static struct error error;
static struct measured_table table;
static const char *path;

static void set_up(void)
{
    path = text_file(".csv", "");
    error = (struct error){0};
}

static void clean_up(void)
{
    measured_free(&table);
    (void)unlink(path);
}

TestSuite(measured, .init = set_up, .fini = clean_up);

static void write_text(const char *text)
{
    (void)text_file(".csv", text);
}

static void add(double across, double along, double ratio)
{
    const struct measured_place place = {
        .kind = 3, .side = {5.0, 7.0}, .across = log(across), .along = log(along)};
    cr_assert_eq(measured_add(&table, &place, 100.0 * ratio, 100.0, table.num_points, &error),
                 STATUS_OK);
}

/* The ratio at a place of the shape 5 x 7; 0: it is not covered. */
static double ratio_at(double across, double along)
{
    double ratio = 0.0;
    const struct measured_place place = {
        .kind = 3, .side = {5.0, 7.0}, .across = log(across), .along = log(along)};
    return measured_ratio(&ratio, &table, &place, -1) ? ratio : 0.0;
}

Test(measured, meets_points_and_is_straight_between_them_in_logarithms)
{
    add(1.0, 64.0, 8.0);
    add(1.0, 16.0, 2.0);
    measured_sort(&table);

    cr_expect_float_eq(ratio_at(1.0, 16.0), 2.0, 1e-12);
    cr_expect_float_eq(ratio_at(1.0, 64.0), 8.0, 1e-12);
    cr_expect_float_eq(ratio_at(1.0, 32.0), 4.0, 1e-12); /* half way: sqrt(2 x 8) */
    cr_expect_float_eq(ratio_at(1.0, 48.0), 6.0, 1e-12); /* here it is length / 8 */
    cr_expect_eq(ratio_at(1.0, 15.9), 0.0);
    cr_expect_eq(ratio_at(1.0, 64.1), 0.0);
}

Test(measured, takes_the_middle_of_replicates)
{
    add(1.0, 16.0, 2.0);
    add(1.0, 16.0, 8.0);
    measured_sort(&table);

    cr_expect_float_eq(ratio_at(1.0, 16.0), 4.0, 1e-12);
}

Test(measured, is_straight_between_two_curves_of_a_shape)
{
    add(1.0, 16.0, 2.0); /* batch 1: 2 to 8 over lengths 16 to 64 */
    add(1.0, 64.0, 8.0);
    add(4.0, 16.0, 1.0); /* batch 4: 1 everywhere */
    add(4.0, 128.0, 1.0);
    measured_sort(&table);

    cr_expect_float_eq(ratio_at(2.0, 32.0), 2.0, 1e-12); /* between 4 and 1 */
    cr_expect_float_eq(ratio_at(4.0, 100.0), 1.0, 1e-12);
    cr_expect_eq(ratio_at(2.0, 100.0), 0.0); /* batch 1 ends at 64 */
    cr_expect_eq(ratio_at(8.0, 32.0), 0.0);
}

Test(measured, knows_nothing_of_other_shapes_and_kinds)
{
    double ratio = 0.0;
    add(1.0, 16.0, 2.0);
    measured_sort(&table);
    struct measured_place place = {.kind = 3, .side = {5.0, 8.0}, .along = log(16.0)};

    cr_expect(!measured_ratio(&ratio, &table, &place, -1));
    cr_expect_eq(ratio, 1.0);
    place.side[1] = 7.0;
    cr_expect(measured_ratio(&ratio, &table, &place, -1));
    cr_expect(!measured_ratio(&ratio, &table, &place, 0)); /* its only point left out */
    place.kind = 4;
    cr_expect(!measured_ratio(&ratio, &table, &place, -1));
    cr_expect(!measured_ratio(&ratio, NULL, &place, -1));
}

/* Half the curve's slope is not in its middle point: without it the others say sqrt(2 x 8) = 4
 * where 5 was measured, 20 % too little. */
Test(measured, tells_how_well_neighbours_predict_a_point)
{
    double median = 0.0;
    add(1.0, 16.0, 2.0);
    add(1.0, 32.0, 5.0);
    add(1.0, 64.0, 8.0);
    measured_sort(&table);

    cr_assert_eq(measured_error(&median, &table, &error), STATUS_OK);
    cr_expect_float_eq(median, 0.2, 1e-12);
}

static void load_gpu(struct gpu_spec *gpu)
{
    cr_assert_eq(gpu_load(gpu, "h100-sxm", &error), STATUS_OK);
    gpu->fitted_chosen = 0;
    while (strcmp(gpu->fitted[gpu->fitted_chosen].kernels, "trtllm") != 0 ||
           gpu->fitted[gpu->fitted_chosen].precision != PRECISION_BF16) {
        gpu->fitted_chosen++;
    }
}

static struct gpu_work experts_of(const struct moe_model *model, int32_t *slot_tokens,
                                  int32_t tokens, int32_t rows)
{
    for (int32_t slot = 0; slot < 16; slot++) {
        slot_tokens[slot] = tokens;
    }
    return (struct gpu_work){.phase = GPU_EXPERT,
                             .model = model,
                             .shards = 1,
                             .num_slots = 16,
                             .slot_tokens = slot_tokens,
                             .token_rows = rows};
}

Test(measured, takes_as_long_as_was_measured_and_beside_the_table_as_the_fit)
{
    struct gpu_spec gpu;
    struct moe_model model;
    int32_t slot_tokens[16];
    const struct gpu_model *measured = gpu_find("measured");
    load_gpu(&gpu);
    gpu.l2_bytes = 0.0; /* then the loop of measurements meets no weights that engines do not */
    cr_assert_eq(model_load(&model, "qwen3-30b-a3b", &error), STATUS_OK);
    /* 256 tokens of the group: 16 to each expert */
    write_text(MOE_HEADER H100_ROW(256, 1234.5) H100_ROW(1024, 4000));
    const struct measured_files files = {.moe = path};
    cr_assert_eq(measured_read(&table, &files, &gpu, &error), STATUS_OK, "%s", error.text);
    struct gpu_work work = experts_of(&model, slot_tokens, 16, 256);
    double fitted_ns = gpu_find("fitted")->duration_ns(&gpu, &work);
    gpu.measured = &table;

    cr_expect_float_eq(measured->duration_ns(&gpu, &work), 1234.5e3, 1e-3);
    cr_expect_float_eq(measured->table_share(&gpu, &work), 1.0, 1e-12);
    cr_expect_neq(fitted_ns, 1234.5e3);
    work = experts_of(&model, slot_tokens, 65, 1040); /* past the last point */
    double beside_ns = measured->duration_ns(&gpu, &work);
    cr_expect_eq(measured->table_share(&gpu, &work), 0.0);
    gpu.measured = NULL;
    cr_expect_eq(beside_ns, gpu_find("fitted")->duration_ns(&gpu, &work));
}

/* 16 experts of Qwen3-30B are 151 MB: with an L2 of so much a loop reads part of them there, and an
 * engine, which has other layers between, takes longer. */
Test(measured, adds_what_engines_read_of_weights_that_a_loop_has_in_l2)
{
    struct gpu_spec gpu;
    struct moe_model model;
    int32_t slot_tokens[16];
    load_gpu(&gpu);
    gpu.l2_bytes = 151e6;
    cr_assert_eq(model_load(&model, "qwen3-30b-a3b", &error), STATUS_OK);
    write_text(MOE_HEADER H100_ROW(256, 1234.5) H100_ROW(1024, 4000));
    const struct measured_files files = {.moe = path};
    cr_assert_eq(measured_read(&table, &files, &gpu, &error), STATUS_OK, "%s", error.text);
    const struct gpu_work work = experts_of(&model, slot_tokens, 16, 256);
    gpu.measured = &table;

    double ns = gpu_find("measured")->duration_ns(&gpu, &work);
    cr_expect_gt(ns, 1.02 * 1234.5e3);
    cr_expect_lt(ns, 2.0 * 1234.5e3);
}

/* The router's GEMM, 2048 x 128, is in the table; the pass over its logits is not. */
Test(measured, takes_gemms_out_of_the_table_of_kernels)
{
    struct gpu_spec gpu;
    struct moe_model model;
    load_gpu(&gpu);
    cr_assert_eq(model_load(&model, "qwen3-30b-a3b", &error), STATUS_OK);
    write_text(KERNELS_HEADER GEMM_ROW(64, 128, 2048, 700));
    const struct measured_files files = {.kernels = path};
    cr_assert_eq(measured_read(&table, &files, &gpu, &error), STATUS_OK, "%s", error.text);
    const struct gpu_work work = {.phase = GPU_GATE, .model = &model, .tokens = 64, .shards = 1};
    gpu.measured = &table;

    double ns = gpu_find("measured")->duration_ns(&gpu, &work);

    cr_expect_gt(ns, 700e3);
    cr_expect_float_eq(gpu_find("measured")->table_share(&gpu, &work), 700e3 / ns, 1e-12);
}

/* A step's permute, GEMMs and combine make up the experts' phase; gate and whole layer do not. */
Test(measured, sums_the_phases_that_moe_bench_measured)
{
    struct gpu_spec gpu;
    struct moe_model model;
    int32_t slot_tokens[16];
    load_gpu(&gpu);
    cr_assert_eq(model_load(&model, "qwen3-30b-a3b", &error), STATUS_OK);
    write_text(BENCH_HEADER BENCH_ROW("gate", 7000) BENCH_ROW("permute", 10000)
                   BENCH_ROW("gate_up", 200000) BENCH_ROW("down", 100000)
                       BENCH_ROW("combine", 20000) BENCH_ROW("", 400000));
    const struct measured_files files = {.bench = path};
    cr_assert_eq(measured_read(&table, &files, &gpu, &error), STATUS_OK, "%s", error.text);
    struct gpu_work work = experts_of(&model, slot_tokens, 4, 8);
    gpu.measured = &table;

    cr_expect_eq(table.num_points, 1);
    cr_expect_float_eq(gpu_find("measured")->duration_ns(&gpu, &work), 330e3, 1e-3);
}

Test(measured, refuses_files_that_have_nothing_for_the_gpu)
{
    struct gpu_spec gpu;
    const struct measured_files files = {.moe = path};
    load_gpu(&gpu);
    write_text(MOE_HEADER MOE_ROW("NVIDIA B200", "moe_torch_flow_cutlass", 256, "balanced", 9)
                   MOE_ROW("NVIDIA H100 80GB HBM3", "sglang_fused_moe_triton", 256, "balanced", 9)
                       MOE_ROW("NVIDIA H100 80GB HBM3", "moe_torch_flow_cutlass", 256,
                               "power_law_1.2", 9));

    cr_expect_eq(measured_read(&table, &files, &gpu, &error), STATUS_INVALID);

    cr_expect_not_null(strstr(error.text, "no row has evenly loaded experts of a h100-sxm in bf16 "
                                          "with kernels 'trtllm'"));
}

static enum status load_scenario(struct scenario *scenario, const char *const *extra, int32_t count)
{
    const char *overrides[8] = {"model=qwen3-30b-a3b", "precision.expert=bf16",
                                "trace.path=" SOURCE_DIRECTORY "/scenarios/traces/router-lab",
                                "compute.kernels=trtllm"};
    for (int32_t i = 0; i < count; i++) {
        overrides[4 + i] = extra[i];
    }
    error = (struct error){0};
    return scenario_load(scenario,
                         SOURCE_DIRECTORY "/scenarios/studies/gpt_oss_20b_decode_8xh100.yaml",
                         overrides, 4 + count, &error);
}

Test(measured, is_named_in_scenarios_with_a_digest_of_its_files)
{
    struct scenario scenario = {0};
    char key[128];
    (void)snprintf(key, sizeof key, "compute.measured.kernels_moe=%s", path);
    const char *const named[] = {"compute.model=measured", key};
    const char *const stale[] = {"compute.model=measured", key, "compute.measured.digest=beef"};
    write_text(MOE_HEADER H100_ROW(256, 1234.5));

    cr_assert_eq(load_scenario(&scenario, named, 2), STATUS_OK, "%s", error.text);
    cr_expect_not_null(scenario.cluster.gpu.measured);
    cr_expect_not_null(strstr(scenario.text, "digest:"));
    cr_expect_not_null(
        strstr(gpu_model_evidence(scenario.gpu_model, &scenario.cluster.gpu).fitted_on,
               "1 point of moesim-test-"));
    scenario_free(&scenario);
    cr_expect_eq(load_scenario(&scenario, stale, 3), STATUS_INVALID);
    cr_expect_not_null(strstr(error.text, "the files are not what they were"));
    scenario_free(&scenario);
}

Test(measured, is_refused_without_files_and_files_without_it)
{
    struct scenario scenario = {0};
    char moe[128];
    char bench[128];
    (void)snprintf(moe, sizeof moe, "compute.measured.kernels_moe=%s", path);
    (void)snprintf(bench, sizeof bench, "compute.measured.bench=%s", path);
    const char *const without[] = {"compute.model=measured"};
    const char *const fitted[] = {"compute.model=fitted", moe};
    const char *const both[] = {"compute.model=measured", moe, bench};
    const char *const missing[] = {"compute.model=measured", "compute.measured.kernels=none.csv"};
    write_text(MOE_HEADER H100_ROW(256, 1234.5));

    cr_expect_eq(load_scenario(&scenario, without, 1), STATUS_INVALID);
    cr_expect_not_null(strstr(error.text, "measured needs a file of measurements"));
    scenario_free(&scenario);
    cr_expect_eq(load_scenario(&scenario, fitted, 2), STATUS_INVALID);
    cr_expect_not_null(strstr(error.text, "is read by compute.model: measured, not by fitted"));
    scenario_free(&scenario);
    cr_expect_eq(load_scenario(&scenario, both, 3), STATUS_INVALID);
    cr_expect_not_null(strstr(error.text, "both hold experts"));
    scenario_free(&scenario);
    cr_expect_eq(load_scenario(&scenario, missing, 2), STATUS_INVALID);
    cr_expect_not_null(strstr(error.text, "there is no 'none.csv'"));
    scenario_free(&scenario);
}

/* Times that are always three times the fit's: neighbours know that, the fit does not. */
Test(measured, is_validated_row_by_row_beside_the_fit)
{
    static char text[4096];
    struct error_report report = {0};
    struct moe_rows rows = {0};
    write_text(MOE_HEADER H100_ROW(64, 1) H100_ROW(256, 1) H100_ROW(1024, 1));
    cr_assert_eq(moe_rows_read(&rows, path, &error), STATUS_OK);
    size_t used = (size_t)snprintf(text, sizeof text, "%s", MOE_HEADER);
    for (int64_t i = 0; i < 3; i++) {
        const struct moe_row *row = &rows.row[i];
        const struct gpu_spec *gpu = &rows.gpu[row->gpu];
        double ns = moe_row_predict(row, gpu, moe_row_constants(row, gpu));
        used += (size_t)snprintf(text + used, sizeof text - used,
                                 "1,NVIDIA H100 80GB HBM3,TRTLLM,1,moe_torch_flow_cutlass,bfloat16,"
                                 "Qwen3-30B,128,8,2048,768,1,8,%lld,balanced,%.9f,us\n",
                                 (long long)row->tokens, 3.0 * ns * 1e-3);
    }
    moe_rows_free(&rows);
    write_text(text);

    cr_assert_eq(validate_moe_measured(&report, path, &error), STATUS_OK);
    cr_assert_eq(error_report_finish(&report, &error), STATUS_OK);

    cr_expect_eq(report.num_skipped, 2); /* both ends of the curve */
    cr_expect_eq(report.total.num_rows, 2);
    for (int32_t i = 0; i < report.num_groups; i++) {
        const struct error_group *group = &report.group[i];
        bool is_table = strcmp(group->value[4], "table") == 0;
        cr_expect_eq(group->error.num_rows, 1, "%s: %d rows", group->value[4],
                     (int)group->error.num_rows);
        cr_expect_float_eq(group->error.median, is_table ? 0.0 : 2.0 / 3.0, 1e-6);
    }
    error_report_free(&report);
}
