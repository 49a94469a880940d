/*
 * ep_forward.c -- the expert-parallel layer with virtual ranks: memory of their own, a network that
 * copies rows.
 */
#include "expert_parallel.h"

#include <stddef.h>
#include <string.h>

#include "forward_internal.h"
#include "quantize.h"

/* What one virtual rank holds. */
struct rank {
    int32_t num_tokens;
    int32_t num_slots;
    int32_t *slot;            /* [num_tokens][top_k] */
    const float *gate_weight; /* [num_tokens][top_k] */
    struct matrix x;          /* [num_tokens][hidden_dim] */
    struct permutation sent;  /* its tokens, by slot of the whole group */
    struct matrix returned;   /* [rows sent][hidden_dim] expert outputs, in the order of sending */
    int32_t *received_rows;   /* [num_ranks][num_slots] by source and slot */
    int32_t *num_rows;        /* [num_slots] */
    int32_t *row_begin;       /* [num_slots + 1] */
    int32_t *row_of;          /* [rows received] row of the experts' input */
    struct matrix expert_x;   /* [rows received][hidden_dim] by slot */
    struct matrix y;          /* the same rows out of the experts */
};

/* Steps 1 and 2 on one rank. */
static enum status route_and_sort(const struct moe_layer *layer,
                                  const struct ep_placement *placement, struct rank *rank,
                                  int64_t first_token, int32_t *expert, float *gate_weight,
                                  struct arena *scratch)
{
    int32_t num_experts = layer->expert.num_experts;
    int32_t top_k = layer->gate.top_k;
    enum status status =
        layer_route(layer, rank->num_tokens, expert, gate_weight, rank->x, scratch);
    if (status != STATUS_OK) {
        return status;
    }
    size_t work_count = 2 * (size_t)num_experts + (size_t)placement->num_slots + 1;
    int32_t *work = arena_take(scratch, work_count, sizeof *work);
    rank->slot = arena_take(scratch, (size_t)rank->num_tokens, (size_t)top_k * sizeof(int32_t));
    rank->gate_weight = gate_weight;
    if (work == NULL || rank->slot == NULL) {
        return STATUS_NO_MEMORY;
    }
    status = ref_ep_choose_slots(placement, num_experts, rank->num_tokens, top_k, first_token,
                                 rank->slot, expert, work);
    struct permute_shape shape = {rank->num_tokens, top_k, placement->num_slots, 1};
    return status != STATUS_OK ? status
                               : layer_permute(layer, shape, &rank->sent, rank->slot, gate_weight,
                                               rank->x, scratch);
}

/* Steps 3 and 4: what all ranks send to the slots from first_slot on, sorted. */
static enum status receive(const struct moe_layer *layer, const struct ep_placement *placement,
                           const struct rank *all, struct rank *rank, int32_t first_slot,
                           struct arena *scratch)
{
    int32_t num_slots = rank->num_slots;
    int64_t rows = 0;
    size_t counts = (size_t)placement->num_ranks * (size_t)num_slots;
    rank->received_rows = arena_take(scratch, counts, sizeof(int32_t));
    rank->num_rows = arena_take(scratch, (size_t)num_slots, sizeof(int32_t));
    rank->row_begin = arena_take(scratch, (size_t)num_slots + 1, sizeof(int32_t));
    if (rank->received_rows == NULL || rank->num_rows == NULL || rank->row_begin == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t source = 0; source < placement->num_ranks; source++) {
        const struct permutation *sent = &all[source].sent;
        memcpy(&rank->received_rows[(int64_t)source * num_slots], &sent->num_rows[first_slot],
               (size_t)num_slots * sizeof(int32_t));
        rows += sent->row_begin[first_slot + num_slots] - sent->row_begin[first_slot];
    }
    rank->row_of = arena_take(scratch, (size_t)rows, sizeof(int32_t));
    rank->expert_x = matrix_take(scratch, layer->dtype, rows, layer->expert.hidden_dim);
    if (rank->row_of == NULL || rank->expert_x.data == NULL) {
        return STATUS_NO_MEMORY;
    }
    enum status status = ref_ep_receive(placement->num_ranks, num_slots, 1, rank->num_rows,
                                        rank->row_begin, rank->row_of, rank->received_rows);
    if (status != STATUS_OK) {
        return status;
    }
    int64_t received = 0;
    for (int32_t source = 0; source < placement->num_ranks; source++) {
        const struct permutation *sent = &all[source].sent;
        for (int32_t row = sent->row_begin[first_slot];
             row < sent->row_begin[first_slot + num_slots]; row++) {
            matrix_move_row(rank->expert_x, rank->row_of[received++], sent->x, row,
                            layer->expert.hidden_dim);
        }
    }
    return STATUS_OK;
}

