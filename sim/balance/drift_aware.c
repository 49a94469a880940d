/*
 * drift_aware -- change only what pays for itself, judged step by step. Ours.
 *
 * EPLB balances a window's sums, but each step waits for that step's busiest rank: on a drifting
 * load (dsv3_ts64) it is .93 by the window and .66 by the step, and it sends nearly every expert.
 * Here the cost of a layer is the sum over steps of the busiest rank's tokens. From the placement
 * in force, the best of two changes is made while it takes more tokens off that cost than it sends:
 *     exchange  a slot of a rank that is often busiest for a slot of another rank,
 *     copy      an expert of such a rank into a spare slot of a rank without it.
 * A move costs expert_bytes / TOKEN_BYTES tokens over the ranks, which receive side by side; one
 * inside a node costs an eighth of that (NVLink against RDMA). Prices depend on the move alone, so
 * the search descends, ends, and, asked again about the same loads, has nothing to add. A copy
 * never joins a replica on its rank; doubles that are there already are replaced first. It leaves
 * out that the next window may differ, and that steps share more than the busiest rank.
 */
#include "balance/deal.h"

#include <assert.h>
#include <string.h>

#define TOKEN_BYTES   16384 /* about a token's way to an expert and back: 7168 x (fp8 + bf16) */
#define NEAR_DISCOUNT 8.0
#define BINS_MAX      64 /* longer windows are summed in so many parts */
#define TOP           6  /* busiest ranks kept a bin */
#define HOT_RANKS     3  /* ranks that are tried before the search ends */
#define TOUCHED_MAX   32 /* ranks a copy may touch; more are not considered */

struct drift {
    struct deal_work work; /* fresh is the layer, replicas its counts */
    const struct balance_input *input;
    int32_t num_bins;
    int32_t slots_per_rank;
    double *tokens;      /* [num_bins][num_experts] */
    double *load;        /* [num_bins][num_ranks] */
    int32_t *top;        /* [num_bins][TOP] the busiest ranks, busiest first; -1: no more */
    double *guilt;       /* [num_ranks] tokens above the mean, in bins where it is busiest */
    int32_t *order;      /* [num_bins] first those in which the hot rank is busiest */
    int32_t num_guilty;  /* how many these are */
    int32_t *slot_of;    /* [num_slots] slots by expert */
    int32_t *slot_begin; /* [num_experts + 1] */
};

/* Exchanges two slots, or puts expert into slot_a when slot_b is -1. */
struct change {
    int32_t slot_a;
    int32_t slot_b;
    int32_t expert;
    double gain; /* tokens, price taken off */
};

static bool rank_holds(const struct drift *drift, int32_t rank, int32_t expert)
{
    return deal_holds(drift->work.fresh + rank * drift->slots_per_rank, drift->slots_per_rank,
                      expert);
}

static double price_tokens(const struct drift *drift, int32_t from_rank, int32_t to_rank)
{
    const struct balance_input *input = drift->input;
    double price = (double)input->expert_bytes / TOKEN_BYTES / input->num_ranks;
    int32_t node_ranks = (input->num_ranks + input->num_nodes - 1) / input->num_nodes;
    return from_rank / node_ranks == to_rank / node_ranks ? price / NEAR_DISCOUNT : price;
}

static void read_bins(struct drift *drift, int32_t layer)
{
    const struct balance_input *input = drift->input;
    size_t experts = (size_t)input->num_experts;
    memset(drift->tokens, 0, (size_t)drift->num_bins * experts * sizeof *drift->tokens);
    for (int32_t step = 0; step < input->num_steps; step++) {
        int32_t bin = (int32_t)((int64_t)step * drift->num_bins / input->num_steps);
        const int32_t *from = input->step_tokens +
                              ((size_t)step * (size_t)input->num_layers + (size_t)layer) * experts;
        double *to = drift->tokens + (size_t)bin * experts;
        for (size_t expert = 0; expert < experts; expert++) {
            to[expert] += from[expert];
        }
    }
}

