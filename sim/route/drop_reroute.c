/*
 * reroute -- a wish that finds its expert full goes to the next best expert with room.
 *
 *     C = ceil(T k CF / E)
 *
 * First all wishes are served by position; then those left over, by position, go to the likeliest
 * expert that has room and that the token does not have, and are dropped only where there is none.
 * The new gate weight is the old one times the quotient of the two scores (routing.score), so a
 * token's weights sum to less than before by what the detour gave up.
 *
 * Source: Switch Transformers (arXiv 2101.03961, appendix B, "No-Token-Left-Behind"), which tries
 * the second best, again and again; ours tries all. SWIPE (fastmoe swipe_gate.py @ ee3c561) takes
 * any expert with room, whatever its score.
 */
#include <math.h>

#include "gate_math.h"
#include "route/drop_order.h"

static bool token_has(const struct route *route, int32_t token, int32_t expert)
{
    const int32_t *wish = &route->expert[(int64_t)token * route->top_k];
    bool found = false;
    for (int32_t k = 0; k < route->top_k; k++) {
        found |= wish[k] == expert;
    }
    return found;
}

static int32_t next_best(const struct route *route, const struct drop_scope *scope, int32_t token,
                         const float *logit)
{
    int32_t best = -1;
    for (int32_t expert = 0; expert < route->num_experts; expert++) {
        bool has_room = scope->work[expert] < (uint64_t)scope->capacity_assignments;
        bool better = best < 0 || logit[expert] > logit[best];
        if (has_room && better && !token_has(route, token, expert)) {
            best = expert;
        }
    }
    return best;
}

static float score_quotient(enum route_score score, float to, float from)
{
    double quotient = score == ROUTE_SOFTMAX
                          ? gate_exp((double)to - (double)from)
                          : (double)gate_sigmoid(to) / (double)gate_sigmoid(from);
    return isfinite(quotient) ? (float)quotient : 0.0f;
}

/* Tries to find another expert for a dropped wish. */
static bool reroute_wish(struct route *route, const struct route_input *input,
                         const struct drop_scope *scope, int64_t wish, float *logit)
{
    int32_t token = (int32_t)(wish / route->top_k);
    trace_side_logits(input->side, logit, input->trace_layer, &input->batch->row[token], 1);
    int32_t expert = next_best(route, scope, token, logit);
    if (expert < 0) {
        return false;
    }
    route->gate_weight[wish] *=
        score_quotient(input->settings->score, logit[expert], logit[route->expert[wish]]);
    route->expert[wish] = expert;
    route->dropped[wish] = false;
    route->rerouted_assignments++;
    scope->work[expert]++;
    return true;
}

/* What a token's weights sum to before any of them changes. */
static bool keep_full_weights(struct route *route, struct arena *scratch)
{
    if (route->full_weight != NULL) {
        return true;
    }
    route->full_weight = arena_take(scratch, (size_t)route->num_tokens, sizeof(float));
    for (int32_t token = 0; token < route->num_tokens && route->full_weight != NULL; token++) {
        float sum = 0.0f;
        for (int32_t k = 0; k < route->top_k; k++) {
            sum += route->gate_weight[(int64_t)token * route->top_k + k];
        }
        route->full_weight[token] = sum;
    }
    return route->full_weight != NULL;
}

static int64_t reroute_overflow(struct route *route, const struct route_input *input,
                                const struct drop_scope *scope)
{
    float *logit = arena_take(input->scratch, (size_t)route->num_experts, sizeof *logit);
    if (logit == NULL || !keep_full_weights(route, input->scratch)) {
        return -1;
    }
    int64_t dropped = drop_by_position(route, input, scope); /* leaves the wishes counted in work */
    int64_t begin = (int64_t)scope->first * route->top_k;
    int64_t end = (int64_t)(scope->first + scope->count) * route->top_k;
    for (int64_t wish = begin; wish < end && dropped > 0; wish++) {
        if (route->dropped[wish]) {
            dropped -= reroute_wish(route, input, scope, wish, logit);
        }
    }
    return dropped;
}

const struct drop_policy drop_reroute = {
    .name = "reroute",
    .summary = "from scores: a wish for a full expert goes to the next best one with room",
    .source = "Switch Transformers, arXiv 2101.03961, appendix B",
    .needs_scores = true,
    .drop = reroute_overflow,
};
