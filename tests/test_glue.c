/* test_glue.c -- the small kernels of DeepSeek-V3 counted by hand, and what they cost. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "gpu/glue.h"

static struct error error;

static struct moe_model load_model(const char *name)
{
    struct moe_model model;
    cr_assert_eq(model_load(&model, name, &error), STATUS_OK, "%s", error.text);
    return model;
}

static struct gpu_spec load_gpu(const char *name)
{
    struct gpu_spec gpu;
    cr_assert_eq(gpu_load(&gpu, name, &error), STATUS_OK, "%s", error.text);
    return gpu;
}

static const struct glue_kernel *find(const char *name)
{
    int32_t count = 0;
    const struct glue_kernel *kernel = glue_all(&count);
    for (int32_t i = 0; i < count; i++) {
        if (strcmp(kernel[i].name, name) == 0) {
            return &kernel[i];
        }
    }
    cr_assert_fail("no kernel '%s'", name);
    return NULL;
}

struct sum {
    double bytes; /* of a token */
    int32_t launches;
};

static struct sum sum_up(const struct moe_model *model, enum gpu_phase phase, bool prefill)
{
    int32_t count = 0;
    const struct glue_kernel *kernel = glue_all(&count);
    struct sum sum = {0};
    for (int32_t i = 0; i < count; i++) {
        if (kernel[i].phase == phase && glue_applies(&kernel[i], GLUE_DEEPSEEK, model, prefill)) {
            sum.bytes += glue_side_bytes(&kernel[i], &kernel[i].read, model, 1) +
                         glue_side_bytes(&kernel[i], &kernel[i].write, model, 1);
            sum.launches += kernel[i].launches;
        }
    }
    return sum;
}

/* hidden 7168, latents 1536 and 512, 128 heads of 128 + 64, cache of 576 in bf16:
 *   add and norm 8 x 7168, quantise 3 x 7168, latents' norms 4 x (1536 + 512) and quantisation
 *   3 x (1536 + 512), copies 8 x 512, rotary twice 4 x 8192, keys 4 x 16384, spread 2 x 8192,
 *   cache 2 x 1152, output quantised 3 x 16384
 * of which decode has neither the KV latent's quantisation and copies nor what makes keys. */
Test(glue, of_attention_is_what_a_hand_counts)
{
    struct moe_model model = load_model("deepseek-v3");
    struct sum prefill = sum_up(&model, GPU_ATTENTION, true);
    struct sum decode = sum_up(&model, GPU_ATTENTION, false);

    cr_expect_eq(prefill.bytes, 296192.0, "%g", prefill.bytes);
    cr_expect_eq(prefill.launches, 14);
    cr_expect_eq(decode.bytes, 296192.0 - 3 * 512 - 8 * 512 - 4 * 8192 - 4 * 16384 - 2 * 8192, "%g",
                 decode.bytes);
    cr_expect_eq(decode.launches, 8);
}

/* Dense layers are 18,432 wide, the shared expert 2,048: quantise 3 h, SwiGLU 6 w, quantise 3 w;
 * before a dense block add and norm 8 h, behind the shared expert an addition of 6 h. */
Test(glue, of_feed_forward_blocks_is_what_a_hand_counts)
{
    struct moe_model model = load_model("deepseek-v3");

    cr_expect_eq(sum_up(&model, GPU_DENSE_FFN, true).bytes, 11.0 * 7168 + 9.0 * 18432);
    cr_expect_eq(sum_up(&model, GPU_SHARED, true).bytes, 9.0 * 7168 + 9.0 * 2048);
    /* router: add and norm 8 h, logits 4 x 256, choices 8 x 8 twice, quantise for dispatch 3 h */
    cr_expect_eq(sum_up(&model, GPU_GATE, true).bytes, 11.0 * 7168 + 1024 + 128);
    cr_expect_eq(sum_up(&model, GPU_GATE, false).bytes, 8.0 * 7168 + 1024 + 64);
}

Test(glue, of_plain_attention_has_no_latents)
{
    struct moe_model model = load_model("mixtral-8x7b"); /* bf16: nothing is quantised */
    double hidden = 4096.0;
    double heads = 32.0 + 8.0;

    /* add and norm, rotary on queries and keys of 128 each, keys and values into the cache */
    cr_expect_eq(sum_up(&model, GPU_ATTENTION, true).bytes,
                 8.0 * hidden + 4.0 * heads * 128 + 2.0 * 2 * 2 * 8 * 128);
    cr_expect_eq(sum_up(&model, GPU_ATTENTION, true).launches, 3);
}