static void index_slots(struct drift *drift)
{
    int32_t num_experts = drift->input->num_experts;
    int32_t num_slots = drift->input->num_slots;
    memset(drift->work.replicas, 0, (size_t)num_experts * sizeof *drift->work.replicas);
    for (int32_t slot = 0; slot < num_slots; slot++) {
        drift->work.replicas[drift->work.fresh[slot]]++;
    }
    drift->slot_begin[0] = 0;
    for (int32_t expert = 0; expert < num_experts; expert++) {
        drift->slot_begin[expert + 1] = drift->slot_begin[expert];
        drift->slot_begin[expert + 1] += drift->work.replicas[expert];
    }
    for (int32_t slot = num_slots - 1; slot >= 0; slot--) { /* counts down to the group's start */
        int32_t expert = drift->work.fresh[slot];
        int32_t place = --drift->work.replicas[expert];
        drift->slot_of[drift->slot_begin[expert] + place] = slot;
    }
    for (int32_t expert = 0; expert < num_experts; expert++) {
        drift->work.replicas[expert] = drift->slot_begin[expert + 1] - drift->slot_begin[expert];
    }
}

/* Loads of a bin's ranks, its busiest ranks, and who is to blame. */
static void measure_bin(struct drift *drift, int32_t bin)
{
    int32_t num_ranks = drift->input->num_ranks;
    const double *tokens = drift->tokens + (size_t)bin * (size_t)drift->input->num_experts;
    double *load = drift->load + (size_t)bin * (size_t)num_ranks;
    int32_t *top = drift->top + (size_t)bin * TOP;
    double sum = 0.0;
    int32_t num_top = 0;
    for (int32_t rank = 0; rank < num_ranks; rank++) {
        load[rank] = 0.0;
        for (int32_t i = 0; i < drift->slots_per_rank; i++) {
            int32_t expert = drift->work.fresh[rank * drift->slots_per_rank + i];
            load[rank] += tokens[expert] / drift->work.replicas[expert];
        }
        sum += load[rank];
        int32_t place = num_top < TOP ? num_top++ : TOP;
        for (; place > 0 && load[rank] > load[top[place - 1]]; place--) {
            if (place < TOP) {
                top[place] = top[place - 1];
            }
        }
        if (place < TOP) {
            top[place] = rank;
        }
    }
    for (int32_t i = num_top; i < TOP; i++) {
        top[i] = -1;
    }
    drift->guilt[top[0]] += load[top[0]] - sum / num_ranks;
}

static void measure(struct drift *drift)
{
    index_slots(drift);
    memset(drift->guilt, 0, (size_t)drift->input->num_ranks * sizeof *drift->guilt);
    for (int32_t bin = 0; bin < drift->num_bins; bin++) {
        measure_bin(drift, bin);
    }
}

/* The busiest rank of a bin apart from those listed; 0 if there is no other. */
static double busiest_other(const struct drift *drift, int32_t bin, const int32_t *rank,
                            int32_t count)
{
    const double *load = drift->load + (size_t)bin * (size_t)drift->input->num_ranks;
    const int32_t *top = drift->top + (size_t)bin * TOP;
    for (int32_t i = 0; i < TOP && top[i] >= 0; i++) {
        if (!deal_holds(rank, count, top[i])) {
            return load[top[i]];
        }
    }
    double most = 0.0;
    for (int32_t other = 0; other < drift->input->num_ranks; other++) {
        if (load[other] > most && !deal_holds(rank, count, other)) {
            most = load[other];
        }
    }
    return most;
}

static void try_exchange(const struct drift *drift, struct change *best, int32_t slot_a,
                         int32_t slot_b)
{
    int32_t rank[2] = {slot_a / drift->slots_per_rank, slot_b / drift->slots_per_rank};
    int32_t a = drift->work.fresh[slot_a];
    int32_t b = drift->work.fresh[slot_b];
    double share_a = 1.0 / drift->work.replicas[a];
    double share_b = 1.0 / drift->work.replicas[b];
    double gain = -2.0 * price_tokens(drift, rank[0], rank[1]);
    for (int32_t i = 0; i < drift->num_bins; i++) {
        int32_t bin = drift->order[i];
        if (i >= drift->num_guilty && gain <= best->gain) {
            return;
        }
        const double *tokens = drift->tokens + (size_t)bin * (size_t)drift->input->num_experts;
        const double *load = drift->load + (size_t)bin * (size_t)drift->input->num_ranks;
        double moved = tokens[a] * share_a - tokens[b] * share_b;
        double most = busiest_other(drift, bin, rank, 2);
        most = load[rank[0]] - moved > most ? load[rank[0]] - moved : most;
        most = load[rank[1]] + moved > most ? load[rank[1]] + moved : most;
        gain += load[drift->top[(size_t)bin * TOP]] - most;
    }
    if (gain > best->gain) {
        *best = (struct change){slot_a, slot_b, -1, gain};
    }
}

