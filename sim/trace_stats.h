/*
 * trace_stats.h -- what a router does: skew, dead experts, locality, drift, co-activation and the
 * effect of the batch size, layer by layer.
 *
 * Everything is counted in integers and divided at the end, so that the figures are the same for
 * any number of threads. Rows without an expert (EXPERT_NOT_ROUTED) are left out.
 */
#ifndef MOESIM_TRACE_STATS_H
#define MOESIM_TRACE_STATS_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "skew.h"
#include "status.h"
#include "trace.h"

#define TRACE_LAGS         6
#define TRACE_BATCH_SIZES  4
#define TRACE_DROP_FACTORS 5
#define TRACE_DROP_TOKENS  1024 /* of a step */

extern const int32_t trace_lag_rows[TRACE_LAGS];            /* 1, 2, 4, 16, 64, 256 */
extern const int32_t trace_batch_tokens[TRACE_BATCH_SIZES]; /* 8, 32, 128, 512 */
extern const double trace_drop_factor[TRACE_DROP_FACTORS];  /* 1, 1.25, 1.5, 2, 3 */

struct trace_stats_options {
    int32_t ep_ranks;    /* 0: 8 when it divides the experts, else none */
    int32_t num_threads; /* 0: as many as OpenMP gives */
    uint64_t seed;       /* of the rows that make the batches */
    bool no_uniform;     /* uniform_max_over_mean is not wanted: NaN */
    void (*progress)(void *context, int64_t done, int64_t total); /* layers; may be NULL */
    void *context;
};

/* Figures are NaN where the trace cannot tell: no requests, too few rows, no token. The lift
 * and next_information are NaN above 2048 experts too: their tables grow with the square. */
struct trace_stats_layer {
    int32_t model_layer;
    int64_t assignments;
    const int64_t *expert_tokens; /* [num_experts] */
    struct load_skew skew;
    double ep_max_over_mean;    /* busiest over mean rank, experts placed contiguously */
    double top1_repeat;         /* share of rows whose best expert is that of the row before */
    double overlap[TRACE_LAGS]; /* share of top_k that was in the set of the row lag earlier */
    double overlap_by_chance;   /* the same for two rows of the whole trace, by load alone */
    double drift; /* share of assignments that sit elsewhere in the trace's second half */
    double lift_p5;
    double lift_median; /* of n(i, j) n / (n(i) n(j)) over pairs of experts: 1 is chance */
    double lift_p95;
    double batch_max_over_mean[TRACE_BATCH_SIZES]; /* experts of a batch of random rows */
    double batch_active[TRACE_BATCH_SIZES];        /* share of experts with a token */
    double next_information; /* of the best expert on that of the next layer, 0 to 1; last: NaN */
    double drop_mixed[TRACE_DROP_FACTORS];       /* share dropped in steps of random rows */
    double drop_consecutive[TRACE_DROP_FACTORS]; /* the same where a step's rows are in a row */
};

struct trace_stats {
    int32_t num_layers;
    int32_t num_experts;
    int32_t ep_ranks;                                /* 0: none */
    struct trace_stats_layer *layer;                 /* [num_layers] */
    double uniform_overlap;                          /* of a router that draws at random */
    double uniform_max_over_mean[TRACE_BATCH_SIZES]; /* of the same, in a batch */
    struct arena arena;                              /* holds the arrays */
};

/* Reads the whole trace, one thread a layer. STATUS_INVALID as trace_read, or when ep_ranks does
 * not divide num_experts. Release with trace_stats_free, also after a failure. */
MUST_CHECK enum status trace_stats_read(struct trace_stats *stats, const struct trace *trace,
                                        const struct trace_stats_options *options,
                                        struct error *error);

void trace_stats_free(struct trace_stats *stats); /* safe on a zeroed struct, and twice */

#endif
