/*
 * affinity -- experts that tokens choose one after the other, or together, share a rank.
 *
 * Source: ExFlow (arXiv 2401.08383), yjhmitweb/exflow @ 2696131: an integer program deals the
 * experts of every layer to GPUs, equally many each, such that tokens hop least from one layer's
 * expert to the next layer's; a hop within a node costs 1, to another node 2. Loads do not count.
 *
 * Ours minimises the same cost over two kinds of pairs: consecutive layers (all there is with one
 * expert a token: the original's objective) and experts that a token chooses together in a layer,
 * which cost what the token's copies do. METIS parts the graph of all experts of all layers, edges
 * being the pairs that are above their layer's mean, by recursive bisection, so that neighbouring
 * parts are near; layers are then evened out, and experts of a layer exchanged while that lowers
 * the cost. Where ranks have spare slots, each takes the expert that is closest to the rank's own.
 *
 * In engines whose tokens go home after every layer (as with data-parallel attention, and in this
 * simulator) hops between layers are not paid; what counts there is the copies. The partition is
 * METIS's: another version may part otherwise.
 */
#include "balance/affinity_graph.h"
#include "balance/deal.h"

#include <string.h>

#define SWEEPS_MAX 4 /* over all layers */
#define PASSES_MAX 8 /* over the pairs of a layer */

struct affinity {
    const struct balance_input *input;
    int32_t *rank_of; /* [num_layers][num_experts] */
    int64_t *on_rank; /* [num_experts][num_ranks] of a layer: ties with the experts there */
    int64_t *on_node; /* [num_experts][num_nodes] */
    int32_t *held;    /* [num_ranks] experts of a layer there */
    int32_t ranks_per_node;
};

/* Experts of a layer that a rank is home to. */
static int32_t home_count(const struct balance_input *input, int32_t rank)
{
    int64_t experts = input->num_experts;
    return (int32_t)((rank + 1) * experts / input->num_ranks - rank * experts / input->num_ranks);
}

/* Adds what ties each expert of the layer to the experts of another (or its own) layer.
 * count(expert, other) stands at counts[expert * by_expert + other * by_other]. */
static void add_ties(struct affinity *affinity, const int32_t *counts, int64_t by_expert,
                     int64_t by_other, const int32_t *rank_of)
{
    const struct balance_input *input = affinity->input;
    for (int64_t expert = 0; expert < input->num_experts; expert++) {
        for (int64_t other = 0; other < input->num_experts; other++) {
            int32_t rank = rank_of[other];
            int32_t tokens = counts[expert * by_expert + other * by_other];
            if (rank >= 0 && tokens > 0) {
                affinity->on_rank[expert * input->num_ranks + rank] += tokens;
                affinity->on_node[expert * input->num_nodes + rank / affinity->ranks_per_node] +=
                    tokens;
            }
        }
    }
}

static void sum_ties(struct affinity *affinity, int32_t layer)
{
    const struct balance_input *input = affinity->input;
    int64_t experts = input->num_experts;
    size_t cells = (size_t)experts * (size_t)input->num_ranks;
    int32_t *rank_of = affinity->rank_of + layer * experts;
    memset(affinity->on_rank, 0, cells * sizeof *affinity->on_rank);
    memset(affinity->on_node, 0,
           (size_t)experts * (size_t)input->num_nodes * sizeof *affinity->on_node);
    add_ties(affinity, input->pair_tokens + affinity_block(input, layer), experts, 1, rank_of);
    if (layer > 0) {
        add_ties(affinity, input->transition_tokens + affinity_block(input, layer - 1), 1, experts,
                 rank_of - experts);
    }
    if (layer + 1 < input->num_layers) {
        add_ties(affinity, input->transition_tokens + affinity_block(input, layer), experts, 1,
                 rank_of + experts);
    }
}

/* What a place saves: a tie on the node costs 1 instead of 2, one on the rank nothing. */
static int64_t worth(const struct affinity *affinity, int64_t expert, int32_t rank)
{
    const struct balance_input *input = affinity->input;
    return affinity->on_rank[expert * input->num_ranks + rank] +
           affinity->on_node[expert * input->num_nodes + rank / affinity->ranks_per_node];
}

