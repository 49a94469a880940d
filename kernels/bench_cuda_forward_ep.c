/*
 * bench_cuda_forward_ep.c -- moe-bench forward --ranks: a step of an expert-parallel group, rank
 * after rank on one GPU.
 *
 * Experts are dealt to ranks in even blocks by id, tokens likewise. Each rank's part of each phase
 * is a row; a group's compute time is the slowest rank's. dispatch and return are copies within HBM
 * and stand for no network.
 */
#include <stdlib.h>

#include "bench_forward.h"
#include "dev_ep.h"

struct ep_forward {
    struct gpu *gpu;
    const struct bench_options *options;
    struct bench_csv *csv;
    const struct gpu_tokens *tokens;
    struct dev_ep *ep;
    cudaEvent_t *mark; /* [DEV_EP_PHASE_COUNT * num_ranks + 1] */
    int32_t num_marks;
    struct bench_deal deal;
};

void bench_deal(struct bench_deal *made, int32_t num_ranks, int32_t num_experts, int32_t num_tokens)
{
    made->num_ranks = num_ranks;
    made->num_experts = num_experts;
    for (int32_t slot = 0; slot < num_experts; slot++) {
        made->expert_of_slot[slot] = slot;
    }
    for (int32_t rank = 0; rank <= num_ranks; rank++) {
        made->slot_begin[rank] = (int32_t)((int64_t)rank * num_experts / num_ranks);
        made->token_begin[rank] = (int32_t)((int64_t)rank * num_tokens / num_ranks);
    }
}

struct ep_placement bench_deal_placement(const struct bench_deal *deal)
{
    return (struct ep_placement){deal->num_ranks, deal->num_experts, deal->slot_begin,
                                 deal->expert_of_slot};
}

static enum status create(struct ep_forward *forward, const struct dev_weights *weights,
                          struct error *error)
{
    int32_t ranks = forward->options->num_ranks;
    bench_deal(&forward->deal, ranks, weights->layer.expert.num_experts,
               forward->tokens->num_tokens);
    forward->num_marks = DEV_EP_PHASE_COUNT * ranks + 1;
    forward->mark = calloc((size_t)forward->num_marks, sizeof *forward->mark);
    if (forward->mark == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t i = 0; i < forward->num_marks; i++) {
        if (cudaEventCreate(&forward->mark[i]) != cudaSuccess) {
            return STATUS_CUDA;
        }
    }
    struct ep_placement placement = bench_deal_placement(&forward->deal);
    struct dev_layer_options options = gpu_layer_options(forward->gpu, forward->options);
    return dev_ep_create(&forward->ep, weights, &placement, forward->deal.token_begin, &options,
                         error);
}

static enum status launch(void *context, cudaStream_t stream)
{
    struct ep_forward *forward = context;
    return dev_ep_run(forward->ep, forward->tokens->out, forward->tokens->x[0],
                      forward->tokens->dev_expert, forward->tokens->dev_gate_weight, forward->mark,
                      stream);
}

struct bench_row bench_ep_row(const struct gpu *gpu, const struct bench_options *options,
                              const struct gpu_tokens *tokens, const struct bench_deal *deal,
                              enum dev_ep_phase phase, int32_t rank)
{
    int32_t first = deal->slot_begin[rank];
    int32_t count = deal->slot_begin[rank + 1] - first;
    struct bench_row row = gpu_row(gpu, options, tokens, "forward", "ep");
    row.phase = dev_ep_phase_name(phase);
    row.rank = rank;
    row.num_ranks = deal->num_ranks;
    row.expert_tokens = tokens->expert_tokens + first;
    row.num_expert_tokens = count;
    if (phase == DEV_EP_GATE_UP || phase == DEV_EP_DOWN) {
        struct bench_load load = bench_load_of(row.expert_tokens, count, 0);
        struct bench_work work = bench_work_of(
            &options->layer, phase == DEV_EP_GATE_UP ? BENCH_GATE_UP : BENCH_DOWN, load);
        row.flops = work.flops;
        row.bytes = work.bytes;
    }
    return row;
}

static enum status measure(struct ep_forward *forward)
{
    int32_t count = forward->options->num_samples;
    int32_t spans = forward->num_marks - 1;
    double *sample_ns = calloc((size_t)count * (size_t)spans, sizeof *sample_ns);
    enum status status = sample_ns == NULL
                             ? STATUS_NO_MEMORY
                             : bench_time_marks(forward->gpu, launch, forward, forward->mark, spans,
                                                count, sample_ns);
    gpu_read_clocks(forward->gpu, &forward->csv->machine);
    for (int32_t span = 0; span < spans && status == STATUS_OK; span++) {
        int32_t ranks = forward->options->num_ranks;
        struct bench_row row =
            bench_ep_row(forward->gpu, forward->options, forward->tokens, &forward->deal,
                         (enum dev_ep_phase)(span / ranks), span % ranks);
        row.version = "graph";
        bench_row_samples(&row, &sample_ns[(int64_t)span * count], count);
        status = bench_csv_row(forward->csv, &row);
    }
    free(sample_ns);
    return status;
}

enum status bench_forward_ep(struct gpu *gpu, const struct bench_options *options,
                             struct bench_csv *csv, const struct dev_weights *weights,
                             const struct gpu_tokens *tokens, struct error *error)
{
    struct ep_forward forward = {.gpu = gpu, .options = options, .csv = csv, .tokens = tokens};
    enum status status = create(&forward, weights, error);
    status = status == STATUS_OK ? measure(&forward) : status;
    for (int32_t i = 0; forward.mark != NULL && i < forward.num_marks; i++) {
        if (forward.mark[i] != NULL) {
            cudaEventDestroy(forward.mark[i]);
        }
    }
    dev_ep_free(forward.ep);
    free(forward.mark);
    return status;
}
