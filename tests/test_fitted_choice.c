/* test_fitted_choice.c -- a scenario's GEMMs are of the engine whose experts it runs. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "data.h"
#include "gpu/fitted_phases.h"
#include "scenario.h"

static struct error error;

static bool is_tensor_wide(const char *kernels)
{
    return strstr(kernels, "_fp8_tensor") != NULL;
}

static bool is_grouped(const char *kernels)
{
    return strstr(kernels, "_masked") != NULL || strstr(kernels, "_contiguous") != NULL;
}

/* trtllm of trtllm_wideep. */
static void copy_engine(char engine[NAME_BYTES], const char *kernels)
{
    strcpy(engine, kernels);
    engine[strcspn(engine, "_")] = '\0';
}

/* How many dense GEMMs a preset has of a format and scaling; engine "": of any. */
static int32_t count_gemm(const struct gpu_spec *gpu, enum precision precision, bool tensor_wide,
                          const char *engine)
{
    int32_t count = 0;
    for (int32_t i = 0; i < gpu->num_gemm; i++) {
        char own[NAME_BYTES];
        copy_engine(own, gpu->gemm[i].kernels);
        count += gpu->gemm[i].precision == precision && !is_grouped(gpu->gemm[i].kernels) &&
                 is_tensor_wide(gpu->gemm[i].kernels) == tensor_wide &&
                 (engine[0] == '\0' || strcmp(engine, own) == 0);
    }
    return count;
}

/* Whether the GEMM in use is of the engine whose experts are. */
static bool check_choice(const struct gpu_spec *gpu, enum precision precision)
{
    char wanted[NAME_BYTES];
    char found[NAME_BYTES];
    const char *experts = gpu->fitted[gpu->fitted_chosen].kernels;
    bool tensor_wide = is_tensor_wide(experts);
    const struct gemm_constants *gemm = fitted_find_gemm(gpu, precision);
    if (gemm == NULL) {
        cr_expect_eq(count_gemm(gpu, precision, false, "") + count_gemm(gpu, precision, true, ""),
                     0);
        return false;
    }
    copy_engine(wanted, experts);
    copy_engine(found, gemm->kernels);
    cr_expect_eq(gemm->precision, precision);
    cr_expect_not(is_grouped(gemm->kernels));
    if (count_gemm(gpu, precision, tensor_wide, "") > 0) {
        cr_expect_eq(is_tensor_wide(gemm->kernels), tensor_wide, "%s: %s by %s", gpu->name, experts,
                     gemm->kernels);
    }
    if (count_gemm(gpu, precision, tensor_wide, wanted) > 0) {
        cr_expect_str_eq(found, wanted, "%s: %s by %s", gpu->name, experts, gemm->kernels);
    }
    return strcmp(found, wanted) == 0;
}

Test(fitted_choice, takes_every_engines_own_gemms_where_its_preset_has_them)
{
    const char *const *name = NULL;
    struct arena arena = {0};
    struct gpu_spec *gpu = calloc(1, sizeof *gpu);
    int32_t num_own = 0;
    int32_t count = data_list(&name, "gpus", &arena);
    cr_assert_geq(count, 20);
    for (int32_t preset = 0; preset < count; preset++) {
        cr_assert_eq(gpu_load(gpu, name[preset], &error), STATUS_OK, "%s", error.text);
        for (gpu->fitted_chosen = 0; gpu->fitted_chosen < gpu->num_fitted; gpu->fitted_chosen++) {
            for (int32_t precision = 0; precision < PRECISION_COUNT; precision++) {
                num_own += check_choice(gpu, (enum precision)precision);
            }
        }
    }
    cr_expect_geq(num_own, 60, "only %d of an engine's own", (int)num_own);
    arena_free(&arena);
    free(gpu);
}

/* What predicts the GEMMs of a scenario, in the words of its page. */
static void expect_gemm(const char *kernels, const char *precision, const char *wanted)
{
    struct scenario scenario = {0};
    char expert[64];
    char dense[64];
    char asked[64];
    char text[1024];
    char words[128];
    (void)snprintf(expert, sizeof expert, "precision.expert=%s", precision);
    (void)snprintf(dense, sizeof dense, "precision.dense=%s", precision);
    (void)snprintf(asked, sizeof asked, "compute.kernels=%s", kernels);
    (void)snprintf(words, sizeof words, "dense GEMMs: %s, ", wanted);
    const char *overrides[] = {"compute.model=fitted", expert, dense, asked};
    cr_assert_eq(scenario_load(&scenario,
                               SOURCE_DIRECTORY "/scenarios/studies/llama_2_70b_decode_8xh100.yaml",
                               overrides, 4, &error),
                 STATUS_OK, "%s", error.text);
    scenario.gpu_model->coverage(text, sizeof text, &scenario.cluster.gpu, &scenario.model, false);
    cr_expect_not_null(strstr(text, words), "kernels %s in %s: %s", kernels, precision, text);
    scenario_free(&scenario);
}

