/*
 * relocate.h -- better places for the experts of one layer, by few moves.
 *
 * The busiest rank matters, but a search that looks at nothing else stops at the first tie. So
 * ranks count by a power of their weight: sum of (load / mean)^RELOCATE_POWER, whose root is
 * nearly the maximum and which falls, too, when the second busiest is relieved. Weights are
 * whatever the caller gives: a replica, one of r, weighs tokens / r + risk / r^2. A move has a
 * price in tokens.
 */
#ifndef MOESIM_RELOCATE_H
#define MOESIM_RELOCATE_H

#include <stdbool.h>
#include <stdint.h>

#include "balance/balance.h"

/* Higher is nearer to the maximum, but follows the noise of a forecast: with 16 and 32 generated
 * loads that drift were served no better after more moves. */
#define RELOCATE_POWER 8

enum relocate_holds {
    RELOCATE_FRESH = 1,
    RELOCATE_IN_FORCE = 2,
};

struct relocate {
    /* Set by relocate_open, and by the caller between layers. */
    const struct balance_input *input;
    int32_t slots_per_rank;
    int32_t ranks_per_node;
    double steps;      /* that profit from a change */
    double near_price; /* of a move within the node, tokens */
    double far_price;
    double *tokens; /* [num_experts] */
    double *risk;   /* [num_experts] */

    /* Of the layer. */
    const int32_t *in_force; /* [num_slots] */
    int32_t *fresh;          /* [num_slots] the answer */
    int32_t *replicas;       /* [num_experts] */
    double *load;            /* [num_ranks] sums of weights */
    double *power;           /* [num_ranks] */
    int32_t *order;          /* [num_ranks] lightest first; of equals, the lowest */
    uint8_t *holds;          /* [num_ranks][num_experts] enum relocate_holds, or'ed */
    int32_t *first_of;       /* [num_experts] a slot that holds it */
    int32_t *next_of;        /* [num_slots] another; -1: no more */
    double *own;             /* [num_experts] weight of a replica */
    double *more;            /* [num_experts] with one replica more */
    double *fewer;           /* [num_experts] with one fewer; HUGE_VAL: there is one only */
    double scale;            /* 1 / mean load */
    double worth;            /* tokens in all steps that one off the sum of powers saves */
};

/* Takes arrays from input->scratch. STATUS_NO_MEMORY. */
MUST_CHECK enum status relocate_open(struct relocate *relocate, const struct balance_input *input);

/* Starts from fresh, which the caller has filled; tokens and risk are the layer's. */
void relocate_start(struct relocate *relocate, const int32_t *in_force);

/* While the heaviest replica can be made lighter by a slot of an expert that then is lighter still,
 * gives it that slot, if the difference pays. */
void relocate_replicas(struct relocate *relocate);

/* While one pays, makes the best exchange of two slots, or the best copy into a slot whose expert
 * has others, that relieves one of the busiest ranks. */
void relocate_improve(struct relocate *relocate);

/* The busiest rank, smoothly: the root of the mean power times the mean load. */
double relocate_norm(const struct relocate *relocate);

/* Tokens that fresh costs for what ranks do not hold in force, each as from afar. */
double relocate_price(const struct relocate *relocate);

#endif