/* The slots' copies of in, expert_bytes for each expert; NULL when memory is short. */
static void *copy_slots(const void *in, size_t expert_bytes, const int32_t *expert_of_slot,
                        int32_t num_slots, struct arena *scratch)
{
    char *copy = arena_take(scratch, (size_t)num_slots, expert_bytes);
    for (int32_t slot = 0; copy != NULL && slot < num_slots; slot++) {
        memcpy(copy + (size_t)slot * expert_bytes,
               (const char *)in + (size_t)expert_of_slot[slot] * expert_bytes, expert_bytes);
    }
    return copy;
}

/* The same for weights [num_experts][rows][columns] with num_scales scales an expert. */
static enum status copy_weights(struct matrix *weight, int64_t elements, int64_t num_scales,
                                const int32_t *expert_of_slot, int32_t num_slots,
                                struct arena *scratch)
{
    size_t expert_bytes = (size_t)elements * (size_t)dtype_bytes(weight->dtype);
    weight->data = copy_slots(weight->data, expert_bytes, expert_of_slot, num_slots, scratch);
    if (weight->scale != NULL) {
        size_t scale_bytes = (size_t)num_scales * sizeof *weight->scale;
        weight->scale = copy_slots(weight->scale, scale_bytes, expert_of_slot, num_slots, scratch);
        weight->data = weight->scale == NULL ? NULL : weight->data;
    }
    return weight->data == NULL ? STATUS_NO_MEMORY : STATUS_OK;
}

static enum status copy_bias(const float **bias, int32_t rows, const int32_t *expert_of_slot,
                             int32_t num_slots, struct arena *scratch)
{
    if (*bias != NULL) {
        *bias = copy_slots(*bias, (size_t)rows * sizeof **bias, expert_of_slot, num_slots, scratch);
        return *bias == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    }
    return STATUS_OK;
}

/* A layer whose experts are one rank's slots. */
static enum status hold_slots(struct moe_layer *layer, const int32_t *expert_of_slot,
                              int32_t num_slots, struct arena *scratch)
{
    struct expert_shape shape = layer->expert;
    int64_t gate_up_scales = (int64_t)gate_up_blocks(shape) * scale_blocks(shape.hidden_dim);
    int64_t down_scales = (int64_t)scale_blocks(shape.hidden_dim) * scale_blocks(shape.ffn_dim);
    layer->expert.num_experts = num_slots;
    enum status status =
        copy_weights(&layer->gate_up, (int64_t)gate_up_rows(shape) * shape.hidden_dim,
                     gate_up_scales, expert_of_slot, num_slots, scratch);
    if (status == STATUS_OK) {
        status = copy_weights(&layer->down, (int64_t)shape.hidden_dim * shape.ffn_dim, down_scales,
                              expert_of_slot, num_slots, scratch);
    }
    if (status == STATUS_OK) {
        status = copy_bias(&layer->gate_up_bias, gate_up_rows(shape), expert_of_slot, num_slots,
                           scratch);
    }
    if (status == STATUS_OK) {
        status = copy_bias(&layer->down_bias, shape.hidden_dim, expert_of_slot, num_slots, scratch);
    }
    return status;
}

