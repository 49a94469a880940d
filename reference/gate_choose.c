/*
 * gate_choose.c -- the k best without branches on scores: nobody can guess those.
 *
 * The experts are dealt to LANES lanes. The k-th best of the lanes' best is no better than the k-th
 * best expert, so whoever is below it is out; the few that are left are ranked by comparing each
 * with each.
 *
 * Sigmoids are dear and keep the order of logits, but may round different ones to one number, and
 * of equals the smaller id is chosen. So sigmoids are taken of those alone that could round to the
 * k-th's: logits less than SIGMOID_MARGIN below the bound.
 */
#include "gate_choose.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "gate.h"
#include "gate_lanes.h"

/* Up to a logit of 8 a sigmoid rises by 3.3e-4 and more a unit, and a float32 below 1 has 6e-8
 * between it and the next: logits 2^-10 apart are five of those apart. */
#define SIGMOID_MARGIN    0x1p-10f
#define SIGMOID_LOGIT_MAX 8.0f

#define LANES             GATE_PAD
#define VECTORS           4  /* of four lanes */
#define RANKED_MAX        96 /* more are left only where many are equal: those are inserted */

typedef float float_lanes __attribute__((vector_size(16)));
typedef int32_t mask_lanes __attribute__((vector_size(16)));

static const float_lanes lowest = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};

/* Experts that may be among the k best, by ascending position. */
struct candidates {
    int32_t count;
    int32_t position[GATE_EXPERTS_MAX + 1];
    float score[GATE_EXPERTS_MAX + 2];
};

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

void gate_pad(float *score, int32_t count)
{
    for (int32_t i = 0; i < VECTORS; i++) {
        memcpy(&score[count + 4 * i], &lowest, sizeof lowest);
    }
}

/* At least top_k scores are as good as what this returns. */
static float lower_bound(const float *score, int32_t count, int32_t top_k)
{
    float_lanes a = lowest; /* by name, so that they stay in registers */
    float_lanes b = lowest;
    float_lanes c = lowest;
    float_lanes d = lowest;
    float lane[LANES];
    for (int32_t i = 0; i < count; i += LANES) {
        a = larger(load_lanes(&score[i]), a);
        b = larger(load_lanes(&score[i + 4]), b);
        c = larger(load_lanes(&score[i + 8]), c);
        d = larger(load_lanes(&score[i + 12]), d);
    }
    const float_lanes best[VECTORS] = {a, b, c, d};
    mask_lanes better_a = {0};
    mask_lanes better_b = {0};
    mask_lanes better_c = {0};
    mask_lanes better_d = {0};
    memcpy(lane, best, sizeof lane);
    for (int32_t i = 0; i < LANES; i++) { /* a mask is -1 */
        better_a -= lane[i] > a;
        better_b -= lane[i] > b;
        better_c -= lane[i] > c;
        better_d -= lane[i] > d;
    }
    const mask_lanes better[VECTORS] = {better_a, better_b, better_c, better_d};
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

void gate_choose(int32_t *chosen, const float *score, int32_t count, int32_t top_k, bool of_logits)
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

void gate_load(float *clean, const float *logits, int32_t num_experts)
{
    memcpy(clean, logits, (size_t)num_experts * sizeof *logits);
    gate_pad(clean, num_experts);
    for (int32_t expert = 0; expert < num_experts; expert += 4) {
        float_lanes logit = load_lanes(&clean[expert]);
        logit = select_lanes(logit == logit, logit, lowest);
        memcpy(&clean[expert], &logit, sizeof logit);
    }
}

float gate_largest(const float *logit, int32_t count)
{
    float_lanes largest = lowest;
    for (int32_t i = 0; i < count; i += 4) {
        largest = larger(load_lanes(&logit[i]), largest);
    }
    float low = largest[0] > largest[1] ? largest[0] : largest[1];
    float high = largest[2] > largest[3] ? largest[2] : largest[3];
    return low > high ? low : high;
}

void ref_top_k(int32_t *chosen, const float *score, int32_t count, int32_t top_k)
{
    float clean[GATE_EXPERTS_MAX + GATE_PAD];
    gate_load(clean, score, count);
    gate_choose(chosen, clean, count, top_k, false);
}
