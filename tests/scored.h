/*
 * scored.h -- a trace with scores, opened for routers that choose from them.
 *
 * Its tokens are one batch, in the reverse of the file's order; they start on ranks in turn blocks,
 * and expert e is on rank e * num_ranks / num_experts.
 */
#ifndef MOESIM_SCORED_H
#define MOESIM_SCORED_H

#include "route/route.h"
#include "status.h"

struct scored {
    struct trace trace;
    struct trace_side side;
    struct moe_model model; /* of groups, what a test puts there */
    struct cluster cluster; /* all ranks on one node, until a test says otherwise */
    struct route_settings settings;
    struct placement placement;
    struct trace_batch batch;
    struct route route;
    void *state; /* of the router that scored_route was last called with */
    const struct router *router;
    struct arena arena;
    struct error error;
};

/* Opens the trace at path with its tokens dealt to num_ranks ranks, as a scenario's defaults say.
 * Asserts that it can be. */
void scored_open(struct scored *scored, const char *path, int32_t num_ranks);
void scored_close(struct scored *scored);

/* Routes a layer of all tokens. State is kept from call to call of one router. */
enum status scored_route(struct scored *scored, const char *router, int32_t layer);

/* Applies a drop policy to what was routed. */
void scored_drop(struct scored *scored, const char *policy);

/* Writes source_batch.h's logits to path and opens them, tokens in its order. */
void scored_open_source_batch(struct scored *scored, const char *path, int32_t top_k,
                              int32_t num_ranks);

/* Writes a trace of one layer with these scores [num_tokens][num_experts], its experts being
 * whatever is first, in shards of three tokens. */
void scored_write(const char *path, int32_t num_tokens, int32_t num_experts, int32_t top_k,
                  enum trace_score kind, const float *score);

/* A directory of its own for a test, and its end. */
void scored_make_directory(char *directory, size_t size);
void scored_remove_directory(const char *directory);

#endif
