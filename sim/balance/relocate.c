/*
 * relocate.c -- exchanges and copies between the busiest ranks and lighter ones.
 *
 * With two ranks at a and b and m = (a + b) / 2, an exchange that moves d leaves a - d and b + d;
 * their powers' sum is even in d - (a - b) / 2 and rises with its distance from 0. So the best
 * exchange of a pair of ranks is the one whose d is nearest to (a - b) / 2, and needs no power.
 */
#include "balance/relocate.h"

#include <math.h>
#include <string.h>

#include "balance/deal.h"

#define HOT_RANKS 3    /* busiest ranks that are tried before the search ends */
#define GAIN_MIN  1e-6 /* tokens: more than rounding can pretend */

/* Puts expert into slot, and what slot held into back unless that is -1. */
struct change {
    int32_t slot;
    int32_t expert;
    int32_t back;
    double gain; /* tokens, price taken off */
};

static double power_of(const struct relocate *relocate, double load)
{
    double power = load * relocate->scale;
    for (int32_t exponent = RELOCATE_POWER; exponent > 1; exponent /= 2) {
        power *= power;
    }
    return power;
}

static uint8_t *holds(const struct relocate *relocate, int32_t rank, int32_t expert)
{
    return relocate->holds + (int64_t)rank * relocate->input->num_experts + expert;
}

static bool rank_holds(const struct relocate *relocate, int32_t rank, int32_t expert)
{
    return (*holds(relocate, rank, expert) & RELOCATE_FRESH) != 0;
}

static bool held_in_force(const struct relocate *relocate, int32_t rank, int32_t expert)
{
    return (*holds(relocate, rank, expert) & RELOCATE_IN_FORCE) != 0;
}

