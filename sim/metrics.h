/*
 * metrics.h -- what a run measures, summed as it goes: memory is bounded by windows, not by steps.
 */
#ifndef MOESIM_METRICS_H
#define MOESIM_METRICS_H

#include <stdint.h>

#include "arena.h"
#include "cluster.h"
#include "route/route.h"
#include "status.h"

#define WINDOWS_MAX       128 /* windows a run is cut into */
#define DROP_FACTORS      9
#define TRAFFIC_CELLS_MAX 256 /* rows of the traffic matrix; above it ranks are grouped by node */

/* Where a rank's time in a step goes; the phases of all ranks sum to ranks x step time. */
enum step_phase {
    STEP_ATTENTION, /* attention, its tensor-parallel exchange not included */
    STEP_DENSE,     /* dense layers' FFN and the output head */
    STEP_GATE,
    STEP_DISPATCH,  /* tokens under way to this rank, its shared expert done */
    STEP_EXPERT,    /* routed and shared experts */
    STEP_COMBINE,   /* results under way to this rank */
    STEP_EXCHANGE,  /* tensor-parallel all-gather and reduce-scatter */
    STEP_WAITING,   /* for slower ranks */
    STEP_REBALANCE, /* for weights that move */
    STEP_FETCH,     /* for weights of offloaded experts */
    STEP_PHASE_COUNT,
};

const char *step_phase_name(enum step_phase phase); /* "attention", ... */

/* Capacity factors of the what-if drop curve. */
extern const double drop_factors[DROP_FACTORS];

/* How evenly the ranks were loaded, as engines define it; load: kept assignments of a rank. */
struct balance_sums {
    double balancedness;      /* SGLang: mean over layers of mean / max */
    double balancedness_vllm; /* sum over layers of mean / sum over layers of max */
    double imbalance;         /* TensorRT-LLM: mean over layers of (max - mean) / mean */
    double variation;         /* mean over layers of the standard deviation / mean */
};

struct step_window {
    int64_t first_step;
    int64_t num_steps;
    int64_t tokens;
    int64_t assignments;
    int64_t dropped_assignments;
    int64_t step_ns_sum; /* from the end of the step before; waiting for moved weights included */
    int64_t step_ns_min;
    int64_t step_ns_max;
    double phase_ns[STEP_PHASE_COUNT]; /* sum over steps of the mean over ranks */
    struct balance_sums balance;       /* sums over steps */
};

struct layer_metrics {
    int32_t model_layer;
    int64_t assignments;
    int64_t dropped_assignments;
    double rank_tokens_max_over_mean_sum; /* sum over steps; ranks by kept assignments */
    double balancedness_sum;              /* sum over steps of mean / max */
    double expert_ns_max_sum;             /* sum over steps of the slowest rank's expert time */
    double expert_ns_mean_sum;            /* sum over steps of the mean over ranks */
    double layer_ns_sum;                  /* sum over steps of the mean over ranks, whole layer */
};

/* One change of placements, and what came of it. The step it lands in waits for weights; the steps
 * behind it, up to the next change, are settled. Their times hold only what a placement can change:
 * a step less attention, dense parts, gate and exchange, mean over ranks. Contexts that grow during
 * a run would otherwise hide what balancing is worth. */
struct rebalance_record {
    int64_t step; /* the first under the new placement: the one it lands in */
    int64_t moves;
    int64_t bytes;
    int64_t duration_ns; /* longest wait of a rank for its weights */
    int32_t layers_changed;
    int64_t landing_ns; /* of the step it lands in */
    int64_t settled_steps;
    int64_t settled_ns; /* their sum */
};

/* What the rebalances of a run were worth on average, compared with the steps before the first. */
struct rebalance_worth {
    int32_t changes;      /* those with settled steps behind them; 0: nothing can be said */
    double before_ns;     /* mean step before the first */
    double settled_ns;    /* mean settled step */
    double cost_ns;       /* what the landing step took longer than its settled ones, a change */
    double payback_steps; /* cost / gain; < 0: never, because no step became shorter */
    double steps_between; /* settled steps a change */
};

/* What routing a layer gave up and how even it was; a batch is a step, or one of its parts that
 * travel one by one. */
struct route_metrics {
    int64_t batches;
    int64_t tokens;                /* those that were routed */
    int64_t tokens_without_expert; /* dropped by all, or chosen by none */
    int64_t rerouted_assignments;
    double gate_mass_sum;     /* over tokens: see engine_record_route.c */
    double max_violation_sum; /* over batches: (hottest expert - mean) / mean of wishes, MaxVio */
    double places;            /* rows of experts' buffers; 0: there was no capacity */
};

/* What became of the experts that lookups of offloaded layers touched: touches = hits + ahead +
 * fetched + on_cpu. */
