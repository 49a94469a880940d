/*
 * omni -- drop replicas that do harm, then up to 32 exchanges and copies with the extreme ranks.
 *
 * Source: omni-infer @ c8bc2bb, omni_planner/cpp/dynamic_eplb_greedy.cpp. Loads are remembered as
 * 0.6 of what they were and 0.4 of the window's, but for windows that are even or whose busiest
 * rank has above 300 times the idlest's. Every change is judged by R, the busiest over the idlest
 * rank. First the busiest ranks above the mean give up replicas whose loss lowers R. Then, busiest
 * and idlest rank in turn, the best change of one slot with any slot of another rank is made: an
 * exchange, or (busiest only) a copy over an empty slot or another expert's replica, at most 10 an
 * expert. It ends below R = 1.1, after 32 changes or when two turns in a row find nothing.
 *
 * Differs: replicas have even shares of an expert's load (there each slot's own count, split and
 * merged in whole numbers). There slots may stay empty; here an empty slot takes what it held, or
 * the expert with the fewest tokens a replica if that leaves R lower.
 */
#include "balance/deal.h"

#include <string.h>

#define KEEP         0.6
#define R_ABSURD     300.0
#define R_ENOUGH     1.1
#define CHANGES_MAX  32
#define REPLICAS_MAX 10
#define EMPTY        (-1)

struct omni {
    struct deal_work work; /* fresh is the layer, tokens what is remembered, replicas of fresh */
    int32_t num_ranks, num_slots, slots_per_rank;
    double *trial;       /* [num_ranks] */
    int32_t *slot_of;    /* [num_slots] of fresh, by expert */
    int32_t *slot_begin; /* [num_experts + 1] */
    uint8_t *excluded;   /* [num_ranks] */
    int32_t num_experts;
};

/* Exchanges two slots, or copies source's expert over target. */
struct change {
    int32_t source_slot; /* -1: no change */
    int32_t target_slot;
    bool is_copy;
};

/* No rank counts for less than one token. */
static double extremes_ratio(const double *rank_tokens, int32_t num_ranks)
{
    double most = 1.0;
    double least = rank_tokens[0];
    for (int32_t rank = 0; rank < num_ranks; rank++) {
        most = rank_tokens[rank] > most ? rank_tokens[rank] : most;
        least = rank_tokens[rank] < least ? rank_tokens[rank] : least;
    }
    return most / (least > 1.0 ? least : 1.0);
}

static double slot_tokens(const struct omni *omni, int32_t slot)
{
    int32_t expert = omni->work.fresh[slot];
    return expert == EMPTY ? 0.0 : omni->work.tokens[expert] / omni->work.replicas[expert];
}

/* Counts replicas, lists slots by expert and sums ranks, after a change of fresh. */
static void index_layer(struct omni *omni)
{
    struct deal_work *work = &omni->work;
    int32_t *begin = omni->slot_begin;
    memset(begin, 0, ((size_t)omni->num_experts + 1) * sizeof *begin);
    memset(work->rank_tokens, 0, (size_t)omni->num_ranks * sizeof *work->rank_tokens);
    for (int32_t slot = 0; slot < omni->num_slots; slot++) {
        if (work->fresh[slot] != EMPTY) {
            begin[work->fresh[slot] + 1]++;
        }
    }
    for (int32_t expert = 0; expert < omni->num_experts; expert++) {
        work->replicas[expert] = begin[expert + 1];
        begin[expert + 1] += begin[expert];
    }
    for (int32_t slot = 0; slot < omni->num_slots; slot++) {
        if (work->fresh[slot] != EMPTY) {
            omni->slot_of[begin[work->fresh[slot]]++] = slot;
            work->rank_tokens[slot / omni->slots_per_rank] += slot_tokens(omni, slot);
        }
    }
    for (int32_t expert = omni->num_experts; expert > 0; expert--) {
        begin[expert] = begin[expert - 1];
    }
    begin[0] = 0;
}

/* Adds tokens to the trial load of every rank that holds the expert, but for one slot. */
static void add_to_replicas(struct omni *omni, int32_t expert, int32_t but_slot, double tokens)
{
    for (int32_t i = omni->slot_begin[expert]; i < omni->slot_begin[expert + 1]; i++) {
        if (omni->slot_of[i] != but_slot) {
            omni->trial[omni->slot_of[i] / omni->slots_per_rank] += tokens;
        }
    }
}

/* Takes a slot's expert away in the trial: its other replicas share what it had. */
static void try_without(struct omni *omni, int32_t slot)
{
    int32_t expert = omni->work.fresh[slot];
    double tokens = slot_tokens(omni, slot);
    omni->trial[slot / omni->slots_per_rank] -= tokens;
    add_to_replicas(omni, expert, slot, tokens / (omni->work.replicas[expert] - 1));
}

static void start_trial(struct omni *omni)
{
    memcpy(omni->trial, omni->work.rank_tokens, (size_t)omni->num_ranks * sizeof *omni->trial);
}

