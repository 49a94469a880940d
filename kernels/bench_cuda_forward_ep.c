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
    int32_t *slot_begin;
    int32_t *token_begin;
};

static enum status create(struct ep_forward *forward, const struct dev_weights *weights,
                          struct error *error)
{
    int32_t ranks = forward->options->num_ranks;
    int32_t experts = weights->layer.expert.num_experts;
    int32_t expert_of_slot[GATE_EXPERTS_MAX];
    for (int32_t slot = 0; slot < experts; slot++) {
        expert_of_slot[slot] = slot;
    }
    forward->num_marks = DEV_EP_PHASE_COUNT * ranks + 1;
    forward->mark = calloc((size_t)forward->num_marks, sizeof *forward->mark);
    forward->slot_begin = calloc((size_t)ranks + 1, sizeof *forward->slot_begin);
    forward->token_begin = calloc((size_t)ranks + 1, sizeof *forward->token_begin);
    if (forward->mark == NULL || forward->slot_begin == NULL || forward->token_begin == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t rank = 0; rank <= ranks; rank++) {
        forward->slot_begin[rank] = (int32_t)((int64_t)rank * experts / ranks);
        forward->token_begin[rank] = (int32_t)((int64_t)rank * forward->tokens->num_tokens / ranks);
    }
    for (int32_t i = 0; i < forward->num_marks; i++) {
        if (cudaEventCreate(&forward->mark[i]) != cudaSuccess) {
            return STATUS_CUDA;
        }
    }
    struct ep_placement placement = {ranks, experts, forward->slot_begin, expert_of_slot};
    struct dev_layer_options options = gpu_layer_options(forward->gpu, forward->options);
    return dev_ep_create(&forward->ep, weights, &placement, forward->token_begin, &options, error);
}

static enum status launch(void *context, cudaStream_t stream)
{
    struct ep_forward *forward = context;
    return dev_ep_run(forward->ep, forward->tokens->out, forward->tokens->x[0],
                      forward->tokens->dev_expert, forward->tokens->dev_gate_weight, forward->mark,
                      stream);
}

/* The load of one rank in one phase: its own tokens on the way out and in, its slots' in between.
 */
static struct bench_row rank_row(const struct ep_forward *forward, enum dev_ep_phase phase,
                                 int32_t rank)
{
    const struct bench_layer *layer = &forward->options->layer;
    int32_t first = forward->slot_begin[rank];
    int32_t count = forward->slot_begin[rank + 1] - first;
    struct bench_row row =
        gpu_row(forward->gpu, forward->options, forward->tokens, "forward", "ep");
    row.version = "graph";
    row.phase = dev_ep_phase_name(phase);
    row.rank = rank;
    row.num_ranks = forward->options->num_ranks;
    row.expert_tokens = forward->tokens->expert_tokens + first;
    row.num_expert_tokens = count;
    if (phase == DEV_EP_GATE_UP || phase == DEV_EP_DOWN) {
        struct bench_load load = bench_load_of(row.expert_tokens, count, 0);
        struct bench_work work =
            bench_work_of(layer, phase == DEV_EP_GATE_UP ? BENCH_GATE_UP : BENCH_DOWN, load);
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
        struct bench_row row = rank_row(forward, (enum dev_ep_phase)(span / ranks), span % ranks);
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
    free(forward.slot_begin);
    free(forward.token_begin);
    return status;
}
