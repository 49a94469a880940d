/* gate_batch.c -- sums run in the order of tokens and experts, so results are the same everywhere.
 */
#include "gate_batch.h"

#include <math.h>
#include <string.h>

#include "gate.h"
#include "gate_choose.h"
#include "gate_hash.h"
#include "gate_lanes.h"
#include "gate_math.h"
#include "radix_sort.h"

#define SINKHORN_EPSILON   1e-8
#define SINKHORN_TOLERANCE 1e-4

/* exp(logit - largest) of a clean token, and their sum. */
static double softmax_terms(double *below, const float *clean, int32_t num_experts)
{
    double sum = 0.0;
    gate_exp_below(below, clean, num_experts, gate_largest(clean, num_experts));
    for (int32_t e = 0; e < num_experts; e++) {
        sum += below[e];
    }
    return sum;
}

static void token_affinity(const float *logits, int32_t num_experts, bool sigmoid, float *affinity)
{
    float clean[GATE_EXPERTS_MAX + GATE_PAD];
    double below[GATE_EXPERTS_MAX + GATE_PAD];
    gate_load(clean, logits, num_experts);
    if (sigmoid) {
        gate_sigmoids(clean, clean, num_experts);
        memcpy(affinity, clean, (size_t)num_experts * sizeof *affinity);
        return;
    }
    double sum = softmax_terms(below, clean, num_experts);
    for (int32_t e = 0; e < num_experts; e++) {
        affinity[e] = (float)(below[e] / sum);
    }
}

void ref_affinity(struct gate_batch batch, bool sigmoid, float *affinity)
{
    for (int64_t token = 0; token < batch.num_tokens; token++) {
        token_affinity(&batch.logits[token * batch.num_experts], batch.num_experts, sigmoid,
                       &affinity[token * batch.num_experts]);
    }
}

/* Sum of what some experts of a token have, not divided by that of all. */
static double sum_of(const float *clean, bool sigmoid, float largest, const int32_t *expert,
                     int32_t count)
{
    float logit[GATE_TOP_K_MAX + 2] = {0};
    double term[GATE_TOP_K_MAX + 2];
    double sum = 0.0;
    for (int32_t k = 0; k < count; k++) {
        logit[k] = clean[expert[k]];
    }
    if (sigmoid) {
        gate_sigmoids(logit, logit, count);
    } else {
        gate_exp_below(term, logit, count, largest);
    }
    for (int32_t k = 0; k < count; k++) {
        sum += sigmoid ? (double)logit[k] : term[k];
    }
    return sum;
}

void ref_full_weight(struct gate_batch batch, bool sigmoid, float *full_weight,
                     const int32_t *expert, const float *gate_weight)
{
    float clean[GATE_EXPERTS_MAX + GATE_PAD];
    int32_t likeliest[GATE_TOP_K_MAX];
    for (int64_t token = 0; token < batch.num_tokens; token++) {
        const int32_t *own = &expert[token * batch.top_k];
        double weight = 0.0;
        for (int64_t k = token * batch.top_k; k < (token + 1) * batch.top_k; k++) {
            weight += (double)gate_weight[k];
        }
        gate_load(clean, &batch.logits[token * batch.num_experts], batch.num_experts);
        gate_choose(likeliest, clean, batch.num_experts, batch.top_k, false);
        full_weight[token] = (float)weight;
        if (memcmp(likeliest, own, (size_t)batch.top_k * sizeof *own) == 0) {
            continue; /* they are its own */
        }
        float largest = clean[likeliest[0]];
        double best = sum_of(clean, sigmoid, largest, likeliest, batch.top_k);
        double chosen = sum_of(clean, sigmoid, largest, own, batch.top_k);
        if (chosen > 0.0) {
            full_weight[token] = (float)(weight * (best / chosen));
        }
    }
}

