/*
 * fitted_choice.c -- whose kernels a GPU's preset predicts with.
 *
 * Experts behind an exchange that lays tokens out for them are other kernels than those that gather
 * tokens themselves: DeepEP's low-latency kernels leave a block a slot, which SGLang reads by
 * masked grouped GEMMs. So of "any" kernels those come first that were measured behind the
 * scenario's exchange, then those measured without any. Kernels that dispatch and combine as well
 * come last, since the exchange is priced beside them.
 *
 * One engine runs all of a layer, so GEMMs and attention are of the engine whose experts are in
 * use, where that was measured, else the first of the list, which has the least held-out error.
 * Weights of fp8 come with a scale a block of 128 x 128 or with one a tensor, which are kernels of
 * different speed, so GEMMs of the experts' scaling come before those of their engine: vLLM's with
 * one scale a tensor are 11.4 % off its own in blocks in the median and 47 % at p90, TensorRT-LLM's
 * in blocks 9.8 and 25 % (aiconfigurator @ 095f58a51c4c, H100, 1,500 rows of vLLM 0.24.0 above
 * 0.3 ms). TensorRT-LLM's table of one scale a tensor has the finding of the inputs' scale in it, 7
 * to 11 us of few rows, which checkpoints spare that hold it: trtllm_static_fp8_tensor. Where a
 * library changes kernels with the heads of a GPU, those count whose heads_min comes closest.
 */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "gpu/fitted_phases.h"

/* A word in the name of kernels that were measured behind an exchange. */
static const struct {
    const char *word;
    const char *collective;
} measured_behind[] = {
    {"_deepep_decode", "deepep_low_latency"},
    {"_deepep_decode", "deepep_low_latency_rdma"},
    {"_deepep_prefill", "deepep_normal"},
    {"_wideep", "one_sided"},
    {"_wideep", "two_sided"},
};

bool fitted_holds_exchange(const char *kernels)
{
    return strstr(kernels, "_mega") != NULL;
}

/* 2: measured behind the exchange wanted; 1: behind none, so with any; 0: behind another. */
static int32_t goes_behind(const char *kernels, const char *collective)
{
    int32_t rank = 1;
    for (size_t i = 0; i < sizeof measured_behind / sizeof measured_behind[0]; i++) {
        if (strstr(kernels, measured_behind[i].word) != NULL) {
            bool is_wanted =
                collective != NULL && strcmp(measured_behind[i].collective, collective) == 0;
            rank = is_wanted ? 2 : rank == 2 ? 2 : 0;
        }
    }
    return rank;
}

/* How well experts' kernels go with what is wanted: the more, the better. Without a word on it,
 * kernels are of both phases. */
static int32_t suits_wanted(const char *kernels, const struct kernels_wanted *wanted)
{
    bool is_other = strstr(kernels, wanted->prefill ? "_decode" : "_prefill") != NULL;
    return 2 * goes_behind(kernels, wanted->collective) + (is_other ? 0 : 1);
}

bool fitted_choose(struct gpu_spec *gpu, const struct kernels_wanted *wanted)
{
    bool is_any = strcmp(wanted->kernels, "any") == 0;
    int32_t best = -1;
    gpu->fitted_chosen = -1;
    gpu->kernels_alone[0] = '\0';
    for (int32_t i = 0; i < gpu->num_fitted; i++) {
        const char *kernels = gpu->fitted[i].kernels;
        if (gpu->fitted[i].precision == wanted->precision && !fitted_holds_exchange(kernels) &&
            (is_any || strcmp(wanted->kernels, kernels) == 0) &&
            suits_wanted(kernels, wanted) > best) {
            best = suits_wanted(kernels, wanted);
            gpu->fitted_chosen = i;
        }
    }
    if (gpu->fitted_chosen >= 0) {
        return true;
    }
    for (int32_t i = 0; i < gpu->num_gemm; i++) {
        if (strcmp(wanted->kernels, gpu->gemm[i].kernels) == 0) {
            memcpy(gpu->kernels_alone, gpu->gemm[i].kernels, sizeof gpu->kernels_alone);
            return true;
        }
    }
    return is_any && gpu->num_fitted == 0 && gpu->num_gemm > 0;
}

