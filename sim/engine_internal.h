/*
 * engine_internal.h -- the engine's own structs, shared by the engine_*.c files only.
 *
 *   engine.c            set-up, the loop over steps and events
 *   engine_rank.c       the life of a rank within a step
 *   engine_network.c    releases, sends and arrivals
 *   engine_layer.c      routing and transfer plans of one layer, made when the first rank gets
 * there engine_record.c     metrics engine_rebalance.c  load windows, placements, weights on the
 * move
 */
#ifndef MOESIM_ENGINE_INTERNAL_H
#define MOESIM_ENGINE_INTERNAL_H

#include "engine.h"
#include "event.h"
#include "transfer.h"

/* In the order in which a rank passes them. Those that end in a transfer wait for data. */
enum stage {
    STAGE_REBALANCE, /* weights of a new placement arrive */
    STAGE_ATTENTION_GATHER,
    STAGE_ATTENTION,
    STAGE_ATTENTION_SCATTER,
    STAGE_DENSE_GATHER,
    STAGE_DENSE,
    STAGE_DENSE_SCATTER,
    STAGE_GATE,
    STAGE_SHARED, /* while tokens are under way */
    STAGE_DISPATCH,
    STAGE_EXPERT,
    STAGE_COMBINE,
    STAGE_HEAD,
    STAGE_DONE,
};

enum transfer_kind {
    TRANSFER_ATTENTION_GATHER,
    TRANSFER_ATTENTION_SCATTER,
    TRANSFER_DENSE_GATHER,
    TRANSFER_DENSE_SCATTER,
    TRANSFER_DISPATCH,
    TRANSFER_COMBINE,
    TRANSFER_KIND_COUNT,
    TRANSFER_WEIGHTS = TRANSFER_KIND_COUNT,
};

struct rank_state {
    enum stage stage;
    int32_t layer;                      /* of the model */
    int64_t mark_ns;                    /* when the present stage began */
    int64_t layer_ns;                   /* when the present layer began */
    int64_t attended_tokens;            /* of this rank's tokens in this step, full attention */
    int64_t phase_ns[STEP_PHASE_COUNT]; /* of this step */
};

/* What the engine holds of a layer while any rank is in it. */
struct layer_run {
    struct layer_run *next_free;
    struct layer_run *next_run; /* of all ever made */
    struct arena arena;         /* everything below; reset when the last rank leaves */
    int32_t layer;              /* of the model */
    int32_t moe_layer;          /* among MoE layers; -1: dense */
    int32_t ranks_left;
    struct route route;
    struct traffic traffic;
    int32_t *slot_tokens; /* [num_slots] */
    struct transfer transfer[TRANSFER_KIND_COUNT];
    double expert_ns_max;
    double expert_ns_sum;
    double layer_ns_sum;
};

/* A message in the network; id is its index in engine->in_flight. */
struct in_flight {
    struct transfer *transfer;
    int64_t root_ns; /* when the last of its causes was ready to start */
    int32_t message;
    int32_t next_free;
};

struct engine {
    const struct scenario *scenario;
    const struct trace *trace;
    int32_t num_moe_layers;
    int32_t num_slots;
    int32_t *trace_layer; /* [num_moe_layers] recorded layer of each MoE layer */
    int32_t *moe_layer;   /* [num_layers] -1: dense */

    struct batcher *batcher;
    const struct trace_batch *batch; /* of the step under way */
    struct placement *placement;     /* [num_moe_layers] */
    void *router_state;
    void *replica_state;
    void *strategy_state;

    struct event_queue queue;
    void *net;
    int64_t net_epoch;
    int64_t net_wake_ns; /* of the live wake-up; NET_IDLE: none */
    struct in_flight *in_flight;
    int32_t in_flight_count; /* slots ever used */
    int32_t in_flight_capacity;
    int32_t in_flight_free; /* head of the free list, -1: empty */
    struct net_message *outbox;
    int64_t *outbox_done_ns; /* [outbox_capacity] */
    int32_t outbox_capacity;

    struct rank_state *rank; /* [ep] */
    int32_t ranks_done;
    struct layer_run **layer_run; /* [num_layers + 1] NULL: nobody is there */
    struct layer_run *free_runs;
    struct layer_run *all_runs; /* linked by next_run, for closing */

    int64_t step;
    int64_t step_begin_ns;
    struct arena rebalance_arena; /* weights on the move, for one step */
    struct transfer weights;
    bool weights_moving;

    int64_t *window_tokens; /* [num_moe_layers][num_experts] */
    int32_t *window_steps;  /* [window][num_moe_layers][num_experts], if the strategy needs it */
    int32_t window_count;   /* steps in the window so far */

    int64_t *layer_tokens;  /* [num_experts] scratch: wishes of one layer */
    int32_t *source_tokens; /* [num_experts] scratch: the same of one source rank */

    struct arena run_arena;
    struct run_metrics metrics;
    const struct engine_observer *observer; /* while it runs; never NULL */
    struct error *error;
};

/* engine_rank.c */
MUST_CHECK enum status rank_begin_step(struct engine *engine, int32_t rank);
MUST_CHECK enum status rank_compute_done(struct engine *engine, int32_t rank);
/* Moves on if the rank waits for this transfer and nothing is missing any more. */
MUST_CHECK enum status rank_data_arrived(struct engine *engine, int32_t rank,
                                         const struct transfer *transfer);

/* engine_network.c */
MUST_CHECK enum status network_schedule_release(struct engine *engine, struct transfer *transfer,
                                                int32_t rank, double startup_ns);
MUST_CHECK enum status network_release(struct engine *engine, struct transfer *transfer,
                                       int32_t rank);
/* Sends a group whose waits are over. */
MUST_CHECK enum status network_send_group(struct engine *engine, struct transfer *transfer,
                                          int32_t group);
/* All that the rank waits for in this transfer has arrived. */
MUST_CHECK enum status network_rank_ready(struct engine *engine, struct transfer *transfer,
                                          int32_t rank);
MUST_CHECK enum status network_wake(struct engine *engine);

/* engine_layer.c */
MUST_CHECK enum status layer_enter(struct engine *engine, int32_t layer);
void layer_leave(struct engine *engine, int32_t layer);

/* engine_record.c */
/* Fills layer_tokens and source_tokens on the way. */
MUST_CHECK enum status record_layer_begin(struct engine *engine, const struct layer_run *run);
void record_layer_end(struct engine *engine, const struct layer_run *run);
/* Tells the observer of a rank's stretch of time, if it wants to know and the stretch is not empty.
 */
void record_time(const struct engine *engine, const struct rank_state *state, enum step_phase phase,
                 int64_t begin_ns, int64_t end_ns);
void record_step(struct engine *engine, int64_t end_ns);
MUST_CHECK enum status record_run(struct engine *engine);

/* engine_rebalance.c */
MUST_CHECK enum status rebalance_init(struct engine *engine);
void rebalance_note_load(struct engine *engine, int32_t moe_layer);
MUST_CHECK enum status rebalance_after_step(struct engine *engine);

#endif
