/*
 * gate.c -- one token at a time, and without branches on scores: nobody can guess those.
 *
 * The experts are dealt to LANES lanes. The k-th best of the lanes' best is no better than the k-th
 * best expert, so whoever is below it is out; the few that are left are ranked by comparing each
 * with each.
 *
 * Sigmoids are dear and keep the order of logits, but may round different ones to one number, and
 * of equals the smaller id is chosen. So without a bias sigmoids are taken of those alone that
 * could round to the k-th's: logits less than SIGMOID_MARGIN below the bound.
 */
#include "gate.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "gate_lanes.h"
#include "gate_math.h"
#include "quantize.h"

/* Up to a logit of 8 a sigmoid rises by 3.3e-4 and more a unit, and a float32 below 1 has 6e-8
 * between it and the next: logits 2^-10 apart are five of those apart. */
#define SIGMOID_MARGIN    0x1p-10f
#define SIGMOID_LOGIT_MAX 8.0f

#define LANES             16 /* GATE_TOP_K_MAX at least */
#define VECTORS           4  /* of four lanes */
#define RANKED_MAX        96 /* more are left only where many are equal: those are inserted */

typedef float float_lanes __attribute__((vector_size(16)));
typedef int32_t mask_lanes __attribute__((vector_size(16)));

static const float_lanes lowest = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};

/* One token's working set. Behind the last stand LANES times minus infinity. */
struct choice {
    float logit[GATE_EXPERTS_MAX + LANES]; /* NaN replaced */
    float score[GATE_EXPERTS_MAX + LANES]; /* what is compared: logits, or sigmoids and bias */
    float open[GATE_EXPERTS_MAX + LANES];  /* the scores of those groups that may be chosen from */
    int32_t open_group[GATE_EXPERTS_MAX];  /* ascending */
};

