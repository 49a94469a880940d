/*
 * relocate_search.c -- exchanges and copies between the busiest ranks and lighter ones.
 *
 * With two ranks at a and b and m = (a + b) / 2, an exchange that moves d leaves a - d and b + d;
 * their powers' sum is even in d - (a - b) / 2 and rises with its distance from 0. So the best
 * exchange of a pair of ranks is the one whose d is nearest to (a - b) / 2, and needs no power.
 *
 * What a copy takes off the busiest rank, and off the others that hold the expert, does not depend
 * on where it goes. It is known before any slot is looked at; few slots then can beat the best.
 */
#include <math.h>
#include <string.h>

#include "balance/relocate.h"

#define COLD_RANKS 4 /* lightest ranks that are looked at once a change has been found */

/* Puts expert into slot, and what slot held into back unless that is -1. */
struct change {
    int32_t slot;
    int32_t expert;
    int32_t back;
    double gain; /* tokens, price taken off */
};

static bool held_in_force(const struct relocate *relocate, int32_t rank, int32_t expert)
{
    return (*relocate_flags(relocate, rank, expert) & RELOCATE_IN_FORCE) != 0;
}

/* Of a move of expert to rank from its nearest holder. */
static double move_price(const struct relocate *relocate, int32_t rank, int32_t expert)
{
    int32_t node = relocate->node_of_rank[rank];
    for (int32_t slot = relocate->first_of[expert]; slot >= 0; slot = relocate->next_of[slot]) {
        if (relocate->node_of_rank[relocate->rank_of_slot[slot]] == node) {
            return relocate->near_price;
        }
    }
    return relocate->far_price;
}

/* That rank gets expert for old: nothing where it holds the expert in force; and old, if it came
 * with this plan, need not come. */
static double price(const struct relocate *relocate, int32_t rank, int32_t expert, int32_t old)
{
    double refund = held_in_force(relocate, rank, old) ? 0.0 : relocate->near_price;
    return held_in_force(relocate, rank, expert) ? -refund
                                                 : move_price(relocate, rank, expert) - refund;
}

/* The exchange of the pair of ranks that evens it best. */
static void try_exchange(const struct relocate *relocate, struct change *best, int32_t hot,
                         int32_t cold)
{
    int32_t count = relocate->slots_per_rank;
    int32_t hot_at = -1;
    int32_t cold_at = -1;
    double half = 0.5 * (relocate->load[hot] - relocate->load[cold]);
    double off = half;
    for (int32_t i = hot * count; i < (hot + 1) * count; i++) {
        double wanted = relocate->slot_tokens[i] - half;
        if (wanted <= -off || relocate_holds(relocate, cold, relocate->fresh[i])) {
            continue;
        }
        for (int32_t j = cold * count; j < (cold + 1) * count; j++) {
            double distance = fabs(wanted - relocate->slot_tokens[j]);
            if (distance < off && !relocate_holds(relocate, hot, relocate->fresh[j])) {
                off = distance;
                hot_at = i;
                cold_at = j;
            }
        }
    }
    if (hot_at < 0) {
        return;
    }
    int32_t leaves = relocate->fresh[hot_at];
    int32_t comes = relocate->fresh[cold_at];
    double even = 0.5 * (relocate->load[hot] + relocate->load[cold]);
    double gain = relocate->worth *
                  (relocate->power[hot] + relocate->power[cold] -
                   relocate_power(relocate, even - off) - relocate_power(relocate, even + off));
    if (gain > best->gain) {
        gain -= price(relocate, cold, leaves, comes) + price(relocate, hot, comes, leaves);
        if (gain > best->gain) {
            *best = (struct change){cold_at, leaves, hot_at, gain};
        }
    }
}

/* The sum of powers that holders of expert, apart from the two ranks, lose when each gets more
 * tokens. */
static double others_lose(const struct relocate *relocate, int32_t expert, double more_tokens,
                          int32_t hot, int32_t cold)
{
    double powers = 0.0;
    for (int32_t slot = relocate->first_of[expert]; slot >= 0; slot = relocate->next_of[slot]) {
        int32_t rank = relocate->rank_of_slot[slot];
        if (rank != hot && rank != cold) {
            powers += relocate->power[rank] -
                      relocate_power(relocate, relocate->load[rank] + more_tokens);
        }
    }
    return powers;
}

/* What one more copy of each expert of the busiest rank takes off all that hold it, and where it
 * could be copied from. */
static void set_relief(const struct relocate *relocate, int32_t hot)
{
    int32_t num_nodes = relocate->input->num_nodes;
    memset(relocate->near, 0, (size_t)relocate->slots_per_rank * (size_t)num_nodes);
    for (int32_t i = 0; i < relocate->slots_per_rank; i++) {
        int32_t expert = relocate->fresh[hot * relocate->slots_per_rank + i];
        double less = relocate->more[expert] - relocate->own[expert];
        relocate->others[i] = others_lose(relocate, expert, less, hot, hot);
        relocate->relief[i] = relocate->others[i] + relocate->power[hot] -
                              relocate_power(relocate, relocate->load[hot] + less);
        for (int32_t slot = relocate->first_of[expert]; slot >= 0; slot = relocate->next_of[slot]) {
            int32_t node = relocate->node_of_rank[relocate->rank_of_slot[slot]];
            relocate->near[i * num_nodes + node] = 1;
        }
        int32_t at = i;
        for (; at > 0 && relocate->relief[relocate->by_relief[at - 1]] < relocate->relief[i];
             at--) {
            relocate->by_relief[at] = relocate->by_relief[at - 1];
        }
        relocate->by_relief[at] = i;
    }
}

