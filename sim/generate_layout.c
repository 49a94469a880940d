/*
 * generate_layout.c -- how popular each expert of a layer is, over all requests.
 *
 * By rank the shares follow a lognormal law below a given hottest expert. With its one free
 * parameter fitted to the top-32 share, 249 of a layer's 256 experts on average fall into the bins
 * of the histograms measured on DeepSeek-R1 (johanna-rock/moe-balance @ 700358b), so no histogram
 * is needed. By place, neighbours are alike: ranks are those of a normal number with a part that
 * neighbour_experts in a row have in common.
 */
#include "generate_internal.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include <gsl/gsl_cdf.h>

#include "rng.h"

#define SIGMA_MAX      4.0
#define BISECTIONS     40
#define SECOND_LIMIT   0.95 /* of the hottest: so that noise seldom swaps them */
#define SHARE_MISMATCH 1e-6

/* The law by rank for one sigma, and the share of its head. quantile[num_experts] descends. */
static double lognormal_shares(double *share, const double *quantile, int32_t num_experts,
                               double hottest, double sigma)
{
    double cap = hottest * SECOND_LIMIT;
    double sum = 0;
    share[0] = hottest;
    for (int32_t rank = num_experts - 1; rank >= 1; rank--) {
        share[rank] = exp(sigma * quantile[rank]);
        sum += share[rank];
    }
    double rest = 1 - hottest; /* of all activations, for the ranks that are not capped */
    int32_t capped = 1;        /* the first rank that is not */
    while (capped < num_experts && share[capped] * rest > cap * sum) {
        sum -= share[capped];
        rest -= cap;
        share[capped++] = cap;
    }
    for (int32_t rank = capped; rank < num_experts; rank++) {
        share[rank] *= rest / sum;
    }
    double head = 0;
    for (int32_t rank = 0; rank < GENERATE_HEAD; rank++) {
        head += share[rank];
    }
    return head;
}

bool generate_shares(double *share, const struct generate_layer *layer, int32_t num_experts)
{
    assert(num_experts > GENERATE_HEAD);
    assert(num_experts <= GENERATE_EXPERTS_MAX);
    double quantile[GENERATE_EXPERTS_MAX];
    for (int32_t rank = 0; rank < num_experts; rank++) {
        quantile[rank] = gsl_cdf_ugaussian_Qinv((rank + 0.5) / num_experts);
    }
    double hottest = layer->hottest_percent / 100;
    double head = layer->top32_percent / 100;
    double low = 0;
    double high = SIGMA_MAX;
    for (int32_t i = 0; i < BISECTIONS; i++) { /* the head's share grows with sigma */
        double middle = (low + high) / 2;
        if (lognormal_shares(share, quantile, num_experts, hottest, middle) < head) {
            low = middle;
        } else {
            high = middle;
        }
    }
    double reached = lognormal_shares(share, quantile, num_experts, hottest, low);
    for (int32_t rank = 0; rank < num_experts; rank++) {
        share[rank] = round(share[rank] * 0x1p30) * 0x1p-30;
    }
    return fabs(reached - head) < SHARE_MISMATCH && share[num_experts - 1] > 0 &&
           share[1] <= hottest;
}

struct place {
    double score;
    int32_t expert;
};

static int place_order(const void *a, const void *b)
{
    const struct place *left = a;
    const struct place *right = b;
    if (left->score != right->score) {
        return left->score > right->score ? -1 : 1;
    }
    return left->expert < right->expert ? -1 : 1;
}

void generate_layout(double *target_share, const struct generate_preset *preset, int32_t layer,
                     uint64_t seed, const struct generate_normal *normal, gsl_rng *rng)
{
    double share[GENERATE_EXPERTS_MAX];
    struct place place[GENERATE_EXPERTS_MAX];
    bool possible = generate_shares(share, &preset->layer[layer], preset->num_experts);
    assert(possible); /* the preset was checked */
    rng_restream(rng, seed, "generate.layout", (uint64_t)layer);
    double common = sqrt(preset->neighbour_correlation);
    double own = sqrt(1 - preset->neighbour_correlation);
    double common_z = 0;
    for (int32_t expert = 0; expert < preset->num_experts; expert++) {
        if (expert % preset->neighbour_experts == 0) {
            common_z = generate_normal_draw(normal, rng);
        }
        double own_z = generate_normal_draw(normal, rng);
        place[expert] = (struct place){common * common_z + own * own_z, expert};
    }
    qsort(place, (size_t)preset->num_experts, sizeof place[0], place_order);
    for (int32_t rank = 0; rank < preset->num_experts; rank++) {
        target_share[place[rank].expert] = share[rank];
    }
}