/* Step 5, and the way back: each row to the place in its source's buffer that it was sent from. */
static enum status compute_and_return(const struct moe_layer *layer,
                                      const struct ep_placement *placement, struct rank *all,
                                      struct rank *rank, int32_t first_slot, struct arena *scratch)
{
    struct moe_layer local = *layer;
    enum status status =
        hold_slots(&local, &placement->expert_of_slot[first_slot], rank->num_slots, scratch);
    if (status == STATUS_OK && rank->num_slots > 0) { /* a rank may hold no expert */
        status = layer_experts(&local, rank->row_begin[rank->num_slots], &rank->y, rank->expert_x,
                               rank->row_begin, rank->num_rows, scratch);
    }
    int64_t received = 0;
    for (int32_t source = 0; source < placement->num_ranks && status == STATUS_OK; source++) {
        const struct permutation *sent = &all[source].sent;
        for (int32_t row = sent->row_begin[first_slot];
             row < sent->row_begin[first_slot + rank->num_slots]; row++) {
            matrix_move_row(all[source].returned, row, rank->y, rank->row_of[received++],
                            layer->expert.hidden_dim);
        }
    }
    return status;
}

static bool placement_valid(const struct ep_placement *placement, const int32_t *token_begin)
{
    bool valid =
        placement->num_ranks >= 1 && placement->num_slots >= 1 && placement->slot_begin[0] == 0 &&
        placement->slot_begin[placement->num_ranks] == placement->num_slots && token_begin[0] == 0;
    for (int32_t rank = 0; valid && rank < placement->num_ranks; rank++) {
        valid = placement->slot_begin[rank] <= placement->slot_begin[rank + 1] &&
                token_begin[rank] <= token_begin[rank + 1];
    }
    return valid;
}

static struct matrix rows_from(struct matrix matrix, int64_t row, int32_t columns)
{
    matrix.data = (char *)matrix.data + row * columns * dtype_bytes(matrix.dtype);
    return matrix;
}

static enum status send_all(const struct moe_layer *layer, const struct ep_placement *placement,
                            const int32_t *token_begin, struct rank *all, int32_t *expert,
                            float *gate_weight, struct matrix x, struct arena *scratch)
{
    enum status status = STATUS_OK;
    int32_t hidden_dim = layer->expert.hidden_dim;
    for (int32_t r = 0; r < placement->num_ranks && status == STATUS_OK; r++) {
        int64_t first = (int64_t)token_begin[r] * layer->gate.top_k;
        all[r].num_tokens = token_begin[r + 1] - token_begin[r];
        all[r].num_slots = placement->slot_begin[r + 1] - placement->slot_begin[r];
        all[r].x = rows_from(x, token_begin[r], hidden_dim);
        status = route_and_sort(layer, placement, &all[r], token_begin[r], &expert[first],
                                &gate_weight[first], scratch);
        if (status == STATUS_OK) {
            all[r].returned = matrix_take(scratch, layer_token_dtype(layer),
                                          all[r].sent.row_begin[placement->num_slots], hidden_dim);
            status = all[r].returned.data == NULL ? STATUS_NO_MEMORY : STATUS_OK;
        }
    }
    return status;
}

enum status ref_ep_forward(const struct moe_layer *layer, const struct ep_placement *placement,
                           const int32_t *token_begin, struct matrix out, int32_t *expert,
                           float *gate_weight, struct matrix x, struct arena *scratch)
{
    if (!placement_valid(placement, token_begin) || x.dtype != layer_token_dtype(layer) ||
        out.dtype != x.dtype) {
        return STATUS_INVALID;
    }
    struct rank *all = arena_alloc(scratch, (size_t)placement->num_ranks, sizeof *all);
    if (all == NULL) {
        return STATUS_NO_MEMORY;
    }
    enum status status =
        send_all(layer, placement, token_begin, all, expert, gate_weight, x, scratch);
    for (int32_t r = 0; r < placement->num_ranks && status == STATUS_OK; r++) {
        status = receive(layer, placement, all, &all[r], placement->slot_begin[r], scratch);
    }
    for (int32_t r = 0; r < placement->num_ranks && status == STATUS_OK; r++) {
        status =
            compute_and_return(layer, placement, all, &all[r], placement->slot_begin[r], scratch);
    }
    for (int32_t r = 0; r < placement->num_ranks && status == STATUS_OK; r++) {
        struct matrix tokens = rows_from(out, token_begin[r], layer->expert.hidden_dim);
        status = layer_combine(layer, all[r].num_tokens, tokens, all[r].returned,
                               all[r].sent.row_of, all[r].gate_weight, all[r].x, scratch);
    }
    return status;
}