/* Every rank gets as many experts of the layer as it is home to: those that METIS put there in
 * order of id, then those left over where they are worth most. */
static void even_out(struct affinity *affinity, int32_t layer)
{
    const struct balance_input *input = affinity->input;
    int32_t *rank_of = affinity->rank_of + (int64_t)layer * input->num_experts;
    memset(affinity->held, 0, (size_t)input->num_ranks * sizeof *affinity->held);
    sum_ties(affinity, layer);
    for (int32_t expert = 0; expert < input->num_experts; expert++) {
        int32_t rank = rank_of[expert];
        if (affinity->held[rank] < home_count(input, rank)) {
            affinity->held[rank]++;
        } else {
            rank_of[expert] = -1;
        }
    }
    for (int32_t expert = 0; expert < input->num_experts; expert++) {
        int32_t best = -1;
        for (int32_t rank = 0; rank < input->num_ranks && rank_of[expert] < 0; rank++) {
            if (affinity->held[rank] < home_count(input, rank) &&
                (best < 0 || worth(affinity, expert, rank) > worth(affinity, expert, best))) {
                best = rank;
            }
        }
        if (best >= 0) {
            rank_of[expert] = best;
            affinity->held[best]++;
        }
    }
}

/* What an exchange of two experts saves; their own tie is as long after it as before. */
static int64_t gain(const struct affinity *affinity, const int32_t *pairs, const int32_t *rank_of,
                    int64_t a, int64_t b)
{
    int32_t here = rank_of[a];
    int32_t there = rank_of[b];
    bool is_near = here / affinity->ranks_per_node == there / affinity->ranks_per_node;
    int64_t own = pairs[a * affinity->input->num_experts + b];
    return worth(affinity, a, there) - worth(affinity, a, here) + worth(affinity, b, here) -
           worth(affinity, b, there) - 2 * own * (is_near ? 1 : 2);
}

static void exchange(struct affinity *affinity, const int32_t *pairs, int32_t *rank_of, int64_t a,
                     int64_t b)
{
    const struct balance_input *input = affinity->input;
    int32_t here = rank_of[a];
    int32_t there = rank_of[b];
    for (int64_t expert = 0; expert < input->num_experts; expert++) {
        int64_t moved = (int64_t)pairs[expert * input->num_experts + a] -
                        pairs[expert * input->num_experts + b]; /* from here to there */
        int64_t *on_rank = affinity->on_rank + expert * input->num_ranks;
        int64_t *on_node = affinity->on_node + expert * input->num_nodes;
        on_rank[here] -= moved;
        on_rank[there] += moved;
        on_node[here / affinity->ranks_per_node] -= moved;
        on_node[there / affinity->ranks_per_node] += moved;
    }
    rank_of[a] = there;
    rank_of[b] = here;
}

/* Exchanges experts of a layer while that lowers the cost. Returns whether any was. */
static bool improve_layer(struct affinity *affinity, int32_t layer)
{
    const struct balance_input *input = affinity->input;
    int32_t *rank_of = affinity->rank_of + (int64_t)layer * input->num_experts;
    const int32_t *pairs = input->pair_tokens + affinity_block(input, layer);
    bool improved = false;
    bool goes_on = true;
    sum_ties(affinity, layer);
    for (int32_t pass = 0; pass < PASSES_MAX && goes_on; pass++) {
        goes_on = false;
        for (int32_t a = 0; a < input->num_experts; a++) {
            for (int32_t b = a + 1; b < input->num_experts; b++) {
                if (rank_of[a] != rank_of[b] && gain(affinity, pairs, rank_of, a, b) > 0) {
                    exchange(affinity, pairs, rank_of, a, b);
                    goes_on = true;
                }
            }
        }
        improved = improved || goes_on;
    }
    return improved;
}

