/*
 * gate_weight -- the highest gate weights of an expert keep it; of equal ones, the earlier token.
 *
 * Source: Megatron-LM, moe_utils.py @ d98e8a6, drop policy "probs".
 *
 * Wishes are grouped by expert with a counting sort. In an over-full group a radix select finds the
 * C-th highest weight, one byte of the weight a round, so the whole is linear whatever the weights.
 */
#include "route/route.h"

#include <assert.h>
#include <string.h>

#define DIGIT_BITS 8
#define NUM_DIGITS (1 << DIGIT_BITS)

/* An unsigned integer that orders as the float does; the sum turns -0 into +0. */
static uint32_t weight_key(float gate_weight)
{
    float weight = gate_weight + 0.0f;
    uint32_t bits;
    memcpy(&bits, &weight, sizeof bits);
    return bits >> 31 != 0 ? ~bits : bits | UINT32_C(0x80000000);
}

/* The keep-th highest key of a group, and in *ties_kept how many wishes with just that key stay. */
static uint32_t select_threshold(const struct route *route, const int32_t *wish, int32_t count,
                                 int32_t keep, int32_t *ties_kept)
{
    assert(keep >= 1 && keep < count);
    uint32_t threshold = 0;
    uint32_t known = 0; /* mask of the bits of threshold that are decided */
    for (int32_t shift = 32 - DIGIT_BITS; shift >= 0; shift -= DIGIT_BITS) {
        int32_t histogram[NUM_DIGITS] = {0};
        for (int32_t i = 0; i < count; i++) {
            uint32_t key = weight_key(route->gate_weight[wish[i]]);
            if ((key & known) == threshold) {
                histogram[key >> shift & (NUM_DIGITS - 1)]++;
            }
        }
        int32_t digit = NUM_DIGITS - 1;
        while (histogram[digit] < keep) {
            keep -= histogram[digit]; /* all higher ones stay */
            digit--;
            assert(digit >= 0);
        }
        threshold |= (uint32_t)digit << shift;
        known |= (uint32_t)(NUM_DIGITS - 1) << shift;
    }
    *ties_kept = keep;
    return threshold;
}

static void drop_light_wishes(struct route *route, const int32_t *wish, int32_t count, int32_t keep)
{
    int32_t ties_kept;
    uint32_t threshold = select_threshold(route, wish, count, keep, &ties_kept);
    for (int32_t i = 0; i < count; i++) {
        uint32_t key = weight_key(route->gate_weight[wish[i]]);
        bool tie = key == threshold;
        route->dropped[wish[i]] = key < threshold || (tie && ties_kept <= 0);
        ties_kept -= tie;
    }
}

static int64_t drop_light_tokens(struct route *route, int32_t first, int32_t count,
                                 int64_t capacity_assignments, int32_t *work)
{
    int32_t *group_end = work; /* [num_experts + 1] begins until a group is filled */
    int32_t *wish = work + route->num_experts + 1; /* [count][top_k] by expert, then token */
    int32_t begin = first * route->top_k;
    int32_t end = (first + count) * route->top_k;
    memset(group_end, 0, ((size_t)route->num_experts + 1) * sizeof *group_end);
    for (int32_t i = begin; i < end; i++) {
        route->dropped[i] = false;
        group_end[route->expert[i] + 1]++; /* EXPERT_NOT_ROUTED is -1: those are counted in [0] */
    }
    group_end[0] = 0;
    for (int32_t expert = 0; expert < route->num_experts; expert++) {
        group_end[expert + 1] += group_end[expert];
    }
    for (int32_t i = begin; i < end; i++) {
        if (route->expert[i] != EXPERT_NOT_ROUTED) {
            wish[group_end[route->expert[i]]++] = i;
        }
    }
    int64_t dropped = 0;
    int32_t group_begin = 0;
    for (int32_t expert = 0; expert < route->num_experts; expert++) {
        int32_t group_count = group_end[expert] - group_begin;
        if (group_count > capacity_assignments) {
            drop_light_wishes(route, wish + group_begin, group_count,
                              (int32_t)capacity_assignments);
            dropped += group_count - capacity_assignments;
        }
        group_begin = group_end[expert];
    }
    return dropped;
}

const struct drop_policy drop_gate_weight = {
    .name = "gate_weight",
    .summary = "the highest gate weights of an expert keep it",
    .source = "Megatron-LM moe_utils.py @ d98e8a6",
    .drop = drop_light_tokens,
};
