/* dev_ep.c -- see dev_ep.h; the steps are those of reference/expert_parallel.h. */
#include "dev_ep.h"

#include <stdlib.h>

#include "dev_ep_internal.h"
#include "dev_ep_weights.h"

const char *dev_ep_phase_name(enum dev_ep_phase phase)
{
    static const char *const names[] = {"route", "receive", "dispatch", "gate_up",
                                        "down",  "return",  "combine"};
    return names[phase];
}

const int32_t *dev_ep_expert(const struct dev_ep *ep)
{
    return ep->expert;
}

const float *dev_ep_gate_weight(const struct dev_ep *ep)
{
    return ep->gate_weight;
}

enum status dev_ep_loads(const struct dev_ep *ep, int32_t rank, int32_t *num_rows)
{
    const struct ep_rank *receives = &ep->member[rank].receives;
    return cudaMemcpy(num_rows, receives->num_rows, (size_t)receives->num_slots * 4,
                      cudaMemcpyDeviceToHost) == cudaSuccess
               ? STATUS_OK
               : STATUS_CUDA;
}

/* ---- creation ---- */

static bool placement_valid(const struct ep_placement *placement, const int32_t *token_begin,
                            int32_t num_experts)
{
    bool valid = placement->num_ranks >= 1 && placement->num_slots >= 1 &&
                 placement->num_slots <= GATE_EXPERTS_MAX && placement->slot_begin[0] == 0 &&
                 placement->slot_begin[placement->num_ranks] == placement->num_slots &&
                 token_begin[0] == 0;
    for (int32_t rank = 0; valid && rank < placement->num_ranks; rank++) {
        valid = placement->slot_begin[rank] <= placement->slot_begin[rank + 1] &&
                token_begin[rank] <= token_begin[rank + 1];
    }
    for (int32_t expert = 0; valid && expert < num_experts; expert++) {
        int32_t copies = 0;
        for (int32_t slot = 0; slot < placement->num_slots; slot++) {
            copies += placement->expert_of_slot[slot] == expert;
        }
        valid = copies > 0;
    }
    for (int32_t slot = 0; valid && slot < placement->num_slots; slot++) {
        valid =
            placement->expert_of_slot[slot] >= 0 && placement->expert_of_slot[slot] < num_experts;
    }
    return valid;
}

bool dev_ep_valid(const struct dev_weights *weights, const struct ep_placement *placement,
                  const int32_t *token_begin)
{
    return gate_rule_valid(&weights->layer.gate) && weights->layer.dtype != DTYPE_FP32 &&
           placement_valid(placement, token_begin, weights->layer.expert.num_experts);
}

/* Which slots an expert has, and which rank a slot: into device memory. */
static enum status upload_placement(struct dev_ep *ep, const struct ep_placement *placement)
{
    int32_t experts = ep->weights.layer.expert.num_experts;
    int32_t begin[GATE_EXPERTS_MAX + 1];
    int32_t slots[GATE_EXPERTS_MAX];
    int32_t rank_of_slot[GATE_EXPERTS_MAX];
    int32_t count = 0;
    for (int32_t expert = 0; expert < experts; expert++) {
        begin[expert] = count;
        for (int32_t slot = 0; slot < placement->num_slots; slot++) {
            if (placement->expert_of_slot[slot] == expert) {
                slots[count++] = slot;
            }
        }
    }
    begin[experts] = count;
    for (int32_t rank = 0; rank < placement->num_ranks; rank++) {
        for (int32_t slot = placement->slot_begin[rank]; slot < placement->slot_begin[rank + 1];
             slot++) {
            rank_of_slot[slot] = rank;
        }
    }
    ep->slots.copy_begin = dev_alloc_copy(&ep->memory, begin, (experts + 1) * 4);
    ep->slots.copy_slot = dev_alloc_copy(&ep->memory, slots, count * 4);
    ep->rank_of_slot = dev_alloc_copy(&ep->memory, rank_of_slot, placement->num_slots * 4);
    return ep->memory.failed ? STATUS_CUDA : STATUS_OK;
}

