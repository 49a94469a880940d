/* dev_ep_nccl.c -- see dev_ep_nccl.h. */
#include "dev_ep_nccl.h"

#include <stdlib.h>

#include "dev_ep_internal.h"
#include "dev_record.h"

struct dev_ep_nccl {
    struct dev_ep ep; /* of all its members only this rank's is filled */
    const struct nccl_rank *connection;
    struct member *member;
    int32_t *slot_begin;  /* host [num_ranks + 1] of the group */
    int32_t *counts;      /* [num_ranks][num_slots of the group] rows that each sends to each */
    int32_t *host_counts; /* page-locked, likewise */
    int32_t *begin;       /* [num_ranks][own slots + 1] rows of a source by slot, from 0 */
    int32_t *host_begin;
    struct ep_source *source; /* [num_ranks] for dev_ep_receive: counts alone */
    struct ep_rank *self;     /* what it receives, slots counted from 0 */
    int32_t *self_of_slot;    /* [own slots] all 0: every slot is of self */
    struct matrix arrived;    /* [rows_max][hidden_dim] source after source */
    struct matrix answers;    /* likewise, bf16, on the way back */
    float *sent_scale;        /* fp8: destination after destination [blocks][rows] */
    float *arrived_scale;     /* source after source */
};

/* Rows between this rank and the others; host. */
static int64_t rows_between(const struct dev_ep_nccl *rank, int32_t source, int32_t destination)
{
    const int32_t *of_source = &rank->host_counts[(int64_t)source * rank->ep.num_slots];
    int64_t rows = 0;
    for (int32_t slot = rank->slot_begin[destination]; slot < rank->slot_begin[destination + 1];
         slot++) {
        rows += of_source[slot];
    }
    return rows;
}

/* ---- creation ---- */

static enum status take(struct dev_ep_nccl *rank)
{
    struct dev_ep *ep = &rank->ep;
    struct dev_memory *memory = &ep->memory;
    const struct moe_layer *layer = &ep->weights.layer;
    const struct ep_rank *receives = &rank->member->receives;
    int32_t hidden = layer->expert.hidden_dim;
    int64_t ranks = ep->num_ranks;
    int64_t slots = receives->num_slots;
    int64_t counts = ranks * ep->num_slots * 4;
    int64_t begin = ranks * (slots + 1) * 4;
    int64_t scales = layer->dtype == DTYPE_FP8_E4M3 ? (int64_t)scale_blocks(hidden) * 4 : 0;
    rank->counts = dev_alloc(memory, counts);
    rank->begin = dev_alloc(memory, begin);
    rank->arrived = (struct matrix){.dtype = layer->dtype};
    rank->arrived.data =
        dev_alloc(memory, (int64_t)rank->member->rows_max * hidden * dtype_bytes(layer->dtype));
    rank->answers = dev_alloc_activations(memory, DTYPE_BF16, rank->member->rows_max, hidden);
    rank->sent_scale = dev_alloc(memory, permute_rows_max(rank->member->permute) * scales);
    rank->arrived_scale = dev_alloc(memory, rank->member->rows_max * scales);
    struct ep_rank self = *receives;
    self.first_slot = 0;
    rank->self = dev_alloc_copy(memory, &self, sizeof self);
    rank->self_of_slot = dev_alloc(memory, (slots + 1) * 4);
    bool ok = !memory->failed &&
              cudaMemset(rank->self_of_slot, 0, (size_t)(slots + 1) * 4) == cudaSuccess &&
              cudaMallocHost((void **)&rank->host_counts, (size_t)counts) == cudaSuccess &&
              cudaMallocHost((void **)&rank->host_begin, (size_t)begin) == cudaSuccess;
    return ok ? STATUS_OK : STATUS_CUDA;
}

