/*
 * bench_cuda_forward_nccl.c -- moe-bench forward --ep nccl: a step of an expert-parallel group, a
 * GPU and a thread for each rank.
 *
 * Every rank's every phase is a row, timed on its own GPU between events of its own stream. receive
 * holds the wait for the counts on the host, dispatch and return the wait for the other ranks.
 */
#include <stdlib.h>

#include "bench_forward.h"
#include "bench_team.h"
#include "dev_ep_nccl.h"

#define WARM_UPS 2

/* What a rank's thread keeps from case to case. */
struct rank_state {
    struct gpu_weights weights;
    cudaEvent_t mark[DEV_EP_PHASE_COUNT + 1];
    double *sample_ns; /* [DEV_EP_PHASE_COUNT][num_samples] of the case */
};

struct nccl_forward {
    const struct bench_options *options;
    struct bench_csv *csv;
    struct rank_state *state; /* [num_ranks] */
    int32_t num_tokens;       /* of the case */
    const char *routing;
    struct bench_deal deal;
};

static enum status prepare(struct bench_rank *rank, void *context)
{
    struct nccl_forward *forward = context;
    const struct bench_options *options = forward->options;
    struct rank_state *state = &forward->state[rank->rank];
    for (int mark = 0; mark <= DEV_EP_PHASE_COUNT; mark++) {
        if (cudaEventCreate(&state->mark[mark]) != cudaSuccess) {
            return STATUS_CUDA;
        }
    }
    state->sample_ns =
        calloc((size_t)options->num_samples * DEV_EP_PHASE_COUNT, sizeof *state->sample_ns);
    return state->sample_ns == NULL
               ? STATUS_NO_MEMORY
               : gpu_weights_create(&rank->gpu, &options->layer, options->seed, &state->weights);
}

static enum status finish(struct bench_rank *rank, void *context)
{
    struct nccl_forward *forward = context;
    struct rank_state *state = &forward->state[rank->rank];
    for (int mark = 0; mark <= DEV_EP_PHASE_COUNT; mark++) {
        if (state->mark[mark] != NULL) {
            cudaEventDestroy(state->mark[mark]);
        }
    }
    gpu_weights_free(&state->weights);
    free(state->sample_ns);
    return STATUS_OK;
}

/* All ranks begin a sample together, each on a flushed L2. */
static enum status take_sample(struct bench_rank *rank, struct nccl_forward *forward,
                               struct dev_ep_nccl *ep, const struct gpu_tokens *tokens,
                               int32_t sample)
{
    const struct bench_options *options = forward->options;
    struct rank_state *state = &forward->state[rank->rank];
    int64_t first = forward->deal.token_begin[rank->rank];
    int64_t choice = first * options->layer.gate.top_k;
    int64_t byte = first * options->layer.expert.hidden_dim * 2;
    cudaStream_t stream = rank->gpu.stream;
    enum status status = gpu_flush(&rank->gpu);
    if (status == STATUS_OK && cudaStreamSynchronize(stream) != cudaSuccess) {
        status = STATUS_CUDA;
    }
    status = bench_rank_agree(rank, status);
    if (status == STATUS_OK) {
        status = dev_ep_nccl_run(ep, (char *)tokens->out + byte, (char *)tokens->x[0] + byte,
                                 tokens->dev_expert + choice, tokens->dev_gate_weight + choice,
                                 state->mark, stream);
    }
    if (status == STATUS_OK && cudaStreamSynchronize(stream) != cudaSuccess) {
        status = STATUS_CUDA;
    }
    for (int phase = 0; phase < DEV_EP_PHASE_COUNT && status == STATUS_OK && sample >= 0; phase++) {
        float ms = 0.0f;
        if (cudaEventElapsedTime(&ms, state->mark[phase], state->mark[phase + 1]) != cudaSuccess) {
            status = STATUS_CUDA;
        }
        state->sample_ns[phase * options->num_samples + sample] = (double)ms * 1e6;
    }
    return status;
}