Test(fitted_choice, is_what_a_scenario_asks_for)
{
    expect_gemm("trtllm", "bf16", "trtllm");
    expect_gemm("vllm", "bf16", "vllm_linear");
    expect_gemm("sglang", "bf16", "sglang_linear");
    expect_gemm("trtllm", "fp8", "trtllm");
    expect_gemm("trtllm_fp8_tensor", "fp8", "trtllm_fp8_tensor");
    expect_gemm("trtllm_static_fp8_tensor", "fp8", "trtllm_static_fp8_tensor"); /* no experts */
    expect_gemm("trtllm_wideep", "fp8", "trtllm");
    expect_gemm("sglang_deepep_decode", "fp8", "sglang_linear");
    expect_gemm("vllm_fp8_tensor", "fp8", "vllm_linear_fp8_tensor");
    expect_gemm("vllm", "fp8", "trtllm"); /* vLLM's own are of one scale a tensor */
    expect_gemm("sglang_linear_fp8_tensor", "fp8", "sglang_linear_fp8_tensor"); /* no experts */
}

static bool choose(struct gpu_spec *gpu, const char *kernels, enum precision precision)
{
    const struct kernels_wanted wanted = {.kernels = kernels, .precision = precision};
    return fitted_choose(gpu, &wanted);
}

Test(fitted_choice, of_kernels_without_experts_is_the_gemms_of_that_name)
{
    struct gpu_spec gpu = {.num_gemm = 3, .num_fitted = 1};
    static const char *const names[] = {"trtllm", "deepgemm_masked", "deepgemm"};
    for (int32_t i = 0; i < gpu.num_gemm; i++) {
        strcpy(gpu.gemm[i].kernels, names[i]);
        gpu.gemm[i].precision = PRECISION_FP8;
    }
    strcpy(gpu.fitted[0].kernels, "trtllm");
    gpu.fitted[0].precision = PRECISION_FP8;

    cr_expect(choose(&gpu, "deepgemm", PRECISION_FP8));
    cr_expect_eq(gpu.fitted_chosen, -1);
    cr_expect_str_eq(fitted_find_gemm(&gpu, PRECISION_FP8)->kernels, "deepgemm");
    cr_expect_str_eq(fitted_find_grouped(&gpu, PRECISION_FP8, false)->kernels, "deepgemm_masked");
    cr_expect_null(fitted_find_grouped(&gpu, PRECISION_FP8, true));
    cr_expect(choose(&gpu, "any", PRECISION_FP8));
    cr_expect_eq(gpu.fitted_chosen, 0);
    cr_expect_str_eq(fitted_find_gemm(&gpu, PRECISION_FP8)->kernels, "trtllm");
    cr_expect_not(choose(&gpu, "sglang", PRECISION_FP8));
    cr_expect_not(choose(&gpu, "any", PRECISION_BF16));
    gpu.num_fitted = 0;
    cr_expect(choose(&gpu, "any", PRECISION_FP8));
    cr_expect_eq(gpu.fitted_chosen, -1);
    cr_expect_str_eq(fitted_find_gemm(&gpu, PRECISION_FP8)->kernels, "trtllm");
}

/* Of any kernels on this GPU in this format, behind this exchange; NULL: behind none. */
static void expect_any(const char *preset, const char *collective, bool prefill,
                       enum precision precision, const char *kernels)
{
    struct gpu_spec *gpu = calloc(1, sizeof *gpu);
    const struct kernels_wanted wanted = {"any", precision, collective, prefill};
    cr_assert_eq(gpu_load(gpu, preset, &error), STATUS_OK, "%s", error.text);
    cr_assert(fitted_choose(gpu, &wanted));
    cr_expect_str_eq(gpu->fitted[gpu->fitted_chosen].kernels, kernels, "%s behind %s", preset,
                     collective == NULL ? "nothing" : collective);
    free(gpu);
}