/* The counts of every rank, where dev_ep_receive looks for them. */
static enum status take_sources(struct dev_ep_nccl *rank)
{
    int32_t ranks = rank->ep.num_ranks;
    struct ep_source *source = calloc((size_t)ranks, sizeof *source);
    if (source == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t s = 0; s < ranks; s++) {
        source[s].num_rows = rank->counts + (int64_t)s * rank->ep.num_slots;
    }
    rank->source =
        dev_alloc_copy(&rank->ep.memory, source, (int64_t)((size_t)ranks * sizeof *source));
    free(source);
    return rank->ep.memory.failed ? STATUS_CUDA : STATUS_OK;
}

static enum status create(struct dev_ep_nccl *rank, const struct ep_placement *placement,
                          const int32_t *token_begin)
{
    struct dev_ep *ep = &rank->ep;
    int32_t own = rank->connection->rank;
    rank->slot_begin = malloc(((size_t)ep->num_ranks + 1) * sizeof *rank->slot_begin);
    if (ep->member == NULL || rank->slot_begin == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t r = 0; r <= ep->num_ranks; r++) {
        rank->slot_begin[r] = placement->slot_begin[r];
    }
    rank->member = &ep->member[own];
    enum status status =
        dev_ep_create_shared(ep, placement, token_begin[own + 1] - token_begin[own]);
    if (status == STATUS_OK) {
        status = dev_ep_create_member(ep, placement, token_begin, own);
    }
    status = status == STATUS_OK ? take(rank) : status;
    status = status == STATUS_OK ? take_sources(rank) : status;
    return status == STATUS_OK && cudaDeviceSynchronize() != cudaSuccess ? STATUS_CUDA : status;
}

enum status dev_ep_nccl_create(struct dev_ep_nccl **made, const struct nccl_rank *connection,
                               const struct dev_weights *weights,
                               const struct ep_placement *placement, const int32_t *token_begin,
                               const struct dev_layer_options *options, struct error *error)
{
    *made = NULL;
    if (!dev_ep_valid(weights, placement, token_begin) ||
        placement->num_ranks != connection->num_ranks) {
        return error_add(error, STATUS_INVALID, "this group of ranks cannot be run on the GPU");
    }
    struct dev_ep_nccl *rank = calloc(1, sizeof *rank);
    if (rank == NULL) {
        return STATUS_NO_MEMORY;
    }
    rank->connection = connection;
    rank->ep.weights = *weights;
    rank->ep.options = *options;
    rank->ep.num_ranks = placement->num_ranks;
    rank->ep.num_slots = placement->num_slots;
    rank->ep.member = calloc((size_t)placement->num_ranks, sizeof *rank->ep.member);
    enum status status = create(rank, placement, token_begin);
    if (status != STATUS_OK) {
        error_add(error, status, "rank %d: %.1f GiB of buffers or its plans cannot be made: %s",
                  (int)connection->rank, (double)rank->ep.memory.bytes / 0x1p30,
                  cudaGetErrorString(cudaGetLastError()));
        dev_ep_nccl_free(rank);
        return status;
    }
    *made = rank;
    return STATUS_OK;
}

void dev_ep_nccl_free(struct dev_ep_nccl *rank)
{
    if (rank == NULL) {
        return;
    }
    cudaFreeHost(rank->host_counts);
    cudaFreeHost(rank->host_begin);
    free(rank->slot_begin);
    dev_ep_release(&rank->ep);
    free(rank);
}

/* ---- the step ---- */

/* Counts to the host, places to the device. Waits for the GPU: so, too, nothing reads host_begin
 * any more when it is written. */