/* What a copy does to a rank: load + per_old * tokens[old] + per_fresh * tokens[fresh]. */
struct touch {
    int32_t rank[TOUCHED_MAX];
    double per_old[TOUCHED_MAX];
    double per_fresh[TOUCHED_MAX];
    int32_t count;
};

static void add_touch(struct touch *touch, int32_t rank, double per_old, double per_fresh)
{
    int32_t at = 0;
    while (at < touch->count && touch->rank[at] != rank) {
        at++;
    }
    if (at == touch->count) {
        touch->rank[at] = rank;
        touch->per_old[at] = 0.0;
        touch->per_fresh[at] = 0.0;
        touch->count++;
    }
    touch->per_old[at] += per_old;
    touch->per_fresh[at] += per_fresh;
}

/* Puts fresh, which hot_rank holds, into a slot whose expert has another replica. */
static void try_copy(const struct drift *drift, struct change *best, int32_t slot, int32_t fresh,
                     int32_t hot_rank)
{
    int32_t rank = slot / drift->slots_per_rank;
    int32_t old = drift->work.fresh[slot];
    double of_old = drift->work.replicas[old];
    double of_fresh = drift->work.replicas[fresh];
    struct touch touch = {.count = 0};
    if (of_old + of_fresh + 1.0 > TOUCHED_MAX) {
        return;
    }
    add_touch(&touch, rank, -1.0 / (of_old - 1.0), 1.0 / (of_fresh + 1.0));
    for (int32_t i = drift->slot_begin[old]; i < drift->slot_begin[old + 1]; i++) {
        add_touch(&touch, drift->slot_of[i] / drift->slots_per_rank,
                  1.0 / (of_old - 1.0) - 1.0 / of_old, 0.0);
    }
    for (int32_t i = drift->slot_begin[fresh]; i < drift->slot_begin[fresh + 1]; i++) {
        add_touch(&touch, drift->slot_of[i] / drift->slots_per_rank, 0.0,
                  1.0 / (of_fresh + 1.0) - 1.0 / of_fresh);
    }
    double gain = -price_tokens(drift, hot_rank, rank);
    for (int32_t at = 0; at < drift->num_bins; at++) {
        int32_t bin = drift->order[at];
        if (at >= drift->num_guilty && gain <= best->gain) {
            return;
        }
        const double *tokens = drift->tokens + (size_t)bin * (size_t)drift->input->num_experts;
        const double *load = drift->load + (size_t)bin * (size_t)drift->input->num_ranks;
        double most = busiest_other(drift, bin, touch.rank, touch.count);
        for (int32_t i = 0; i < touch.count; i++) {
            double after = load[touch.rank[i]] + touch.per_old[i] * tokens[old] +
                           touch.per_fresh[i] * tokens[fresh];
            most = after > most ? after : most;
        }
        gain += load[drift->top[(size_t)bin * TOP]] - most;
    }
    if (gain > best->gain) {
        *best = (struct change){slot, -1, fresh, gain};
    }
}

/* Bins in which the hot rank is busiest come first: a change that does not pay there by then, or
 * ceases to, is given up. */
static void order_bins(struct drift *drift, int32_t hot_rank)
{
    int32_t count = 0;
    for (int32_t bin = 0; bin < drift->num_bins; bin++) {
        if (drift->top[(size_t)bin * TOP] == hot_rank) {
            drift->order[count++] = bin;
        }
    }
    drift->num_guilty = count;
    for (int32_t bin = 0; bin < drift->num_bins; bin++) {
        if (drift->top[(size_t)bin * TOP] != hot_rank) {
            drift->order[count++] = bin;
        }
    }
}

/* The best change for one expert of a hot rank. */
static void try_slot(const struct drift *drift, struct change *best, int32_t slot_a)
{
    int32_t hot_rank = slot_a / drift->slots_per_rank;
    int32_t a = drift->work.fresh[slot_a];
    for (int32_t slot = 0; slot < drift->input->num_slots; slot++) {
        int32_t rank = slot / drift->slots_per_rank;
        int32_t b = drift->work.fresh[slot];
        if (rank == hot_rank || rank_holds(drift, rank, a)) {
            continue;
        }
        if (drift->work.replicas[b] > 1) {
            try_copy(drift, best, slot, a, hot_rank);
        }
        if (!rank_holds(drift, hot_rank, b)) {
            try_exchange(drift, best, slot_a, slot);
        }
    }
}