/* The busiest (or the idlest) rank that is not excluded; of equals, the lowest. -1: none. */
static int32_t extreme_rank(const struct omni *omni, bool busiest)
{
    const double *tokens = omni->work.rank_tokens;
    int32_t extreme = -1;
    for (int32_t rank = 0; rank < omni->num_ranks; rank++) {
        bool more = extreme < 0 ||
                    (busiest ? tokens[rank] > tokens[extreme] : tokens[rank] < tokens[extreme]);
        if (!omni->excluded[rank] && more) {
            extreme = rank;
        }
    }
    return extreme;
}

/* Empties the slots of a rank whose loss lowers R, until the rank is below the mean. */
static void remove_from_rank(struct omni *omni, int32_t rank, double mean)
{
    struct deal_work *work = &omni->work;
    int32_t end = (rank + 1) * omni->slots_per_rank;
    for (int32_t slot = rank * omni->slots_per_rank; slot < end && work->rank_tokens[rank] >= mean;
         slot++) {
        int32_t expert = work->fresh[slot];
        if (expert == EMPTY || work->replicas[expert] < 2) {
            continue;
        }
        start_trial(omni);
        try_without(omni, slot);
        if (extremes_ratio(omni->trial, omni->num_ranks) <
            extremes_ratio(work->rank_tokens, omni->num_ranks)) {
            work->fresh[slot] = EMPTY;
            index_layer(omni);
        }
    }
}

static void remove_harmful(struct omni *omni)
{
    double mean = 0.0;
    memset(omni->excluded, 0, (size_t)omni->num_ranks * sizeof *omni->excluded);
    for (int32_t rank = 0; rank < omni->num_ranks; rank++) {
        mean += omni->work.rank_tokens[rank] / omni->num_ranks;
    }
    /* Each turn excludes a rank or has emptied a slot. */
    for (int32_t turn = 0; turn < omni->num_ranks + omni->num_slots; turn++) {
        int32_t rank = extreme_rank(omni, true);
        if (rank < 0 || omni->work.rank_tokens[rank] <= mean) {
            break;
        }
        remove_from_rank(omni, rank, mean);
        omni->excluded[rank] = omni->work.rank_tokens[rank] > mean;
    }
    memset(omni->excluded, 0, (size_t)omni->num_ranks * sizeof *omni->excluded);
}

static void consider(struct omni *omni, struct change *best, double *least, struct change change)
{
    double ratio = extremes_ratio(omni->trial, omni->num_ranks);
    if (ratio < *least) {
        *least = ratio;
        *best = change;
    }
}

static void try_exchange(struct omni *omni, struct change *best, double *least, int32_t source,
                         int32_t target)
{
    double moved = slot_tokens(omni, source) - slot_tokens(omni, target);
    start_trial(omni);
    omni->trial[source / omni->slots_per_rank] -= moved;
    omni->trial[target / omni->slots_per_rank] += moved;
    consider(omni, best, least, (struct change){source, target, false});
}

static void try_copy(struct omni *omni, struct change *best, double *least, int32_t source,
                     int32_t target)
{
    const struct deal_work *work = &omni->work;
    int32_t expert = work->fresh[source];
    int32_t replaced = work->fresh[target];
    if ((replaced != EMPTY && work->replicas[replaced] < 2) ||
        work->replicas[expert] >= REPLICAS_MAX) {
        return;
    }
    double share = work->tokens[expert] / (work->replicas[expert] + 1);
    start_trial(omni);
    add_to_replicas(omni, expert, EMPTY, -share / work->replicas[expert]);
    omni->trial[target / omni->slots_per_rank] += share;
    if (replaced != EMPTY) {
        try_without(omni, target);
    }
    consider(omni, best, least, (struct change){source, target, true});
}

/* The change of the busiest or the idlest rank that lowers R most; of equals, the first. */
static struct change find_change(struct omni *omni, bool busiest)
{
    const int32_t *fresh = omni->work.fresh;
    struct change best = {.source_slot = -1};
    double least = extremes_ratio(omni->work.rank_tokens, omni->num_ranks);
    int32_t rank = extreme_rank(omni, busiest);
    int32_t begin = rank * omni->slots_per_rank;
    int32_t end = begin + omni->slots_per_rank;
    for (int32_t source = begin; source < end; source++) {
        for (int32_t target = 0; target < omni->num_slots; target++) {
            double more = slot_tokens(omni, target) - slot_tokens(omni, source);
            bool nothing_to_give = busiest ? fresh[source] == EMPTY : fresh[target] == EMPTY;
            if ((target >= begin && target < end) || nothing_to_give ||
                fresh[source] == fresh[target] || (busiest ? more > 0.0 : more < 0.0)) {
                continue;
            }
            try_exchange(omni, &best, &least, source, target);
            if (busiest) {
                try_copy(omni, &best, &least, source, target);
            }
        }
    }
    return best;
}

