/*
 * bench_forward.h -- what the two ways to run a layer share: phases timed within one graph.
 */
#ifndef MOESIM_BENCH_FORWARD_H
#define MOESIM_BENCH_FORWARD_H

#include "bench_case.h"
#include "dev_ep.h"

/* Captures launch, which records mark[num_spans + 1], and replays it on a flushed L2; or, where the
 * driver refuses the graph or the times of its events, launches it each time:
 *   sample_ns  [num_spans][num_samples] out, between a mark and the next */
MUST_CHECK enum status bench_time_marks(struct gpu *gpu,
                                        enum status (*launch)(void *context, cudaStream_t stream),
                                        void *context, const cudaEvent_t *mark, int32_t num_spans,
                                        int32_t num_samples, double *sample_ns);

/* Experts and tokens in even parts, by id. */
struct bench_deal {
    int32_t num_ranks;
    int32_t num_experts;
    int32_t expert_of_slot[GATE_EXPERTS_MAX];
    int32_t slot_begin[GATE_EXPERTS_MAX + 1]; /* options have no more ranks than experts */
    int32_t token_begin[GATE_EXPERTS_MAX + 1];
};

void bench_deal(struct bench_deal *made, int32_t num_ranks, int32_t num_experts,
                int32_t num_tokens);
struct ep_placement bench_deal_placement(const struct bench_deal *deal); /* deal must outlive it */

/* One rank's part of a phase. Its load is its slots' rows. */
struct bench_row bench_ep_row(const struct gpu *gpu, const struct bench_options *options,
                              const struct gpu_tokens *tokens, const struct bench_deal *deal,
                              enum dev_ep_phase phase, int32_t rank);

/* forward --ep nccl, all cases, on GPUs of its own; returns an enum bench_exit. */
int bench_forward_nccl(const struct bench_options *options, struct bench_csv *csv);

/* The layer over options->num_ranks virtual ranks; writes a row for each phase and rank. */
MUST_CHECK enum status bench_forward_ep(struct gpu *gpu, const struct bench_options *options,
                                        struct bench_csv *csv, const struct dev_weights *weights,
                                        const struct gpu_tokens *tokens, struct error *error);

#endif