/* What a copy of the busiest rank's i-th expert takes off it, when old is dropped elsewhere: its
 * other replicas, which the busiest rank may hold, get heavier. */
static double relief_without(const struct relocate *relocate, int32_t hot, int32_t i, int32_t old)
{
    if (!relocate_holds(relocate, hot, old)) {
        return relocate->relief[i];
    }
    int32_t expert = relocate->fresh[hot * relocate->slots_per_rank + i];
    double hot_load = relocate->load[hot] + relocate->more[expert] - relocate->own[expert] +
                      relocate->fewer[old] - relocate->own[old];
    return relocate->others[i] + relocate->power[hot] - relocate_power(relocate, hot_load);
}

/* Copies of the busiest rank's experts into one slot, whose expert has other replicas. */
static void try_copies(const struct relocate *relocate, struct change *best, int32_t hot,
                       int32_t slot)
{
    int32_t cold = relocate->rank_of_slot[slot];
    int32_t old = relocate->fresh[slot];
    const uint8_t *near = relocate->near + relocate->node_of_rank[cold];
    const int32_t *hot_expert = relocate->fresh + hot * relocate->slots_per_rank;
    double cold_power = relocate->power[cold];
    double cold_load = relocate->load[cold] - relocate->own[old];
    double refund = held_in_force(relocate, cold, old) ? 0.0 : relocate->near_price;
    double old_powers = 1.0; /* not yet known: it is never above 0 */
    for (int32_t at = 0; at < relocate->slots_per_rank; at++) {
        int32_t i = relocate->by_relief[at];
        double most = relocate->worth * (relocate->relief[i] + cold_power) + refund;
        if (most <= best->gain) {
            return; /* what comes behind takes even less off */
        }
        uint8_t flags = *relocate_flags(relocate, cold, hot_expert[i]);
        double cost = (flags & RELOCATE_IN_FORCE) != 0            ? 0.0
                      : near[i * relocate->input->num_nodes] != 0 ? relocate->near_price
                                                                  : relocate->far_price;
        double cold_after = cold_load + relocate->more[hot_expert[i]];
        if (most - cost <= best->gain || (flags & RELOCATE_FRESH) != 0 ||
            cold_after >= relocate->load[hot]) {
            continue;
        }
        double powers = relief_without(relocate, hot, i, old) + cold_power -
                        relocate_power(relocate, cold_after);
        if (relocate->worth * powers + refund - cost <= best->gain) {
            continue;
        }
        if (old_powers > 0.0) {
            double old_more = relocate->fewer[old] - relocate->own[old];
            old_powers = others_lose(relocate, old, old_more, hot, cold);
        }
        double gain = relocate->worth * (powers + old_powers) + refund - cost;
        if (gain > best->gain) {
            *best = (struct change){slot, hot_expert[i], -1, gain};
        }
    }
}

/* The least that bringing one of the busiest rank's experts costs, less the most that is saved when
 * something need not come. */
static double least_price(const struct relocate *relocate, int32_t hot, int32_t cold)
{
    const int32_t *hot_expert = relocate->fresh + hot * relocate->slots_per_rank;
    const int32_t *cold_expert = relocate->fresh + cold * relocate->slots_per_rank;
    const uint8_t *near = relocate->near + relocate->node_of_rank[cold];
    const uint8_t *flags = relocate_flags(relocate, cold, 0);
    double least = relocate->far_price;
    double refund = 0.0;
    for (int32_t i = 0; i < relocate->slots_per_rank; i++) {
        uint8_t held = flags[hot_expert[i]];
        bool is_near = held == 0 && near[i * relocate->input->num_nodes] != 0;
        least = is_near && relocate->near_price < least ? relocate->near_price : least;
        least = held == RELOCATE_IN_FORCE ? 0.0 : least;
        refund = (flags[cold_expert[i]] & RELOCATE_IN_FORCE) == 0 ? relocate->near_price : refund;
    }
    return least - refund;
}

/* The best change that relieves the rank; its gain is RELOCATE_GAIN_MIN if there is none. */
static struct change best_change(const struct relocate *relocate, int32_t hot)
{
    struct change best = {.gain = RELOCATE_GAIN_MIN};
    set_relief(relocate, hot);
    for (int32_t i = 0; relocate->order[i] != hot; i++) {
        int32_t cold = relocate->order[i];
        double even = relocate_power(relocate, 0.5 * (relocate->load[hot] + relocate->load[cold]));
        double most = relocate->worth * (relocate->power[hot] + relocate->power[cold] - 2.0 * even);
        if (most <= best.gain + relocate->near_price ||
            (i >= COLD_RANKS && best.gain > RELOCATE_GAIN_MIN)) {
            break; /* heavier ranks take even less off, and a move costs that */
        }
        double price = least_price(relocate, hot, cold);
        double relief = relocate->relief[relocate->by_relief[0]] + relocate->power[cold];
        if (most - price > best.gain) {
            try_exchange(relocate, &best, hot, cold);
        }
        for (int32_t j = 0; j < relocate->slots_per_rank; j++) {
            int32_t slot = cold * relocate->slots_per_rank + j;
            if (relocate->worth * relief - price > best.gain &&
                relocate->replicas[relocate->fresh[slot]] > 1) {
                try_copies(relocate, &best, hot, slot);
            }
        }
    }
    return best;
}

void relocate_improve(struct relocate *relocate)
{
    for (int32_t round = 0; round < 4 * relocate->input->num_slots; round++) {
        struct change best = best_change(relocate, relocate->order[relocate->input->num_ranks - 1]);
        if (best.gain <= RELOCATE_GAIN_MIN) {
            return;
        }
        relocate_make(relocate, best.slot, best.expert, best.back);
        relocate_sort(relocate);
    }
}