static enum status receive(struct dev_ep_nccl *rank, cudaStream_t stream)
{
    struct dev_ep *ep = &rank->ep;
    const struct ep_rank *receives = &rank->member->receives;
    int32_t align = ep->options.row_align > 0 ? ep->options.row_align : 1;
    int64_t counts = (int64_t)ep->num_ranks * ep->num_slots;
    enum status status = nccl_all_gather(rank->connection, rank->member->sends.num_rows,
                                         rank->counts, ep->num_slots, stream);
    if (status == STATUS_OK) {
        status = dev_ep_receive(*receives, rank->source, ep->num_ranks, align, stream);
    }
    if (status != STATUS_OK ||
        cudaMemcpyAsync(rank->host_counts, rank->counts, (size_t)counts * 4, cudaMemcpyDeviceToHost,
                        stream) != cudaSuccess ||
        cudaStreamSynchronize(stream) != cudaSuccess) {
        return STATUS_CUDA;
    }
    int32_t *next = rank->host_begin;
    for (int32_t s = 0; s < ep->num_ranks; s++) {
        const int32_t *of_source =
            &rank->host_counts[(int64_t)s * ep->num_slots + receives->first_slot];
        int32_t row = 0;
        for (int32_t slot = 0; slot < receives->num_slots; slot++) {
            *next++ = row;
            row += of_source[slot];
        }
        *next++ = row;
    }
    return cudaMemcpyAsync(rank->begin, rank->host_begin,
                           (size_t)(next - rank->host_begin) * sizeof *next, cudaMemcpyHostToDevice,
                           stream) == cudaSuccess
               ? STATUS_OK
               : STATUS_CUDA;
}

/* fp8: the scales of the rows to each destination side by side, as that many rows' matrix. */
static enum status pack_scales(struct dev_ep_nccl *rank, cudaStream_t stream)
{
    const struct matrix *sent = &rank->member->sends.sent;
    int64_t blocks = scale_blocks(rank->ep.weights.layer.expert.hidden_dim);
    int64_t first = 0;
    for (int32_t r = 0; r < rank->ep.num_ranks; r++) {
        size_t bytes = (size_t)rows_between(rank, rank->connection->rank, r) * 4;
        if (bytes > 0 &&
            cudaMemcpy2DAsync(rank->sent_scale + first * blocks, bytes, sent->scale + first,
                              (size_t)sent->scale_rows * 4, bytes, (size_t)blocks,
                              cudaMemcpyDeviceToDevice, stream) != cudaSuccess) {
            return STATUS_CUDA;
        }
        first += (int64_t)(bytes / 4);
    }
    return STATUS_OK;
}

/* Bytes of every row from one buffer to every peer, and from every peer into another. back: rows
 * that came, in the order in which they came, to those that sent them. */
static enum status exchange(const struct dev_ep_nccl *rank, const void *from, void *to,
                            int64_t row_bytes, bool back, cudaStream_t stream)
{
    int32_t own = rank->connection->rank;
    const char *send = from;
    char *receive = to;
    enum status status = STATUS_OK;
    for (int32_t peer = 0; peer < rank->ep.num_ranks && status == STATUS_OK; peer++) {
        int64_t out = rows_between(rank, own, peer) * row_bytes;
        int64_t in = rows_between(rank, peer, own) * row_bytes;
        int64_t sent = back ? in : out;
        int64_t received = back ? out : in;
        if (sent > 0) {
            status = nccl_send(rank->connection, send, sent, peer, stream);
        }
        if (status == STATUS_OK && received > 0) {
            status = nccl_receive(rank->connection, receive, received, peer, stream);
        }
        send += sent;
        receive += received;
    }
    return status;
}

/* What came from one source, as if it lay there. */
static struct ep_move move_of(const struct dev_ep_nccl *rank, int32_t source, int64_t first_row,
                              int64_t rows)
{
    const struct moe_layer *layer = &rank->ep.weights.layer;
    int32_t hidden = layer->expert.hidden_dim;
    int32_t slots = rank->member->receives.num_slots;
    struct ep_source from = {.row_begin = rank->begin + (int64_t)source * (slots + 1),
                             .sent = rank->arrived,
                             .returned = rank->answers};
    from.sent.data =
        (char *)rank->arrived.data + first_row * hidden * dtype_bytes(rank->arrived.dtype);
    from.returned.data = (char *)rank->answers.data + first_row * hidden * 2;
    if (layer->dtype == DTYPE_FP8_E4M3) {
        from.sent.scale = rank->arrived_scale + first_row * scale_blocks(hidden);
        from.sent.scale_rows = rows;
    }
    return (struct ep_move){.source = from,
                            .source_rank = source,
                            .num_slots = slots,
                            .hidden_dim = hidden,
                            .rank_of_slot = rank->self_of_slot,
                            .rank = rank->self};
}

