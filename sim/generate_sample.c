/*
 * generate_sample.c -- draws a token's experts from a request's law.
 *
 * Experts are drawn one after the other by weight, repeats and barred groups rejected. That is the
 * law of the top k of log(weight) + Gumbel noise (Plackett-Luce: Yellott 1977, J. Math. Psychology
 * 15), so the order of drawing is the order of scores, best first. DeepSeek-V3 (arXiv 2412.19437,
 * 2.1.2) bars groups before it picks experts; here the first topk_groups groups that come up are
 * the token's.
 */
#include "generate_internal.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>

#include <gsl/gsl_cdf.h>

/* Rejections in a row after which an exact draw is cheaper than another try. */
#define REJECTIONS_MAX 64

void generate_normal_init(struct generate_normal *normal)
{
    for (int32_t i = 0; i < NORMAL_SIZE; i++) {
        double z = gsl_cdf_ugaussian_Pinv((i + 0.5) / NORMAL_SIZE);
        normal->z[i] = round(z * 0x1p20) * 0x1p-20;
    }
}

double generate_normal_draw(const struct generate_normal *normal, gsl_rng *rng)
{
    return normal->z[gsl_rng_get(rng) >> (32 - NORMAL_BITS)];
}

void generate_factors_init(struct generate_factors *factors, const struct generate_normal *normal,
                           double sigma)
{
    for (int32_t i = 0; i < NORMAL_SIZE; i++) {
        double factor = exp(sigma * normal->z[i] - sigma * sigma / 2);
        factors->factor[i] = (uint32_t)lround(factor * FACTOR_ONE);
    }
}

void generate_table_init(struct generate_table *table, const struct generate_preset *preset)
{
    *table = (struct generate_table){
        .num_experts = preset->num_experts,
        .top_k = preset->top_k,
        .topk_groups = preset->topk_groups,
        .group_experts = preset->num_experts / preset->num_expert_groups,
    };
    for (int32_t expert = 0; expert < table->num_experts; expert++) {
        table->group[expert] = (uint8_t)(expert / table->group_experts);
    }
}

/* Vose 1991 (IEEE Trans. Software Eng. 17): columns short of the mean are filled up from those
 * above it. Sums are integers below 2^43; only the threshold is scaled, by one exact-enough
 * multiplication that every IEEE machine rounds alike. */
static void alias_build(struct generate_table *table)
{
    uint64_t rest[GENERATE_EXPERTS_MAX];
    uint16_t small[GENERATE_EXPERTS_MAX];
    uint16_t large[GENERATE_EXPERTS_MAX];
    int32_t num_small = 0;
    int32_t num_large = 0;
    uint64_t total = 0;
    for (int32_t expert = 0; expert < table->num_experts; expert++) {
        total += table->weight[expert];
    }
    for (int32_t expert = 0; expert < table->num_experts; expert++) {
        rest[expert] = (uint64_t)table->weight[expert] * (uint64_t)table->num_experts;
        if (rest[expert] < total) {
            small[num_small++] = (uint16_t)expert;
        } else {
            large[num_large++] = (uint16_t)expert;
        }
    }
    double scale = 0x1p32 / (double)total;
    while (num_small > 0 && num_large > 0) { /* each round finishes one column */
        uint16_t lower = small[--num_small];
        uint16_t upper = large[num_large - 1];
        table->threshold[lower] = (uint32_t)((double)rest[lower] * scale);
        table->other[lower] = upper;
        rest[upper] -= total - rest[lower];
        if (rest[upper] < total) {
            num_large--;
            small[num_small++] = upper;
        }
    }
    assert(num_small == 0); /* the columns' sum is exact, so the last ones are full */
    while (num_large > 0) {
        uint16_t full = large[--num_large];
        table->threshold[full] = UINT32_MAX;
        table->other[full] = full;
    }
}

void generate_table_set(struct generate_table *table, const uint32_t *base_weight,
                        const uint32_t *factor)
{
    for (int32_t expert = 0; expert < table->num_experts; expert++) {
        uint64_t weight = (uint64_t)base_weight[expert] * factor[expert] / FACTOR_ONE;
        if (weight > UINT32_MAX) {
            weight = UINT32_MAX;
        }
        table->weight[expert] = weight == 0 ? 1 : (uint32_t)weight; /* nobody is impossible */
        table->token_of[expert] = 0;
    }
    table->token = 0;
    alias_build(table);
}

struct generate_choice generate_token_begin(struct generate_table *table)
{
    table->token++;
    assert(table->token != 0); /* a request has fewer than 2^32 tokens */
    return (struct generate_choice){.groups = UINT64_MAX};
}

static bool is_allowed(const struct generate_table *table, const struct generate_choice *choice,
                       int32_t expert)
{
    return table->token_of[expert] != table->token &&
           ((choice->groups >> table->group[expert]) & 1) != 0;
}

/* For laws so skewed that what is still allowed is hardly ever hit. */
static int32_t draw_exactly(const struct generate_table *table,
                            const struct generate_choice *choice, gsl_rng *rng)
{
    uint64_t total = 0;
    for (int32_t expert = 0; expert < table->num_experts; expert++) {
        total += is_allowed(table, choice, expert) ? table->weight[expert] : 0;
    }
    assert(total > 0); /* the preset's check: the groups allowed hold at least top_k experts */
    double point = (double)gsl_rng_get(rng) * 0x1p-32 * (double)total;
    int32_t chosen = -1;
    for (int32_t expert = 0; expert < table->num_experts && point >= 0; expert++) {
        if (is_allowed(table, choice, expert)) {
            chosen = expert;
            point -= (double)table->weight[expert];
        }
    }
    return chosen;
}

int32_t generate_token_next(struct generate_table *table, struct generate_choice *choice,
                            gsl_rng *rng)
{
    int32_t expert = -1;
    for (int32_t tries = 0; tries < REJECTIONS_MAX; tries++) {
        uint64_t place = (uint64_t)gsl_rng_get(rng) * (uint64_t)table->num_experts;
        int32_t column = (int32_t)(place >> 32);
        int32_t hit = (uint32_t)place < table->threshold[column] ? column : table->other[column];
        if (is_allowed(table, choice, hit)) {
            expert = hit;
            break;
        }
    }
    if (expert < 0) {
        expert = draw_exactly(table, choice, rng);
    }
    table->token_of[expert] = table->token;
    uint64_t group = UINT64_C(1) << table->group[expert];
    if ((choice->groups_seen & group) == 0) {
        choice->groups_seen |= group;
        choice->num_groups_seen++;
        if (choice->num_groups_seen == table->topk_groups) {
            choice->groups = choice->groups_seen;
        }
    }
    return expert;
}