void ref_expert_choice(struct gate_batch batch, int64_t capacity, bool *takes,
                       const float *affinity, uint64_t *work)
{
    int32_t num_taken = capacity < batch.num_tokens ? (int32_t)capacity : batch.num_tokens;
    memset(takes, 0, (size_t)batch.num_tokens * (size_t)batch.num_experts);
    for (int32_t e = 0; e < batch.num_experts; e++) {
        for (int64_t token = 0; token < batch.num_tokens; token++) {
            work[token] =
                radix_descending(affinity[token * batch.num_experts + e], (uint32_t)token);
        }
        const uint64_t *sorted = radix_sort(work, work + batch.num_tokens, batch.num_tokens);
        for (int32_t i = 0; i < num_taken; i++) {
            takes[(int64_t)(uint32_t)sorted[i] * batch.num_experts + e] = true;
        }
    }
}

/* One round; returns the mean change of d1. */
static double scale_once(const struct gate_batch *batch, const double *kernel, double *d0,
                         double *d1, double *sum)
{
    const int64_t experts = batch->num_experts;
    memset(sum, 0, (size_t)experts * sizeof *sum);
    for (int64_t token = 0; token < batch->num_tokens; token++) {
        const double *row = &kernel[token * experts];
        double row_sum = 0.0;
        for (int64_t e = 0; e < experts; e++) {
            row_sum += d1[e] * row[e];
        }
        d0[token] = 1.0 / (double)batch->num_tokens / (row_sum + SINKHORN_EPSILON);
        for (int64_t e = 0; e < experts; e++) {
            sum[e] += d0[token] * row[e];
        }
    }
    double change = 0.0;
    for (int64_t e = 0; e < experts; e++) {
        double scale = 1.0 / (double)experts / (sum[e] + SINKHORN_EPSILON);
        change += fabs(d1[e] - scale);
        d1[e] = scale;
    }
    return change / (double)experts;
}

/* Chooses by the scaled kernel, weighs by what the gate says without it. */
static void choose_scaled(const struct gate_batch *batch, const double *kernel, const double *d0,
                          const double *d1, int32_t *expert, float *gate_weight)
{
    float scaled[GATE_EXPERTS_MAX];
    float affinity[GATE_EXPERTS_MAX];
    for (int64_t token = 0; token < batch->num_tokens; token++) {
        const int64_t row = token * batch->num_experts;
        for (int32_t e = 0; e < batch->num_experts; e++) {
            scaled[e] = (float)(d1[e] * kernel[row + e] * d0[token]);
        }
        ref_top_k(&expert[token * batch->top_k], scaled, batch->num_experts, batch->top_k);
        token_affinity(&batch->logits[row], batch->num_experts, batch->top_k == 1, affinity);
        for (int64_t k = token * batch->top_k; k < (token + 1) * batch->top_k; k++) {
            gate_weight[k] = affinity[expert[k]];
        }
    }
}

int32_t ref_sinkhorn(struct gate_batch batch, int32_t *expert, float *gate_weight, double *work)
{
    const int64_t count = (int64_t)batch.num_tokens * batch.num_experts;
    double *kernel = work;
    double *d0 = kernel + count;
    double *d1 = d0 + batch.num_tokens;
    double *sum = d1 + batch.num_experts;
    for (int64_t i = 0; i < count; i++) {
        kernel[i] = gate_exp((double)batch.logits[i]); /* of a NaN 0 */
    }
    for (int32_t e = 0; e < batch.num_experts; e++) {
        d1[e] = 1.0;
    }
    int32_t iterations = 0;
    double change = 1.0;
    while (change > SINKHORN_TOLERANCE && iterations < SINKHORN_ITERATIONS_MAX) {
        change = scale_once(&batch, kernel, d0, d1, sum);
        iterations++;
    }
    choose_scaled(&batch, kernel, d0, d1, expert, gate_weight);
    return iterations;
}

static void weigh_chosen(const float *logits, const int32_t *expert, int32_t top_k,
                         float *gate_weight)
{
    float chosen[GATE_TOP_K_MAX];
    float clean[GATE_TOP_K_MAX + GATE_PAD];
    double below[GATE_TOP_K_MAX + GATE_PAD];
    for (int32_t k = 0; k < top_k; k++) {
        chosen[k] = logits[expert[k]];
    }
    gate_load(clean, chosen, top_k);
    double sum = softmax_terms(below, clean, top_k);
    for (int32_t k = 0; k < top_k; k++) {
        gate_weight[k] = (float)(below[k] / sum);
    }
}