/* From the order of arrival to the slots, or back. */
static enum status sort(const struct dev_ep_nccl *rank, bool back, cudaStream_t stream)
{
    int64_t first = 0;
    enum status status = STATUS_OK;
    for (int32_t s = 0; s < rank->ep.num_ranks && status == STATUS_OK; s++) {
        int64_t rows = rows_between(rank, s, rank->connection->rank);
        struct ep_move move = move_of(rank, s, first, rows);
        status = back ? dev_ep_return(move, rows, stream) : dev_ep_dispatch(move, rows, stream);
        first += rows;
    }
    return status;
}

static enum status dispatch(struct dev_ep_nccl *rank, cudaStream_t stream)
{
    const struct moe_layer *layer = &rank->ep.weights.layer;
    int32_t hidden = layer->expert.hidden_dim;
    bool fp8 = layer->dtype == DTYPE_FP8_E4M3;
    enum status status = fp8 ? pack_scales(rank, stream) : STATUS_OK;
    status = status == STATUS_OK ? nccl_begin(rank->connection) : status;
    if (status == STATUS_OK) {
        status = exchange(rank, rank->member->sends.sent.data, rank->arrived.data,
                          (int64_t)hidden * dtype_bytes(layer->dtype), false, stream);
    }
    if (status == STATUS_OK && fp8) {
        status = exchange(rank, rank->sent_scale, rank->arrived_scale,
                          (int64_t)scale_blocks(hidden) * 4, false, stream);
    }
    status = status == STATUS_OK ? nccl_end(rank->connection) : status;
    return status == STATUS_OK ? sort(rank, false, stream) : status;
}

static enum status give_back(struct dev_ep_nccl *rank, cudaStream_t stream)
{
    int64_t row_bytes = (int64_t)rank->ep.weights.layer.expert.hidden_dim * 2;
    enum status status = sort(rank, true, stream);
    status = status == STATUS_OK ? nccl_begin(rank->connection) : status;
    if (status == STATUS_OK) {
        status = exchange(rank, rank->answers.data, rank->member->sends.returned.data, row_bytes,
                          true, stream);
    }
    return status == STATUS_OK ? nccl_end(rank->connection) : status;
}

static enum status run_phase(struct dev_ep_nccl *rank, enum dev_ep_phase phase,
                             const struct ep_run *run, cudaStream_t stream)
{
    switch (phase) {
    case DEV_EP_ROUTE:
        return dev_ep_route(&rank->ep, rank->member, run, stream);
    case DEV_EP_RECEIVE:
        return receive(rank, stream);
    case DEV_EP_DISPATCH:
        return dispatch(rank, stream);
    case DEV_EP_GATE_UP:
        return dev_ep_experts(&rank->ep, rank->member, true, stream);
    case DEV_EP_DOWN:
        return dev_ep_experts(&rank->ep, rank->member, false, stream);
    case DEV_EP_RETURN:
        return give_back(rank, stream);
    case DEV_EP_COMBINE:
        return dev_ep_combine(&rank->ep, rank->member, run, stream);
    case DEV_EP_PHASE_COUNT:
        break;
    }
    return STATUS_INVALID;
}

enum status dev_ep_nccl_run(struct dev_ep_nccl *rank, void *out, const void *x,
                            const int32_t *expert, const float *gate_weight,
                            const cudaEvent_t *mark, cudaStream_t stream)
{
    struct ep_run run = {.out = out,
                         .x = x,
                         .expert = expert != NULL ? expert : rank->ep.expert,
                         .gate_weight = gate_weight != NULL ? gate_weight : rank->ep.gate_weight};
    enum status status = mark != NULL ? dev_record(mark[0], stream) : STATUS_OK;
    for (int phase = 0; phase < DEV_EP_PHASE_COUNT && status == STATUS_OK; phase++) {
        status = run_phase(rank, (enum dev_ep_phase)phase, &run, stream);
        if (status == STATUS_OK && mark != NULL) {
            status = dev_record(mark[phase + 1], stream);
        }
    }
    return status;
}