/* A token's latent and a copy's rows in fp8 with a scale every 128: 7168 x (1 + 4 / 128) bytes. */
Test(glue, of_experts_goes_by_copies_and_rows)
{
    struct moe_model model = load_model("deepseek-v3");
    struct gpu_spec gpu = load_gpu("h800-sxm");
    const int32_t slot_tokens[] = {10, 0, 6};
    struct gpu_work work = {.phase = GPU_EXPERT,
                            .model = &model,
                            .prefill = true,
                            .shards = 1,
                            .num_slots = 3,
                            .slot_tokens = slot_tokens,
                            .token_rows = 9};
    double copy_rate = gpu.hbm_bytes_per_s * gpu.hbm_fraction * 1e-9;
    double fp8 = 1.0 + 4.0 / 128.0;
    double permute = (9.0 + 16.0) * 7168 * fp8 / find("permute tokens")->share[GLUE_DEEPSEEK];
    double swiglu =
        16.0 * (2 * 4096 + 2048 * fp8) / find("SwiGLU and quantise")->share[GLUE_DEEPSEEK];
    double sum = (16.0 + 9.0) * 7168 * 2 / find("weighted sum of copies")->share[GLUE_DEEPSEEK];

    cr_expect_float_eq(glue_ns(&gpu, &work, 0),
                       (permute + swiglu + sum) / copy_rate + 3 * gpu.kernel_ns, 1e-6);
    cr_expect_eq(glue_ns(&gpu, &work, GLUE_HELD(GLUE_HELD_BY_EXPERTS)), 0.0);
}

/* What measured constants hold is not charged again: of a whole module the norm before it is left,
 * of linear layers all but quantisation. */
Test(glue, is_charged_once)
{
    struct moe_model model = load_model("deepseek-v3");
    struct gpu_spec gpu = load_gpu("h100-sxm");
    const struct gpu_work work = {
        .phase = GPU_ATTENTION, .model = &model, .prefill = true, .tokens = 1000, .shards = 1};
    double copy_rate = gpu.hbm_bytes_per_s * gpu.hbm_fraction * 1e-9;
    const struct glue_kernel *norm = find("add and norm before attention");
    double norm_ns = 8.0 * 7168 * 1000 / (copy_rate * norm->share[GLUE_DEEPSEEK]) + gpu.kernel_ns;
    double quantise_ns = 3.0 * (7168 + 1536 + 512 + 16384) * 1000 /
                             (copy_rate * find("quantise attention output")->share[GLUE_DEEPSEEK]) +
                         4 * gpu.kernel_ns;
    uint32_t linear = GLUE_HELD(GLUE_HELD_BY_LINEAR);
    uint32_t module = GLUE_HELD(GLUE_HELD_BY_ATTENTION) | GLUE_HELD(GLUE_HELD_BY_CORE) |
                      GLUE_HELD(GLUE_HELD_BY_TURNING);

    cr_expect_float_eq(glue_ns(&gpu, &work, linear | module), norm_ns, 1e-6);
    cr_expect_float_eq(glue_ns(&gpu, &work, 0) - glue_ns(&gpu, &work, linear), quantise_ns, 1e-6);
}

/* What small kernels move beside an attention whose constants are named so, in ns: GEMMs and
 * attention itself do not ask for the copy rate. 64 sequences of 1,000 tokens. */
static double moved_ns(struct gpu_spec gpu, const char *kernels)
{
    const struct moe_model model = load_model("llama-2-70b");
    const struct gpu_work work = {.phase = GPU_ATTENTION,
                                  .model = &model,
                                  .tokens = 64,
                                  .attended_tokens = 64000,
                                  .context_tokens = 64000,
                                  .shards = 1};
    (void)snprintf(gpu.attention[0].kernels, sizeof gpu.attention[0].kernels, "%s", kernels);
    double fast_ns = gpu_find("fitted")->duration_ns(&gpu, &work);
    gpu.hbm_bytes_per_s /= 2.0;
    return gpu_find("fitted")->duration_ns(&gpu, &work) - fast_ns;
}

static void keep_attention(struct gpu_spec *gpu, const char *kernels)
{
    for (int32_t i = 0; i < gpu->num_attention; i++) {
        const struct attention_constants *constants = &gpu->attention[i];
        if (strcmp(constants->kernels, kernels) == 0 && constants->precision == PRECISION_BF16 &&
            constants->phase == PHASE_GQA_DECODE) {
            gpu->attention[0] = *constants;
        }
    }
    gpu->num_attention = 1;
    cr_assert_str_eq(gpu->attention[0].kernels, kernels);
}