static void make_changes(struct omni *omni)
{
    double ratio = extremes_ratio(omni->work.rank_tokens, omni->num_ranks);
    int32_t turns_lost = 0;
    for (int32_t turn = 0; turn < CHANGES_MAX && turns_lost < 2 && ratio >= R_ENOUGH; turn++) {
        struct change change = find_change(omni, turn % 2 == 0);
        int32_t *fresh = omni->work.fresh;
        if (change.source_slot < 0) {
            turns_lost++;
            continue;
        }
        int32_t replaced = fresh[change.target_slot];
        fresh[change.target_slot] = fresh[change.source_slot];
        fresh[change.source_slot] = change.is_copy ? fresh[change.source_slot] : replaced;
        index_layer(omni);
        ratio = extremes_ratio(omni->work.rank_tokens, omni->num_ranks);
        turns_lost = 0; /* every change lowers R */
    }
}

/* R with one more replica of the expert in the empty slot. */
static double ratio_with(struct omni *omni, int32_t slot, int32_t expert)
{
    int32_t replicas = omni->work.replicas[expert];
    double share = omni->work.tokens[expert] / (replicas + 1);
    start_trial(omni);
    add_to_replicas(omni, expert, EMPTY, -share / replicas);
    omni->trial[slot / omni->slots_per_rank] += share;
    return extremes_ratio(omni->trial, omni->num_ranks);
}

static void fill_empty(struct omni *omni, const int32_t *in_force)
{
    struct deal_work *work = &omni->work;
    for (int32_t slot = 0; slot < omni->num_slots; slot++) {
        if (work->fresh[slot] != EMPTY) {
            continue;
        }
        int32_t first = slot / omni->slots_per_rank * omni->slots_per_rank;
        int32_t coldest = in_force[slot];
        double fewest = -1.0;
        for (int32_t expert = 0; expert < omni->num_experts; expert++) {
            double tokens = work->tokens[expert] / work->replicas[expert];
            if ((fewest < 0.0 || tokens < fewest) &&
                !deal_holds(work->fresh + first, omni->slots_per_rank, expert)) {
                coldest = expert;
                fewest = tokens;
            }
        }
        bool keep = ratio_with(omni, slot, in_force[slot]) <= ratio_with(omni, slot, coldest);
        work->fresh[slot] = keep ? in_force[slot] : coldest;
        index_layer(omni);
    }
}

/* Updates what is remembered, unless the window says nothing or is absurd. */
static void remember(struct omni *omni, const struct balance_input *input, double *remembered,
                     int32_t layer)
{
    struct deal_work *work = &omni->work;
    deal_load(work, input, layer);
    (void)deal_busiest(work, input, input->placement[layer].expert_of_slot);
    double ratio = extremes_ratio(work->rank_tokens, omni->num_ranks);
    for (int32_t expert = 0; expert < omni->num_experts; expert++) {
        if (ratio > 1.0 && ratio <= R_ABSURD) {
            remembered[expert] = KEEP * remembered[expert] + (1.0 - KEEP) * work->tokens[expert];
        }
        work->tokens[expert] = remembered[expert];
    }
}

static enum status omni_open(struct omni *omni, const struct balance_input *input,
                             struct error *error)
{
    enum status status = deal_open(&omni->work, "omni", input, error);
    if (status != STATUS_OK) {
        return status;
    }
    struct arena *arena = input->scratch;
    size_t ranks = (size_t)input->num_ranks;
    omni->num_ranks = input->num_ranks;
    omni->num_slots = input->num_slots;
    omni->num_experts = input->num_experts;
    omni->slots_per_rank = input->num_slots / input->num_ranks;
    omni->trial = arena_alloc(arena, ranks, sizeof *omni->trial);
    omni->slot_of = arena_alloc(arena, (size_t)input->num_slots, sizeof(int32_t));
    omni->slot_begin = arena_alloc(arena, (size_t)input->num_experts + 1, sizeof(int32_t));
    omni->excluded = arena_alloc(arena, ranks, sizeof *omni->excluded);
    bool complete = omni->trial != NULL && omni->slot_of != NULL && omni->slot_begin != NULL &&
                    omni->excluded != NULL;
    return complete ? STATUS_OK : error_add(error, STATUS_NO_MEMORY, "omni: no memory");
}

static enum status plan_omni(void *state, const struct balance_input *input,
                             int32_t *expert_of_slot, struct error *error)
{
    double *remembered = state; /* [num_layers][num_experts] */
    struct omni omni = {0};
    enum status status = omni_open(&omni, input, error);
    for (int32_t layer = 0; status == STATUS_OK && layer < input->num_layers; layer++) {
        const int32_t *in_force = input->placement[layer].expert_of_slot;
        remember(&omni, input, remembered + (int64_t)layer * input->num_experts, layer);
        memcpy(omni.work.fresh, in_force, (size_t)input->num_slots * sizeof *in_force);
        index_layer(&omni);
        remove_harmful(&omni);
        make_changes(&omni);
        fill_empty(&omni, in_force);
        deal_copy(expert_of_slot, &omni.work, input, layer);
    }
    return status;
}

const struct balance_strategy balance_omni = {
    .name = "omni",
    .summary = "drops harmful replicas, then up to 32 changes of the extreme ranks",
    .source = "omni-infer @ c8bc2bb, omni_planner/cpp/dynamic_eplb_greedy.cpp",
    .needs = BALANCE_NEEDS_WINDOW,
    .state_bytes_per_expert = sizeof(double),
    .keeps_balanced = true,
    .plan = plan_omni,
};