Test(fitted_choice, of_any_kernels_is_what_was_measured_behind_the_exchange)
{
    expect_any("h800-sxm", "deepep_low_latency", false, PRECISION_FP8, "sglang_deepep_decode");
    expect_any("h800-sxm", "deepep_low_latency_rdma", false, PRECISION_FP8, "sglang_deepep_decode");
    expect_any("h800-sxm", "deepep_normal", true, PRECISION_FP8, "sglang_deepep_prefill");
    expect_any("h100-sxm", "deepep_normal", true, PRECISION_FP8, "sglang_deepep_prefill");
    expect_any("gb200-nvl72", "one_sided", false, PRECISION_NVFP4, "trtllm_wideep");
    expect_any("gb200-nvl72", "two_sided", true, PRECISION_NVFP4, "trtllm_wideep");
    /* Nothing was measured behind these, or not in the format. */
    expect_any("h800-sxm", "allgather_reducescatter", false, PRECISION_FP8, "vllm_triton");
    expect_any("h800-sxm", NULL, true, PRECISION_FP8, "vllm_triton");
    expect_any("h800-sxm", "deepep_low_latency", false, PRECISION_BF16, "vllm");
    expect_any("gb200-nvl72", "flat", false, PRECISION_FP8, "trtllm");
    expect_any("b300-sxm", "flat", false, PRECISION_FP8, "trtllm");
    expect_any("b300-sxm", "deepep_normal", true, PRECISION_FP8, "sglang_deepep_prefill");
}

Test(fitted_choice, of_what_was_all_measured_behind_another_exchange_is_of_the_phase)
{
    static const char *const known[] = {"sglang_deepep_decode", "sglang_deepep_prefill"};
    struct gpu_spec *gpu = calloc(1, sizeof *gpu);
    cr_assert_eq(gpu_load(gpu, "b300-sxm", &error), STATUS_OK, "%s", error.text);
    gpu->num_fitted = 2; /* SGLang's behind DeepEP come first */
    for (int32_t prefill = 0; prefill < 2; prefill++) {
        const struct kernels_wanted wanted = {"any", PRECISION_FP8, "flat", prefill == 1};
        cr_assert(fitted_choose(gpu, &wanted));
        cr_expect_str_eq(gpu->fitted[gpu->fitted_chosen].kernels, known[prefill]);
    }
    free(gpu);
}

/* Experts of MiniMax-M2.5 on one of two ranks, so many tokens, each with four copies there. */
static double experts_ns(struct gpu_spec *gpu, const char *kernels, int32_t tokens)
{
    struct moe_model model = {0};
    int32_t slot_tokens[128];
    const struct kernels_wanted wanted = {kernels, PRECISION_FP8, NULL, false};
    cr_assert_eq(model_load(&model, "minimax-m2", &error), STATUS_OK, "%s", error.text);
    cr_assert(fitted_choose(gpu, &wanted), "%s", kernels);
    for (int32_t slot = 0; slot < 128; slot++) {
        slot_tokens[slot] = (tokens * 4 + slot) / 128;
    }
    const struct gpu_work work = {.phase = GPU_EXPERT,
                                  .model = &model,
                                  .tokens = tokens,
                                  .shards = 1,
                                  .num_slots = 128,
                                  .slot_tokens = slot_tokens,
                                  .token_rows = tokens};
    return gpu_fitted.duration_ns(gpu, &work);
}

Test(fitted_choice, runs_vllms_triton_below_128_tokens_and_deepgemm_from_there_on)
{
    static const char *const names[] = {"b200-sxm", "b300-sxm"};
    struct gpu_spec *gpu = calloc(1, sizeof *gpu);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        cr_assert_eq(gpu_load(gpu, names[i], &error), STATUS_OK, "%s", error.text);
        cr_expect_eq(experts_ns(gpu, "vllm_triton", 128), experts_ns(gpu, "trtllm", 128), "%s",
                     names[i]);
        cr_expect_neq(experts_ns(gpu, "vllm_triton", 127), experts_ns(gpu, "trtllm", 127), "%s",
                      names[i]);
    }
    free(gpu);
}

Test(fitted_choice, leaves_kernels_that_dispatch_and_combine_to_measurements)
{
    struct gpu_spec *gpu = calloc(1, sizeof *gpu);
    struct kernels_wanted wanted = {"any", PRECISION_MXFP4, "deepep_low_latency", false};
    cr_assert_eq(gpu_load(gpu, "gb300-nvl72", &error), STATUS_OK, "%s", error.text);
    cr_expect(fitted_choose(gpu, &wanted));
    cr_expect_not(fitted_holds_exchange(gpu->fitted[gpu->fitted_chosen].kernels));
    wanted.kernels = "deepgemm_mega_decode";
    cr_expect_not(fitted_choose(gpu, &wanted));
    cr_expect_eq(gpu->fitted_chosen, -1);
    free(gpu);
}

