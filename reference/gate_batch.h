/*
 * gate_batch.h -- gates that look at all tokens of a batch, or at none.
 *
 *   expert_choice  each expert takes the capacity tokens of the highest affinity to it
 *                  (Zhou et al., arXiv 2202.09368; vmoe/moe.py @ 1030c71). A token may have none.
 *   sinkhorn       top-k of K scaled until its rows and columns sum alike (S-BASE, Clark et al.,
 *                  arXiv 2202.01169; Megatron-LM moe_utils.py @ d98e8a6):
 *                      K = exp(logits);  d0 = 1/T / (sum_e d1 K + 1e-8);
 *                      d1 = 1/E / (sum_t d0 K + 1e-8), until mean |change of d1| <= 1e-4
 *                  Ours computes in double; there in float32.
 *   quantile       top-k of logits - bias; the new bias is the logit, above the token's (k + 1)-th,
 *                  that T k / E tokens pass (Megatron-LM moe_utils.py @ d98e8a6,
 *                  quantile_balancing; T k / E is whole there, and rounded down here)
 *   loss_free      the sigmoid gate of gate.h with a choice_bias that steps towards the mean load
 *                  after each batch (Wang et al., arXiv 2408.15664, algorithm 1)
 *   hash           k different experts by a hash of the token (Roller et al., arXiv 2106.04426)
 *
 * Of equals, the earlier token and the smaller expert come first. None takes memory but of the
 * stack; limits on num_experts and top_k are gate.h's.
 */
#ifndef MOESIM_GATE_BATCH_H
#define MOESIM_GATE_BATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "status.h"

struct gate_batch {
    int32_t num_tokens;
    int32_t num_experts;
    int32_t top_k;
    const float *logits; /* [num_tokens][num_experts]; a NaN counts as minus infinity */
};

/* Probabilities of all experts: softmax over them, or sigmoids.
 *   affinity  [num_tokens][num_experts] out */
void ref_affinity(struct gate_batch batch, bool sigmoid, float *affinity);

/* What weights in the units of gate_weight the top_k likeliest experts of each token would sum to:
 * the sum of a token's weights, times the affinity of those experts over that of its own.
 *   full_weight  [num_tokens] out; where a token has no affinity to its own experts, that sum
 *   expert       [num_tokens][top_k], gate_weight the same */
void ref_full_weight(struct gate_batch batch, bool sigmoid, float *full_weight,
                     const int32_t *expert, const float *gate_weight);

/*   takes     [num_tokens][num_experts] out: whether the expert takes the token; of each expert
 *             min(capacity, num_tokens) tokens are
 *   affinity  [num_tokens][num_experts]
 *   work      [2 * num_tokens] */
void ref_expert_choice(struct gate_batch batch, int64_t capacity, bool *takes,
                       const float *affinity, uint64_t *work);

/*   expert       [num_tokens][top_k] out, best first by the scaled K
 *   gate_weight  [num_tokens][top_k] out: softmax over all experts, or the sigmoid where top_k is 1
 *   work         [num_tokens * num_experts + num_tokens + 2 * num_experts]
 * Returns the number of iterations, at most SINKHORN_ITERATIONS_MAX. */
#define SINKHORN_ITERATIONS_MAX 1000
int32_t ref_sinkhorn(struct gate_batch batch, int32_t *expert, float *gate_weight, double *work);

/*   expert       [num_tokens][top_k] out, best first by logits - bias
 *   gate_weight  [num_tokens][top_k] out: softmax over the chosen
 *   quantile     [num_experts] out: what the bias of this batch would be; 0 without tokens
 *   bias         [num_experts]
 *   work         [2 * num_tokens]
 *   threshold    [num_tokens] working memory
 * STATUS_INVALID unless top_k < num_experts and top_k < GATE_TOP_K_MAX. */
MUST_CHECK enum status ref_quantile(struct gate_batch batch, int32_t *expert, float *gate_weight,
                                    float *quantile, const float *bias, uint64_t *work,
                                    float *threshold);

/* bias = decay * bias + (1 - decay) * quantile, less its mean over experts. */
void ref_quantile_update(int32_t num_experts, float *bias, const float *quantile, float decay);

/* bias += step * sign(mean load - load). */
void ref_loss_free_update(int32_t num_experts, float *bias, const int64_t *load_tokens, float step);

/* Weights are 1 / top_k. key[num_tokens] is what is hashed; batch.logits is not read. */
void ref_hash(struct gate_batch batch, int32_t *expert, float *gate_weight, const uint64_t *key);

#endif
