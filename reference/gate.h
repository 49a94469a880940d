/*
 * gate.h -- which experts a token goes to, and how much each of them counts.
 *
 *     logits[t][e] = sum over h of x[t][h] * router[e][h] (+ bias[e])
 *
 * and then, by the rule of the model:
 *
 *   softmax          p = softmax(logits) over all experts; the top k of p; weight = p, or
 *                    p / sum of the chosen p (renormalize). Mixtral, Qwen3-MoE, OLMoE, DeepSeek-V2
 *   chosen_softmax   the top k of logits; weight = softmax over the chosen. GPT-OSS
 *   sigmoid          s = sigmoid(logits); the top k of s + choice_bias; weight = s, or
 *                    s / (sum of the chosen s + 1e-20). DeepSeek-V3 (arXiv 2412.19437, 2.1.2)
 *   chosen_sigmoid   the top k of logits; weight = sigmoid(logit). Llama-4, top-1
 *
 * With num_groups > 1 only the experts of the topk_groups best groups may be chosen. A group's
 * score is its best expert's (max: DeepSeek-V2, group_limited_greedy) or the sum of its best two
 * (top2: DeepSeek-V3). At the end weights are multiplied by scale. Chosen experts come best first;
 * of equals, experts or groups, the smaller id is the better. A NaN logit counts as minus infinity.
 *
 * Softmax keeps the order of logits, so choices are made on logits wherever they can be, and
 * sigmoids come from gate_math.h: a choice is the same bit for bit on every machine.
 */
#ifndef MOESIM_GATE_H
#define MOESIM_GATE_H

#include <stdbool.h>
#include <stdint.h>

#include "matrix.h"
#include "status.h"

#define GATE_EXPERTS_MAX 1024
#define GATE_TOP_K_MAX   16

enum gate_score {
    GATE_SOFTMAX,
    GATE_CHOSEN_SOFTMAX,
    GATE_SIGMOID,
    GATE_CHOSEN_SIGMOID,
};

enum gate_group_score {
    GATE_GROUP_MAX,
    GATE_GROUP_TOP2,
};

struct gate_rule {
    enum gate_score score;
    int32_t num_experts; /* 1 to GATE_EXPERTS_MAX */
    int32_t top_k;       /* 1 to GATE_TOP_K_MAX, at most the experts of topk_groups groups */
    bool renormalize;    /* softmax and sigmoid: the chosen weights sum to 1 (before scale) */
    int32_t num_groups;  /* divides num_experts; 1: no groups */
    int32_t topk_groups; /* 1 to num_groups */
    enum gate_group_score group_score;
    float scale; /* routed_scaling_factor; 1: none */
};

/* Whether the rule can be carried out: the limits above, top2 only with sigmoid and groups of two
 * or more. */
bool gate_rule_valid(const struct gate_rule *rule);

/*   expert       [num_tokens][top_k] out, best first
 *   gate_weight  [num_tokens][top_k] out
 *   logits       [num_tokens][num_experts]
 *   choice_bias  [num_experts] added to the score before choosing, not to the weight (DeepSeek-V3's
 *                e_score_correction_bias); NULL: none. Only with GATE_SIGMOID.
 * Takes no memory but 48 KiB of stack. STATUS_INVALID: a rule that is not valid, a negative
 * num_tokens, a bias with another score. */
MUST_CHECK enum status ref_gate(struct gate_rule rule, int32_t num_tokens, int32_t *expert,
                                float *gate_weight, const float *logits, const float *choice_bias);

/*   logits  [num_tokens][num_experts] out, sums in double
 *   x       [num_tokens][hidden_dim] fp32 or bf16
 *   router  [num_experts][hidden_dim]
 *   bias    [num_experts] or NULL
 * STATUS_INVALID: a negative num_tokens, a dimension below 1, fp8. */
MUST_CHECK enum status ref_router_logits(int32_t num_tokens, int32_t num_experts,
                                         int32_t hidden_dim, float *logits, struct matrix x,
                                         const float *router, const float *bias);

#endif