static enum status run_rank(struct bench_rank *rank, void *context)
{
    struct nccl_forward *forward = context;
    const struct bench_options *options = forward->options;
    const struct dev_weights *weights = &forward->state[rank->rank].weights.weights;
    struct ep_placement placement = bench_deal_placement(&forward->deal);
    struct dev_layer_options layer_options = gpu_layer_options(&rank->gpu, options);
    struct gpu_tokens tokens = {0};
    struct dev_ep_nccl *ep = NULL;
    enum status status = gpu_tokens_create(&rank->gpu, options, forward->num_tokens,
                                           forward->routing, &tokens, &rank->error);
    if (status == STATUS_OK) {
        status = dev_ep_nccl_create(&ep, &rank->connection, weights, &placement,
                                    forward->deal.token_begin, &layer_options, &rank->error);
    }
    status = bench_rank_agree(rank, status);
    for (int32_t sample = -WARM_UPS; sample < options->num_samples && status == STATUS_OK;
         sample++) {
        status = take_sample(rank, forward, ep, &tokens, sample);
        status = bench_rank_agree(rank, status);
    }
    dev_ep_nccl_free(ep);
    gpu_tokens_free(&tokens);
    return status;
}

/* By rank 0's thread: its GPU stands for all in the columns of the machine. */
static enum status write_rows(struct bench_rank *rank, void *context)
{
    struct nccl_forward *forward = context;
    const struct bench_options *options = forward->options;
    struct gpu_tokens tokens = {0};
    if (rank->rank != 0) {
        return STATUS_OK;
    }
    forward->csv->machine = rank->gpu.machine;
    gpu_read_clocks(&rank->gpu, &forward->csv->machine);
    enum status status = gpu_tokens_create(&rank->gpu, options, forward->num_tokens,
                                           forward->routing, &tokens, &rank->error);
    for (int phase = 0; phase < DEV_EP_PHASE_COUNT; phase++) {
        for (int32_t r = 0; r < rank->num_ranks && status == STATUS_OK; r++) {
            struct bench_row row = bench_ep_row(&rank->gpu, options, &tokens, &forward->deal,
                                                (enum dev_ep_phase)phase, r);
            row.version = "nccl";
            bench_row_samples(&row, &forward->state[r].sample_ns[phase * options->num_samples],
                              options->num_samples);
            status = bench_csv_row(forward->csv, &row);
        }
    }
    gpu_tokens_free(&tokens);
    return status;
}

static enum status run_all(struct nccl_forward *forward, struct bench_team *team,
                           struct error *error)
{
    const struct bench_options *options = forward->options;
    double stop_s = bench_now_s() + (options->budget_s > 0.0 ? options->budget_s : 1e18);
    enum status status = bench_team_do(team, prepare, forward, error);
    for (int32_t t = 0; t < options->num_tokens_count; t++) {
        for (int32_t r = 0; r < options->num_routings && status == STATUS_OK; r++) {
            if (options->num_tokens[t] == 0 || bench_now_s() >= stop_s) {
                continue;
            }
            forward->num_tokens = options->num_tokens[t];
            forward->routing = options->routing[r];
            bench_deal(&forward->deal, options->num_ranks, options->layer.gate.num_experts,
                       forward->num_tokens);
            status = bench_team_do(team, run_rank, forward, error);
            status = status == STATUS_OK ? bench_team_do(team, write_rows, forward, error) : status;
        }
    }
    struct error ignored = {0};
    (void)!bench_team_do(team, finish, forward, &ignored);
    return status;
}

int bench_forward_nccl(const struct bench_options *options, struct bench_csv *csv)
{
    static struct error error;
    static struct nccl_forward forward;
    struct bench_team *team = NULL;
    enum status status = bench_team_open(&team, options->num_ranks, &error);
    if (status == STATUS_INVALID) {
        printf("moe-bench: skipped: %s", error.text);
        return BENCH_SKIPPED;
    }
    forward = (struct nccl_forward){.options = options, .csv = csv};
    forward.state = calloc((size_t)options->num_ranks, sizeof *forward.state);
    if (status == STATUS_OK) {
        status = forward.state == NULL ? STATUS_NO_MEMORY : run_all(&forward, team, &error);
    }
    bench_team_close(team);
    free(forward.state);
    if (status != STATUS_OK) {
        fprintf(stderr, "moe-bench: %s", error.num_problems > 0 ? error.text : "a call failed\n");
    }
    return status == STATUS_OK ? BENCH_OK : BENCH_FAILED;
}
