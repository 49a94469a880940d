/*
 * bench_forward.h -- what the two ways to run a layer share: phases timed within one graph.
 */
#ifndef MOESIM_BENCH_FORWARD_H
#define MOESIM_BENCH_FORWARD_H

#include "bench_case.h"

/* Captures launch, which records mark[num_spans + 1], and replays it on a flushed L2:
 *   sample_ns  [num_spans][num_samples] out, between a mark and the next */
MUST_CHECK enum status bench_time_marks(struct gpu *gpu,
                                        enum status (*launch)(void *context, cudaStream_t stream),
                                        void *context, const cudaEvent_t *mark, int32_t num_spans,
                                        int32_t num_samples, double *sample_ns);

/* The layer over options->num_ranks virtual ranks; writes a row for each phase and rank. */
MUST_CHECK enum status bench_forward_ep(struct gpu *gpu, const struct bench_options *options,
                                        struct bench_csv *csv, const struct dev_weights *weights,
                                        const struct gpu_tokens *tokens, struct error *error);

#endif