static const char *kernels_in_use(const struct gpu_spec *gpu)
{
    bool is_chosen = gpu->fitted_chosen >= 0 && gpu->fitted_chosen < gpu->num_fitted;
    return is_chosen ? gpu->fitted[gpu->fitted_chosen].kernels : gpu->kernels_alone;
}

/* Constants are named after the engine first: sglang, sglang_fa3, sglang_deepep_decode. */
static bool is_same_engine(const char *a, const char *b)
{
    size_t length = strcspn(a, "_");
    return length == strcspn(b, "_") && strncmp(a, b, length) == 0;
}

/* One scale a tensor; without the word, fp8 is in blocks. */
static bool is_tensor_wide(const char *kernels)
{
    return strstr(kernels, "_fp8_tensor") != NULL;
}

/* How well kernels go with those in use: the more, the better. */
static int32_t suits(const struct gpu_spec *gpu, const char *kernels)
{
    const char *used = kernels_in_use(gpu);
    bool is_scaled_alike = is_tensor_wide(used) == is_tensor_wide(kernels);
    return (is_scaled_alike ? 2 : 0) + (is_same_engine(used, kernels) ? 1 : 0);
}

/* Constants of grouped GEMMs are named after how their groups lie. */
static bool is_of_layout(const struct gemm_constants *gemm, const char *layout)
{
    bool is_grouped =
        strstr(gemm->kernels, "_masked") != NULL || strstr(gemm->kernels, "_contiguous") != NULL;
    return layout == NULL ? !is_grouped : strstr(gemm->kernels, layout) != NULL;
}

/* GEMMs of the name in use come before others that go as well with it. */
static int32_t gemm_suits(const struct gpu_spec *gpu, const char *kernels)
{
    return 2 * suits(gpu, kernels) + (strcmp(kernels_in_use(gpu), kernels) == 0 ? 1 : 0);
}

/* layout NULL: dense. */
static const struct gemm_constants *find_layout(const struct gpu_spec *gpu,
                                                enum precision precision, const char *layout)
{
    const struct gemm_constants *best = NULL;
    for (int32_t i = 0; i < gpu->num_gemm; i++) {
        const struct gemm_constants *constants = &gpu->gemm[i];
        bool fits = constants->precision == precision && is_of_layout(constants, layout);
        if (fits && (best == NULL ||
                     gemm_suits(gpu, constants->kernels) > gemm_suits(gpu, best->kernels))) {
            best = constants;
        }
    }
    return best;
}

const struct gemm_constants *fitted_find_gemm(const struct gpu_spec *gpu, enum precision precision)
{
    return find_layout(gpu, precision, NULL);
}

const struct gemm_constants *fitted_find_grouped(const struct gpu_spec *gpu,
                                                 enum precision precision, bool prefill)
{
    return find_layout(gpu, precision, prefill ? "_contiguous" : "_masked");
}

const struct attention_constants *fitted_find_attention(const struct gpu_spec *gpu,
                                                        enum attention_phase phase,
                                                        enum precision precision, double q_heads)
{
    const struct attention_constants *best = NULL;
    for (int32_t i = 0; i < gpu->num_attention; i++) {
        const struct attention_constants *constants = &gpu->attention[i];
        if (constants->phase != (int32_t)phase || constants->precision != precision ||
            constants->heads_min > q_heads) {
            continue;
        }
        bool is_closer = best != NULL && strcmp(best->kernels, constants->kernels) == 0 &&
                         constants->heads_min > best->heads_min;
        if (best == NULL || suits(gpu, constants->kernels) > suits(gpu, best->kernels) ||
            is_closer) {
            best = constants;
        }
    }
    return best;
}
