/*
 * gate.c -- one token at a time: scores, groups, choice (gate_choose.c), weights.
 *
 * Without a bias sigmoids are left to the choice, which takes them of few experts.
 */
#include "gate.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "gate_choose.h"
#include "gate_lanes.h"
#include "gate_math.h"
#include "quantize.h"

/* One token's working set. Behind the last stands GATE_PAD times minus infinity. */
struct choice {
    float logit[GATE_EXPERTS_MAX + GATE_PAD]; /* NaN replaced */
    float score[GATE_EXPERTS_MAX + GATE_PAD]; /* what is compared: logits, or sigmoids and bias */
    float
        open[GATE_EXPERTS_MAX + GATE_PAD]; /* the scores of those groups that may be chosen from */
    int32_t open_group[GATE_EXPERTS_MAX];  /* ascending */
};

bool gate_rule_valid(const struct gate_rule *rule)
{
    if (rule->num_experts < 1 || rule->num_experts > GATE_EXPERTS_MAX || rule->top_k < 1 ||
        rule->top_k > GATE_TOP_K_MAX || rule->num_groups < 1 || rule->topk_groups < 1 ||
        rule->topk_groups > rule->num_groups || rule->num_experts % rule->num_groups != 0) {
        return false;
    }
    int32_t group_experts = rule->num_experts / rule->num_groups;
    bool sums_two = rule->num_groups > 1 && rule->group_score == GATE_GROUP_TOP2;
    return rule->top_k <= rule->topk_groups * group_experts &&
           (!sums_two || (group_experts >= 2 && rule->score == GATE_SIGMOID));
}

/* The first of the best of count that are not taken. */
static int32_t best_of(int32_t count, const float *score, const bool *taken)
{
    int32_t best = -1;
    for (int32_t i = 0; i < count; i++) {
        if (!taken[i] && (best < 0 || score[i] > score[best])) {
            best = i;
        }
    }
    return best;
}

/* The two best of a group, by value. */
static void best_two(const float *score, int32_t count, float *two)
{
    float first = score[0];
    float second = -INFINITY;
    for (int32_t i = 1; i < count; i++) {
        float lesser = score[i] > first ? first : score[i];
        first = score[i] > first ? score[i] : first;
        second = lesser > second ? lesser : second;
    }
    two[0] = first;
    two[1] = second;
}

/* A score for each group, from the sigmoids of its two best if of_logits. */
static void score_groups(const struct gate_rule *rule, float *of_group, const float *score,
                         bool of_logits)
{
    float two[2 * GATE_EXPERTS_MAX];
    int32_t group_experts = rule->num_experts / rule->num_groups;
    for (int32_t group = 0; group < rule->num_groups; group++) {
        best_two(&score[group * group_experts], group_experts, &two[2 * group]);
    }
    if (of_logits) {
        gate_sigmoids(two, two, 2 * rule->num_groups);
    }
    for (int32_t group = 0; group < rule->num_groups; group++) {
        bool is_max = rule->group_score == GATE_GROUP_MAX;
        of_group[group] = is_max ? two[2 * group] : two[2 * group] + two[2 * group + 1];
    }
}

/* Copies the scores of the best groups side by side. */
static void open_groups(const struct gate_rule *rule, struct choice *choice, const float *score,
                        bool of_logits)
{
    float of_group[GATE_EXPERTS_MAX];
    bool is_open[GATE_EXPERTS_MAX] = {false};
    int32_t group_experts = rule->num_experts / rule->num_groups;
    score_groups(rule, of_group, score, of_logits);
    for (int32_t n = 0; n < rule->topk_groups; n++) {
        is_open[best_of(rule->num_groups, of_group, is_open)] = true;
    }
    int32_t num_open = 0;
    for (int32_t group = 0; group < rule->num_groups; group++) {
        if (is_open[group]) {
            memcpy(&choice->open[num_open * group_experts], &score[group * group_experts],
                   (size_t)group_experts * sizeof *score);
            choice->open_group[num_open++] = group;
        }
    }
    gate_pad(choice->open, num_open * group_experts);
}

