/*
 * relocate.h -- better places for the experts of one layer, by few moves.
 *
 * The busiest rank matters, but a search that looks at nothing else stops at the first tie. So
 * ranks count by a power of their load: sum of (load / mean)^RELOCATE_POWER, whose root is nearly
 * the maximum and which falls, too, when the second busiest is relieved. Replicas share evenly. A
 * move has a price in tokens.
 */
#ifndef MOESIM_RELOCATE_H
#define MOESIM_RELOCATE_H

#include <stdbool.h>
#include <stdint.h>

#include "balance/balance.h"

/* Higher is nearer to the maximum, but follows the errors of a forecast: with 16 drifting loads
 * were served no better after more moves. */
#define RELOCATE_POWER    8

#define RELOCATE_GAIN_MIN 1e-6 /* tokens: more than rounding can pretend */

enum relocate_holds {
    RELOCATE_FRESH = 1,
    RELOCATE_IN_FORCE = 2,
};

struct relocate {
    /* Set by relocate_open, and by the caller between layers. */
    const struct balance_input *input;
    int32_t slots_per_rank;
    int32_t *rank_of_slot; /* [num_slots] */
    int32_t *node_of_rank; /* [num_ranks] */
    double steps;          /* that profit from a change */
    double near_price;     /* of a move within the node, tokens */
    double far_price;
    double *tokens; /* [num_experts] that a step will bring */

    /* Of the layer. */
    int32_t *fresh;      /* [num_slots] the answer */
    int32_t *replicas;   /* [num_experts] */
    double *load;        /* [num_ranks] tokens */
    double *power;       /* [num_ranks] of load / mean */
    int32_t *order;      /* [num_ranks] lightest first; of equals, the lowest */
    uint8_t *holds;      /* [num_ranks][num_experts] enum relocate_holds, or'ed */
    int32_t *first_of;   /* [num_experts] a slot that holds it */
    int32_t *next_of;    /* [num_slots] another; -1: no more */
    double *own;         /* [num_experts] tokens of a replica */
    double *more;        /* [num_experts] with one replica more */
    double *fewer;       /* [num_experts] with one fewer; HUGE_VAL: there is one only */
    double *slot_tokens; /* [num_slots] own of what is in it */
    double scale;        /* 1 / mean load */
    double worth;        /* tokens in all steps that one off the sum of powers saves */

    /* Of the rank that is searched, by its slots; and scratch. */
    double *relief; /* [slots_per_rank] powers that a copy takes off all that hold the expert, */
    double *others; /* [slots_per_rank] and of that, off other ranks */
    int32_t *by_relief; /* [slots_per_rank] most relief first */
    uint8_t *near;      /* [slots_per_rank][num_nodes] does the node hold the expert? */
    int32_t *winner;    /* [2][2 num_experts] of relocate_replicas */
};

/* Takes arrays from input->scratch. STATUS_NO_MEMORY. */
MUST_CHECK enum status relocate_open(struct relocate *relocate, const struct balance_input *input);

/* Starts from fresh, which the caller has filled; tokens are the layer's. */
void relocate_start(struct relocate *relocate, const int32_t *in_force);

/* While the heaviest replica can be made lighter by a slot of an expert that then is lighter still,
 * gives it that slot, if the difference pays. */
void relocate_replicas(struct relocate *relocate);

/* While one pays, makes a good exchange of two slots, or a good copy into a slot whose expert has
 * others, that relieves the busiest rank. */
void relocate_improve(struct relocate *relocate);

/* Puts expert into slot, and what was there into back unless that is -1. Loads follow. */
void relocate_make(struct relocate *relocate, int32_t slot, int32_t expert, int32_t back);

/* order and worth follow. */
void relocate_sort(struct relocate *relocate);

/* The busiest rank, smoothly: the root of the sum of powers times the mean load. */
double relocate_norm(const struct relocate *relocate);

/* What that is when all ranks carry the same. */
double relocate_norm_least(const struct relocate *relocate);

/* Tokens that fresh costs for what ranks do not hold in force, each as from afar. */
double relocate_price(const struct relocate *relocate);

static inline double relocate_power(const struct relocate *relocate, double load)
{
    double power = load * relocate->scale;
    for (int32_t exponent = RELOCATE_POWER; exponent > 1; exponent /= 2) {
        power *= power;
    }
    return power;
}

/* Enum relocate_holds. */
static inline uint8_t *relocate_flags(const struct relocate *relocate, int32_t rank, int32_t expert)
{
    return relocate->holds + (int64_t)rank * relocate->input->num_experts + expert;
}

static inline bool relocate_holds(const struct relocate *relocate, int32_t rank, int32_t expert)
{
    return (*relocate_flags(relocate, rank, expert) & RELOCATE_FRESH) != 0;
}

#endif
