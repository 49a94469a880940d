/*
 * serve_internal.h -- what the serve_*.c files share and nobody else includes.
 *
 *   serve.c         arrivals, events, steps' ends
 *   serve_batch.c   a replica's batch: admission, chunks, prompts read, sequences through
 *   serve_blocks.c  KV blocks of a replica, and who gives them back
 *   serve_group.c   the steps of a group
 *   serve_prefix.c  the cache of hashed prefixes
 *   serve_series.c  levels over time
 *   serve_result.c  percentiles and totals
 */
#ifndef MOESIM_SERVE_INTERNAL_H
#define MOESIM_SERVE_INTERNAL_H

#include "arena.h"
#include "serve/key_heap.h"
#include "serve/serve.h"

#define RATE_ONE       65536 /* fixed point of tokens a step */

#define SERIES_WINDOWS 256 /* at least half of them are used */

#define GAP_BINS       4096 /* of the histogram of gaps between tokens, */
#define GAP_BINS_OCT   64   /* so many an octave, from 2^0 ns on */

enum serve_event {
    SERVE_STEP_END,      /* id: group */
    SERVE_HOST_DONE,     /* id: request that a replica gets */
    SERVE_TRANSFER_OUT,  /* id: request whose entries begin to leave prefill */
    SERVE_TRANSFER_DONE, /* id: request */
};

struct request_state {
    int32_t target_tokens; /* to be in the cache before the next token: prompt and answer so far */
    int32_t done_tokens;   /* of them that are */
    int32_t chunk_tokens;  /* being read in the step under way */
    int32_t answered;      /* tokens of the answer */
    int32_t steps_left;    /* after the next token, to the last */
    int32_t stamp;         /* grows when it is preempted or done: older heap entries are stale */
    int32_t blocks;
    int32_t replica;         /* that holds it, over all pools */
    int32_t prefill_replica; /* that holds KV entries to be sent */
    int32_t prefill_blocks;
    /* While it decodes: entries in the cache before step s are
     * joined_tokens + (s - joined_step - 1) rate. */
    int32_t joined_tokens;
    int32_t joined_steps; /* steps_left when it joined */
    int64_t joined_step;
    int64_t rate;          /* tokens a step, in 1 / RATE_ONE */
    int64_t last_token_ns; /* before it was preempted */
    bool is_decoding;
};

/* First in, first out; preempted requests get in at the front. */
struct deque {
    int32_t *id;
    int32_t begin;
    int32_t count;
    int32_t capacity; /* a power of two */
};

struct admission {
    int32_t id;
    int32_t stamp;
};

struct replica {
    struct deque waiting;
    struct deque arriving;      /* of another pool, waiting for blocks */
    struct deque ready;         /* their KV entries have come */
    struct deque joined;        /* answers that go on here in the steps under way */
    struct deque reading;       /* prompts being read */
    struct admission *admitted; /* a stack, stale entries among them */
    int32_t num_admitted;
    int32_t admitted_capacity;
    struct key_heap ends;   /* by step: sequences that are through */
    struct key_heap blocks; /* by step: sequences that need another block for it */
    int32_t group;          /* over all pools */
    int32_t load;           /* requests: waiting, arriving, running */
    int32_t running;        /* requests in batches, or with blocks reserved */
    int32_t decoding;
    int64_t free_blocks;
    int64_t context_base; /* KV entries of decoding sequences before step s: */
    int64_t context_rate; /* (base + rate s) / RATE_ONE */
    int64_t port_free_ns; /* for transfers */
};

struct group {
    enum serve_pool_kind pool;
    int32_t first_replica;
    struct step_load *load; /* [replicas_per_group] of the step under way */
    int64_t step;           /* steps that are over */
    bool is_busy;
    bool reads;    /* in the step under way */
    int32_t stamp; /* of its live event */
    int64_t begin_ns;
    int32_t num_steps; /* simulated together */
    double first_ns;   /* the first of them takes */
    double slope_ns;   /* each takes more than the one before */
    double weights_ns; /* when the experts that move are in */
};

/* Levels of a pool and their integrals over windows. */
struct series {
    int64_t waiting;
    int64_t running;
    int64_t blocks;
    int64_t busy_groups;
    int64_t blocks_max;
    struct serve_window window[SERIES_WINDOWS]; /* integrals until the end */
};

struct prefix_cache_state;