/* Home experts by id, then in each spare slot the expert closest to the rank that it lacks. */
static void fill_slots(struct affinity *affinity, int32_t layer, int32_t *expert_of_slot)
{
    const struct balance_input *input = affinity->input;
    const int32_t *rank_of = affinity->rank_of + (int64_t)layer * input->num_experts;
    int32_t slots_per_rank = input->num_slots / input->num_ranks;
    sum_ties(affinity, layer);
    memset(affinity->held, 0, (size_t)input->num_ranks * sizeof *affinity->held);
    for (int32_t expert = 0; expert < input->num_experts; expert++) {
        int32_t rank = rank_of[expert];
        expert_of_slot[rank * slots_per_rank + affinity->held[rank]++] = expert;
    }
    for (int32_t rank = 0; rank < input->num_ranks; rank++) {
        int32_t *slot = expert_of_slot + rank * slots_per_rank;
        for (int32_t used = affinity->held[rank]; used < slots_per_rank; used++) {
            int32_t closest = -1;
            for (int32_t expert = 0; expert < input->num_experts; expert++) {
                const int64_t *ties = affinity->on_rank + rank;
                if (!deal_holds(slot, used, expert) &&
                    (closest < 0 || ties[(int64_t)expert * input->num_ranks] >
                                        ties[(int64_t)closest * input->num_ranks])) {
                    closest = expert;
                }
            }
            slot[used] = closest >= 0 ? closest : slot[0];
        }
    }
}

static enum status affinity_open(struct affinity *affinity, const struct balance_input *input,
                                 struct error *error)
{
    struct deal_work unused; /* checks the shape */
    enum status status = deal_open(&unused, "affinity", input, error);
    size_t experts = (size_t)input->num_experts;
    *affinity = (struct affinity){
        .input = input,
        .rank_of =
            arena_alloc(input->scratch, (size_t)input->num_layers * experts, sizeof(int32_t)),
        .on_rank = arena_alloc(input->scratch, experts * (size_t)input->num_ranks, sizeof(int64_t)),
        .on_node = arena_alloc(input->scratch, experts * (size_t)input->num_nodes, sizeof(int64_t)),
        .held = arena_alloc(input->scratch, (size_t)input->num_ranks, sizeof(int32_t)),
        .ranks_per_node = (input->num_ranks + input->num_nodes - 1) / input->num_nodes,
    };
    bool complete = affinity->rank_of != NULL && affinity->on_rank != NULL &&
                    affinity->on_node != NULL && affinity->held != NULL;
    return status == STATUS_OK && !complete
               ? error_add(error, STATUS_NO_MEMORY, "affinity: no memory for the ties of a layer")
               : status;
}

static enum status plan_affinity(void *state, const struct balance_input *input,
                                 int32_t *expert_of_slot, struct error *error)
{
    (void)state; /* memoryless: each window stands alone */
    struct affinity affinity;
    enum status status = affinity_open(&affinity, input, error);
    if (status == STATUS_OK) {
        status = affinity_part(affinity.rank_of, input, error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    for (int32_t layer = 0; layer < input->num_layers; layer++) {
        even_out(&affinity, layer);
    }
    bool improved = true;
    for (int32_t sweep = 0; sweep < SWEEPS_MAX && improved; sweep++) {
        improved = false;
        for (int32_t layer = 0; layer < input->num_layers; layer++) {
            improved = improve_layer(&affinity, layer) || improved;
        }
    }
    for (int32_t layer = 0; layer < input->num_layers; layer++) {
        fill_slots(&affinity, layer, expert_of_slot + (int64_t)layer * input->num_slots);
    }
    return STATUS_OK;
}

const struct balance_strategy balance_affinity = {
    .name = "affinity",
    .summary = "experts chosen together or one after the other share a rank; ignores load",
    .source = "ExFlow (arXiv 2401.08383), yjhmitweb/exflow @ 2696131; METIS and exchanges",
    .needs = BALANCE_NEEDS_PAIRS | BALANCE_NEEDS_TRANSITIONS,
    .ignores_load = true,
    .spreads_replicas = true,
    .settles = true,
    .plan = plan_affinity,
};
