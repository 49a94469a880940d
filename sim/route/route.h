/*
 * route.h -- which experts each token of a step wants, and which of those wishes are dropped.
 *
 * Two plug-in kinds. A router fills in the wishes of one layer; a drop policy then enforces the
 * capacity C = ceil(T k CF / E) an expert and scope, T the tokens of the scope.
 */
#ifndef MOESIM_ROUTE_H
#define MOESIM_ROUTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arena.h"
#include "batch.h"
#include "model.h"
#include "status.h"
#include "trace.h"
#include "trace_side.h"

#define SLOT_DROPPED (-1)

/* One layer of one step. Arrays belong to the step's arena. */
struct route {
    int32_t num_tokens;
    int32_t top_k;
    int32_t num_experts;
    int32_t *expert;     /* [num_tokens][top_k] wishes, or EXPERT_NOT_ROUTED */
    float *gate_weight;  /* [num_tokens][top_k] */
    bool *dropped;       /* [num_tokens][top_k] set by the drop policy; never for not routed */
    int32_t *slot;       /* [num_tokens][top_k] set by dispatch; SLOT_DROPPED: computed nowhere */
    int64_t assignments; /* wishes, dropped ones included */
    int64_t dropped_assignments;
};

struct route_input {
    const struct moe_model *model;
    const struct trace *trace;     /* NULL for a dense model */
    const struct trace_side *side; /* has the trace's scores if the router needs them */
    const struct trace_batch *batch;
    int32_t trace_layer; /* recorded layer to replay */
    struct arena *scratch;
};

struct router {
    const char *name;
    const char *summary;
    const char *source;
    bool needs_scores;  /* of all experts, recorded in the trace */
    size_t state_bytes; /* zeroed private state, one for the run */
    /* Fills expert, gate_weight and assignments of route. */
    enum status (*route)(void *state, const struct route_input *input, struct route *route,
                         struct error *error);
};

enum capacity_scope {
    CAPACITY_RANK,   /* each source rank's tokens have capacities of their own */
    CAPACITY_GLOBAL, /* the whole step competes */
};

struct drop_input {
    double capacity_factor; /* > 0 */
    enum capacity_scope scope;
    const struct trace_batch *batch; /* rank_begin delimits the scopes of CAPACITY_RANK */
    int32_t num_ranks;
    struct arena *scratch;
};

struct drop_policy {
    const char *name;
    const char *summary;
    const char *source;
    /* Decides for tokens first .. first + count - 1, one scope: writes dropped of each of their
     * wishes and returns how many it drops. capacity_assignments >= 1 is C. work is shared by all
     * scopes, so it stays in the cache:
     *   work  [num_experts + 2 * count * top_k] contents arbitrary */
    int64_t (*drop)(struct route *route, int32_t first, int32_t count, int64_t capacity_assignments,
                    uint64_t *work);
};

/* C = ceil(T k CF / E), the quotient rounded to a grid of 2^-20 first: 4 * 1.2 * 10 / 16 is 3, not
 * 3.0000000000000004 -> 4, on every machine. At least 1 when num_tokens > 0. */
int64_t capacity_assignments(int64_t num_tokens, int32_t top_k, int32_t num_experts,
                             double capacity_factor);

/* Applies policy to every scope of the step and sets dropped and route->dropped_assignments.
 * STATUS_NO_MEMORY is the only failure. */
MUST_CHECK enum status capacity_apply(struct route *route, const struct drop_policy *policy,
                                      const struct drop_input *input);

const struct router *const *route_all(int32_t *count);
const struct router *route_find(const char *name); /* NULL: no such */
const struct drop_policy *const *drop_all(int32_t *count);
const struct drop_policy *drop_find(const char *name);

#endif