enum status ref_quantile(struct gate_batch batch, int32_t *expert, float *gate_weight,
                         float *quantile, const float *bias, uint64_t *work, float *threshold)
{
    float biased[GATE_EXPERTS_MAX];
    int32_t chosen[GATE_TOP_K_MAX];
    const int64_t experts = batch.num_experts;
    if (batch.top_k >= batch.num_experts || batch.top_k >= GATE_TOP_K_MAX) {
        return STATUS_INVALID;
    }
    for (int64_t token = 0; token < batch.num_tokens; token++) {
        const float *logits = &batch.logits[token * experts];
        for (int64_t e = 0; e < experts; e++) {
            biased[e] = logits[e] - bias[e];
        }
        ref_top_k(chosen, biased, batch.num_experts, batch.top_k + 1);
        threshold[token] = biased[chosen[batch.top_k]];
        memcpy(&expert[token * batch.top_k], chosen, (size_t)batch.top_k * sizeof *chosen);
        weigh_chosen(logits, chosen, batch.top_k, &gate_weight[token * batch.top_k]);
    }
    const int64_t target = (int64_t)batch.num_tokens * batch.top_k / experts;
    for (int64_t e = 0; e < experts; e++) {
        for (int64_t token = 0; token < batch.num_tokens; token++) {
            float above = batch.logits[token * experts + e] - threshold[token];
            work[token] = radix_descending(isnan(above) ? -INFINITY : above, (uint32_t)token);
        }
        const uint64_t *sorted = radix_sort(work, work + batch.num_tokens, batch.num_tokens);
        int64_t token = batch.num_tokens > 0 ? (int64_t)(uint32_t)sorted[target] : 0;
        float above =
            batch.num_tokens > 0 ? batch.logits[token * experts + e] - threshold[token] : 0.0f;
        quantile[e] = isfinite(above) ? above : 0.0f;
    }
    return STATUS_OK;
}

void ref_quantile_update(int32_t num_experts, float *bias, const float *quantile, float decay)
{
    double sum = 0.0;
    for (int32_t e = 0; e < num_experts; e++) {
        bias[e] = decay * bias[e] + (1.0f - decay) * quantile[e];
        sum += (double)bias[e];
    }
    for (int32_t e = 0; e < num_experts; e++) {
        bias[e] = (float)((double)bias[e] - sum / num_experts);
    }
}

void ref_loss_free_update(int32_t num_experts, float *bias, const int64_t *load_tokens, float step)
{
    int64_t sum = 0;
    for (int32_t e = 0; e < num_experts; e++) {
        sum += load_tokens[e];
    }
    for (int32_t e = 0; e < num_experts; e++) {
        int64_t excess = load_tokens[e] * num_experts - sum;
        bias[e] += excess < 0 ? step : excess > 0 ? -step : 0.0f;
    }
}

/* The j-th expert is the draw[j]-th of those that are left; chosen is kept sorted to count past. */
void ref_hash(struct gate_batch batch, int32_t *expert, float *gate_weight, const uint64_t *key)
{
    int32_t sorted[GATE_TOP_K_MAX];
    for (int64_t token = 0; token < batch.num_tokens; token++) {
        uint64_t state = key[token];
        for (int32_t k = 0; k < batch.top_k; k++) {
            state = gate_hash(state);
            uint64_t left = (uint64_t)(batch.num_experts - k);
            int32_t chosen = (int32_t)(((state >> 32) * left) >> 32);
            int32_t place = 0;
            for (; place < k && sorted[place] <= chosen; place++) {
                chosen++;
            }
            memmove(&sorted[place + 1], &sorted[place], (size_t)(k - place) * sizeof *sorted);
            sorted[place] = chosen;
            expert[token * batch.top_k + k] = chosen;
            gate_weight[token * batch.top_k + k] = 1.0f / (float)batch.top_k;
        }
    }
}
