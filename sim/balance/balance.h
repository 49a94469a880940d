/*
 * balance.h -- from the load of a window to a new placement.
 *
 * A strategy sees all layers at once, the placement in force and what a move costs; it answers with
 * the experts of all slots. The engine compares, sends the weights that are not there yet as
 * messages, and delays the step they land in: no strategy can forget to pay.
 */
#ifndef MOESIM_BALANCE_H
#define MOESIM_BALANCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arena.h"
#include "placement.h"
#include "status.h"

/* What a strategy declares it wants; the engine collects nothing else. */
enum balance_needs {
    BALANCE_NEEDS_WINDOW = 1,      /* sums over the window */
    BALANCE_NEEDS_STEPS = 2,       /* every step of the window */
    BALANCE_NEEDS_PAIRS = 4,       /* which experts tokens choose together */
    BALANCE_NEEDS_TRANSITIONS = 8, /* and from one layer to the next */
};

struct balance_input {
    int32_t num_layers; /* MoE layers */
    int32_t num_experts;
    int32_t num_slots;
    int32_t num_ranks;
    int32_t num_nodes;
    int32_t num_groups;         /* expert groups of group-limited routing; 1: none */
    const int64_t *load_tokens; /* [num_layers][num_experts], window sums; NULL if not needed */
    const int32_t *step_tokens; /* [num_steps][num_layers][num_experts]; NULL if not needed */
    int32_t num_steps;          /* steps in the window */
    /* Tokens of the window that chose both experts of a layer; symmetric, the diagonal is 0.
     * [num_layers][num_experts][num_experts]; NULL if not needed */
    const int32_t *pair_tokens;
    /* Tokens that chose one expert in a layer and the other in the next.
     * [num_layers - 1][num_experts][num_experts]; NULL if not needed */
    const int32_t *transition_tokens;
    const bool *rank_is_lost; /* [num_ranks] its GPU is gone, and what its slots hold; NULL: none */
    const struct placement *placement; /* [num_layers] in force */
    int64_t expert_bytes;              /* weights of one expert: what one move sends */
    int32_t interval_steps;            /* until the next call; 0: as many as are in the window */
    double near_move_ns; /* one expert's weights to a rank of the node; 0: not known */
    double far_move_ns;  /* and from another node */
    double token_ns;     /* what one token less on the busiest rank saves a step; 0: not known */
    struct arena *scratch;
};

struct balance_strategy {
    const char *name;
    const char *summary;
    const char *source;
    unsigned needs;                /* enum balance_needs, or'ed */
    size_t state_bytes;            /* zeroed private state, one for the run */
    size_t state_bytes_per_expert; /* and so much more for each expert of each layer */
    bool ignores_load;             /* so it may make the busiest rank busier */
    bool
        spreads_replicas; /* no rank holds an expert twice, while no expert needs more than ranks */
    bool settles;         /* asked again about the same loads, it changes nothing */
    bool keeps_balanced;  /* leaves a placement alone whose ranks are equally loaded */
    /* expert_of_slot [num_layers][num_slots] comes in as the placement in force. A layer left alone
     * costs nothing. STATUS_INVALID (with its reason) or STATUS_NO_MEMORY; never half a plan. */
    enum status (*plan)(void *state, const struct balance_input *input, int32_t *expert_of_slot,
                        struct error *error);
};

const struct balance_strategy *const *balance_all(int32_t *count);
const struct balance_strategy *balance_find(const char *name); /* NULL: no such */

/* Of the state that a strategy is given. */
size_t balance_state_bytes(const struct balance_strategy *strategy, int32_t num_layers,
                           int32_t num_experts);

#endif
