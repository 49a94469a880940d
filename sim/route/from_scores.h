/* from_scores.h -- what routers that choose from recorded scores share. */
#ifndef MOESIM_FROM_SCORES_H
#define MOESIM_FROM_SCORES_H

#include "gate.h"
#include "gate_batch.h"
#include "route/route.h"

/* Fills route by the rule from the logits of the batch's rows; num_experts and top_k of the rule
 * are set here, to route's. With groups or a bias, full_weight too.
 *   choice_bias  [num_experts] or NULL, as ref_gate takes it
 * Rows that were not routed when they were recorded have scores too, and are routed.
 * STATUS_INVALID: a rule that reference/gate.h cannot carry out; STATUS_NO_MEMORY. */
MUST_CHECK enum status route_from_scores(struct gate_rule rule, const struct route_input *input,
                                         struct route *route, const float *choice_bias,
                                         struct error *error);

/* The groups of the settings, else of the model, into rule. */
void route_groups(const struct route_input *input, struct gate_rule *rule);

/* Tokens first .. first + count - 1 for a gate of gate_batch.h, logits from input->scratch; its
 * logits are NULL where memory is out. */
struct gate_batch route_batch(const struct route_input *input, const struct route *route,
                              int32_t first, int32_t count);

/* STATUS_INVALID unless reference/ can choose top_k of num_experts. */
MUST_CHECK enum status route_check_limits(const struct route *route, struct error *error);

/* Takes route->full_weight from input->scratch. */
MUST_CHECK enum status route_take_full_weight(const struct route_input *input, struct route *route);

#endif
