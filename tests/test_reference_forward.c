/*
 * test_reference_forward.c -- whole layers against Hugging Face's modules, lower precisions against
 * the exact layer, and the expert-parallel layer against one rank.
 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "combine.h"
#include "expert_parallel.h"
#include "golden.h"
#include "permute.h"
#include "quantize.h"
#include "random_layer.h"

static struct gate_rule rule_of(enum gate_score score, int32_t num_experts, int32_t top_k,
                                bool renormalize)
{
    return (struct gate_rule){.score = score,
                              .num_experts = num_experts,
                              .top_k = top_k,
                              .renormalize = renormalize,
                              .num_groups = 1,
                              .topk_groups = 1,
                              .scale = 1.0f};
}

/* The layer's output, choices and weights against the module's: in float32 within 1e-5 of the
 * largest output, choices identical. */
static void check_against_module(const char *name, struct moe_layer layer)
{
    struct arena arena = {0};
    fill_golden_layer(&layer, name, &arena);
    struct npy x = golden(name, "x");
    struct npy expected = golden(name, "out");
    struct npy expert = golden(name, "expert");
    struct npy weight = golden(name, "gate_weight");
    int32_t num_tokens = (int32_t)x.dim[0];
    int64_t choices = (int64_t)num_tokens * layer.gate.top_k;
    int32_t *out_expert = arena_take(&arena, (size_t)choices, sizeof *out_expert);
    float *out_weight = arena_take(&arena, (size_t)choices, sizeof *out_weight);
    struct matrix out = matrix_take(&arena, DTYPE_FP32, num_tokens, layer.expert.hidden_dim);
    struct matrix in = matrix_take(&arena, DTYPE_FP32, num_tokens, layer.expert.hidden_dim);
    memcpy(in.data, x.data, (size_t)x.num_elements * sizeof(float));
    cr_assert_eq(choices, expert.num_elements);

    cr_assert_eq(ref_forward(&layer, num_tokens, out, out_expert, out_weight, in, &arena),
                 STATUS_OK);

    double error = relative_max(out.data, expected.data, expected.num_elements);
    cr_log_info("%s: max |difference| / max |value| %.1e", name, error);
    cr_expect_lt(error, 1e-5, "%s: %g", name, error);
    cr_expect_arr_eq(out_expert, expert.data, (size_t)choices * sizeof *out_expert, "%s", name);
    cr_expect_lt(relative_max(out_weight, weight.data, choices), 1e-6, "%s", name);
    arena_free(&arena);
}

Test(forward, equals_deepseek_v3)
{
    struct gate_rule rule = rule_of(GATE_SIGMOID, 16, 4, true);
    rule.num_groups = 4;
    rule.topk_groups = 2;
    rule.group_score = GATE_GROUP_TOP2;
    rule.scale = 2.5f;
    check_against_module("deepseek_v3", (struct moe_layer){.gate = rule});
}

Test(forward, equals_mixtral)
{
    check_against_module("mixtral", (struct moe_layer){.gate = rule_of(GATE_SOFTMAX, 8, 2, true)});
}

Test(forward, equals_qwen3_moe)
{
    check_against_module("qwen3_moe",
                         (struct moe_layer){.gate = rule_of(GATE_SOFTMAX, 16, 8, true)});
}

Test(forward, equals_olmoe)
{
    check_against_module("olmoe", (struct moe_layer){.gate = rule_of(GATE_SOFTMAX, 16, 8, false)});
}

Test(forward, equals_gpt_oss)
{
    check_against_module("gpt_oss",
                         (struct moe_layer){.gate = rule_of(GATE_CHOSEN_SOFTMAX, 8, 4, false),
                                            .expert.activation = ACTIVATION_SWIGLU_CLAMPED});
}

Test(forward, equals_llama4)
{
    check_against_module(
        "llama4",
        (struct moe_layer){.gate = rule_of(GATE_CHOSEN_SIGMOID, 8, 1, false), .weigh_input = true});
}

