/* gate_nodes.c -- a limit on first choices that leave the node; and detours that nearness is worth.
 */
#include "gate_nodes.h"

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "gate.h"
#include "gate_choose.h"
#include "gate_math.h"
#include "radix_sort.h"

/* Softmax over two, the better one first. */
static void weigh_two(const float *logits, int32_t *expert, float *gate_weight)
{
    if (logits[expert[1]] > logits[expert[0]]) {
        int32_t better = expert[1];
        expert[1] = expert[0];
        expert[0] = better;
    }
    double behind = gate_exp((double)logits[expert[1]] - (double)logits[expert[0]]);
    gate_weight[0] = (float)(1.0 / (1.0 + behind));
    gate_weight[1] = (float)(behind / (1.0 + behind));
}

/* Marks by expert[.][0] = that expert the limit off-node first choices of the highest logits, and
 * by -1 all other tokens. */
static void keep_best_travellers(const struct gate_batch *batch, int32_t *expert, uint64_t *work,
                                 int32_t num_travellers, int32_t limit)
{
    const uint64_t *sorted = radix_sort(work, work + batch->num_tokens, num_travellers);
    for (int64_t token = 0; token < batch->num_tokens; token++) {
        expert[2 * token + 1] = -1;
    }
    for (int32_t i = 0; i < limit; i++) {
        int64_t token = (int64_t)(uint32_t)sorted[i];
        expert[2 * token + 1] = expert[2 * token];
    }
}

enum status ref_fastermoe(struct gate_batch batch, int32_t *expert, float *gate_weight,
                          const bool *is_near, double share, uint64_t *work)
{
    float clean[GATE_EXPERTS_MAX + GATE_PAD];
    float near_score[GATE_EXPERTS_MAX];
    int32_t num_near = 0;
    int32_t num_travellers = 0;
    const int32_t limit = (int32_t)(share * batch.num_tokens);
    for (int32_t e = 0; e < batch.num_experts; e++) {
        num_near += is_near[e];
    }
    if (batch.top_k != 2 || num_near < 2) {
        return STATUS_INVALID;
    }
    for (int64_t token = 0; token < batch.num_tokens; token++) {
        gate_load(clean, &batch.logits[token * batch.num_experts], batch.num_experts);
        gate_choose(&expert[2 * token], clean, batch.num_experts, 2, false);
        weigh_two(clean, &expert[2 * token], &gate_weight[2 * token]);
        if (!is_near[expert[2 * token]]) {
            work[num_travellers++] = radix_descending(clean[expert[2 * token]], (uint32_t)token);
        }
    }
    if (num_travellers < limit) {
        return STATUS_OK;
    }
    keep_best_travellers(&batch, expert, work, num_travellers, limit);
    for (int64_t token = 0; token < batch.num_tokens; token++) {
        int32_t on_node[2];
        int32_t traveller = expert[2 * token + 1];
        gate_load(clean, &batch.logits[token * batch.num_experts], batch.num_experts);
        for (int32_t e = 0; e < batch.num_experts; e++) {
            near_score[e] = is_near[e] ? fmaxf(clean[e], -FLT_MAX) : -INFINITY;
        }
        ref_top_k(on_node, near_score, batch.num_experts, 2);
        expert[2 * token] = on_node[0];
        expert[2 * token + 1] = traveller >= 0 ? traveller : on_node[1];
        weigh_two(clean, &expert[2 * token], &gate_weight[2 * token]);
    }
    return STATUS_OK;
}

/* The lowest bit of an expert's nodes: where a copy of it is sure to be. */
static void go_to(uint64_t *visited, const uint64_t *nodes, int32_t num_words)
{
    for (int32_t w = 0; w < num_words; w++) {
        if ((visited[w] & nodes[w]) != 0) {
            return;
        }
    }
    for (int32_t w = 0; w < num_words; w++) {
        if (nodes[w] != 0) {
            visited[w] |= nodes[w] & (~nodes[w] + 1);
            return;
        }
    }
}

/* The best that is not taken and, of mask given, on a node of it; -1: none. */
static int32_t best_on(const struct gate_nodes *nodes, const uint64_t *mask, const bool *taken,
                       const float *affinity, int32_t num_experts)
{
    int32_t best = -1;
    for (int32_t e = 0; e < num_experts; e++) {
        if (taken[e] || (best >= 0 && !(affinity[e] > affinity[best]))) {
            continue;
        }
        uint64_t common = mask == NULL;
        for (int32_t w = 0; mask != NULL && w < nodes->num_words; w++) {
            common |= mask[w] & nodes->of_expert[(int64_t)e * nodes->num_words + w];
        }
        best = common != 0 ? e : best;
    }
    return best;
}

static void choose_near(const struct gate_batch *batch, int32_t *expert, const float *affinity,
                        const struct gate_nodes *nodes, int32_t home_node, float tolerance)
{
    uint64_t visited[GATE_NODE_WORDS_MAX] = {0};
    bool taken[GATE_EXPERTS_MAX] = {false};
    visited[home_node / 64] = UINT64_C(1) << (home_node % 64);
    for (int32_t k = 0; k < batch->top_k; k++) {
        int32_t best = best_on(nodes, NULL, taken, affinity, batch->num_experts);
        int32_t near = best_on(nodes, visited, taken, affinity, batch->num_experts);
        float enough = (1.0f - tolerance) * affinity[best];
        int32_t chosen = near >= 0 && affinity[near] >= enough ? near : best;
        taken[chosen] = true;
        go_to(visited, &nodes->of_expert[(int64_t)chosen * nodes->num_words], nodes->num_words);
        int32_t place = k; /* best first */
        for (; place > 0 && affinity[chosen] > affinity[expert[place - 1]]; place--) {
            expert[place] = expert[place - 1];
        }
        expert[place] = chosen;
    }
}

void ref_node_aware(struct gate_batch batch, int32_t *expert, float *gate_weight,
                    const float *affinity, struct gate_nodes nodes, int32_t home_node,
                    float tolerance)
{
    for (int64_t token = 0; token < batch.num_tokens; token++) {
        const float *own = &affinity[token * batch.num_experts];
        int32_t *chosen = &expert[token * batch.top_k];
        double sum = 0.0;
        choose_near(&batch, chosen, own, &nodes, home_node, tolerance);
        for (int32_t k = 0; k < batch.top_k; k++) {
            sum += (double)own[chosen[k]];
        }
        for (int32_t k = 0; k < batch.top_k; k++) {
            gate_weight[token * batch.top_k + k] =
                sum > 0.0 ? (float)((double)own[chosen[k]] / sum) : 1.0f / (float)batch.top_k;
        }
    }
}