/* Of a move of expert to rank from its nearest holder. */
static double move_price(const struct relocate *relocate, int32_t rank, int32_t expert)
{
    int32_t node = rank / relocate->ranks_per_node;
    for (int32_t slot = relocate->first_of[expert]; slot >= 0; slot = relocate->next_of[slot]) {
        if (slot / relocate->slots_per_rank / relocate->ranks_per_node == node) {
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
    const int32_t *hot_expert = relocate->fresh + hot * relocate->slots_per_rank;
    const int32_t *cold_expert = relocate->fresh + cold * relocate->slots_per_rank;
    double half = 0.5 * (relocate->load[hot] - relocate->load[cold]);
    double off = half;
    int32_t hot_at = -1;
    int32_t cold_at = -1;
    for (int32_t i = 0; i < relocate->slots_per_rank; i++) {
        double wanted = relocate->own[hot_expert[i]] - half;
        for (int32_t j = 0; j < relocate->slots_per_rank; j++) {
            double distance = fabs(wanted - relocate->own[cold_expert[j]]);
            if (distance < off && !rank_holds(relocate, cold, hot_expert[i]) &&
                !rank_holds(relocate, hot, cold_expert[j])) {
                off = distance;
                hot_at = i;
                cold_at = j;
            }
        }
    }
    if (hot_at < 0) {
        return;
    }
    int32_t leaves = hot_expert[hot_at];
    int32_t comes = cold_expert[cold_at];
    double even = 0.5 * (relocate->load[hot] + relocate->load[cold]);
    double gain =
        relocate->worth * (relocate->power[hot] + relocate->power[cold] -
                           power_of(relocate, even - off) - power_of(relocate, even + off));
    if (gain > best->gain) {
        gain -= price(relocate, cold, leaves, comes) + price(relocate, hot, comes, leaves);
        if (gain > best->gain) {
            *best = (struct change){cold * relocate->slots_per_rank + cold_at, leaves,
                                    hot * relocate->slots_per_rank + hot_at, gain};
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
        int32_t rank = slot / relocate->slots_per_rank;
        if (rank != hot && rank != cold) {
            powers +=
                relocate->power[rank] - power_of(relocate, relocate->load[rank] + more_tokens);
        }
    }
    return powers;
}

/* Copies of the busiest rank's experts into one slot, whose expert has other replicas. */
static void try_copies(const struct relocate *relocate, struct change *best, int32_t hot,
                       int32_t slot)
{
    int32_t cold = slot / relocate->slots_per_rank;
    int32_t old = relocate->fresh[slot];
    double before = relocate->power[hot] + relocate->power[cold];
    double old_more = relocate->fewer[old] - relocate->own[old];
    double hot_load = relocate->load[hot] + (rank_holds(relocate, hot, old) ? old_more : 0.0);
    double cold_load = relocate->load[cold] - relocate->own[old];
    double old_powers = -1.0; /* not yet known */
    for (int32_t i = 0; i < relocate->slots_per_rank; i++) {
        int32_t expert = relocate->fresh[hot * relocate->slots_per_rank + i];
        double less = relocate->more[expert] - relocate->own[expert];
        double hot_after = hot_load + less;
        double cold_after = cold_load + relocate->more[expert];
        if (hot_after >= relocate->load[hot] || cold_after >= relocate->load[hot] ||
            expert == old) {
            continue;
        }
        double powers = before - power_of(relocate, hot_after) - power_of(relocate, cold_after);
        if (relocate->replicas[expert] > 1) {
            powers += others_lose(relocate, expert, less, hot, cold);
        }
        if (relocate->worth * powers <= best->gain || rank_holds(relocate, cold, expert)) {
            continue;
        }
        if (old_powers == -1.0) {
            old_powers = others_lose(relocate, old, old_more, hot, cold);
        }
        double gain = relocate->worth * (powers + old_powers) - price(relocate, cold, expert, old);
        if (gain > best->gain) {
            *best = (struct change){slot, expert, -1, gain};
        }
    }
}

/* The best change that relieves the rank; its gain is GAIN_MIN if there is none. */
static struct change best_change(const struct relocate *relocate, int32_t hot)
{
    struct change best = {.gain = GAIN_MIN};
    for (int32_t i = 0; relocate->order[i] != hot; i++) {
        int32_t cold = relocate->order[i];
        double even = power_of(relocate, 0.5 * (relocate->load[hot] + relocate->load[cold]));
        double most = relocate->worth * (relocate->power[hot] + relocate->power[cold] - 2.0 * even);
        if (most <= best.gain + relocate->near_price) {
            break; /* heavier ranks take even less off, and a move costs that */
        }
        try_exchange(relocate, &best, hot, cold);
        for (int32_t j = 0; j < relocate->slots_per_rank; j++) {
            int32_t slot = cold * relocate->slots_per_rank + j;
            if (relocate->replicas[relocate->fresh[slot]] > 1) {
                try_copies(relocate, &best, hot, slot);
            }
        }
    }
    return best;
}

static double weigh(const struct relocate *relocate, int32_t expert, int32_t replicas)
{
    double share = 1.0 / replicas;
    return (relocate->tokens[expert] + relocate->risk[expert] * share) * share;
}

static void weigh_expert(struct relocate *relocate, int32_t expert)
{
    int32_t replicas = relocate->replicas[expert];
    relocate->own[expert] = weigh(relocate, expert, replicas);
    relocate->more[expert] = weigh(relocate, expert, replicas + 1);
    relocate->fewer[expert] = replicas > 1 ? weigh(relocate, expert, replicas - 1) : HUGE_VAL;
}

/* Always summed in the order of slots, so a load is a function of the placement alone. */
static void weigh_rank(struct relocate *relocate, int32_t rank)
{
    double load = 0.0;
    for (int32_t i = 0; i < relocate->slots_per_rank; i++) {
        load += relocate->own[relocate->fresh[rank * relocate->slots_per_rank + i]];
    }
    relocate->load[rank] = load;
    relocate->power[rank] = power_of(relocate, load);
}

static void weigh_holders(struct relocate *relocate, int32_t expert)
{
    for (int32_t slot = relocate->first_of[expert]; slot >= 0; slot = relocate->next_of[slot]) {
        weigh_rank(relocate, slot / relocate->slots_per_rank);
    }
}

static double sum_of_powers(const struct relocate *relocate)
{
    double sum = 0.0;
    for (int32_t rank = 0; rank < relocate->input->num_ranks; rank++) {
        sum += relocate->power[rank];
    }
    return sum;
}

static double root_of(double power)
{
    for (int32_t exponent = RELOCATE_POWER; exponent > 1; exponent /= 2) {
        power = sqrt(power);
    }
    return power;
}

double relocate_norm(const struct relocate *relocate)
{
    return root_of(sum_of_powers(relocate)) / relocate->scale;
}

/* Ranks by load, and the slope of the norm S^(1/p): S^(1/p) / (p S). */
static void rank_all(struct relocate *relocate)
{
    const double *load = relocate->load;
    for (int32_t i = 1; i < relocate->input->num_ranks; i++) {
        int32_t rank = relocate->order[i];
        int32_t at = i;
        for (; at > 0; at--) {
            int32_t before = relocate->order[at - 1];
            if (load[before] < load[rank] || (load[before] == load[rank] && before < rank)) {
                break;
            }
            relocate->order[at] = before;
        }
        relocate->order[at] = rank;
    }
    double sum = sum_of_powers(relocate);
    relocate->worth = relocate->steps * root_of(sum) / (relocate->scale * RELOCATE_POWER * sum);
}

static void put(struct relocate *relocate, int32_t slot, int32_t expert)
{
    int32_t old = relocate->fresh[slot];
    int32_t *link = &relocate->first_of[old];
    while (*link != slot) {
        link = &relocate->next_of[*link];
    }
    *link = relocate->next_of[slot];
    relocate->next_of[slot] = relocate->first_of[expert];
    relocate->first_of[expert] = slot;
    relocate->fresh[slot] = expert;
    relocate->replicas[old]--;
    relocate->replicas[expert]++;
    int32_t rank = slot / relocate->slots_per_rank;
    if (!deal_holds(relocate->fresh + rank * relocate->slots_per_rank, relocate->slots_per_rank,
                    old)) {
        *holds(relocate, rank, old) &= (uint8_t)~RELOCATE_FRESH;
    }
    *holds(relocate, rank, expert) |= RELOCATE_FRESH;
}

static void make(struct relocate *relocate, const struct change *change)
{
    int32_t old = relocate->fresh[change->slot];
    put(relocate, change->slot, change->expert);
    if (change->back >= 0) {
        put(relocate, change->back, old);
    } else {
        weigh_expert(relocate, change->expert);
        weigh_expert(relocate, old);
    }
    weigh_holders(relocate, change->expert);
    weigh_holders(relocate, old);
    rank_all(relocate);
}

/* The slot of expert old on the lightest rank that lacks expert; -1: none. */
static int32_t lightest_slot(const struct relocate *relocate, int32_t old, int32_t expert)
{
    int32_t best = -1;
    double least = HUGE_VAL;
    for (int32_t slot = relocate->first_of[old]; slot >= 0; slot = relocate->next_of[slot]) {
        int32_t rank = slot / relocate->slots_per_rank;
        if (relocate->load[rank] < least && !rank_holds(relocate, rank, expert)) {
            best = slot;
            least = relocate->load[rank];
        }
    }
    return best;
}

void relocate_replicas(struct relocate *relocate)
{
    int32_t num_experts = relocate->input->num_experts;
    for (int32_t round = 0; round < relocate->input->num_slots; round++) {
        int32_t hottest = 0;
        int32_t coldest = 0; /* of those with replicas to spare */
        for (int32_t expert = 1; expert < num_experts; expert++) {
            hottest = relocate->own[expert] > relocate->own[hottest] ? expert : hottest;
            coldest = relocate->fewer[expert] < relocate->fewer[coldest] ? expert : coldest;
        }
        double after = relocate->more[hottest] > relocate->fewer[coldest]
                           ? relocate->more[hottest]
                           : relocate->fewer[coldest];
        double gain = relocate->steps * (relocate->own[hottest] - after);
        int32_t slot =
            gain > relocate->far_price + GAIN_MIN ? lightest_slot(relocate, coldest, hottest) : -1;
        if (slot < 0) {
            break;
        }
        put(relocate, slot, hottest);
        weigh_expert(relocate, hottest);
        weigh_expert(relocate, coldest);
        weigh_holders(relocate, hottest);
        weigh_holders(relocate, coldest);
    }
    rank_all(relocate);
}

void relocate_improve(struct relocate *relocate)
{
    int32_t num_ranks = relocate->input->num_ranks;
    int32_t tried = 0;
    for (int32_t round = 0; round < 4 * relocate->input->num_slots; round++) {
        struct change best = best_change(relocate, relocate->order[num_ranks - 1 - tried]);
        if (best.gain > GAIN_MIN) {
            make(relocate, &best);
            tried = 0;
        } else if (++tried == HOT_RANKS || tried == num_ranks) {
            return;
        }
    }
}

void relocate_start(struct relocate *relocate, const int32_t *in_force)
{
    const struct balance_input *input = relocate->input;
    double sum = 0.0;
    relocate->in_force = in_force;
    memset(relocate->replicas, 0, (size_t)input->num_experts * sizeof *relocate->replicas);
    for (int32_t expert = 0; expert < input->num_experts; expert++) {
        relocate->first_of[expert] = -1;
    }
    memset(relocate->holds, 0, (size_t)input->num_ranks * (size_t)input->num_experts);
    for (int32_t slot = 0; slot < input->num_slots; slot++) {
        int32_t expert = relocate->fresh[slot];
        int32_t rank = slot / relocate->slots_per_rank;
        *holds(relocate, rank, expert) |= RELOCATE_FRESH;
        *holds(relocate, rank, in_force[slot]) |= RELOCATE_IN_FORCE;
        relocate->replicas[expert]++;
        relocate->next_of[slot] = relocate->first_of[expert];
        relocate->first_of[expert] = slot;
    }
    for (int32_t expert = 0; expert < input->num_experts; expert++) {
        weigh_expert(relocate, expert);
        sum += relocate->tokens[expert];
    }
    relocate->scale = sum > 0.0 ? input->num_ranks / sum : 0.0;
    for (int32_t rank = 0; rank < input->num_ranks; rank++) {
        relocate->order[rank] = rank;
        weigh_rank(relocate, rank);
    }
    rank_all(relocate);
}
