/*
 * engine_internal.h -- the engine's own structs, shared by the engine_*.c files only.
 *
 *   engine.c            set-up, the loop over steps and events
 *   engine_split.c      the tokens of a step by micro-batch and chunk
 *   engine_rank.c       the life of a rank within a step: its lanes and their stages
 *   engine_compute.c    the GPU of a rank: whose turn it is, and how long it takes
 *   engine_network.c    releases, sends and arrivals
 *   engine_layer.c      routing and transfer plans of a layer, made when the first rank gets there
 *   engine_fault.c      ranks that are slow for some steps
 *   engine_record.c     metrics
 *   engine_rebalance.c  load windows, placements, weights on the move
 *   engine_offload.c    experts that live in host memory or on drives, and when they arrive
 *   engine_price.c      what strategies are told a move and a token cost
 */
#ifndef MOESIM_ENGINE_INTERNAL_H
#define MOESIM_ENGINE_INTERNAL_H

#include "engine.h"
#include "event.h"
#include "message_fold.h"
#include "trace_side.h"
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
    STAGE_JOIN,           /* the lane rests until the lane that leads it takes it on again */
    STAGE_ATTENTION_CORE, /* behind STAGE_ATTENTION, where that is its projections alone */
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

/* Tokens that go through stages together: of a whole step, of a micro-batch or of a chunk. */
struct token_share {
    const struct trace_batch *batch;
    int64_t *attended_tokens; /* [ep] sum of contexts, full attention */
    struct trace_batch own;   /* what batch points to, but where the share is the whole step */
};

#define NO_LANE  (-1)
#define NO_LAYER (-1)

/* One chunk of one micro-batch of one rank on its way through a step. Lane m * chunks leads the
 * lanes of micro-batch m: it alone takes what is not experts. Lane 0 leads the rank: it alone takes
 * the layers before the first MoE layer and behind the last, with the tokens of all. */
struct lane {
    enum stage stage;
    int32_t layer;       /* of the model */
    int64_t layer_ns;    /* when the present layer began */
    bool wants_gpu;      /* it waits for the GPU */
    int32_t chunks_left; /* of a leader: those still on their way through its layer */
    int64_t shared_ns;   /* of a leader: since when its shared expert is computed, where that runs
                            beside the routed ones */
};

static inline bool transfer_is_collective(const struct transfer *transfer)
{
    return transfer->kind == TRANSFER_DISPATCH || transfer->kind == TRANSFER_COMBINE;
}

struct rank_state {
    struct lane *lane;                  /* [num_lanes] */
    int32_t micro_batches_left;         /* before the last split layer's end */
    int32_t computing;                  /* the lane that has the GPU, or NO_LANE */
    int64_t sending_ns;                 /* of what it computes: the end, that it only sends */
    int32_t collectives;                /* dispatches and combines of this rank under way */
    int64_t collective_bytes_per_s;     /* of HBM, that they take together */
    int64_t mark_ns;                    /* until when this rank's time is booked */
    int64_t phase_ns[STEP_PHASE_COUNT]; /* of this step */
};

/* What the time of a phase that is not experts depends on, and how long it took last time: one line
 * of a cache, of which a layer reads hundreds. */
struct timed_work {
    _Alignas(64) double ns;
    double hbm_bytes_per_s_taken;
    int64_t attended_tokens;
    int64_t context_tokens;
    int32_t tokens;
    int32_t shards; /* 0: there was none */
    int32_t sms_taken;
    int32_t sms_kept;
};

/* What the engine holds of a layer and lane while any rank is in it. */
struct layer_run {
    struct layer_run *next_free;
    struct layer_run *next_run; /* of all ever made */
    struct arena arena;         /* of what is kept below until the last rank leaves */
    int32_t lane;
    int32_t layer;     /* of the model */
    int32_t moe_layer; /* among MoE layers; -1: dense */
    int32_t ranks_left;
    const struct token_share *share;     /* of the leader: attention, dense FFN, gate, head */
    const struct trace_batch *moe_batch; /* of the lane: experts; ranks are groups */
    struct route route; /* arrays: the engine's scratch, while the layer is being made */
    const struct placement *placement; /* of the slots that route names: in force, or loans' */
    struct dispatch_loans loans;
    struct traffic traffic;   /* as route */
    int32_t *slot_tokens;     /* [placement->num_slots] */
    int32_t *received_tokens; /* [groups] distinct tokens, once a source */
    struct transfer transfer[TRANSFER_KIND_COUNT];
    double expert_ns_max;
    double expert_ns_sum;
    double layer_ns_sum;
};

