/* test_reference_gate.c -- gates against the published modules, by hand, and their laws. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gate.h"
#include "gate_lanes.h"
#include "gate_math.h"
#include "golden.h"

#define TOKENS_MAX 64

static void check_against_golden(const char *name, struct gate_rule rule)
{
    struct npy logits = golden(name, "logits");
    struct npy bias = golden_optional(name, "choice_bias");
    struct npy expert = golden(name, "expert");
    struct npy weight = golden(name, "gate_weight");
    int32_t out[TOKENS_MAX * GATE_TOP_K_MAX];
    float out_weight[TOKENS_MAX * GATE_TOP_K_MAX];
    int32_t num_tokens = (int32_t)logits.dim[0];
    cr_assert(num_tokens <= TOKENS_MAX && logits.dim[1] == rule.num_experts);

    cr_assert_eq(ref_gate(rule, num_tokens, out, out_weight, logits.data, bias.data), STATUS_OK);

    cr_expect_arr_eq(out, expert.data, (size_t)expert.num_elements * sizeof out[0]);
    cr_expect_lt(relative_max(out_weight, weight.data, weight.num_elements), 1e-6);
}

Test(gate, group_limited_greedy_chooses_as_deepseek_v2)
{
    check_against_golden("gate_deepseek_v2", (struct gate_rule){.score = GATE_SOFTMAX,
                                                                .num_experts = 160,
                                                                .top_k = 6,
                                                                .num_groups = 8,
                                                                .topk_groups = 3,
                                                                .scale = 16.0f});
}

Test(gate, biased_sigmoids_choose_as_deepseek_v3)
{
    check_against_golden("gate_deepseek_v3", (struct gate_rule){.score = GATE_SIGMOID,
                                                                .num_experts = 256,
                                                                .top_k = 8,
                                                                .renormalize = true,
                                                                .num_groups = 8,
                                                                .topk_groups = 4,
                                                                .group_score = GATE_GROUP_TOP2,
                                                                .scale = 2.5f});
}

static struct gate_rule plain(enum gate_score score, int32_t num_experts, int32_t top_k)
{
    return (struct gate_rule){.score = score,
                              .num_experts = num_experts,
                              .top_k = top_k,
                              .num_groups = 1,
                              .topk_groups = 1,
                              .scale = 1.0f};
}

Test(gate, equal_scores_go_to_the_smaller_id)
{
    const float logits[6] = {1.0f, 2.0f, 2.0f, 0.0f, 2.0f, 2.0f};
    int32_t expert[3];
    float weight[3];

    for (int32_t score = GATE_SOFTMAX; score <= GATE_CHOSEN_SIGMOID; score++) {
        struct gate_rule rule = plain((enum gate_score)score, 6, 3);
        cr_assert_eq(ref_gate(rule, 1, expert, weight, logits, NULL), STATUS_OK);
        cr_expect(expert[0] == 1 && expert[1] == 2 && expert[2] == 4);
    }

    struct gate_rule grouped = plain(GATE_SOFTMAX, 6, 2);
    grouped.num_groups = 3; /* best of groups: 2, 2, 2 */
    cr_assert_eq(ref_gate(grouped, 1, expert, weight, logits, NULL), STATUS_OK);
    cr_expect(expert[0] == 1 && expert[1] == 0); /* group 0 alone may be chosen from */
}

Test(gate, choices_are_made_on_logits_where_probabilities_round_to_the_same)
{
    const float logits[3] = {100.0f, 20.0f,
                             21.0f}; /* the last two: 0 in float32 beside the first */
    int32_t expert[2];
    float weight[2];

    cr_assert_eq(ref_gate(plain(GATE_SOFTMAX, 3, 2), 1, expert, weight, logits, NULL), STATUS_OK);

    cr_expect(expert[0] == 0 && expert[1] == 2);
}

Test(gate, a_bias_moves_the_choice_but_not_the_weight)
{
    const float logits[3] = {0.0f, 1.0f, 2.0f};
    const float bias[3] = {5.0f, 0.0f, 0.0f};
    int32_t expert[2];
    float weight[2];
    struct gate_rule rule = plain(GATE_SIGMOID, 3, 2);

    cr_assert_eq(ref_gate(rule, 1, expert, weight, logits, bias), STATUS_OK);

    cr_expect(expert[0] == 0 && expert[1] == 2);
    cr_expect_eq(weight[0], 0.5f);                  /* sigmoid(0) */
    cr_expect_float_eq(weight[1], 0.880797f, 1e-6); /* sigmoid(2) */
    rule.score = GATE_SOFTMAX;
    cr_expect_eq(ref_gate(rule, 1, expert, weight, logits, bias), STATUS_INVALID);
}

