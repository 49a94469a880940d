/* from_scores.c -- recorded scores through the one gate that there is, some rows at a time. */
#include "route/from_scores.h"

#include <assert.h>

#define ROWS_AT_ONCE 64 /* of 256 experts: 64 KiB of logits, which stay in cache */

enum status route_from_scores(struct gate_rule rule, const struct route_input *input,
                              struct route *route, struct error *error)
{
    assert(input->side->file[TRACE_SIDE_SCORES] != NULL);
    assert(route->num_tokens == input->batch->num_tokens);
    assert(route->num_experts == input->trace->num_experts);
    rule.num_experts = route->num_experts;
    rule.top_k = route->top_k;
    if (!gate_rule_valid(&rule)) {
        return error_add(
            error, STATUS_INVALID,
            "routing.policy: top-%d of %d experts in %d of %d groups is not what a gate "
            "does here: up to top-%d of %d experts, groups of two or more",
            rule.top_k, rule.num_experts, rule.topk_groups, rule.num_groups, GATE_TOP_K_MAX,
            GATE_EXPERTS_MAX);
    }
    float *logit =
        arena_take(input->scratch, (size_t)ROWS_AT_ONCE * (size_t)rule.num_experts, sizeof *logit);
    if (logit == NULL) {
        return STATUS_NO_MEMORY;
    }
    enum status status = STATUS_OK;
    int32_t count = 0;
    for (int32_t first = 0; first < route->num_tokens && status == STATUS_OK; first += count) {
        int32_t left = route->num_tokens - first;
        int64_t wish = (int64_t)first * rule.top_k;
        count = left < ROWS_AT_ONCE ? left : ROWS_AT_ONCE;
        trace_side_logits(input->side, logit, input->trace_layer, input->batch->row + first, count);
        status =
            ref_gate(rule, count, route->expert + wish, route->gate_weight + wish, logit, NULL);
    }
    route->assignments = (int64_t)route->num_tokens * rule.top_k;
    return status;
}