struct offload_counts {
    int64_t touches;
    int64_t hits;    /* the GPU had them */
    int64_t ahead;   /* fetched before they were known to be needed, though perhaps not all of it */
    int64_t fetched; /* when they were needed */
    int64_t on_cpu;  /* the host's CPUs computed them */
    int64_t best_hits; /* of any policy that fetches what it lacks (offload/best_hits.h) */
    int64_t transfers; /* experts that came over the link: fetched, ahead, in vain, or kept after
                          the CPUs had computed them */
};

struct run_metrics {
    int32_t num_layers; /* MoE layers; 0: dense */
    int32_t num_experts;
    int32_t num_ranks;
    int32_t num_windows;
    int64_t window_steps; /* steps a window; the last may be shorter */
    int64_t num_steps;
    int64_t rows_left_out;

    struct step_window *window; /* [num_windows] */
    struct layer_metrics *layer;
    struct route_metrics *route;           /* [num_layers] */
    struct offload_counts *offload_layer;  /* [num_layers] NULL: nothing is offloaded */
    struct offload_counts *offload_window; /* [num_windows] likewise */
    bool gate_mass_is_known;               /* the router looked at scores, or replayed who did */
    int64_t *expert_tokens;                /* [num_layers][num_experts] wishes */
    int64_t *expert_dropped;               /* [num_layers][num_experts] */
    int64_t *rank_tokens;                  /* [num_layers][num_ranks] kept assignments */
    int64_t *window_rank_tokens;           /* [num_windows][num_ranks], all layers */
    double *rank_busy_ns;                  /* [num_ranks] compute */
    double table_busy_ns;   /* of all ranks' compute, out of a table of measurements */
    int32_t ranks_per_cell; /* traffic matrix granularity */
    int32_t num_cells;
    int64_t *traffic_bytes; /* [num_cells][num_cells] dispatch, by source */
    int64_t *dropped_at;    /* [2 scopes][DROP_FACTORS], enum capacity_scope */
    int32_t num_links;
    struct net_link *link; /* [num_links], filled when the run ends */
    int32_t num_rebalances;
    struct rebalance_record *rebalance; /* [num_rebalances_max] */
    int32_t num_rebalances_max;
    int64_t first_steps; /* before the first rebalance lands */
    int64_t first_ns;    /* their sum, as rebalance_record's */
    /* Balancedness of what an interval between two rebalances sums up to (without any: of the run).
     * That is what a strategy works on, and it flatters: steps are less even than their sum. */
    double interval_balancedness_sum; /* over intervals behind the first change, if any; mean over
                                         layers */
    int32_t num_intervals;
    struct balance_sums settled_balance; /* sums over the steps behind the first change */
    int64_t settled_balance_steps;

    int64_t dispatch_bytes; /* handed to the network, forwarding included */
    int64_t dispatch_cross_node_bytes;
    int64_t experts_lent; /* weights sent for one layer of one step; dispatch_bytes has theirs */

    int64_t bytes_sent; /* all messages */
    int64_t bytes_received;
    int64_t messages;
    int64_t events;
    uint64_t digest;
};

/* Totals over all windows. */
struct run_totals {
    int64_t tokens;
    int64_t assignments;
    int64_t dropped_assignments;
    double step_ns_mean; /* rebalance stalls included, as in the next two */
    double tokens_per_s_per_gpu;
    double usd_per_million_tokens;
    double rank_tokens_max_over_mean; /* mean over layers and steps */
    double balancedness;
    struct balance_sums balance; /* means over the steps behind the first change, if any */
    double interval_balancedness;
    double cross_node_share; /* of dispatch_bytes; 0 where there are none */
    int64_t rebalance_ns;    /* sum over rebalances, start to last weight */
    double table_share;      /* of compute time, out of a table of measurements */
};

struct scenario;

/* Allocates all arrays for num_steps steps from the arena. STATUS_NO_MEMORY. */
MUST_CHECK enum status metrics_init(struct run_metrics *metrics, const struct scenario *scenario,
                                    int64_t num_steps, struct arena *arena);

/* A run's routing: means over all layers. */
struct route_totals {
    double gate_mass;             /* mean over tokens */
    double tokens_without_expert; /* share of tokens */
    double max_violation_global;  /* MaxVio (arXiv 2408.15664) over the whole run */
    double max_violation_batch;   /* mean over batches */
    double places_filled;         /* of experts' buffers by tokens, the rest is padding; 1: none */
    int64_t rerouted_assignments;
};

void offload_add(struct offload_counts *sum, const struct offload_counts *counts);

/* Sums over all layers; zeroes where nothing is offloaded. */
struct offload_counts offload_totals(const struct run_metrics *metrics);

/* count / touches; 0 where nothing was touched. */
double offload_share(const struct offload_counts *counts, int64_t count);

struct route_totals route_totals(const struct run_metrics *metrics);

/* MaxVio of one layer over the whole run. */
double route_max_violation(const struct run_metrics *metrics, int32_t layer);

struct rebalance_worth rebalance_worth(const struct run_metrics *metrics);

struct run_totals run_totals(const struct run_metrics *metrics, const struct scenario *scenario);

#endif