Test(forward, computes_a_two_layer_gelu_expert_by_hand)
{
    /* One expert: h = gelu(2 x), y = 3 h + 1; x = 0.5: gelu(1) = 0.8413447461 (the normal
     * distribution at 1). */
    float x = 0.5f;
    float first = 2.0f;
    float second = 3.0f;
    const float bias = 1.0f;
    float h;
    float y;
    const int32_t begin = 0;
    const int32_t rows = 1;
    struct expert_shape shape = {1, 1, 1, ACTIVATION_GELU};
    struct matrix in = {.dtype = DTYPE_FP32, .data = &x};
    struct matrix middle = {.dtype = DTYPE_FP32, .data = &h};
    struct matrix out = {.dtype = DTYPE_FP32, .data = &y};
    struct matrix up = {.dtype = DTYPE_FP32, .data = &first};
    struct matrix down = {.dtype = DTYPE_FP32, .data = &second};

    cr_assert_eq(ref_grouped_gate_up(shape, middle, in, &begin, &rows, up, NULL), STATUS_OK);
    cr_assert_eq(ref_grouped_down(shape, out, middle, &begin, &rows, down, &bias), STATUS_OK);

    cr_expect_float_eq(y, 3.0f * 0.8413447461f + 1.0f, 1e-6);
}

Test(forward, interleaves_gate_and_up_in_granules_of_eight)
{
    struct expert_shape shape = {1, 1, 11, ACTIVATION_SWIGLU};
    float gate[11];
    float up[11];
    float out[22];
    for (int32_t i = 0; i < 11; i++) {
        gate[i] = (float)i;
        up[i] = (float)(100 + i);
    }

    ref_interleave_gate_up(shape, out, gate, up);

    const float expected[22] = {0,   1,   2,   3,   4,   5, 6, 7,  100, 101, 102,
                                103, 104, 105, 106, 107, 8, 9, 10, 108, 109, 110};
    cr_expect_arr_eq(out, expected, sizeof out);
}

/* A layer of every kind of operation. Hidden and ffn take more than one block of scales. */
static struct moe_layer mixed_layer(enum dtype dtype)
{
    struct moe_layer layer = {.dtype = dtype,
                              .gate = rule_of(GATE_SIGMOID, 12, 3, true),
                              .expert = {12, 136, 152, ACTIVATION_SWIGLU},
                              .shared_ffn_dim = 40};
    layer.gate.num_groups = 4;
    layer.gate.topk_groups = 2;
    layer.gate.group_score = GATE_GROUP_TOP2;
    return layer;
}

static struct matrix run_layer(const struct moe_layer *layer, int32_t num_tokens, struct matrix x,
                               int32_t *expert, float *gate_weight, struct arena *arena)
{
    struct matrix out =
        matrix_take(arena, layer_token_dtype(layer), num_tokens, layer->expert.hidden_dim);
    cr_assert_eq(ref_forward(layer, num_tokens, out, expert, gate_weight, x, arena), STATUS_OK);
    return out;
}

/* The same weights and tokens in two dtypes: how far the outputs are apart, in Frobenius norm. */
static double distance_from_fp32(enum dtype dtype)
{
    struct arena arena = {0};
    int32_t expert[30 * 3];
    float weight[30 * 3];
    struct moe_layer exact = mixed_layer(DTYPE_FP32);
    struct moe_layer rounded = mixed_layer(dtype);
    srand(2);
    fill_random_layer(&exact, false, &arena);
    struct matrix x = random_tokens(DTYPE_BF16, 30, 136, &arena);
    struct matrix exact_x = matrix_take(&arena, DTYPE_FP32, 30, 136);
    for (int64_t i = 0; i < 30 * 136; i++) {
        matrix_set(exact_x, i, matrix_get(x, i));
    }
    srand(2);
    fill_random_layer(&rounded, false, &arena);
    struct matrix expected = run_layer(&exact, 30, exact_x, expert, weight, &arena);
    struct matrix out = run_layer(&rounded, 30, x, expert, weight, &arena);
    float *value = arena_take(&arena, 30 * 136, sizeof *value);
    for (int64_t i = 0; i < 30 * 136; i++) {
        value[i] = matrix_get(out, i);
    }
    double distance = relative_frobenius(value, expected.data, 30 * 136);
    arena_free(&arena);
    return distance;
}

Test(forward, lower_precisions_are_as_far_off_as_their_rounding)
{
    double bf16 = distance_from_fp32(DTYPE_BF16);
    double fp8 = distance_from_fp32(DTYPE_FP8_E4M3);

    /* Uniform rounding of a mantissa of p bits: relative error 2^-(p + 1) / sqrt(3) at 1, about
     * 0.7 of that over a binade; three factors round on the way (x or h, a weight, the output). */
    cr_expect(bf16 > 1e-3 && bf16 < 8e-3, "bf16 %g", bf16);
    cr_expect(fp8 > 1e-2 && fp8 < 8e-2, "fp8 %g", fp8);
}