/* Engines write KV entries in the kernels that were measured; TensorRT-LLM's turn queries and keys,
 * too; whoever measured attention alone did neither. In bf16: hidden 8192, of which 4 bytes are
 * read and 4 written; 64 query and 8 KV heads of 128 turned; an entry of 2 x 8 x 128. */
Test(glue, of_attention_is_left_to_whoever_was_measured_with_it)
{
    struct gpu_spec gpu = load_gpu("h100-sxm");
    const double copy_rate = gpu.hbm_bytes_per_s * gpu.hbm_fraction * 1e-9;
    const double norm_ns =
        64 * 8.0 * 8192 / (copy_rate * find("add and norm before attention")->share[0]);
    const double turning_ns =
        64 * 4.0 * (64 + 8) * 128 / (copy_rate * find("rotary embedding")->share[0]);
    const double writing_ns = 64 * 2.0 * 2 * 2 * 8 * 128 / copy_rate;
    keep_attention(&gpu, "trtllm");
    cr_assert_eq(gpu.attention[0].splits, SPLITS_XQA);
    cr_expect_float_eq(moved_ns(gpu, "trtllm"), norm_ns, 1e-6);
    gpu.attention[0].splits = SPLITS_EVEN;
    cr_expect_float_eq(moved_ns(gpu, "trtllm"), norm_ns, 1e-6);
    cr_expect_float_eq(moved_ns(gpu, "vllm"), norm_ns + turning_ns, 1e-6);
    gpu = load_gpu("h100-sxm");
    keep_attention(&gpu, "flash");
    cr_expect_float_eq(moved_ns(gpu, "flash"), norm_ns + turning_ns + writing_ns, 1e-6);
}

static double kernel_us(const char *name, const struct gpu_spec *gpu, const struct moe_model *model)
{
    const struct glue_kernel *kernel = find(name);
    double bytes = glue_side_bytes(kernel, &kernel->read, model, 1) +
                   glue_side_bytes(kernel, &kernel->write, model, 1);
    return 4096.0 * bytes /
           (gpu->hbm_bytes_per_s * gpu->hbm_fraction * kernel->share[gpu->glue_set]) * 1e6;
}

/* Durations of 4,096 tokens in deepseek-ai/profile-data @ ae7fc078, train.json, no transfer beside
 * them: ln_fwd_kernel, per_token_cast_to_fp8, _copy_tensor_kernel, rotary_kernel, the copy of 33.5M
 * elements, swiglu of the shared expert (there with quantisation: 19 to 20 us). */
Test(glue, takes_as_long_as_deepseeks_kernels_on_an_h800)
{
    struct moe_model model = load_model("deepseek-v3");
    struct gpu_spec gpu = load_gpu("h800-sxm");

    cr_expect_float_eq(kernel_us("add and norm before attention", &gpu, &model), 105.0, 5.0);
    cr_expect_float_eq(kernel_us("quantise attention output", &gpu, &model), 94.0, 5.0);
    cr_expect_float_eq(kernel_us("quantise attention input", &gpu, &model), 44.0, 4.0);
    cr_expect_float_eq(kernel_us("join keys", &gpu, &model), 94.0, 5.0);
    cr_expect_float_eq(kernel_us("rotary embedding", &gpu, &model), 109.0, 5.0);
    cr_expect_float_eq(kernel_us("spread rotary key over heads", &gpu, &model), 73.0, 5.0);
    cr_expect_float_eq(kernel_us("SwiGLU of shared expert", &gpu, &model), 19.5, 2.0);
}

/* Of the GPU's set, with its launches. */
static double set_us(const char *name, const struct gpu_spec *gpu, const struct moe_model *model,
                     double units)
{
    return glue_kernel_ns(find(name), gpu, model, units) * 1e-3;
}

/* Published, with a copy (4 bytes an element) timed too: 1,024 more tokens of 7,168 take 26.7 and
 * 25.7 us (sgl-project/sglang pull requests 4396 and 5045), and 65,536 tokens of 4,096 take 909.8
 * us on an H100 (vllm-project/vllm issue 25094). The keys of 8,192 tokens: 383 us (pull request
 * 10156). */
