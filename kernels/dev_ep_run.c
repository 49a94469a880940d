/* dev_ep_run.c -- the phases of a step over virtual ranks, each for all ranks; see dev_ep.h. */
#include "dev_ep_internal.h"
#include "dev_record.h"

static struct matrix tokens_of(const struct dev_ep *ep, const struct member *member,
                               const void *data)
{
    int64_t bytes = (int64_t)member->first_row * ep->weights.layer.expert.hidden_dim * 2;
    /* A matrix has no const data; x is only read. */
    return (struct matrix){.dtype = DTYPE_BF16,
                           .data = (void *)(uintptr_t)((const char *)data + bytes)};
}

enum status dev_ep_route(struct dev_ep *ep, struct member *member, const struct ep_run *run,
                         cudaStream_t stream)
{
    const struct moe_layer *layer = &ep->weights.layer;
    int64_t first = (int64_t)member->first_row * layer->gate.top_k;
    struct combine_shape shape = {member->num_tokens, layer->gate.top_k, layer->expert.hidden_dim};
    struct matrix x = tokens_of(ep, member, run->x);
    enum status status = STATUS_OK;
    if (member->num_tokens > 0) {
        status = lt_gemm_run(&member->router, &ep->lt, member->logits, x.data, ep->weights.router,
                             stream);
    }
    if (status == STATUS_OK) {
        status = dev_gate(layer->gate, member->num_tokens, ep->expert + first,
                          ep->gate_weight + first, member->logits, layer->choice_bias, stream);
    }
    if (status == STATUS_OK) {
        status =
            dev_ep_choose_slots(ep->slots, member->num_tokens, layer->gate.top_k,
                                member->first_token, member->slot, run->expert + first, stream);
    }
    if (status == STATUS_OK) {
        status = dev_permute(member->permute, member->sends.num_rows, member->sends.row_begin,
                             member->row_of, member->token_of, member->slot, member->permute_work,
                             stream);
    }
    return status == STATUS_OK
               ? dev_permute_rows(shape, member->sends.sent, x, member->row_of,
                                  layer->weigh_input ? run->gate_weight + first : NULL, stream)
               : status;
}

static enum status move(struct dev_ep *ep, struct member *member, bool back, cudaStream_t stream)
{
    struct ep_move moves = {.source = member->sends,
                            .source_rank = (int32_t)(member - ep->member),
                            .num_slots = ep->num_slots,
                            .hidden_dim = ep->weights.layer.expert.hidden_dim,
                            .rank_of_slot = ep->rank_of_slot,
                            .rank = ep->rank};
    int64_t rows_max = permute_rows_max(member->permute);
    return back ? dev_ep_return(moves, rows_max, stream) : dev_ep_dispatch(moves, rows_max, stream);
}

enum status dev_ep_experts(struct dev_ep *ep, struct member *member, bool up, cudaStream_t stream)
{
    const struct ep_rank *receives = &member->receives;
    const struct moe_layer *layer = &member->layer;
    if (receives->num_slots == 0) {
        return STATUS_OK;
    }
    struct grouped_gemm_run run = {.version = up ? ep->options.gate_up : ep->options.down,
                                   .num_sms = ep->options.num_sms,
                                   .rows = member->rows_max,
                                   .expected_rows = member->rows_max / ep->num_ranks + 1,
                                   .without = ep->options.without,
                                   .workspace = ep->workspace,
                                   .workspace_bytes = ep->workspace_bytes};
    return up ? dev_grouped_gate_up(layer->expert, member->h, receives->x, receives->row_begin,
                                    receives->num_rows, layer->gate_up, layer->gate_up_bias, &run,
                                    stream)
              : dev_grouped_down(layer->expert, receives->y, member->h, receives->row_begin,
                                 receives->num_rows, layer->down, layer->down_bias, &run, stream);
}

enum status dev_ep_combine(struct dev_ep *ep, struct member *member, const struct ep_run *run,
                           cudaStream_t stream)
{
    const struct moe_layer *layer = &ep->weights.layer;
    int64_t first = (int64_t)member->first_row * layer->gate.top_k;
    struct combine_shape shape = {member->num_tokens, layer->gate.top_k, layer->expert.hidden_dim};
    enum status status = dev_shared_fork(&member->shared, tokens_of(ep, member, run->x),
                                         ep->options.num_sms, ep->options.without, stream);
    status = status == STATUS_OK ? dev_shared_join(&member->shared, stream) : status;
    return status == STATUS_OK
               ? dev_combine(shape, tokens_of(ep, member, run->out), member->sends.returned,
                             member->row_of, layer->weigh_input ? NULL : run->gate_weight + first,
                             member->shared.y, stream)
               : status;
}

static enum status run_phase(struct dev_ep *ep, enum dev_ep_phase phase, struct member *member,
                             const struct ep_run *run, cudaStream_t stream)
{
    int32_t align = ep->options.row_align > 0 ? ep->options.row_align : 1;
    switch (phase) {
    case DEV_EP_ROUTE:
        return dev_ep_route(ep, member, run, stream);
    case DEV_EP_RECEIVE:
        return dev_ep_receive(member->receives, ep->source, ep->num_ranks, align, stream);
    case DEV_EP_DISPATCH:
        return move(ep, member, false, stream);
    case DEV_EP_GATE_UP:
        return dev_ep_experts(ep, member, true, stream);
    case DEV_EP_DOWN:
        return dev_ep_experts(ep, member, false, stream);
    case DEV_EP_RETURN:
        return move(ep, member, true, stream);
    case DEV_EP_COMBINE:
        return dev_ep_combine(ep, member, run, stream);
    case DEV_EP_PHASE_COUNT:
        break;
    }
    return STATUS_INVALID;
}

enum status dev_ep_run(struct dev_ep *ep, void *out, const void *x, const int32_t *expert,
                       const float *gate_weight, const cudaEvent_t *mark, cudaStream_t stream)
{
    struct ep_run run = {.out = out,
                         .x = x,
                         .expert = expert != NULL ? expert : ep->expert,
                         .gate_weight = gate_weight != NULL ? gate_weight : ep->gate_weight};
    enum status status = mark != NULL ? dev_record(mark[0], stream) : STATUS_OK;
    for (int phase = 0; phase < DEV_EP_PHASE_COUNT; phase++) {
        for (int32_t r = 0; r < ep->num_ranks && status == STATUS_OK; r++) {
            status = run_phase(ep, (enum dev_ep_phase)phase, &ep->member[r], &run, stream);
            if (status == STATUS_OK && mark != NULL) {
                status = dev_record(mark[phase * ep->num_ranks + r + 1], stream);
            }
        }
    }
    return status;
}
