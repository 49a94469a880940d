/* from_scores.h -- what routers that choose by a gate's rule from recorded scores share. */
#ifndef MOESIM_FROM_SCORES_H
#define MOESIM_FROM_SCORES_H

#include "gate.h"
#include "route/route.h"

/* Fills route by the rule from the logits of the batch's rows; num_experts and top_k of the rule
 * are set here, to route's. Rows that were not routed when they were recorded have scores too, and
 * are routed. STATUS_INVALID: a rule that reference/gate.h cannot carry out; STATUS_NO_MEMORY. */
MUST_CHECK enum status route_from_scores(struct gate_rule rule, const struct route_input *input,
                                         struct route *route, struct error *error);

#endif