Test(gate, nan_and_infinite_logits_leave_different_experts_and_finite_weights)
{
    const float logits[4][4] = {{NAN, NAN, NAN, NAN},
                                {-INFINITY, NAN, 1.0f, -INFINITY},
                                {INFINITY, 0.0f, NAN, 3.0f},
                                {-INFINITY, -INFINITY, -INFINITY, -INFINITY}};
    int32_t expert[4 * 3];
    float weight[4 * 3];

    for (int32_t score = GATE_SOFTMAX; score <= GATE_CHOSEN_SIGMOID; score++) {
        struct gate_rule rule = plain((enum gate_score)score, 4, 3);
        cr_assert_eq(ref_gate(rule, 4, expert, weight, logits[0], NULL), STATUS_OK);
        for (int32_t i = 0; i < 12; i += 3) {
            cr_expect(expert[i] != expert[i + 1] && expert[i] != expert[i + 2] &&
                      expert[i + 1] != expert[i + 2]);
            cr_expect(isfinite(weight[i]) && isfinite(weight[i + 1]) && isfinite(weight[i + 2]));
        }
        cr_expect_eq(expert[3], 2); /* the only finite one */
        cr_expect_eq(expert[6], 0);
    }
}

Test(gate, weights_sum_to_the_scale_at_the_largest_size)
{
    static float logits[3 * GATE_EXPERTS_MAX];
    int32_t expert[3 * GATE_TOP_K_MAX];
    float weight[3 * GATE_TOP_K_MAX];
    srand(1);
    for (int32_t i = 0; i < 3 * GATE_EXPERTS_MAX; i++) {
        logits[i] = (float)rand() / (float)RAND_MAX * 20.0f - 10.0f;
    }
    for (int32_t score = GATE_SOFTMAX; score <= GATE_SIGMOID; score++) {
        struct gate_rule rule = plain((enum gate_score)score, GATE_EXPERTS_MAX, GATE_TOP_K_MAX);
        rule.renormalize = true;
        rule.scale = 2.5f;
        rule.num_groups = 32;
        rule.topk_groups = 2;
        cr_assert_eq(ref_gate(rule, 3, expert, weight, logits, NULL), STATUS_OK);
        for (int32_t token = 0; token < 3; token++) {
            float sum = 0.0f;
            uint32_t groups = 0;
            for (int32_t k = 0; k < GATE_TOP_K_MAX; k++) {
                int32_t at = token * GATE_TOP_K_MAX + k;
                sum += weight[at];
                groups |= 1u << (expert[at] / 32);
                if (k > 0) { /* best first */
                    cr_expect_geq(logits[token * 1024 + expert[at - 1]],
                                  logits[token * 1024 + expert[at]]);
                }
            }
            cr_expect_float_eq(sum, 2.5f, 1e-5);
            cr_expect_leq(__builtin_popcount(groups), 2);
        }
    }
}

Test(gate, exponentials_are_as_good_as_libms)
{
    for (int32_t i = -70000; i <= 70000; i++) {
        double x = i * 0.01 + 0.003;
        cr_assert_leq(fabs(gate_exp(x) / exp(x) - 1.0), 1e-15, "%g", x);
    }
    cr_expect_eq(gate_exp(0.0), 1.0);
    cr_expect_eq(gate_exp(-1e9), 0.0);
    cr_expect_eq(gate_exp(-(double)INFINITY), 0.0);
    cr_expect_gt(gate_exp((double)INFINITY), 1e307);
    cr_expect_eq(gate_sigmoid(INFINITY), 1.0f);
    cr_expect_eq(gate_sigmoid(-INFINITY), 0.0f);
}

Test(gate, refuses_rules_that_cannot_be_carried_out)
{
    struct gate_rule good = plain(GATE_SIGMOID, 16, 4);
    struct gate_rule rule = good;
    cr_expect(gate_rule_valid(&rule));
    rule.num_groups = 4;
    rule.topk_groups = 2;
    rule.group_score = GATE_GROUP_TOP2;
    cr_expect(gate_rule_valid(&rule));
    rule.score = GATE_SOFTMAX; /* a sum of two logits says nothing */
    cr_expect_not(gate_rule_valid(&rule));
    rule = good;
    rule.num_groups = 5;
    cr_expect_not(gate_rule_valid(&rule));
    rule.num_groups = 8; /* one group of two cannot give four */
    cr_expect_not(gate_rule_valid(&rule));
    rule = good;
    rule.top_k = 17;
    cr_expect_not(gate_rule_valid(&rule));
    rule = plain(GATE_SOFTMAX, GATE_EXPERTS_MAX + 1, 1);
    cr_expect_not(gate_rule_valid(&rule));
    cr_expect_eq(ref_gate(rule, 0, NULL, NULL, NULL, NULL), STATUS_INVALID);
    cr_expect_eq(ref_gate(good, -1, NULL, NULL, NULL, NULL), STATUS_INVALID);
    cr_expect_eq(ref_gate(good, 0, NULL, NULL, NULL, NULL), STATUS_OK);
}

