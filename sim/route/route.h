/*
 * route.h -- which experts each token of a step wants, and which of those wishes are dropped.
 *
 * Two plug-in kinds. A router fills in the wishes of one layer; a drop policy then enforces what an
 * expert or a device may take of a scope: the tokens of a source rank, or of the step.
 */
#ifndef MOESIM_ROUTE_H
#define MOESIM_ROUTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arena.h"
#include "batch.h"
#include "cluster.h"
#include "model.h"
#include "placement.h"
#include "status.h"
#include "trace.h"
#include "trace_side.h"

#define SLOT_DROPPED (-1)

/* One layer of one step. Arrays belong to the step's arena. */
struct route {
    int32_t num_tokens;
    int32_t top_k; /* wishes that a token has room for: the model's top_k, unless the router lets
                      tokens have more */
    int32_t num_experts;
    int32_t *expert;     /* [num_tokens][top_k] wishes, or EXPERT_NOT_ROUTED */
    float *gate_weight;  /* [num_tokens][top_k]; NULL: 1 each, and nobody asks */
    bool *dropped;       /* [num_tokens][top_k] set by the drop policy; never for not routed;
                            NULL: none is, and dispatch has dealt sets instead of slots */
    int32_t *slot;       /* [num_tokens][top_k] set by dispatch; SLOT_DROPPED: computed nowhere */
    int64_t assignments; /* wishes, dropped ones included */
    int64_t dropped_assignments;
    int64_t rerouted_assignments; /* wishes that the drop policy sent to another expert */
    double places;      /* rows of the experts' buffers, over scopes; 0: no capacity was enforced */
    float *full_weight; /* [num_tokens] what the gate weights of the token's model_top_k likeliest
                           experts would sum to; NULL: what its wishes' do */
    int32_t model_top_k; /* where top_k is not the model's; 0: it is */
};

enum capacity_scope {
    CAPACITY_RANK,   /* each source rank's tokens have capacities of their own */
    CAPACITY_GLOBAL, /* the whole step competes */
};

enum route_score {
    ROUTE_SOFTMAX,
    ROUTE_SIGMOID,
};

/* What a scenario says under routing but for names; who reads what is said beside it. */
struct route_settings {
    double capacity_factor; /* < 0: of policies that are adaptive; 0: never drop, or what such a
                               policy makes of it. Also the factor of expert_choice */
    enum capacity_scope capacity_scope; /* also whose statistics sinkhorn, quantile, expert_choice
                                           and fastermoe look at */
    int32_t num_ranks;
    uint64_t seed;
    enum route_score score;    /* expert_choice, node_aware, reroute: what probabilities are */
    int32_t num_groups;        /* deepseek_v2 and _v3; 0: the model's */
    int32_t topk_groups;       /* the same */
    double tolerance;          /* node_aware: share of a score that nearness may cost */
    double bias_update;        /* loss_free: step of a bias */
    double bias_decay;         /* quantile: share of the old bias that stays */
    double off_node_share;     /* fastermoe: of first choices that may leave the node */
    int32_t min_capacity;      /* switch, gshard, deepspeed; < 0: the policy's own */
    int32_t capacity_multiple; /* batch_prioritised, tutel; 0: the policy's own */
    double exempt_share;       /* device_limited: of sequences that are never dropped */
};

/* What routers and drop policies see. */
struct route_input {
    const struct route_settings *settings;
    const struct moe_model *model;
    const struct trace *trace;     /* NULL for a dense model */
    const struct trace_side *side; /* has the trace's scores if router or policy needs them */
    const struct trace_batch *batch;
    int32_t trace_layer;               /* recorded layer to replay */
    const struct placement *placement; /* in force at this layer */
    const struct cluster *cluster;
    struct arena *scratch; /* what is taken from it lives as long as the route */
};

struct router {
    const char *name;
    const char *summary;
    const char *source;
    bool needs_scores;         /* of all experts, recorded in the trace */
    bool needs_groups;         /* of the model or the settings */
    bool is_blind;             /* looks at no score, so nobody can say what it gives up */
    int32_t top_k;             /* the only one that it is defined for; 0: any */
    size_t state_bytes;        /* zeroed private state, one for the run */
    size_t expert_state_bytes; /* the same, one for each recorded layer and expert behind it */
    /* Fills expert, gate_weight and assignments of route; may set full_weight, and may replace
     * expert and gate_weight by wider arrays of its own, with top_k and model_top_k. */
    enum status (*route)(void *state, const struct route_input *input, struct route *route,
                         struct error *error);
};

/* Tokens that compete. */
struct drop_scope {
    int32_t first;
    int32_t count;
    int64_t capacity_assignments; /* of an expert, or of a device; >= 0 */
    uint64_t *work;               /* [num_experts + 2 * count * top_k] contents arbitrary; shared by
                                     all scopes, so it stays in the cache */
};

/* What a capacity is computed from. */
struct capacity_input {
    int64_t num_tokens; /* of the scope; > 0 */
    int32_t top_k;      /* of the model */
    int32_t num_experts;
    int64_t wished_max; /* of the most wished expert; of an adaptive policy only */
    const struct route_settings *settings;
};

struct drop_policy {
    const char *name;
    const char *summary;
    const char *source;
    bool needs_scores;
    bool is_adaptive;     /* says itself what a capacity factor of 0 or below means */
    bool limits_devices;  /* the capacity is a rank's, not an expert's */
    bool may_be_negative; /* capacity_factor */
    int32_t top_k;        /* the only one that it is defined for; 0: any */
    /* NULL: C = ceil(T k CF / E), capacity_assignments. */
    int64_t (*capacity)(const struct capacity_input *input);
    /* Writes dropped of each wish of the scope; returns how many it drops. -1: no memory. */
    int64_t (*drop)(struct route *route, const struct route_input *input,
                    const struct drop_scope *scope);
};

/* C = ceil(T k CF / E), the quotient rounded to a grid of 2^-20 first: 4 * 1.2 * 10 / 16 is 3, not
 * 3.0000000000000004 -> 4, on every machine. At least 1 when num_tokens > 0. */
int64_t capacity_assignments(int64_t num_tokens, int32_t top_k, int32_t num_experts,
                             double capacity_factor);

/* T k CF / E on that grid, to be rounded as a policy likes; at most 2^52. */
double capacity_quotient(int64_t num_tokens, int32_t top_k, int32_t num_experts,
                         double capacity_factor);

/* What policy lets an expert, or a device, take of a scope. */
int64_t drop_capacity(const struct drop_policy *policy, const struct capacity_input *input);

/* Whether policy has to be asked: a capacity factor of 0 drops nothing, but of adaptive ones. */
static inline bool drop_applies(const struct drop_policy *policy,
                                const struct route_settings *settings)
{
    return settings->capacity_factor > 0.0 || policy->is_adaptive;
}

/* Applies policy to every scope of the step and sets dropped, dropped_assignments,
 * rerouted_assignments and places of route. STATUS_NO_MEMORY is the only failure. */
MUST_CHECK enum status capacity_apply(struct route *route, const struct drop_policy *policy,
                                      const struct route_input *input);

/* The tokens of scope number scope, first .. end - 1, and how many scopes there are. */
int32_t route_num_scopes(const struct route_settings *settings);
void route_scope(const struct route_input *input, int32_t scope, int32_t num_tokens, int32_t *first,
                 int32_t *end);

const struct router *const *route_all(int32_t *count);
const struct router *route_find(const char *name); /* NULL: no such */
const struct drop_policy *const *drop_all(int32_t *count);
const struct drop_policy *drop_find(const char *name);

#endif