Test(forward, dropped_choices_add_nothing_and_no_tokens_are_no_work)
{
    struct arena arena = {0};
    struct moe_layer layer = mixed_layer(DTYPE_FP32);
    layer.shared_ffn_dim = 0;
    srand(3);
    fill_random_layer(&layer, true, &arena);
    struct matrix x = random_tokens(DTYPE_FP32, 2, 136, &arena);
    struct matrix out = matrix_take(&arena, DTYPE_FP32, 2, 136);
    const int32_t expert[6] = {EXPERT_NONE, EXPERT_NONE, EXPERT_NONE, 3, EXPERT_NONE, 3};
    const float weight[6] = {0.5f, 0.25f, 0.25f, 0.5f, 0.25f, -0.5f};

    cr_assert_eq(ref_forward_routed(&layer, 2, out, expert, weight, x, &arena), STATUS_OK);
    for (int64_t i = 0; i < 2 * 136; i++) {
        cr_assert_eq(matrix_get(out, i), 0.0f); /* nothing, and one expert twice with +w and -w */
    }

    matrix_set(out, 0, 7.0f);
    cr_assert_eq(ref_forward_routed(&layer, 0, out, expert, weight, x, &arena), STATUS_OK);
    cr_expect_eq(matrix_get(out, 0), 7.0f);
    arena_free(&arena);
}

Test(forward, refuses_what_does_not_fit_together)
{
    struct arena arena = {0};
    struct moe_layer layer = mixed_layer(DTYPE_FP32);
    int32_t expert[3] = {0, 1, 12};
    float weight[3] = {0};
    srand(4);
    fill_random_layer(&layer, false, &arena);
    struct matrix x = random_tokens(DTYPE_FP32, 1, 136, &arena);
    struct matrix half = random_tokens(DTYPE_BF16, 1, 136, &arena);

    cr_expect_eq(ref_forward_routed(&layer, 1, x, expert, weight, x, &arena), STATUS_INVALID);
    cr_expect_eq(ref_forward(&layer, 1, half, expert, weight, x, &arena), STATUS_INVALID);
    cr_expect_eq(ref_forward(&layer, 1, x, expert, weight, half, &arena), STATUS_INVALID);
    cr_expect_eq(ref_forward(&layer, -1, x, expert, weight, x, &arena), STATUS_INVALID);
    layer.gate.num_experts = 8;
    cr_expect_eq(ref_forward(&layer, 1, x, expert, weight, x, &arena), STATUS_INVALID);
    arena_free(&arena);
}

/* The layer over ranks against the layer on one: outputs, choices and weights, bit for bit. */
static void check_expert_parallel(struct moe_layer layer, bool biases, int32_t num_tokens,
                                  const struct ep_placement *placement, const int32_t *token_begin)
{
    struct arena arena = {0};
    int32_t hidden_dim = layer.expert.hidden_dim;
    size_t choices = (size_t)num_tokens * (size_t)layer.gate.top_k;
    srand(5);
    fill_random_layer(&layer, biases, &arena);
    enum dtype dtype = layer_token_dtype(&layer);
    struct matrix x = random_tokens(dtype, num_tokens, hidden_dim, &arena);
    int32_t *expert = arena_take(&arena, 2 * choices, sizeof *expert);
    float *weight = arena_take(&arena, 2 * choices, sizeof *weight);
    struct matrix expected = run_layer(&layer, num_tokens, x, expert, weight, &arena);
    struct matrix out = matrix_take(&arena, dtype, num_tokens, hidden_dim);
    size_t out_bytes = (size_t)num_tokens * (size_t)hidden_dim * (size_t)dtype_bytes(dtype);
    memset(out.data, 0xff, out_bytes);

    cr_assert_eq(ref_ep_forward(&layer, placement, token_begin, out, expert + choices,
                                weight + choices, x, &arena),
                 STATUS_OK);

    cr_expect_arr_eq(out.data, expected.data, out_bytes);
    cr_expect_arr_eq(expert + choices, expert, choices * sizeof *expert);
    cr_expect_arr_eq(weight + choices, weight, choices * sizeof *weight);
    arena_free(&arena);
}