/* What the step's layers have added to its balance so far. */
struct step_balance {
    struct balance_sums sum; /* over layers and lanes; balancedness_vllm unused */
    double mean_sum;         /* of rank loads */
    double max_sum;
    int32_t count; /* layers x lanes */
};

/* A message in the network; id is its index in engine->in_flight. */
struct in_flight {
    struct transfer *transfer;
    int64_t root_ns; /* when the last of its causes was ready to start */
    int32_t message;
    int32_t src_rank;
    int32_t next_free;
};

struct offload; /* engine_offload.c */

struct engine {
    const struct scenario *scenario;
    const struct trace *trace;
    const struct cluster *expert_cluster; /* whose ranks are groups of ranks that share experts */
    struct trace_side side;               /* of the trace, if router or drop policy needs scores */
    struct route_settings route_settings;
    bool weighs_gates; /* router or drop policy have to do with gate weights, or the trace has some
                        */
    int32_t num_moe_layers;
    int32_t num_slots;
    int32_t *trace_layer;  /* [num_moe_layers] recorded layer of each MoE layer */
    int32_t *moe_layer;    /* [num_layers] -1: dense */
    int32_t *node_of_rank; /* [ep] */
    int32_t *cell_of_rank; /* [ep] of the metrics' traffic */

    struct batcher *batcher;
    const struct trace_batch *batch; /* of the step under way */
    int32_t num_lanes;               /* micro-batches x chunks */
    int32_t split_first;             /* layers split_first .. split_last go by micro-batch;
                                        NO_LAYER: none do */
    int32_t split_last;
    bool halves_attention; /* half a layer lies between micro-batches: engine_compute.c */
    bool shares_late;      /* the shared expert is computed behind the routed ones */
    bool shares_beside;    /* in this step, on a stream of its own, beside them */
    struct token_share whole;
    struct token_share *micro_batch; /* [micro_batches] */
    struct token_share *chunk;       /* [num_lanes] of groups where experts are cut */
    struct placement *placement;     /* [num_moe_layers] */
    void *router_state;
    void *replica_state;
    void *strategy_state;

    struct arena scratch; /* of the layer that is being made */

    struct event_queue queue;
    void *net;
    int64_t net_epoch;
    int64_t net_wake_ns; /* of the live wake-up; NET_IDLE: none */
    struct in_flight *in_flight;
    int32_t in_flight_count; /* slots ever used */
    int32_t in_flight_capacity;
    int32_t in_flight_free;     /* head of the free list, -1: empty */
    struct net_message *outbox; /* [outbox_capacity] of a network that does not decide at once */
    int32_t outbox_capacity;
    int64_t *arrival_ns; /* [arrival_capacity] of one that does */
    int32_t arrival_capacity;
    struct message_fold message_fold;

    struct rank_state *rank;       /* [ep] */
    double *compute_share;         /* [ep] of a sound rank's speed, now */
    struct timed_work *timed_work; /* [ep][num_lanes][GPU_PHASE_COUNT] */
    int32_t ranks_done;
    struct layer_run **layer_run; /* [num_lanes][num_layers + 1] NULL: nobody is there */
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
    int32_t *window_pairs;  /* [num_moe_layers][num_experts][num_experts], if needed, as are: */
    int32_t *window_transitions; /* [num_moe_layers - 1][num_experts][num_experts] */
    int32_t *last_wishes;        /* [num_lanes][tokens_max][top_k] of the MoE layer before */

    struct offload *offload; /* NULL: GPUs have all of their experts */

    struct step_balance step_balance;
    int64_t *interval_tokens; /* [num_moe_layers][ep] kept assignments since the last rebalance */

    int64_t *layer_tokens;  /* [num_experts] scratch: wishes of one layer */
    int32_t *source_tokens; /* [num_experts] scratch: the same of one source rank */

    struct arena run_arena;
    struct run_metrics metrics;
    const struct engine_observer *observer; /* while it runs; never NULL */
    struct error *error;
};

static inline struct layer_run **layer_run_at(const struct engine *engine, int32_t lane,
                                              int32_t layer)
{
    return &engine->layer_run[(int64_t)lane * (engine->scenario->model.num_layers + 1) + layer];
}

static inline struct layer_run *layer_run_of(const struct engine *engine, int32_t lane,
                                             int32_t layer)
{
    return *layer_run_at(engine, lane, layer);
}

static inline int32_t leader_of(const struct engine *engine, int32_t lane)
{
    return lane - lane % engine->scenario->chunks;
}