/* A gate as its header says it, without anything clever: sorts by score, then by id. */
static void plain_gate(const struct gate_rule *rule, int32_t *expert, const float *logit,
                       const float *bias)
{
    float score[64];
    float of_group[64];
    bool open[64] = {false};
    int32_t group_experts = rule->num_experts / rule->num_groups;
    for (int32_t e = 0; e < rule->num_experts; e++) {
        float clean = isnan(logit[e]) ? -INFINITY : logit[e];
        score[e] = rule->score == GATE_SIGMOID
                       ? gate_sigmoid(clean) + (bias == NULL ? 0.0f : bias[e])
                       : clean;
    }
    for (int32_t g = 0; g < rule->num_groups; g++) {
        float first = -INFINITY;
        float second = -INFINITY;
        for (int32_t e = g * group_experts; e < (g + 1) * group_experts; e++) {
            second = fmaxf(second, fminf(first, score[e]));
            first = fmaxf(first, score[e]);
        }
        of_group[g] = rule->group_score == GATE_GROUP_MAX ? first : first + second;
    }
    for (int32_t n = 0; n < rule->topk_groups; n++) {
        int32_t best = -1;
        for (int32_t g = 0; g < rule->num_groups; g++) {
            best = !open[g] && (best < 0 || of_group[g] > of_group[best]) ? g : best;
        }
        open[best] = true;
    }
    bool taken[64] = {false};
    for (int32_t k = 0; k < rule->top_k; k++) {
        int32_t best = -1;
        for (int32_t e = 0; e < rule->num_experts; e++) {
            bool may = open[e / group_experts] && !taken[e];
            best = may && (best < 0 || score[e] > score[best]) ? e : best;
        }
        taken[best] = true;
        expert[k] = best;
    }
}

/* Logits that a fast choice could get wrong: drawn from few values, so that many are equal; one
 * float apart; where sigmoids saturate; with infinities and NaN. */
static float awkward_logit(int32_t kind)
{
    int32_t draw = rand();
    switch (kind) {
    case 0:
        return (float)(draw % 5);
    case 1:
        return nextafterf(3.0f, draw % 2 == 0 ? 4.0f : 2.0f);
    case 2:
        return 7.999f + (float)(draw % 64) * 0x1p-14f;
    case 3:
        return 10.0f + (float)(draw % 1000) * 0.02f;
    case 4:
        return draw % 3 == 0 ? -INFINITY : draw % 3 == 1 ? NAN : INFINITY;
    case 5:
        return draw % 2 == 0 ? -0.0f : 0.0f;
    default:
        return (float)draw / (float)RAND_MAX * 12.0f - 6.0f;
    }
}

Test(gate, chooses_as_a_plain_one_among_equal_near_and_saturated_scores)
{
    static const int32_t experts[] = {1, 7, 16, 24, 64};
    srand(5);
    for (int32_t round = 0; round < 20000; round++) {
        float logit[64];
        float bias[64];
        int32_t expected[GATE_TOP_K_MAX];
        int32_t expert[GATE_TOP_K_MAX];
        float weight[GATE_TOP_K_MAX];
        int32_t num_experts = experts[rand() % 5];
        struct gate_rule rule =
            plain(rand() % 2 == 0 ? GATE_SIGMOID : GATE_CHOSEN_SOFTMAX, num_experts, 1);
        if (num_experts % 8 == 0 && rand() % 2 == 0) {
            rule.num_groups = 4;
            rule.topk_groups = 1 + rand() % 4;
            rule.group_score = rule.score == GATE_SIGMOID ? GATE_GROUP_TOP2 : GATE_GROUP_MAX;
        }
        int32_t most = num_experts / rule.num_groups * rule.topk_groups;
        rule.top_k = 1 + rand() % (most < GATE_TOP_K_MAX ? most : GATE_TOP_K_MAX);
        for (int32_t e = 0; e < num_experts; e++) {
            logit[e] = awkward_logit(round % 8);
            bias[e] = (float)(rand() % 3) * 0.25f;
        }
        bool biased = rule.score == GATE_SIGMOID && rand() % 2 == 0;

        plain_gate(&rule, expected, logit, biased ? bias : NULL);
        cr_assert_eq(ref_gate(rule, 1, expert, weight, logit, biased ? bias : NULL), STATUS_OK);

        cr_assert_arr_eq(expert, expected, (size_t)rule.top_k * sizeof *expert,
                         "round %d: %d experts, top %d, %d groups", round, num_experts, rule.top_k,
                         rule.num_groups);
    }
}

Test(gate, exponentials_by_two_are_those_by_one)
{
    for (int32_t i = -80000; i <= 80000; i++) {
        exp_pair x = {i * 0.01 + 0.003, i * 0.34657359027997264}; /* the second: halves of ln 2 */
        exp_pair both = gate_exp_pair(x);
        cr_assert(memcmp(&(double){both[0]}, &(double){gate_exp(x[0])}, sizeof(double)) == 0);
        cr_assert(memcmp(&(double){both[1]}, &(double){gate_exp(x[1])}, sizeof(double)) == 0);
    }
    const double odd[] = {
        (double)NAN, (double)INFINITY, -(double)INFINITY, 0.0, -0.0, 709.0, -708.0, -708.5};
    for (int32_t i = 0; i < 8; i++) {
        exp_pair both = gate_exp_pair((exp_pair){odd[i], 1.0});
        cr_assert(memcmp(&(double){both[0]}, &(double){gate_exp(odd[i])}, sizeof(double)) == 0);
    }
}
