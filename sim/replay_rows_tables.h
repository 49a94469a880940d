/* replay_rows_tables.h -- what replay_rows.h looks up, made once a shape; a part of that template.
 */
#ifndef MOESIM_REPLAY_ROWS_TABLES_H
#define MOESIM_REPLAY_ROWS_TABLES_H

#include "replay_rows.h"

#define BYTE_BITS 8
#define WORD_BITS 64

static void place_in_order(struct rows *state)
{
    for (int32_t expert = 0; expert < state->shape->num_experts; expert++) {
        state->bit_of_expert[expert] = expert;
    }
    state->num_sets = (state->shape->num_experts + SET_BITS - 1) / SET_BITS;
}

/* Gives every rank a byte and every node a word of the sets. False, and nothing kept, where a rank
 * has more than eight experts, a node more than eight ranks, or the sets would grow. */
static bool place_by_rank(struct rows *state, const struct replay *replay)
{
    const struct replay_shape *shape = state->shape;
    const int32_t words_max = (shape->num_experts + SET_BITS - 1) / SET_BITS * (SET_BITS / 64);
    int32_t byte_of_rank[REPLAY_EXPERTS_MAX];
    int32_t experts_of_rank[REPLAY_EXPERTS_MAX] = {0};
    int32_t ranks_of_word[REPLAY_EXPERTS_MAX] = {0};
    for (int32_t rank = 0; rank < shape->num_ranks; rank++) {
        int32_t word = shape->num_nodes > 0 ? replay->node_of_rank[rank] : rank / BYTE_BITS;
        if (word >= words_max || ranks_of_word[word] == BYTE_BITS) {
            return false;
        }
        byte_of_rank[rank] = word * BYTE_BITS + ranks_of_word[word]++;
    }
    for (int32_t expert = 0; expert < shape->num_experts; expert++) {
        int32_t rank = replay->rank_of_expert[expert];
        if (experts_of_rank[rank] == BYTE_BITS) {
            return false;
        }
        state->bit_of_expert[expert] = byte_of_rank[rank] * BYTE_BITS + experts_of_rank[rank]++;
    }
    for (int32_t rank = 0; rank < shape->num_ranks; rank++) {
        int32_t word = byte_of_rank[rank] / BYTE_BITS;
        state->rank_of_byte[byte_of_rank[rank]] = rank;
        state->node_of_word[word] = shape->num_nodes > 0 ? word : -1;
    }
    state->num_sets = words_max / (SET_BITS / 64);
    return true;
}

static bool fill_tables(struct rows *state, const struct replay *replay)
{
    const struct replay_shape *shape = state->shape;
    size_t ids = (size_t)state->num_ids;
    size_t set_bytes = (size_t)state->num_sets * ids * sizeof *state->set;
    size_t label_bytes = (size_t)state->num_words * ids * sizeof *state->label;
    state->set = aligned_alloc(sizeof *state->set, set_bytes);
    state->label = malloc(label_bytes + 1);
    if (state->set == NULL || state->label == NULL) {
        return false;
    }
    memset(state->set, 0, set_bytes);
    memset(state->label, 0, label_bytes + 1);
    uint64_t *words = (uint64_t *)state->set;
    for (int32_t expert = 0; expert < shape->num_experts; expert++) {
        int32_t bit = state->bit_of_expert[expert];
        size_t entry = (size_t)(bit / SET_BITS) * ids + (size_t)expert;
        words[entry * (SET_BITS / WORD_BITS) + (size_t)(bit % SET_BITS / WORD_BITS)] |=
            UINT64_C(1) << bit % WORD_BITS;
        int32_t label[2] = {replay->rank_of_expert[expert],
                            shape->num_ranks + replay->node_of_expert[expert]};
        for (int32_t i = 0; i < (shape->num_nodes > 0 ? 2 : 1) && state->num_words > 0; i++) {
            state->label[(size_t)(label[i] / WORD_BITS) * ids + (size_t)expert] |=
                UINT64_C(1) << label[i] % WORD_BITS;
        }
    }
    return true;
}

static enum status rows_open(void **opaque, const struct replay *replay)
{
    size_t state_bytes = (sizeof(struct rows) + sizeof(bits) - 1) / sizeof(bits) * sizeof(bits);
    struct rows *state = aligned_alloc(sizeof(bits), state_bytes);
    if (state == NULL) {
        return STATUS_NO_MEMORY;
    }
    *opaque = state;
    memset(state, 0, sizeof *state);
    memset(state->rank_of_byte, 0xff, sizeof state->rank_of_byte);
    memset(state->node_of_word, 0xff, sizeof state->node_of_word);
    const struct replay_shape *shape = &replay->shape;
    state->shape = shape;
    state->num_ids = shape->id_bytes == 1 ? 256 : shape->num_experts + 1;
    if (shape->num_ranks == 0 || !place_by_rank(state, replay)) {
        place_in_order(state);
        state->num_words = (shape->num_ranks + shape->num_nodes + WORD_BITS - 1) / WORD_BITS;
    }
    return fill_tables(state, replay) ? STATUS_OK : STATUS_NO_MEMORY;
}

static void rows_close(void *opaque)
{
    struct rows *state = opaque;
    if (state != NULL) {
        free(state->set);
        free(state->label);
        free(state);
    }
}

#endif
