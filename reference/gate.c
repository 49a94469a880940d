/* gate.c -- one token at a time; the best so far is replaced only by a better one, so the smaller
 * id wins a tie. */
#include "gate.h"

#include <math.h>
#include <stddef.h>

#include "gate_math.h"
#include "quantize.h"

/* One token's working set. */
struct choice {
    float logit[GATE_EXPERTS_MAX]; /* NaN replaced */
    float score[GATE_EXPERTS_MAX]; /* what is compared: logits, or sigmoids and bias */
    bool taken[GATE_EXPERTS_MAX];  /* chosen already, or in a group that may not be chosen */
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

/* The best of count that is not taken, or -1. */
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

static float group_score(const struct gate_rule *rule, const float *score, int32_t count)
{
    float first = score[0];
    float second = -INFINITY;
    for (int32_t i = 1; i < count; i++) {
        if (score[i] > first) {
            second = first;
            first = score[i];
        } else if (score[i] > second) {
            second = score[i];
        }
    }
    return rule->group_score == GATE_GROUP_MAX ? first : first + second;
}

/* Takes all experts but those of the best groups out of the choice. */
static void limit_groups(const struct gate_rule *rule, struct choice *choice)
{
    int32_t group_experts = rule->num_experts / rule->num_groups;
    float score[GATE_EXPERTS_MAX];
    bool taken[GATE_EXPERTS_MAX] = {false};
    for (int32_t group = 0; group < rule->num_groups; group++) {
        score[group] = group_score(rule, &choice->score[group * group_experts], group_experts);
    }
    for (int32_t expert = 0; expert < rule->num_experts; expert++) {
        choice->taken[expert] = true;
    }
    for (int32_t n = 0; n < rule->topk_groups; n++) {
        int32_t group = best_of(rule->num_groups, score, taken);
        taken[group] = true;
        for (int32_t i = 0; i < group_experts; i++) {
            choice->taken[group * group_experts + i] = false;
        }
    }
}

static void load_scores(const struct gate_rule *rule, struct choice *choice, const float *logits,
                        const float *choice_bias)
{
    for (int32_t expert = 0; expert < rule->num_experts; expert++) {
        float logit = isnan(logits[expert]) ? -INFINITY : logits[expert];
        choice->logit[expert] = logit;
        choice->taken[expert] = false;
        float bias = choice_bias == NULL ? 0.0f : choice_bias[expert];
        /* Softmax keeps the order of logits, but may round two different ones to one number. */
        choice->score[expert] = rule->score == GATE_SIGMOID ? gate_sigmoid(logit) + bias : logit;
    }
}

/* exp(logit - largest); the largest may be infinite. */
static double exp_below(float logit, float largest)
{
    return logit == largest ? 1.0 : gate_exp((double)logit - (double)largest);
}

/* Softmax over logit[count] without its division: weight[k] and, returned, the sum over all. */
static double softmax_weights(const float *logit, int32_t count, const float *chosen, int32_t top_k,
                              double *weight)
{
    float largest = -INFINITY;
    for (int32_t i = 0; i < count; i++) {
        largest = logit[i] > largest ? logit[i] : largest;
    }
    double sum = 0.0;
    for (int32_t i = 0; i < count; i++) {
        sum += exp_below(logit[i], largest);
    }
    for (int32_t k = 0; k < top_k; k++) {
        weight[k] = exp_below(chosen[k], largest);
    }
    return sum;
}

static void weigh(const struct gate_rule *rule, const struct choice *choice, const int32_t *expert,
                  float *gate_weight)
{
    float chosen[GATE_TOP_K_MAX];
    double weight[GATE_TOP_K_MAX];
    double divisor = 1.0;
    for (int32_t k = 0; k < rule->top_k; k++) {
        chosen[k] = choice->logit[expert[k]];
    }
    switch (rule->score) {
    case GATE_SOFTMAX:
        divisor = softmax_weights(choice->logit, rule->num_experts, chosen, rule->top_k, weight);
        break;
    case GATE_CHOSEN_SOFTMAX:
        divisor = softmax_weights(chosen, rule->top_k, chosen, rule->top_k, weight);
        break;
    case GATE_SIGMOID:
    case GATE_CHOSEN_SIGMOID:
        for (int32_t k = 0; k < rule->top_k; k++) {
            weight[k] = (double)gate_sigmoid(chosen[k]);
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
        load_scores(&rule, &choice, &logits[token * rule.num_experts], choice_bias);
        if (rule.num_groups > 1) {
            limit_groups(&rule, &choice);
        }
        for (int64_t k = token * rule.top_k; k < (token + 1) * rule.top_k; k++) {
            expert[k] = best_of(rule.num_experts, choice.score, choice.taken);
            choice.taken[expert[k]] = true;
        }
        weigh(&rule, &choice, &expert[token * rule.top_k], &gate_weight[token * rule.top_k]);
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
