/*
 * deal.h -- what placement strategies share: replicas, dealing slots to ranks, staying in place.
 *
 * Everything is exact IEEE arithmetic in index order with ties that end in an id, so a placement
 * is the same on every machine. All functions work on one layer.
 */
#ifndef MOESIM_DEAL_H
#define MOESIM_DEAL_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "balance/balance.h"
#include "status.h"

/* Something to place, and what it weighs. */
struct deal_item {
    double tokens;
    int32_t id; /* decides between equal weights: the lowest comes first */
    int32_t expert;
};

/* Arrays that one layer needs; reused from layer to layer. */
struct deal_work {
    struct deal_item *item; /* [num_slots] */
    double *tokens;         /* [num_experts] load of the layer */
    double *rank_tokens;    /* [num_ranks] */
    int32_t *rank_used;     /* [num_ranks] slots given out */
    int32_t *replicas;      /* [num_experts] */
    int32_t *fresh;         /* [num_slots] the layer under construction */
    int32_t *mark;          /* [2 num_slots] scratch of deal_keep_places */
};

/* STATUS_INVALID, in words that begin with the strategy's name, unless the slots can be dealt
 * evenly and are enough; STATUS_NO_MEMORY. */
MUST_CHECK enum status deal_open(struct deal_work *work, const char *name,
                                 const struct balance_input *input, struct error *error);

/* tokens [num_experts] of a layer, from the window's sums. */
void deal_load(struct deal_work *work, const struct balance_input *input, int32_t layer);

/* Heaviest first; of equals, the lowest id. */
void deal_sort(struct deal_item *item, int32_t count);

/* One replica for everyone, then each spare slot to the expert with the most tokens a replica, but
 * none above replicas_max while another may have it. Of equals, the first (or the last) expert.
 *   replicas  [num_experts]  out; their sum is num_slots
 *   tokens    [num_experts]  in */
void deal_replicate(int32_t *replicas, const double *tokens, int32_t num_experts, int32_t num_slots,
                    int32_t replicas_max, bool ties_to_last);

/* Sets work->item to every replica of every expert, expert by expert; item i has id i. Returns
 * their number. */
int32_t deal_list(struct deal_work *work, int32_t num_experts);

/* Empties rank_tokens and rank_used. */
void deal_clear(struct deal_work *work, int32_t num_ranks);

/* Gives items, in their order, to the rank with the fewest tokens that has a slot free; of equals,
 * the lowest. With spread, a rank that holds the expert already is taken only when all others are
 * full. Goes on from what rank_tokens and rank_used say. */
void deal_to_lightest(struct deal_work *work, int32_t num_items, int32_t num_ranks,
                      int32_t slots_per_rank, bool spread);

/* Within each rank, puts an expert that stays where it was; newcomers fill the gaps in order.
 *   fresh   [num_slots]  in and out
 *   before  [num_slots]  the placement in force */
void deal_keep_places(struct deal_work *work, int32_t *fresh, const int32_t *before,
                      int32_t num_slots, int32_t slots_per_rank);

/* In fresh, replaces a second replica on one rank by the expert with the most tokens a replica that
 * the rank lacks. Sets replicas. */
void deal_part_doubles(struct deal_work *work, const struct balance_input *input);

/* Tokens of the busiest rank when replicas share evenly; rank_tokens and replicas are set too. */
double deal_busiest(struct deal_work *work, const struct balance_input *input,
                    const int32_t *expert_of_slot);

/* Copies work->fresh into a layer of the answer. */
void deal_copy(int32_t *expert_of_slot, const struct deal_work *work,
               const struct balance_input *input, int32_t layer);

/* Is the expert among slot[count]? */
bool deal_holds(const int32_t *slot, int32_t count, int32_t expert);

#endif
