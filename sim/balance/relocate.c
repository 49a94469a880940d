/* relocate.c -- a layer's slots, what ranks hold and carry, and who has how many replicas. */
#include "balance/relocate.h"

#include <math.h>
#include <string.h>

#include "balance/deal.h"

static void weigh_expert(struct relocate *relocate, int32_t expert)
{
    double tokens = relocate->tokens[expert];
    int32_t replicas = relocate->replicas[expert];
    relocate->own[expert] = tokens / replicas;
    relocate->more[expert] = tokens / (replicas + 1);
    relocate->fewer[expert] = replicas > 1 ? tokens / (replicas - 1) : HUGE_VAL;
}

/* Always summed in the order of slots, so a load is a function of the placement alone. */
static void weigh_rank(struct relocate *relocate, int32_t rank)
{
    double load = 0.0;
    int32_t first = rank * relocate->slots_per_rank;
    for (int32_t slot = first; slot < first + relocate->slots_per_rank; slot++) {
        relocate->slot_tokens[slot] = relocate->own[relocate->fresh[slot]];
        load += relocate->slot_tokens[slot];
    }
    relocate->load[rank] = load;
    relocate->power[rank] = relocate_power(relocate, load);
}

static void weigh_holders(struct relocate *relocate, int32_t expert)
{
    for (int32_t slot = relocate->first_of[expert]; slot >= 0; slot = relocate->next_of[slot]) {
        weigh_rank(relocate, relocate->rank_of_slot[slot]);
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

double relocate_norm_least(const struct relocate *relocate)
{
    return root_of(relocate->input->num_ranks) / relocate->scale;
}

/* Ranks by load, and the slope of the norm S^(1/p): S^(1/p) / (p S). */
void relocate_sort(struct relocate *relocate)
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
    int32_t rank = relocate->rank_of_slot[slot];
    if (!deal_holds(relocate->fresh + rank * relocate->slots_per_rank, relocate->slots_per_rank,
                    old)) {
        *relocate_flags(relocate, rank, old) &= (uint8_t)~RELOCATE_FRESH;
    }
    *relocate_flags(relocate, rank, expert) |= RELOCATE_FRESH;
}

void relocate_make(struct relocate *relocate, int32_t slot, int32_t expert, int32_t back)
{
    int32_t old = relocate->fresh[slot];
    put(relocate, slot, expert);
    if (back >= 0) {
        put(relocate, back, old);
    } else {
        weigh_expert(relocate, expert);
        weigh_expert(relocate, old);
    }
    weigh_holders(relocate, expert);
    weigh_holders(relocate, old);
}

void relocate_start(struct relocate *relocate, const int32_t *in_force)
{
    const struct balance_input *input = relocate->input;
    double sum = 0.0;
    memset(relocate->replicas, 0, (size_t)input->num_experts * sizeof *relocate->replicas);
    for (int32_t expert = 0; expert < input->num_experts; expert++) {
        relocate->first_of[expert] = -1;
    }
    memset(relocate->holds, 0, (size_t)input->num_ranks * (size_t)input->num_experts);
    for (int32_t slot = 0; slot < input->num_slots; slot++) {
        int32_t expert = relocate->fresh[slot];
        int32_t rank = relocate->rank_of_slot[slot];
        *relocate_flags(relocate, rank, expert) |= RELOCATE_FRESH;
        *relocate_flags(relocate, rank, in_force[slot]) |= RELOCATE_IN_FORCE;
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
    relocate_sort(relocate);
}