Test(glue, takes_as_long_as_sglangs_kernels)
{
    struct moe_model model = load_model("deepseek-v3");
    struct gpu_spec gpu = load_gpu("h100-sxm");
    gpu.glue_set = GLUE_SGLANG;
    double launch_us = gpu.kernel_ns * 1e-3;
    double copy_us = 4.0 * 1024 * 7168 / (gpu.hbm_bytes_per_s * gpu.hbm_fraction) * 1e6;
    double both_us = copy_us + set_us("quantise attention input", &gpu, &model, 1024.0) - launch_us;
    double keys_us = set_us("join keys", &gpu, &model, 8192.0) +
                     set_us("spread rotary key over heads", &gpu, &model, 8192.0);

    cr_expect_float_eq(both_us, 59.168 - 32.512, 0.05 * both_us);
    cr_expect_float_eq(both_us, 58.688 - 32.992, 0.05 * both_us);
    cr_expect_float_eq(both_us * (65536.0 * 4096) / (1024.0 * 7168), 909.8, 0.05 * 909.8);
    cr_expect_float_eq(keys_us - 2.0 * launch_us, 383.0, 4.0);
}

/* In prefill SGLang's experts have SwiGLU and quantisation apart, so the activation is written and
 * read once more; in decode both sets have them as one. */
Test(glue, of_sglangs_experts_is_less_fused)
{
    struct moe_model model = load_model("deepseek-v3");
    struct gpu_spec gpu = load_gpu("h100-sxm");
    gpu.glue_set = GLUE_SGLANG;

    cr_expect_not(glue_applies(find("SwiGLU and quantise"), GLUE_SGLANG, &model, true));
    cr_expect(glue_applies(find("SwiGLU of experts"), GLUE_SGLANG, &model, true));
    cr_expect_not(glue_applies(find("SwiGLU of experts"), GLUE_DEEPSEEK, &model, true));
    cr_expect_not(glue_applies(find("SwiGLU of experts"), GLUE_SGLANG, &model, false));
    for (int32_t set = 0; set < GLUE_SET_COUNT; set++) {
        cr_expect(glue_applies(find("SwiGLU and quantise masked rows"), (enum glue_set)set, &model,
                               false));
    }
    /* of a copy: 6 x 2,048 bytes, then 3 and a scale */
    double apart_us = set_us("SwiGLU of experts", &gpu, &model, 65536.0) +
                      set_us("quantise activation of experts", &gpu, &model, 65536.0);
    gpu.glue_set = GLUE_DEEPSEEK;
    double fused_us = set_us("SwiGLU and quantise", &gpu, &model, 65536.0);
    cr_expect_gt(apart_us - fused_us, 4.0 * 2048 * 65536 / (gpu.hbm_bytes_per_s * 1e-6));
}

Test(glue, slows_by_the_sms_that_communication_takes)
{
    struct moe_model model = load_model("deepseek-v3");
    struct gpu_spec gpu = load_gpu("h800-sxm");
    struct gpu_work work = {.phase = GPU_GATE, .model = &model, .tokens = 1 << 20, .shards = 1};
    double alone_ns = glue_ns(&gpu, &work, 0);
    work.sms_taken = 20;

    cr_expect_float_eq(glue_ns(&gpu, &work, 0) / alone_ns, 132.0 / 112.0, 1e-3);
}

Test(glue, is_a_table_of_kernels_that_move_bytes)
{
    int32_t count = 0;
    const struct glue_kernel *kernel = glue_all(&count);
    struct moe_model model = load_model("deepseek-v3");

    for (int32_t i = 0; i < count; i++) {
        bool applies = false;
        cr_expect_gt(kernel[i].launches, 0, "%s", kernel[i].name);
        double fastest = 0.0;
        for (int32_t set = 0; set < GLUE_SET_COUNT; set++) {
            cr_expect(kernel[i].share[set] >= 0.0 && kernel[i].share[set] <= 1.0, "%s",
                      kernel[i].name);
            fastest = fmax(fastest, kernel[i].share[set]);
            applies |= glue_applies(&kernel[i], (enum glue_set)set, &model, true) ||
                       glue_applies(&kernel[i], (enum glue_set)set, &model, false);
        }
        cr_expect_gt(fastest, 0.0, "%s", kernel[i].name);
        cr_expect(applies, "%s", kernel[i].name);
        cr_expect_gt(glue_side_bytes(&kernel[i], &kernel[i].read, &model, 1) +
                         glue_side_bytes(&kernel[i], &kernel[i].write, &model, 1),
                     0.0, "%s", kernel[i].name);
        for (int32_t other = 0; other < i; other++) {
            cr_expect_str_neq(kernel[i].name, kernel[other].name);
        }
    }
}
