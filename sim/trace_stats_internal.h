/*
 * trace_stats_internal.h -- between trace_stats.c, which hands out layers to threads, and
 * trace_stats_layer.c and trace_stats_steps.c, which measure one.
 */
#ifndef MOESIM_TRACE_STATS_INTERNAL_H
#define MOESIM_TRACE_STATS_INTERNAL_H

#include "trace_stats.h"

#define CHUNK_ROWS          4096
#define LAG_ROWS_MAX        256
#define LIFT_EXPERTS_MAX    2048 /* 32 MiB of pairs a thread; more experts have no lift */
#define TRACE_STATS_STEPS   128  /* of TRACE_DROP_TOKENS random rows */
#define TRACE_STATS_BATCHES 256  /* of a size: a standard error below 2 % of max / mean */

/* What one thread works with; rows of the buffers: CHUNK_ROWS + LAG_ROWS_MAX. */
struct trace_stats_scratch {
    int64_t *row;
    int32_t *expert;   /* [rows][top_k] */
    int32_t *next;     /* the same of the next layer */
    uint64_t *chosen;  /* [rows][words] the set of experts, a bit each */
    int64_t *half;     /* [2][num_experts] load of the trace's first and second half */
    int64_t *together; /* [lift_experts][lift_experts] rows that chose both, j earlier */
    double *lift;      /* [lift_experts * lift_experts / 2] */
    int64_t *load;     /* [num_experts] */
};

/* What every thread reads; stats and expert_tokens are written, each layer by one thread. */
struct trace_stats_job {
    const struct trace *trace;
    struct trace_stats *stats;
    int64_t *expert_tokens;                /* [num_layers][num_experts] */
    int64_t *batch_row[TRACE_BATCH_SIZES]; /* [TRACE_STATS_BATCHES][trace_batch_tokens[i]];
                                              NULL: the trace has too few rows */
    int64_t *step_row;                     /* [TRACE_STATS_STEPS][TRACE_DROP_TOKENS], or NULL */
    int32_t words;                         /* of a set of experts */
    int32_t lift_experts;                  /* num_experts, or 0 above LIFT_EXPERTS_MAX */
};

/* Fills job->stats->layer[index]. Errors as trace_read. */
MUST_CHECK enum status trace_stats_layer(const struct trace_stats_job *job,
                                         const struct trace_stats_scratch *scratch, int32_t index,
                                         struct error *error);

/* Fill layer->next_information, and layer->drop_*. Errors as trace_read. */
MUST_CHECK enum status trace_stats_information(const struct trace_stats_job *job,
                                               struct trace_stats_layer *layer,
                                               const struct trace_stats_scratch *scratch,
                                               int32_t index, struct error *error);
MUST_CHECK enum status trace_stats_drops(const struct trace_stats_job *job,
                                         struct trace_stats_layer *layer,
                                         const struct trace_stats_scratch *scratch, int32_t index,
                                         struct error *error);

#endif