/* Experts that may be among the k best, by ascending position. */
struct candidates {
    int32_t count;
    int32_t position[GATE_EXPERTS_MAX + 1];
    float score[GATE_EXPERTS_MAX + 2];
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

static float_lanes select_lanes(mask_lanes mask, float_lanes yes, float_lanes no)
{
    return (float_lanes)(((mask_lanes)yes & mask) | ((mask_lanes)no & ~mask));
}

static float_lanes larger(float_lanes a, float_lanes b)
{
    return select_lanes(a > b, a, b);
}

static float_lanes load_lanes(const float *from)
{
    float_lanes lanes;
    memcpy(&lanes, from, sizeof lanes);
    return lanes;
}

/* Fills up behind the last. */
static void pad_lowest(float *score, int32_t count)
{
    for (int32_t i = 0; i < VECTORS; i++) {
        memcpy(&score[count + 4 * i], &lowest, sizeof lowest);
    }
}

/* At least top_k scores are as good as what this returns. */
static float lower_bound(const float *score, int32_t count, int32_t top_k)
{
    float_lanes best[VECTORS] = {lowest, lowest, lowest, lowest};
    mask_lanes better[VECTORS] = {{0}};
    float lane[LANES];
    for (int32_t i = 0; i < count; i += LANES) {
        for (int32_t v = 0; v < VECTORS; v++) {
            best[v] = larger(load_lanes(&score[i + 4 * v]), best[v]);
        }
    }
    memcpy(lane, best, sizeof lane);
    for (int32_t i = 0; i < LANES; i++) {
        for (int32_t v = 0; v < VECTORS; v++) {
            better[v] -= lane[i] > best[v]; /* a mask is -1 */
        }
    }
    float_lanes bound = -lowest;
    for (int32_t v = 0; v < VECTORS; v++) {
        float_lanes good = select_lanes(better[v] < top_k, best[v], -lowest);
        bound = -larger(-bound, -good);
    }
    float low = bound[0] < bound[1] ? bound[0] : bound[1];
    float high = bound[2] < bound[3] ? bound[2] : bound[3];
    return low < high ? low : high;
}

static void find_candidates(struct candidates *candidates, const float *score, int32_t count,
                            float bound)
{
    int32_t num_found = 0;
    for (int32_t i = 0; i < count; i++) {
        candidates->position[num_found] = i;
        candidates->score[num_found] = score[i];
        num_found += score[i] >= bound;
    }
    candidates->count = num_found;
}

/* A later equal goes behind. */
static void insert_candidates(int32_t *chosen, const struct candidates *candidates, int32_t top_k)
{
    float score[GATE_TOP_K_MAX];
    int32_t num_chosen = 0;
    for (int32_t i = 0; i < candidates->count; i++) {
        if (num_chosen == top_k && !(candidates->score[i] > score[top_k - 1])) {
            continue;
        }
        int32_t place = num_chosen < top_k ? num_chosen++ : top_k - 1;
        for (; place > 0 && candidates->score[i] > score[place - 1]; place--) {
            score[place] = score[place - 1];
            chosen[place] = chosen[place - 1];
        }
        score[place] = candidates->score[i];
        chosen[place] = candidates->position[i];
    }
}

/* The positions of the top_k best, best first. */
static void rank_candidates(int32_t *chosen, const struct candidates *candidates, int32_t top_k)
{
    if (candidates->count > RANKED_MAX) {
        insert_candidates(chosen, candidates, top_k);
        return;
    }
    int32_t sorted[RANKED_MAX];
    int32_t rank[RANKED_MAX];
    for (int32_t i = 0; i < candidates->count; i++) {
        int32_t better = 0;
        for (int32_t j = 0; j < i; j++) {
            int32_t first = candidates->score[j] >= candidates->score[i];
            better += first;
            rank[j] += 1 - first;
        }
        rank[i] = better;
    }
    for (int32_t i = 0; i < candidates->count; i++) {
        sorted[rank[i]] = candidates->position[i];
    }
    memcpy(chosen, sorted, (size_t)top_k * sizeof *chosen);
}

/* Positions of the top_k best of score[count], whose sigmoids are compared if of_logits. */
static void choose_best(int32_t *chosen, const float *score, int32_t count, int32_t top_k,
                        bool of_logits)
{
    struct candidates candidates;
    float bound = lower_bound(score, count, top_k);
    if (of_logits) {
        bound = fminf(bound, SIGMOID_LOGIT_MAX) - SIGMOID_MARGIN;
    }
    find_candidates(&candidates, score, count, bound);
    if (of_logits) {
        candidates.score[candidates.count] = 0.0f;
        gate_sigmoids(candidates.score, candidates.score, candidates.count);
    }
    rank_candidates(chosen, &candidates, top_k);
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

static float group_score(const struct gate_rule *rule, const float *score, int32_t count,
                         bool of_logits)
{
    float first = score[0];
    float second = -INFINITY;
    for (int32_t i = 1; i < count; i++) {
        float lesser = score[i] > first ? first : score[i];
        first = score[i] > first ? score[i] : first;
        second = lesser > second ? lesser : second;
    }
    if (of_logits) {
        first = gate_sigmoid(first);
        second = gate_sigmoid(second);
    }
    return rule->group_score == GATE_GROUP_MAX ? first : first + second;
}

/* Copies the scores of the best groups side by side. */
static void open_groups(const struct gate_rule *rule, struct choice *choice, const float *score,
                        bool of_logits)
{
    float of_group[GATE_EXPERTS_MAX];
    bool is_open[GATE_EXPERTS_MAX] = {false};
    int32_t group_experts = rule->num_experts / rule->num_groups;
    for (int32_t group = 0; group < rule->num_groups; group++) {
        of_group[group] =
            group_score(rule, &score[group * group_experts], group_experts, of_logits);
    }
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
    pad_lowest(choice->open, num_open * group_experts);
}

/* Copies a token's logits, NaN replaced. */
static void load_logits(struct choice *choice, const float *logits, int32_t num_experts)
{
    memcpy(choice->logit, logits, (size_t)num_experts * sizeof *logits);
    pad_lowest(choice->logit, num_experts);
    for (int32_t expert = 0; expert < num_experts; expert += 4) {
        float_lanes logit = load_lanes(&choice->logit[expert]);
        logit = select_lanes(logit == logit, logit, lowest);
        memcpy(&choice->logit[expert], &logit, sizeof logit);
    }
}

static float largest_of(const float *logit, int32_t count)
{
    float_lanes largest = lowest;
    for (int32_t i = 0; i < count; i += 4) {
        largest = larger(load_lanes(&logit[i]), largest);
    }
    float low = largest[0] > largest[1] ? largest[0] : largest[1];
    float high = largest[2] > largest[3] ? largest[2] : largest[3];
    return low > high ? low : high;
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
        pad_lowest(choice->score, rule->num_experts);
        score = choice->score;
    }
    if (rule->num_groups == 1) {
        choose_best(expert, score, rule->num_experts, rule->top_k, of_logits);
        return;
    }
    int32_t group_experts = rule->num_experts / rule->num_groups;
    open_groups(rule, choice, score, of_logits);
    choose_best(expert, choice->open, rule->topk_groups * group_experts, rule->top_k, of_logits);
    for (int32_t k = 0; k < rule->top_k; k++) {
        expert[k] = choice->open_group[expert[k] / group_experts] * group_experts +
                    expert[k] % group_experts;
    }
}

/* Softmax over logit[count] without its division: below[count] and, returned, their sum. */
static double softmax_terms(double *below, const float *logit, int32_t count)
{
    gate_exp_below(below, logit, count, largest_of(logit, count));
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
        load_logits(&choice, &logits[token * rule.num_experts], rule.num_experts);
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
