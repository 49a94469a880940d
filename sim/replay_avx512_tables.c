/* replay_avx512_tables.c -- what the passes of replay_avx512.c look up, made once a shape. */
#include "replay_avx512.h"

#ifdef __x86_64__

#include <stdlib.h>
#include <string.h>

#define TABLE_BYTES 64 /* one vector */

static size_t round_up(size_t bytes)
{
    return (bytes + TABLE_BYTES - 1) / TABLE_BYTES * TABLE_BYTES;
}

/* Do experts that differ in the lowest bits alone share a label? */
static bool shares_labels(const int32_t *label_of_expert, int32_t num_experts)
{
    for (int32_t expert = 0; expert < num_experts; expert++) {
        if (label_of_expert[expert] != label_of_expert[expert >> SHARED_BITS << SHARED_BITS]) {
            return false;
        }
    }
    return true;
}

static enum status labels_init(struct labels *labels, int32_t num_labels,
                               const int32_t *label_of_expert, const struct avx512 *state)
{
    const int32_t experts = state->shape->num_experts;
    labels->num_labels = num_labels;
    labels->is_shared = state->is_direct && shares_labels(label_of_expert, experts);
    size_t group_bytes = labels->is_shared ? TABLE_BYTES : (size_t)state->num_pages * PAGE_EXPERTS;
    size_t bytes = ((size_t)num_labels + 7) / 8 * group_bytes;
    labels->table = aligned_alloc(TABLE_BYTES, bytes);
    if (labels->table == NULL) {
        return STATUS_NO_MEMORY;
    }
    uint8_t *table = (uint8_t *)labels->table;
    memset(table, 0, bytes);
    for (int32_t expert = 0; expert < experts; expert++) {
        int32_t label = label_of_expert[expert];
        int32_t entry = labels->is_shared ? expert >> SHARED_BITS : expert;
        table[(size_t)(label / 8) * group_bytes + (size_t)entry] = (uint8_t)(1 << label % 8);
    }
    return STATUS_OK;
}

/* Slot s of word w of a row is its id 8 w + s. */
static void find_slots(struct avx512 *state)
{
    const int32_t top_k = state->shape->top_k;
    const int32_t id_bytes = state->shape->id_bytes;
    state->rows_at_once = 8 / id_bytes;
    for (int32_t place = 0; place < 8 * state->rows_at_once * state->num_words; place++) {
        int32_t word = place / (8 * state->rows_at_once);
        int32_t to = place % (8 * state->rows_at_once);
        int32_t slot = 8 * word + to % 8;
        if (slot < top_k) {
            uint8_t from = (uint8_t)((to / 8 * top_k + slot) * id_bytes);
            state->present[word] |= UINT64_C(1) << to;
            state->index[word][to] = from;
            if (id_bytes == 2) {
                state->index[word][32 + to] = (uint8_t)(from + 1);
            }
        }
    }
    state->row_shift = 6 - __builtin_ctz((unsigned)state->num_groups);
    for (int32_t byte = 0; byte < 64; byte++) {
        state->row_of_byte[byte] = (uint8_t)(byte / 8 / state->num_groups * 8 + byte % 8);
    }
}

/* Places where labels are such, else a table of them. */
static enum status find_labels(struct places *places, struct labels *labels, int32_t num_labels,
                               const int32_t *label_of_expert, struct avx512 *state)
{
    replay_avx512_find_places(places, state, label_of_expert);
    if (places->per_group == 0) {
        return labels_init(labels, num_labels, label_of_expert, state);
    }
    state->has_octets = true;
    return STATUS_OK;
}

enum status replay_avx512_open(void **opaque, const struct replay *replay)
{
    struct avx512 *state = aligned_alloc(TABLE_BYTES, round_up(sizeof *state));
    if (state == NULL) {
        return STATUS_NO_MEMORY;
    }
    *opaque = state;
    memset(state, 0, sizeof *state);
    const struct replay_shape *shape = &replay->shape;
    state->shape = shape;
    state->num_pages = (shape->num_experts + PAGE_EXPERTS - 1) / PAGE_EXPERTS;
    state->num_words = (shape->top_k + 7) / 8;
    state->is_direct = shape->id_bytes == 1 && shape->top_k == 8 && shape->num_experts == 256;
    state->num_groups = shape->num_experts <= 64 ? 1 : shape->num_experts <= 128 ? 2 : GROUPS_MAX;
    find_slots(state);
    enum status status = STATUS_OK;
    if (shape->num_ranks > 0) {
        status = find_labels(&state->rank_places, &state->ranks, shape->num_ranks,
                             replay->rank_of_expert, state);
    }
    if (status == STATUS_OK && shape->num_nodes > 0) {
        status = find_labels(&state->node_places, &state->nodes, shape->num_nodes,
                             replay->node_of_expert, state);
    }
    return status;
}

void replay_avx512_close(void *opaque)
{
    struct avx512 *state = opaque;
    if (state != NULL) {
        free(state->ranks.table);
        free(state->nodes.table);
        free(state);
    }
}

#endif