static void take_member(struct dev_ep *ep, struct member *member, int32_t first_slot,
                        int32_t num_slots)
{
    struct dev_memory *memory = &ep->memory;
    const struct moe_layer *layer = &ep->weights.layer;
    int32_t hidden = layer->expert.hidden_dim;
    int64_t sent = permute_rows_max(member->permute);
    int64_t choices = (int64_t)member->num_tokens * member->permute.top_k;
    int64_t ranks = ep->num_ranks;
    int64_t group = ep->num_slots;
    member->logits = dev_alloc(memory, (int64_t)member->num_tokens * layer->expert.num_experts * 4);
    member->slot = dev_alloc(memory, choices * 4);
    member->row_of = dev_alloc(memory, choices * 4);
    member->token_of = dev_alloc(memory, sent * 4);
    member->permute_work = dev_alloc(memory, dev_permute_work(member->permute));
    member->sends.num_rows = dev_alloc(memory, group * 4);
    member->sends.row_begin = dev_alloc(memory, (group + 1) * 4);
    member->sends.sent = dev_alloc_activations(memory, layer->dtype, sent, hidden);
    member->sends.returned = dev_alloc_activations(memory, DTYPE_BF16, sent, hidden);
    member->receives.first_slot = first_slot;
    member->receives.num_slots = num_slots;
    member->receives.num_rows = dev_alloc(memory, (int64_t)num_slots * 4);
    member->receives.row_begin = dev_alloc(memory, ((int64_t)num_slots + 1) * 4);
    member->receives.place = dev_alloc(memory, ranks * num_slots * 4);
    member->receives.x = dev_alloc_activations(memory, layer->dtype, member->rows_max, hidden);
    member->receives.y = dev_alloc_activations(memory, DTYPE_BF16, member->rows_max, hidden);
    member->h =
        dev_alloc_activations(memory, layer->dtype, member->rows_max, layer->expert.ffn_dim);
}

enum status dev_ep_create_member(struct dev_ep *ep, const struct ep_placement *placement,
                                 const int32_t *token_begin, int32_t r)
{
    struct member *member = &ep->member[r];
    const struct moe_layer *layer = &ep->weights.layer;
    int32_t first_slot = placement->slot_begin[r];
    int32_t num_slots = placement->slot_begin[r + 1] - first_slot;
    int32_t all_tokens = token_begin[ep->num_ranks];
    int32_t align = ep->options.row_align > 0 ? ep->options.row_align : 1;
    member->first_token = token_begin[r];
    member->num_tokens = token_begin[r + 1] - token_begin[r];
    member->permute =
        (struct permute_shape){member->num_tokens, layer->gate.top_k, ep->num_slots, 1};
    /* A token may come once for each choice, and copies of an expert may share a rank. */
    member->rows_max = (int32_t)permute_rows_max((struct permute_shape){
        all_tokens, layer->gate.top_k, num_slots > 0 ? num_slots : 1, align});
    take_member(ep, member, first_slot, num_slots);
    enum status status = dev_ep_hold_slots(&member->layer, layer, placement->expert_of_slot,
                                           first_slot, num_slots, &ep->memory);
    if (status != STATUS_OK || member->num_tokens == 0) {
        return status;
    }
    struct lt_shape router = {member->num_tokens, layer->expert.num_experts,
                              layer->expert.hidden_dim, DTYPE_FP32, false};
    status = lt_gemm_plan(&member->router, &ep->lt, router, layer->router_bias);
    return status == STATUS_OK ? dev_shared_create(&member->shared, &ep->weights.layer,
                                                   member->num_tokens, ep->workspace_bytes)
                               : status;
}