Test(expert_parallel, equals_one_rank_bit_for_bit_in_every_precision)
{
    /* Four ranks of unequal size: copies of 0, 5 and 7, rank 2 without experts, rank 1 without
     * tokens. */
    const int32_t slot_begin[5] = {0, 5, 9, 9, 16};
    const int32_t expert_of_slot[16] = {0, 1, 2, 3, 4, 5, 6, 7, 0, 8, 9, 10, 11, 5, 7, 0};
    const int32_t token_begin[5] = {0, 9, 9, 22, 31};
    const struct ep_placement placement = {4, 16, slot_begin, expert_of_slot};

    for (int32_t dtype = DTYPE_FP32; dtype <= DTYPE_FP8_E4M3; dtype++) {
        check_expert_parallel(mixed_layer((enum dtype)dtype), dtype == DTYPE_BF16, 31, &placement,
                              token_begin);
    }
}

Test(expert_parallel, equals_one_rank_for_one_rank_and_for_no_tokens)
{
    const int32_t slot_begin[2] = {0, 12};
    const int32_t expert_of_slot[12] = {11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0};
    const int32_t token_begin[2] = {0, 5};
    const int32_t none[2] = {0, 0};
    const struct ep_placement placement = {1, 12, slot_begin, expert_of_slot};
    struct moe_layer weighing = mixed_layer(DTYPE_FP32);
    weighing.weigh_input = true;

    check_expert_parallel(weighing, true, 5, &placement, token_begin);
    check_expert_parallel(weighing, true, 0, &placement, none);
}

Test(expert_parallel, equals_one_rank_with_1024_experts_and_top_16)
{
    static int32_t slot_begin[65];
    static int32_t expert_of_slot[1088];
    static int32_t token_begin[65];
    for (int32_t rank = 0; rank <= 64; rank++) {
        slot_begin[rank] = rank * 17;
        token_begin[rank] = rank;
    }
    for (int32_t slot = 0; slot < 1088; slot++) {
        expert_of_slot[slot] = slot % 1024;
    }
    const struct ep_placement placement = {64, 1088, slot_begin, expert_of_slot};
    struct moe_layer layer = {.dtype = DTYPE_FP32,
                              .gate = rule_of(GATE_SOFTMAX, 1024, 16, true),
                              .expert = {1024, 8, 8, ACTIVATION_SWIGLU_CLAMPED}};

    check_expert_parallel(layer, true, 64, &placement, token_begin);
}

Test(expert_parallel, deals_tokens_over_copies_in_turn)
{
    const int32_t slot_begin[3] = {0, 2, 4};
    const int32_t expert_of_slot[4] = {0, 1, 1, 0};
    const struct ep_placement placement = {2, 4, slot_begin, expert_of_slot};
    const int32_t expert[6] = {0, 1, 1, EXPERT_NONE, 0, 1};
    const int32_t expected[6] = {3, 2, 1, EXPERT_NONE, 3, 2}; /* tokens 5, 6 and 7 */
    const int32_t nobody[2] = {2, 2};
    int32_t slot[6];
    int32_t work[2 * 3 + 4 + 1];

    cr_assert_eq(ref_ep_choose_slots(&placement, 2, 3, 2, 5, slot, expert, work), STATUS_OK);
    cr_expect_arr_eq(slot, expected, sizeof slot);
    cr_expect_eq(ref_ep_choose_slots(&placement, 3, 1, 2, 0, slot, nobody, work), STATUS_INVALID);
    cr_expect_eq(ref_ep_choose_slots(&placement, 2, 1, 2, 0, slot, nobody, work), STATUS_INVALID);
}

Test(expert_parallel, sorts_received_rows_by_slot_then_source)
{
    const int32_t sent[2 * 3] = {1, 0, 2, 2, 0, 1};
    const int32_t expected[6] = {0, 4, 5, 1, 2, 6};
    int32_t num_rows[3];
    int32_t row_begin[4];
    int32_t row_of[6];

    cr_assert_eq(ref_ep_receive(2, 3, 4, num_rows, row_begin, row_of, sent), STATUS_OK);

    cr_expect(num_rows[0] == 3 && num_rows[1] == 0 && num_rows[2] == 3);
    cr_expect(row_begin[1] == 4 && row_begin[2] == 4 && row_begin[3] == 8);
    cr_expect_arr_eq(row_of, expected, sizeof row_of);
}
