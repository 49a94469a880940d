/*
 * test_memory.c -- what fits where, beside what publishers say of their own models.
 */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "memory_fit.h"

static struct moe_model model;
static struct gpu_spec gpu;

static struct memory_question ask(const char *model_name, const char *gpu_name)
{
    struct error error = {0};
    cr_assert_eq(model_load(&model, model_name, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(gpu_load(&gpu, gpu_name, &error), STATUS_OK, "%s", error.text);
    return (struct memory_question){
        .model = &model, .gpu = &gpu, .context_tokens = 4096, .memory_fraction = 0.9};
}

/* 671 GB in fp8 need eight H200, or two nodes of eight H100 or H800 (deepseek-ai/DeepSeek-V3
 * README; the router and the embeddings are bf16, which adds 2 GB). */
Test(memory, deepseek_v3_in_fp8_takes_eight_h200_or_sixteen_h800)
{
    struct memory_question h200 = ask("deepseek-v3", "h200-sxm");
    cr_expect_float_eq(memory_weight_bytes(&model) / 1e9, 671.0, 3.5);
    h200.tensor_parallel = true;
    cr_expect_eq(memory_gpus_min(&h200, 64, false), 8);

    struct memory_question h800 = ask("deepseek-v3", "h800-sxm");
    cr_expect_eq(memory_gpus_min(&h800, 64, true), 16);
    h800.tensor_parallel = true;
    cr_expect_eq(memory_gpus_min(&h800, 64, true), 16);
}

/* In bf16 the weights double: two nodes of eight H200 (sglang's documentation of DeepSeek). */
Test(memory, deepseek_v3_in_bf16_takes_sixteen_h200)
{
    struct memory_question question = ask("deepseek-v3", "h200-sxm");
    model.precision_dense = model.precision_expert = PRECISION_BF16;
    question.tensor_parallel = true;
    cr_expect_eq(memory_gpus_min(&question, 64, true), 16);
}

/* The smallest unit for Kimi K2 in fp8 with 128k tokens is 16 H800, H20 or H200 (moonshotai/Kimi-K2
 * docs/deploy_guidance.md). */
Test(memory, kimi_k2_with_long_contexts_takes_sixteen_h200)
{
    struct memory_question question = ask("kimi-k2", "h200-sxm");
    question.tensor_parallel = true;
    question.context_tokens = 131072;
    cr_expect_eq(memory_gpus_min(&question, 64, true), 16);
}

/* 46.7 G parameters in bf16 are 93 GB: two GPUs of 80 GB (mistral.ai, Mixtral of experts). */
Test(memory, mixtral_8x7b_takes_two_gpus_of_80_gb)
{
    struct memory_question question = ask("mixtral-8x7b", "h100-sxm");
    cr_expect_float_eq(memory_weight_bytes(&model) / 1e9, 93.4, 0.3);
    cr_expect_eq(memory_gpus_min(&question, 64, false), 2);
}

/* "fits on a single 80 GB GPU" (openai/gpt-oss README). */
Test(memory, gpt_oss_120b_fits_on_one_gpu_of_80_gb)
{
    struct memory_question question = ask("gpt-oss-120b", "h100-sxm");
    cr_expect_eq(memory_gpus_min(&question, 64, false), 1);
}

/* 810 GB in bf16 do not fit a node of eight H100, half of it in fp8 does (The Llama 3 herd of
 * models, arXiv 2407.21783, 6). */
Test(memory, llama_405b_fits_a_node_of_h100_in_fp8_only)
{
    struct memory_question question = ask("llama-3.1-405b", "h100-sxm");
    question.tensor_parallel = true;
    model.precision_dense = PRECISION_BF16;
    cr_expect_eq(memory_fit(&question, 8).batch_max, -1);
    cr_expect_eq(memory_gpus_min(&question, 64, true), 16);
    model.precision_dense = PRECISION_FP8;
    cr_expect_gt(memory_fit(&question, 8).batch_max, 0);
}

/* KV cache a token in bf16: arXiv 2505.09343, table 1. */
Test(memory, kv_cache_of_a_token_is_as_published)
{
    (void)ask("deepseek-v3", "h800-sxm");
    model.precision_kv = PRECISION_BF16;
    cr_expect_float_eq(memory_kv_bytes_per_token(&model), 70272.0, 0.5);
    (void)ask("llama-3.1-405b", "h800-sxm");
    model.precision_kv = PRECISION_BF16;
    cr_expect_float_eq(memory_kv_bytes_per_token(&model), 516096.0, 0.5);
}

Test(memory, one_sequence_more_than_the_largest_batch_does_not_fit)
{
    struct memory_question question = ask("deepseek-v3", "h800-sxm");
    struct memory_fit fit = memory_fit(&question, 32);
    struct memory_layout layout = {.model = &model,
                                   .gpu = &gpu,
                                   .ep = 32,
                                   .expert_tp = 1,
                                   .tp = 1,
                                   .dispatch_precision = PRECISION_BF16,
                                   .combine_precision = PRECISION_BF16,
                                   .memory_fraction = 0.9};
    layout.tokens_per_rank = fit.batch_max;
    struct memory_use full = memory_use(&layout, (int64_t)fit.batch_max * 4096);
    layout.tokens_per_rank = fit.batch_max + 1;
    struct memory_use over = memory_use(&layout, (int64_t)(fit.batch_max + 1) * 4096);

    cr_expect_gt(fit.batch_max, 0);
    cr_expect_leq(full.total_bytes, full.limit_bytes);
    cr_expect_gt(over.total_bytes, over.limit_bytes);
}

Test(memory, parts_sum_to_the_total)
{
    const char *const models[] = {"deepseek-v3", "mixtral-8x7b", "gpt-oss-120b", "llama-2-70b"};
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        struct memory_question question = ask(models[i], "h200-sxm");
        question.redundant_experts = 3;
        for (int32_t num_gpus = 1; num_gpus <= 8; num_gpus++) {
            struct memory_fit fit = memory_fit(&question, num_gpus);
            const struct memory_parts *parts = &fit.parts;
            int64_t sum = parts->attention_bytes + parts->dense_ffn_bytes + parts->embedding_bytes +
                          parts->router_bytes + parts->shared_expert_bytes +
                          parts->routed_expert_bytes + parts->redundant_expert_bytes +
                          parts->activation_bytes + parts->logits_bytes + parts->copy_bytes +
                          fit.use.kv_bytes;
            cr_expect_leq(llabs(sum - fit.use.total_bytes), 5, "%s on %d", models[i],
                          (int)num_gpus);
        }
    }
}

Test(memory, experts_that_do_not_divide_get_redundant_ones)
{
    (void)ask("deepseek-v3", "h800-sxm");
    cr_expect_eq(memory_redundant_for(&model, 0, 32), 0);
    cr_expect_eq(memory_redundant_for(&model, 0, 144), 32); /* 288 = 2 x 144 */
    cr_expect_eq(memory_redundant_for(&model, 32, 144), 32);
    cr_expect_eq(memory_redundant_for(&model, 33, 144), 176);
}