struct serving {
    const struct serve_options *options;
    const struct arrivals *arrivals;
    struct serve_result *result;
    struct error *error;
    struct request_state *request; /* [num_requests] */
    struct replica *replica;       /* [num_replicas] main pool first */
    int32_t num_replicas;
    int32_t pool_first[SERVE_POOLS + 1]; /* first replica of each pool */
    struct group *group;
    int32_t num_groups;
    struct key_heap events;
    struct prefix_cache_state *prefixes; /* NULL: none */
    int64_t now_ns;
    int64_t next_arrival;
    int64_t num_released;              /* requests whose arrival_ns is known */
    int64_t num_left;                  /* requests that are done or refused */
    int32_t next_replica[SERVE_POOLS]; /* round robin */
    struct step_load *scratch;         /* [most replicas of a group] */
    struct series series[SERVE_POOLS];
    int64_t series_ns; /* until when levels are integrated */
    int64_t window_ns;
    int64_t step_tokens[SERVE_POOLS]; /* sum over steps */
    int64_t gap_count[GAP_BINS];
    double gap_sum_ns;
    struct arena arena;
};

static inline const struct serve_pool *pool_of(const struct serving *serving,
                                               const struct replica *replica)
{
    return &serving->options->pool[serving->group[replica->group].pool];
}

static inline struct series *series_of(struct serving *serving, const struct replica *replica)
{
    return &serving->series[serving->group[replica->group].pool];
}

/* serve_batch.c */
MUST_CHECK enum status deque_push(struct deque *deque, int32_t id, bool at_front);
int32_t deque_pop(struct deque *deque);
static inline int32_t deque_at(const struct deque *deque, int32_t place)
{
    return deque->id[(deque->begin + place) & (deque->capacity - 1)];
}
/* Makes the batch of the group's next step; load out. */
MUST_CHECK enum status batch_plan(struct serving *serving, struct replica *replica,
                                  struct step_load *load);
/* The group's steps are over: prompts that are read, sequences that are through. */
MUST_CHECK enum status batch_finish(struct serving *serving, struct replica *replica);
/* A request's KV entries begin to leave prefill; from now on they wait for its replica's port. */
MUST_CHECK enum status batch_transfer_in(struct serving *serving, int32_t id);
/* How many steps from now on certainly need no more blocks than are free; at least 1. */
int64_t batch_steps_with_room(const struct serving *serving, const struct replica *replica);
/* Steps until the first sequence is through; INT64_MAX: none decodes. */
int64_t batch_steps_to_end(const struct serving *serving, struct replica *replica);
/* The load of a step of decoding sequences alone. */
struct step_load batch_decode_load(const struct serving *serving, const struct replica *replica,
                                   int64_t step);
/* serve_blocks.c */
/* A request holds blocks: of those that do, who was admitted last is preempted first. */
MUST_CHECK enum status blocks_admit(struct replica *replica, int32_t id, int32_t stamp);
void blocks_tidy(const struct serving *serving, struct replica *replica);
/* A sequence decodes from the group's next step on. */
MUST_CHECK enum status blocks_join(struct serving *serving, struct replica *replica, int32_t id);
/* A request leaves the batch; its blocks stay. */
void blocks_leave(struct serving *serving, struct replica *replica, int32_t id);
/* Gives every sequence the block that it needs for the next step. */
MUST_CHECK enum status blocks_grow(struct serving *serving, struct replica *replica,
                                   bool *preempted);
/* Takes blocks, or gives them back where negative. */
void batch_take_blocks(struct serving *serving, struct replica *replica, int64_t blocks);
int32_t batch_blocks(const struct serving *serving, int64_t tokens);

/* serve_group.c */
/* Something has changed for a replica: an idle group begins a step, one in the middle of several
 * ends with the step under way. */
MUST_CHECK enum status group_wake(struct serving *serving, int32_t group);
MUST_CHECK enum status group_step_end(struct serving *serving, int32_t group);

/* serve.c */
/* A prompt was read in the prefill pool: the router finds a replica that answers. */
MUST_CHECK enum status serve_hand_over(struct serving *serving, int32_t id);
void serve_request_done(struct serving *serving, int32_t id);

/* serve_prefix.c: tokens of the request's prompt that are in the cache now; at most all but one. */
MUST_CHECK enum status prefix_open(struct serving *serving);
int32_t prefix_find(struct serving *serving, int32_t id);
void prefix_keep(struct serving *serving, int32_t id); /* it was read */
void prefix_close(struct serving *serving);

/* serve_series.c */
void series_open(struct serving *serving);
void series_advance(struct serving *serving); /* before any level changes */
struct serve_window *series_now(struct serving *serving, enum serve_pool_kind pool);
void series_gap(struct serving *serving, double gap_ns, int64_t count);

/* serve_result.c */
MUST_CHECK enum status serve_summarise(struct serving *serving);

#endif
