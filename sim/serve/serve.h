/*
 * serve.h -- requests come, wait, are read, answered and leave: continuous batching.
 *
 * Requests arrive at a router, which gives each to a replica. A replica makes a batch for every
 * step: a token (or one and its drafts) for each running sequence, and with what is left of the
 * batch's tokens chunks of prompts, first come first served (chunked prefill). Replicas of a group
 * (attention data-parallel, experts shared) step together. KV entries live in blocks; when a
 * sequence needs one and none is left, the request that was admitted last gives all of its blocks
 * back and later reads prompt and answer again (recomputation).
 *
 * With a prefill pool, prompts are read there. Once a replica of the main pool has blocks for them,
 * the KV entries travel, one request at a time out of a replica and one at a time into one; then
 * the answer goes on.
 *
 * Steps between which nothing joins, leaves or runs out of memory are simulated together where
 * their lengths lie on a line; each has its own end, at which who has arrived meanwhile gets in. An
 * event costs O(log requests + replicas).
 *
 * Where the placement of experts changes while it serves, each group stops every interval of steps
 * until the weights are in (rebalance_stalls.h).
 *
 * Closed-loop load keeps a number of requests outstanding: the next comes when one is answered or
 * refused, just after the step behind that answer has begun, for its client first hears of it.
 *
 * The host of the engine (HTTP, tokeniser, what a first token waits for on its way out) delays each
 * request by a constant before a replica gets it. It keeps no GPU waiting, and requests do not wait
 * for each other there.
 *
 * Left out: host work that does keep GPUs waiting; the network to the user; sampling; drafts' own
 * model; loading of cached prefixes, which is taken to be hidden; transfer while a prompt is still
 * read.
 */
#ifndef MOESIM_SERVE_H
#define MOESIM_SERVE_H

#include <stdbool.h>
#include <stdint.h>

#include "arrivals.h"
#include "serve/rebalance_stalls.h"
#include "serve/serving_config.h"
#include "serve/step_time.h"
#include "status.h"

enum serve_pool_kind {
    SERVE_MAIN,    /* reads prompts too, unless there is a prefill pool */
    SERVE_PREFILL, /* only reads prompts */
    SERVE_POOLS,
};

/* How long a step is, in ns; never negative. */
struct serve_model {
    double (*step_ns)(const void *context, const struct step_load *load, int32_t num_replicas);
    const void *context;
};

struct serve_pool {
    struct serve_model model;
    int32_t num_groups; /* 0: there is no such pool */
    int32_t replicas_per_group;
    struct serving_batch batch;
    int64_t kv_blocks;              /* of a replica */
    struct rebalance_stalls stalls; /* interval_steps 0: experts stay where they are */
};

struct serve_options {
    struct serve_pool pool[SERVE_POOLS];
    const struct serving_config *config; /* batch limits, arrivals and paths are not read */
    double transfer_ns;                  /* of a request's KV entries: start, */
    double transfer_ns_per_token;        /* and more for each */
    int32_t concurrency; /* requests outstanding, arrivals' times unread; 0: they come by these */
    double host_ns;      /* from a request's coming until a replica has it in its queue */
    uint64_t seed;
    bool every_step; /* simulate steps one by one, for tests */
    /* Called now and then; return false to stop. NULL: not wanted. */
    bool (*progress)(void *context, int64_t done, int64_t total);
    void *context;
};

struct serve_request {
    int64_t arrival_ns;     /* with a concurrency: when another left and made room for it */
    int64_t first_token_ns; /* -1: refused, because it can never fit into a replica's cache */
    int64_t end_ns;
    int32_t prompt_tokens;
    int32_t decode_tokens;
    int32_t cached_tokens; /* of the prompt, when it was read first */
    int32_t preemptions;
    int32_t replica; /* that answered, of the main pool */
};

/* A stretch of time of a pool; means over it. */
struct serve_window {
    double waiting;      /* requests */
    double running;      /* requests that hold KV blocks and are in batches */
    double kv_fraction;  /* of all blocks in use */
    double busy;         /* of its groups */
    int64_t arrivals;    /* requests */
    int64_t read_tokens; /* of prompts, recomputation included, cached ones not */
    int64_t new_tokens;  /* of answers */
};

struct serve_totals {
    int64_t num_requests;
    int64_t num_refused;
    int64_t num_events;
    int64_t num_steps[SERVE_POOLS];
    int64_t num_reading_steps[SERVE_POOLS]; /* in which a replica of the group reads a prompt */
    int64_t preemptions;
    int64_t rebalances[SERVE_POOLS]; /* of all groups */
    double stall_s[SERVE_POOLS];     /* that their steps waited for moved weights, all together */
    int64_t prompt_tokens;           /* of requests that were served */
    int64_t cached_tokens;           /* not read, every reading counted */
    int64_t read_tokens;             /* computed, recomputation included */
    int64_t again_tokens;            /* of them and of the cached: those of preempted requests */
    int64_t new_tokens;              /* answers */
    double duration_s;               /* from 0 to the last answer */
    double busy[SERVE_POOLS];        /* fraction of the time that a group steps */
    double kv_fraction[SERVE_POOLS]; /* mean */
    double kv_fraction_max[SERVE_POOLS]; /* of all replicas together */
    double waiting_mean[SERVE_POOLS];    /* requests, time mean */
    double running_mean[SERVE_POOLS];
    double tokens_per_step[SERVE_POOLS]; /* of a replica, mean over steps */
    double met_fraction; /* of requests that meet all targets; refused ones do not */
    double goodput_per_s;
    double new_tokens_per_s;
    double read_tokens_per_s;
    uint64_t digest;
};

#define SERVE_QUANTILES 5 /* 0.5, 0.9, 0.95, 0.99, 1 */
extern const double serve_quantiles[SERVE_QUANTILES];

#define SERVE_CURVE_POINTS 201 /* quantiles 0, 0.005 ... 1 */

struct serve_latency {
    int64_t count; /* 0: everything else is 0 too */
    double mean_s;
    double quantile_s[SERVE_QUANTILES];
    double curve_s[SERVE_CURVE_POINTS];
};

enum serve_measure {
    SERVE_TTFT, /* arrival to first token */
    SERVE_TPOT, /* first to last token, over the tokens after the first */
    SERVE_ITL,  /* between two tokens of a request; quantiles to 1 % */
    SERVE_E2E,  /* arrival to last token */
    SERVE_MEASURES,
};

/* As results have them. */
const char *serve_measure_name(enum serve_measure measure); /* "ttft", ... */
const char *serve_pool_name(enum serve_pool_kind pool);     /* "main", "prefill" */

/* Owns its arrays. */
struct serve_result {
    struct serve_totals totals;
    struct serve_latency latency[SERVE_MEASURES];
    struct serve_request *request; /* [totals.num_requests] as they arrive */
    int32_t num_windows;
    double window_s;
    struct serve_window *window[SERVE_POOLS]; /* [num_windows] */
};

/* Simulates until the last request has left. STATUS_INVALID "interrupted", STATUS_NO_MEMORY.
 * Release with serve_result_free, also after a failure. */
MUST_CHECK enum status serve_run(struct serve_result *result, const struct arrivals *arrivals,
                                 const struct serve_options *options, struct error *error);
void serve_result_free(struct serve_result *result); /* safe on a zeroed struct, and twice */

#endif