enum status dev_ep_create_shared(struct dev_ep *ep, const struct ep_placement *placement,
                                 int64_t num_tokens)
{
    int64_t choices = num_tokens * ep->weights.layer.gate.top_k;
    ep->workspace_bytes = dev_grouped_gemm_workspace_bytes();
    ep->workspace = dev_alloc(&ep->memory, ep->workspace_bytes);
    ep->expert = dev_alloc(&ep->memory, choices * 4);
    ep->gate_weight = dev_alloc(&ep->memory, choices * 4);
    enum status status = lt_open(&ep->lt);
    status = status == STATUS_OK ? upload_placement(ep, placement) : status;
    return status == STATUS_OK
               ? dev_grouped_gemm_workspace_init(ep->workspace, ep->workspace_bytes, NULL)
               : status;
}

static enum status create(struct dev_ep *ep, const struct ep_placement *placement,
                          const int32_t *token_begin)
{
    size_t ranks = (size_t)ep->num_ranks;
    enum status status = dev_ep_create_shared(ep, placement, token_begin[ep->num_ranks]);
    for (int32_t r = 0; r < ep->num_ranks && status == STATUS_OK; r++) {
        ep->member[r].first_row = token_begin[r];
        status = dev_ep_create_member(ep, placement, token_begin, r);
    }
    struct ep_rank *rank = calloc(ranks, sizeof *rank);
    struct ep_source *source = calloc(ranks, sizeof *source);
    if (rank == NULL || source == NULL) {
        status = STATUS_NO_MEMORY;
    }
    for (int32_t r = 0; r < ep->num_ranks && status == STATUS_OK; r++) {
        rank[r] = ep->member[r].receives;
        source[r] = ep->member[r].sends;
    }
    if (status == STATUS_OK) {
        ep->rank = dev_alloc_copy(&ep->memory, rank, (int64_t)(ranks * sizeof *rank));
        ep->source = dev_alloc_copy(&ep->memory, source, (int64_t)(ranks * sizeof *source));
        status = ep->memory.failed ? STATUS_CUDA : STATUS_OK;
    }
    free(rank);
    free(source);
    return status == STATUS_OK && cudaDeviceSynchronize() != cudaSuccess ? STATUS_CUDA : status;
}

enum status dev_ep_create(struct dev_ep **made, const struct dev_weights *weights,
                          const struct ep_placement *placement, const int32_t *token_begin,
                          const struct dev_layer_options *options, struct error *error)
{
    *made = NULL;
    if (!dev_ep_valid(weights, placement, token_begin)) {
        return error_add(error, STATUS_INVALID, "this group of ranks cannot be run on the GPU");
    }
    struct dev_ep *ep = calloc(1, sizeof *ep);
    if (ep == NULL) {
        return STATUS_NO_MEMORY;
    }
    ep->weights = *weights;
    ep->options = *options;
    ep->num_ranks = placement->num_ranks;
    ep->num_slots = placement->num_slots;
    ep->member = calloc((size_t)placement->num_ranks, sizeof *ep->member);
    enum status status = ep->member == NULL ? STATUS_NO_MEMORY : create(ep, placement, token_begin);
    if (status != STATUS_OK) {
        error_add(error, status, "the ranks' %.1f GiB of buffers or their plans cannot be made: %s",
                  (double)ep->memory.bytes / 0x1p30, cudaGetErrorString(cudaGetLastError()));
        dev_ep_free(ep);
        return status;
    }
    *made = ep;
    return STATUS_OK;
}

void dev_ep_release(struct dev_ep *ep)
{
    for (int32_t r = 0; ep->member != NULL && r < ep->num_ranks; r++) {
        lt_gemm_free(&ep->member[r].router);
        dev_shared_free(&ep->member[r].shared);
    }
    lt_close(&ep->lt);
    dev_memory_free(&ep->memory);
    free(ep->member);
    ep->member = NULL;
}

void dev_ep_free(struct dev_ep *ep)
{
    if (ep != NULL) {
        dev_ep_release(ep);
        free(ep);
    }
}
