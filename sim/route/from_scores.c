/* from_scores.c -- recorded scores through the gates of reference/, some rows at a time. */
#include "route/from_scores.h"

#include <assert.h>

#define ROWS_AT_ONCE 64 /* of 256 experts: 64 KiB of logits, which stay in cache */

void route_groups(const struct route_input *input, struct gate_rule *rule)
{
    const struct route_settings *settings = input->settings;
    bool is_set = settings->num_groups > 0;
    int32_t num_groups = is_set ? settings->num_groups : input->model->num_expert_groups;
    int32_t topk_groups = is_set ? settings->topk_groups : input->model->topk_groups;
    rule->num_groups = num_groups > 1 ? num_groups : 1;
    rule->topk_groups = num_groups > 1 ? topk_groups : 1;
}

struct gate_batch route_batch(const struct route_input *input, const struct route *route,
                              int32_t first, int32_t count)
{
    float *logits =
        arena_take(input->scratch, (size_t)count * (size_t)route->num_experts, sizeof *logits);
    if (logits != NULL) {
        trace_side_logits(input->side, logits, input->trace_layer, input->batch->row + first,
                          count);
    }
    return (struct gate_batch){count, route->num_experts, route->top_k, logits};
}

enum status route_check_limits(const struct route *route, struct error *error)
{
    if (route->top_k > GATE_TOP_K_MAX || route->num_experts > GATE_EXPERTS_MAX) {
        return error_add(error, STATUS_INVALID,
                         "routing.policy: top-%d of %d experts is more than a gate does here: up "
                         "to top-%d of %d",
                         (int)route->top_k, (int)route->num_experts, GATE_TOP_K_MAX,
                         GATE_EXPERTS_MAX);
    }
    return STATUS_OK;
}

enum status route_take_full_weight(const struct route_input *input, struct route *route)
{
    route->full_weight = arena_take(input->scratch, (size_t)route->num_tokens, sizeof(float));
    return route->full_weight != NULL ? STATUS_OK : STATUS_NO_MEMORY;
}

static enum status check_rule(const struct gate_rule *rule, struct error *error)
{
    if (gate_rule_valid(rule)) {
        return STATUS_OK;
    }
    return error_add(error, STATUS_INVALID,
                     "routing.policy: top-%d of %d experts in %d of %d groups is not what a gate "
                     "does here: up to top-%d of %d experts, groups of two or more",
                     rule->top_k, rule->num_experts, rule->topk_groups, rule->num_groups,
                     GATE_TOP_K_MAX, GATE_EXPERTS_MAX);
}

enum status route_from_scores(struct gate_rule rule, const struct route_input *input,
                              struct route *route, const float *choice_bias, struct error *error)
{
    assert(input->side->file[TRACE_SIDE_SCORES] != NULL);
    assert(route->num_tokens == input->batch->num_tokens);
    assert(route->num_experts == input->trace->num_experts);
    rule.num_experts = route->num_experts;
    rule.top_k = route->top_k;
    bool takes_best = rule.num_groups == 1 && choice_bias == NULL;
    enum status status = check_rule(&rule, error);
    if (status == STATUS_OK && !takes_best) {
        status = route_take_full_weight(input, route);
    }
    if (status != STATUS_OK) {
        return status;
    }
    float *logit =
        arena_take(input->scratch, (size_t)ROWS_AT_ONCE * (size_t)rule.num_experts, sizeof *logit);
    if (logit == NULL) {
        return STATUS_NO_MEMORY;
    }
    int32_t count = 0;
    for (int32_t first = 0; first < route->num_tokens && status == STATUS_OK; first += count) {
        int32_t left = route->num_tokens - first;
        int64_t wish = (int64_t)first * rule.top_k;
        count = left < ROWS_AT_ONCE ? left : ROWS_AT_ONCE;
        trace_side_logits(input->side, logit, input->trace_layer, input->batch->row + first, count);
        status = ref_gate(rule, count, route->expert + wish, route->gate_weight + wish, logit,
                          choice_bias);
        if (status == STATUS_OK && !takes_best) {
            ref_full_weight((struct gate_batch){count, rule.num_experts, rule.top_k, logit},
                            rule.score == GATE_SIGMOID, route->full_weight + first,
                            route->expert + wish, route->gate_weight + wish);
        }
    }
    route->assignments = (int64_t)route->num_tokens * rule.top_k;
    return status;
}
