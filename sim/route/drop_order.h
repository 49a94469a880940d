/*
 * drop_order.h -- orders in which the wishes of a scope are served, for several drop policies.
 *
 * Each serves until an expert has its capacity, sets dropped for every wish of the scope and
 * returns how many it dropped. The first three can stand as a policy's drop; input is not read.
 */
#ifndef MOESIM_DROP_ORDER_H
#define MOESIM_DROP_ORDER_H

#include "route/route.h"

/* By token, then by k. */
int64_t drop_by_position(struct route *route, const struct route_input *input,
                         const struct drop_scope *scope);

/* The highest gate weights first; of equal ones, by position. */
int64_t drop_by_weight(struct route *route, const struct route_input *input,
                       const struct drop_scope *scope);

/* All first choices, then all second choices, and so on; within a choice by token. */
int64_t drop_by_choice(struct route *route, const struct route_input *input,
                       const struct drop_scope *scope);

/* The same with tokens in the order of the lower halves of token_order[count], numbers within the
 * scope; NULL: as they stand. */
int64_t drop_by_choice_in_order(struct route *route, const struct drop_scope *scope,
                                const uint64_t *token_order);

/* C = max(floor(T k CF / E), 4), or routing.min_capacity instead of 4: Switch's and GShard's. */
int64_t drop_floor_capacity(const struct capacity_input *input);

/* Where, in the scope's working memory, two arrays of its tokens have room beside what
 * drop_by_choice needs. */
static inline uint64_t *drop_token_records(const struct route *route,
                                           const struct drop_scope *scope)
{
    return scope->work + route->num_experts;
}

#endif