/* engine_split.c */
MUST_CHECK enum status split_init(struct engine *engine);
void split_step(struct engine *engine);                       /* engine->batch is a new step */
bool split_layer(const struct engine *engine, int32_t layer); /* it goes by micro-batch */
/* The tokens that a leader takes through what is not experts. */
const struct token_share *split_share(const struct engine *engine, int32_t lane, int32_t layer);

/* engine_fault.c */
void fault_begin_step(struct engine *engine); /* puts the step's faults in force */

/* engine_rank.c */
MUST_CHECK enum status rank_begin_step(struct engine *engine, int32_t rank);
MUST_CHECK enum status rank_compute_done(struct engine *engine, int32_t rank);
/* All of the rank's part of this transfer has arrived: whoever waits for it moves on. */
MUST_CHECK enum status rank_data_arrived(struct engine *engine, int32_t rank,
                                         const struct transfer *transfer);
/* Books a rank's time up to now: first_ns of it to first, the rest to phase. */
void rank_book(struct engine *engine, int32_t rank, int32_t lane, enum step_phase first,
               int64_t first_ns, enum step_phase phase);
enum step_phase rank_phase(enum stage stage);

/* engine_compute.c */
/* The lane's stage waits for the GPU from now on. */
MUST_CHECK enum status compute_want(struct engine *engine, int32_t rank, int32_t lane);
/* Gives the GPU, if it is free, to the lane whose turn it is, if that is ready. */
MUST_CHECK enum status compute_next(struct engine *engine, int32_t rank);

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
MUST_CHECK enum status layer_enter(struct engine *engine, int32_t lane, int32_t layer);
void layer_leave(struct engine *engine, int32_t lane, int32_t layer);

/* engine_record.c */
MUST_CHECK enum status record_layer_begin(struct engine *engine, const struct layer_run *run);
/* Counts a group of a dispatch, message [group->count] its messages. */
void record_dispatch(struct engine *engine, const struct message_group *group,
                     const struct message *message);
/* Ends an interval that placements stayed in force. */
void record_interval(struct engine *engine);
void record_layer_end(struct engine *engine, const struct layer_run *run);
/* Tells the observer of a rank's stretch of time, if it wants to know and the stretch is not empty.
 * layer is the model's, or -1. */
void record_time(const struct engine *engine, int32_t rank, int32_t layer, enum step_phase phase,
                 int64_t begin_ns, int64_t end_ns);
void record_step(struct engine *engine, int64_t end_ns);
MUST_CHECK enum status record_run(struct engine *engine);

/* engine_record_route.c */
/* Counts what the router wishes, before any of it is dropped. Fills layer_tokens and source_tokens
 * on the way, for record_layer_begin.
 *   wish_tokens  [groups][num_experts] wishes of each source, or NULL: nobody has counted them */
void record_wishes(struct engine *engine, const struct layer_run *run, const int32_t *wish_tokens);
void record_route(struct engine *engine, const struct layer_run *run); /* after record_wishes */

/* engine_offload.c: only with engine->offload, where a rank has one lane */
MUST_CHECK enum status offload_open(struct engine *engine); /* sets engine->offload, if need be */
/* The rank knows which of its experts the layer touches: looks for them and begins to fetch. */
void offload_look_up(struct engine *engine, int32_t rank, int32_t layer);
/* The rank would compute its experts: it does as soon as their weights are in. */
MUST_CHECK enum status offload_begin_experts(struct engine *engine, int32_t rank);
MUST_CHECK enum status offload_fetched(struct engine *engine, int32_t rank); /* they are */
/* [slots of the rank] what is left to the GPU. */
const int32_t *offload_gpu_tokens(const struct engine *engine, int32_t rank);
/* How long the experts take from now on, whose part on the GPU takes gpu_ns. */
double offload_expert_ns(const struct engine *engine, int32_t rank, double gpu_ns);

/* engine_price.c */
/* Fills near_move_ns, far_move_ns and token_ns. STATUS_NO_MEMORY. */
MUST_CHECK enum status price_moves(struct engine *engine, struct balance_input *input);

/* engine_rebalance.c */
/* Puts in force, before the first step, what a strategy answers that looks at no load: an order in
 * which an engine loads a checkpoint. Nothing is charged. */
MUST_CHECK enum status rebalance_place(struct engine *engine);
MUST_CHECK enum status rebalance_init(struct engine *engine);
void rebalance_note_load(struct engine *engine, const struct layer_run *run);
MUST_CHECK enum status rebalance_after_step(struct engine *engine);

#endif