/* Makes the best change for the rank that is to blame most, or for the next ones. False: none pays.
 */
static bool improve_once(struct drift *drift)
{
    for (int32_t tried = 0; tried < HOT_RANKS; tried++) {
        int32_t hot_rank = 0;
        for (int32_t rank = 1; rank < drift->input->num_ranks; rank++) {
            hot_rank = drift->guilt[rank] > drift->guilt[hot_rank] ? rank : hot_rank;
        }
        order_bins(drift, hot_rank);
        struct change best = {-1, -1, -1, 1e-6}; /* more than rounding can pretend */
        for (int32_t i = 0; i < drift->slots_per_rank && drift->guilt[hot_rank] > 0.0; i++) {
            try_slot(drift, &best, hot_rank * drift->slots_per_rank + i);
        }
        if (best.slot_a >= 0) {
            int32_t *fresh = drift->work.fresh;
            int32_t a = fresh[best.slot_a];
            fresh[best.slot_a] = best.slot_b >= 0 ? fresh[best.slot_b] : best.expert;
            if (best.slot_b >= 0) {
                fresh[best.slot_b] = a;
            }
            return true;
        }
        drift->guilt[hot_rank] = -1.0;
    }
    return false;
}

static enum status drift_open(struct drift *drift, const struct balance_input *input,
                              struct error *error)
{
    enum status status = deal_open(&drift->work, "drift_aware", input, error);
    if (status != STATUS_OK) {
        return status;
    }
    struct arena *arena = input->scratch;
    size_t bins = (size_t)(input->num_steps < BINS_MAX ? input->num_steps : BINS_MAX);
    size_t experts = (size_t)input->num_experts;
    size_t ranks = (size_t)input->num_ranks;
    drift->input = input;
    drift->num_bins = (int32_t)bins;
    drift->slots_per_rank = input->num_slots / input->num_ranks;
    drift->tokens = arena_alloc(arena, bins * experts, sizeof *drift->tokens);
    drift->load = arena_alloc(arena, bins * ranks, sizeof *drift->load);
    drift->top = arena_alloc(arena, bins * TOP, sizeof *drift->top);
    drift->guilt = arena_alloc(arena, ranks, sizeof *drift->guilt);
    drift->order = arena_alloc(arena, bins, sizeof *drift->order);
    drift->slot_of = arena_alloc(arena, (size_t)input->num_slots, sizeof *drift->slot_of);
    drift->slot_begin = arena_alloc(arena, experts + 1, sizeof *drift->slot_begin);
    bool complete = drift->tokens != NULL && drift->load != NULL && drift->top != NULL &&
                    drift->guilt != NULL && drift->order != NULL && drift->slot_of != NULL &&
                    drift->slot_begin != NULL;
    return complete ? STATUS_OK : error_add(error, STATUS_NO_MEMORY, "drift_aware: no memory");
}

static enum status plan_drift(void *state, const struct balance_input *input,
                              int32_t *expert_of_slot, struct error *error)
{
    (void)state; /* the placement in force is all it remembers */
    struct drift drift = {0};
    enum status status = drift_open(&drift, input, error);
    for (int32_t layer = 0; status == STATUS_OK && layer < input->num_layers; layer++) {
        memcpy(drift.work.fresh, input->placement[layer].expert_of_slot,
               (size_t)input->num_slots * sizeof *drift.work.fresh);
        deal_load(&drift.work, input, layer);
        read_bins(&drift, layer);
        deal_part_doubles(&drift.work, input);
        bool better = drift.num_bins > 0;
        for (int32_t change = 0; better && change < 4 * input->num_slots; change++) {
            measure(&drift);
            better = improve_once(&drift);
        }
        deal_copy(expert_of_slot, &drift.work, input, layer);
    }
    return status;
}

const struct balance_strategy balance_drift_aware = {
    .name = "drift_aware",
    .summary = "exchanges and copies that take more tokens off the steps than they send",
    .source = "",
    .needs = BALANCE_NEEDS_WINDOW | BALANCE_NEEDS_STEPS,
    .spreads_replicas = true,
    .settles = true,
    .keeps_balanced = true,
    .plan = plan_drift,
};