/* gpt-oss: experts in mxfp4, all else in bf16, 64 heads; one engine for all of a layer. */
Test(fitted_choice, has_constants_for_every_part_of_gpt_oss)
{
    static const char *const names[] = {"h100-sxm", "h200-sxm", "b200-sxm"};
    for (int32_t i = 0; i < 3; i++) {
        struct gpu_spec *gpu = calloc(1, sizeof *gpu);
        struct moe_model model = {0};
        struct fitted_part part[FITTED_PARTS];
        const struct kernels_wanted wanted = {"any", PRECISION_MXFP4, "deepep_low_latency", false};
        cr_assert_eq(gpu_load(gpu, names[i], &error), STATUS_OK, "%s", error.text);
        cr_assert_eq(model_load(&model, "gpt-oss-120b", &error), STATUS_OK, "%s", error.text);
        cr_assert(fitted_choose(gpu, &wanted), "%s", names[i]);

        fitted_parts(part, gpu, &model, false);

        const char *engine = part[FITTED_EXPERTS].kernels;
        for (int32_t p = 0; p < FITTED_PARTS; p++) {
            cr_expect_not_null(part[p].fit, "%s: %s", names[i], part[p].name);
            cr_expect_eq(strncmp(part[p].kernels, engine, strcspn(engine, "_")), 0, "%s: %s is %s",
                         names[i], part[p].name, part[p].kernels);
        }
        free(gpu);
    }
}

/* The exchange of a scenario, by which it takes kernels, and one GPU alone, which has none. */
static void expect_experts(const char *exchange, const char *ep, const char *wanted)
{
    struct scenario scenario = {0};
    const char *overrides[] = {exchange, ep, "model=gpt-oss-20b", "trace.preset=gpt-oss-20b",
                               "precision.expert=fp8"};
    cr_assert_eq(scenario_load(&scenario,
                               SOURCE_DIRECTORY
                               "/scenarios/studies/deepseek_v3_decode_32xh800.yaml",
                               overrides, 5, &error),
                 STATUS_OK, "%s", error.text);
    const struct gpu_spec *gpu = &scenario.cluster.gpu;
    cr_expect_str_eq(gpu->fitted[gpu->fitted_chosen].kernels, wanted, "%s, %s", exchange, ep);
    scenario_free(&scenario);
}

Test(fitted_choice, of_a_scenario_goes_by_its_exchange)
{
    const char *deepep = "dispatch.collective=deepep_low_latency";
    expect_experts(deepep, "parallel.ep=8", "sglang_deepep_decode");
    expect_experts("dispatch.collective=flat", "parallel.ep=8", "vllm_triton");
    expect_experts(deepep, "parallel.ep=1", "vllm_triton");
}

/* vLLM's experts of gpt-oss-120b cut over eight H100s, aiconfigurator @ 095f58a, h100_sxm/moe/vllm/
 * 0.24.0, balanced: 43.2, 53.0 and 78.4 us of 4, 8 and 16 tokens, among the rows of the fit. Of
 * whole experts alone came 60 and more. */
Test(fitted_choice, has_seen_experts_that_are_cut)
{
    static const double measured_us[] = {43.2, 53.0, 78.4};
    struct moe_model model;
    struct gpu_spec gpu;
    cr_assert_eq(model_load(&model, "gpt-oss-120b", &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(gpu_load(&gpu, "h100-sxm", &error), STATUS_OK, "%s", error.text);
    cr_assert(choose(&gpu, "vllm", PRECISION_MXFP4));
    for (int32_t i = 0; i < 3; i++) {
        const int32_t tokens = 4 << i;
        int32_t slot_tokens[128] = {0};
        for (int32_t choice = 0; choice < 4 * tokens; choice++) {
            slot_tokens[choice] = 1;
        }
        const struct gpu_work work = {.phase = GPU_EXPERT,
                                      .model = &model,
                                      .shards = 8,
                                      .num_slots = 128,
                                      .slot_tokens = slot_tokens,
                                      .token_rows = tokens};
        double us = gpu_find("fitted")->duration_ns(&gpu, &work) / 1e3;
        cr_expect_float_eq(us, measured_us[i], 0.2 * measured_us[i], "%d tokens: %g us",
                           (int)tokens, us);
    }
}