static void choose_experts(const struct gate_rule *rule, struct choice *choice, int32_t *expert,
                           const float *choice_bias)
{
    const float *score = choice->logit;
    bool of_logits = rule->score == GATE_SIGMOID && choice_bias == NULL;
    if (choice_bias != NULL) {
        gate_sigmoids(choice->score, choice->logit, rule->num_experts);
        for (int32_t i = 0; i < rule->num_experts; i++) {
            choice->score[i] += choice_bias[i];
        }
        gate_pad(choice->score, rule->num_experts);
        score = choice->score;
    }
    if (rule->num_groups == 1) {
        gate_choose(expert, score, rule->num_experts, rule->top_k, of_logits);
        return;
    }
    int32_t group_experts = rule->num_experts / rule->num_groups;
    open_groups(rule, choice, score, of_logits);
    gate_choose(expert, choice->open, rule->topk_groups * group_experts, rule->top_k, of_logits);
    for (int32_t k = 0; k < rule->top_k; k++) {
        expert[k] = choice->open_group[expert[k] / group_experts] * group_experts +
                    expert[k] % group_experts;
    }
}

/* Softmax over logit[count] without its division: below[count] and, returned, their sum. */
static double softmax_terms(double *below, const float *logit, int32_t count)
{
    gate_exp_below(below, logit, count, gate_largest(logit, count));
    double sum = 0.0;
    for (int32_t i = 0; i < count; i++) {
        sum += below[i];
    }
    return sum;
}

static void weigh(const struct gate_rule *rule, const struct choice *choice, const int32_t *expert,
                  float *gate_weight)
{
    float chosen[GATE_TOP_K_MAX + 4];
    double weight[GATE_TOP_K_MAX + 4];
    double below[GATE_EXPERTS_MAX + 4];
    double divisor = 1.0;
    for (int32_t k = 0; k < rule->top_k + 4; k++) {
        chosen[k] = k < rule->top_k ? choice->logit[expert[k]] : -INFINITY;
    }
    switch (rule->score) {
    case GATE_SOFTMAX:
        divisor = softmax_terms(below, choice->logit, rule->num_experts);
        for (int32_t k = 0; k < rule->top_k; k++) {
            weight[k] = below[expert[k]];
        }
        break;
    case GATE_CHOSEN_SOFTMAX:
        divisor = softmax_terms(weight, chosen, rule->top_k);
        break;
    case GATE_SIGMOID:
    case GATE_CHOSEN_SIGMOID:
        gate_sigmoids(chosen, chosen, rule->top_k);
        for (int32_t k = 0; k < rule->top_k; k++) {
            weight[k] = (double)chosen[k];
        }
        break;
    }
    if (rule->renormalize && (rule->score == GATE_SOFTMAX || rule->score == GATE_SIGMOID)) {
        divisor = rule->score == GATE_SIGMOID ? 1e-20 : 0.0;
        for (int32_t k = 0; k < rule->top_k; k++) {
            divisor += weight[k];
        }
    }
    for (int32_t k = 0; k < rule->top_k; k++) {
        gate_weight[k] = (float)(weight[k] / divisor) * rule->scale;
    }
}

enum status ref_gate(struct gate_rule rule, int32_t num_tokens, int32_t *expert, float *gate_weight,
                     const float *logits, const float *choice_bias)
{
    if (!gate_rule_valid(&rule) || num_tokens < 0 ||
        (choice_bias != NULL && rule.score != GATE_SIGMOID)) {
        return STATUS_INVALID;
    }
    struct choice choice;
    for (int64_t token = 0; token < num_tokens; token++) {
        int32_t *chosen = &expert[token * rule.top_k];
        gate_load(choice.logit, &logits[token * rule.num_experts], rule.num_experts);
        choose_experts(&rule, &choice, chosen, choice_bias);
        weigh(&rule, &choice, chosen, &gate_weight[token * rule.top_k]);
    }
    return STATUS_OK;
}

enum status ref_router_logits(int32_t num_tokens, int32_t num_experts, int32_t hidden_dim,
                              float *logits, struct matrix x, const float *router,
                              const float *bias)
{
    if (num_tokens < 0 || num_experts < 1 || hidden_dim < 1 || x.dtype == DTYPE_FP8_E4M3) {
        return STATUS_INVALID;
    }
    for (int64_t token = 0; token < num_tokens; token++) {
        for (int64_t expert = 0; expert < num_experts; expert++) {
            double sum = bias == NULL ? 0.0 : (double)bias[expert];
            for (int64_t h = 0; h < hidden_dim; h++) {
                sum += (double)matrix_get(x, token * hidden_dim + h) *
                       (double)router[expert * hidden_dim + h];
            }
            logits[token * num_experts + expert] = (float)sum;
        }
    }
    return STATUS_OK;
}
