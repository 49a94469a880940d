/* serve_blocks.c -- KV blocks of a replica: who needs another, and who gives them back. */
#include <assert.h>
#include <stdlib.h>

#include "serve/serve_internal.h"

int32_t batch_blocks(const struct serving *serving, int64_t tokens)
{
    int64_t block = serving->options->config->block_tokens;
    return (int32_t)((tokens + block - 1) / block);
}

void batch_take_blocks(struct serving *serving, struct replica *replica, int64_t blocks)
{
    struct series *series = series_of(serving, replica);
    series_advance(serving);
    replica->free_blocks -= blocks;
    series->blocks += blocks;
    series->blocks_max = series->blocks > series->blocks_max ? series->blocks : series->blocks_max;
    assert(replica->free_blocks >= 0);
    assert(replica->free_blocks <= pool_of(serving, replica)->kv_blocks);
}

enum status blocks_admit(struct replica *replica, int32_t id, int32_t stamp)
{
    if (replica->num_admitted == replica->admitted_capacity) {
        int32_t capacity = replica->admitted_capacity == 0 ? 64 : 2 * replica->admitted_capacity;
        void *larger = realloc(replica->admitted, (size_t)capacity * sizeof *replica->admitted);
        if (larger == NULL) {
            return STATUS_NO_MEMORY;
        }
        replica->admitted = larger;
        replica->admitted_capacity = capacity;
    }
    replica->admitted[replica->num_admitted++] = (struct admission){id, stamp};
    return STATUS_OK;
}

/* Takes stale entries out of the stack, once they are many. */
void blocks_tidy(const struct serving *serving, struct replica *replica)
{
    if (replica->num_admitted < 2 * replica->running + 64) {
        return;
    }
    int32_t kept = 0;
    for (int32_t i = 0; i < replica->num_admitted; i++) {
        struct admission entry = replica->admitted[i];
        if (serving->request[entry.id].stamp == entry.stamp) {
            replica->admitted[kept++] = entry;
        }
    }
    replica->num_admitted = kept;
}

/* The step before which a decoding sequence needs another block. */
static enum status push_next(struct serving *serving, struct replica *replica, int32_t id)
{
    const struct request_state *state = &serving->request[id];
    int64_t room =
        (int64_t)state->blocks * serving->options->config->block_tokens - state->joined_tokens;
    int64_t steps = room * RATE_ONE / state->rate + 1;
    if (steps > state->steps_left) {
        return STATUS_OK; /* it will be through by then */
    }
    return key_heap_push(
        &replica->blocks,
        (struct heap_entry){.key = state->joined_step + steps, .id = id, .stamp = state->stamp});
}

enum status blocks_join(struct serving *serving, struct replica *replica, int32_t id)
{
    struct request_state *state = &serving->request[id];
    int64_t tokens = serving->result->request[id].decode_tokens - state->answered;
    assert(state->steps_left > 0);
    state->is_decoding = true;
    state->joined_tokens = state->target_tokens;
    state->joined_step = serving->group[replica->group].step;
    state->rate = tokens * RATE_ONE / state->steps_left;
    replica->decoding++;
    replica->context_base +=
        (int64_t)state->joined_tokens * RATE_ONE - (state->joined_step + 1) * state->rate;
    replica->context_rate += state->rate;
    enum status status = push_next(serving, replica, id);
    if (status != STATUS_OK) {
        return status;
    }
    return key_heap_push(&replica->ends,
                         (struct heap_entry){.key = state->joined_step + state->steps_left,
                                             .id = id,
                                             .stamp = state->stamp});
}

void blocks_leave(struct serving *serving, struct replica *replica, int32_t id)
{
    struct request_state *state = &serving->request[id];
    if (state->is_decoding) {
        replica->decoding--;
        replica->context_base -=
            (int64_t)state->joined_tokens * RATE_ONE - (state->joined_step + 1) * state->rate;
        replica->context_rate -= state->rate;
        state->is_decoding = false;
    }
    series_advance(serving);
    replica->running--;
    series_of(serving, replica)->running--;
    state->stamp++;
}

static void forget_reading(struct replica *replica, int32_t id)
{
    struct deque *reading = &replica->reading;
    int32_t place = 0;
    while (deque_at(reading, place) != id) {
        place++;
    }
    for (; place + 1 < reading->count; place++) {
        reading->id[(reading->begin + place) & (reading->capacity - 1)] =
            deque_at(reading, place + 1);
    }
    reading->count--;
}

/* The request gives its blocks back; later it reads prompt and answer again. */
static enum status preempt(struct serving *serving, struct replica *replica, int32_t id)
{
    struct request_state *state = &serving->request[id];
    struct serve_request *request = &serving->result->request[id];
    int64_t step = serving->group[replica->group].step;
    if (state->is_decoding) {
        int64_t steps = step - state->joined_step;
        int64_t tokens = steps * state->rate / RATE_ONE;
        state->answered += (int32_t)tokens;
        state->steps_left -= (int32_t)steps;
        state->last_token_ns = serving->now_ns;
        serving->result->totals.new_tokens += tokens;
        series_now(serving, serving->group[replica->group].pool)->new_tokens += tokens;
        state->target_tokens = request->prompt_tokens + state->answered;
        int32_t left = request->decode_tokens - state->answered - 1; /* one comes from reading */
        state->steps_left = state->steps_left - 1 < left ? state->steps_left - 1 : left;
        state->steps_left = left > 0 && state->steps_left < 1 ? 1 : state->steps_left;
        serving->result->totals.again_tokens += state->target_tokens;
    } else {
        forget_reading(replica, id);
        serving->result->totals.again_tokens += state->done_tokens;
    }
    state->done_tokens = 0;
    blocks_leave(serving, replica, id);
    batch_take_blocks(serving, replica, -state->blocks);
    state->blocks = 0;
    request->preemptions++;
    serving->result->totals.preemptions++;
    series_of(serving, replica)->waiting++;
    return deque_push(&replica->waiting, id, true);
}

/* Preempts who was admitted last. */
static enum status preempt_last(struct serving *serving, struct replica *replica)
{
    for (;;) { /* the sequence that needs a block is in the stack, so this ends */
        assert(replica->num_admitted > 0);
        struct admission last = replica->admitted[--replica->num_admitted];
        if (serving->request[last.id].stamp == last.stamp) {
            return preempt(serving, replica, last.id);
        }
    }
}

enum status blocks_grow(struct serving *serving, struct replica *replica, bool *preempted)
{
    struct key_heap *heap = &replica->blocks;
    int64_t step = serving->group[replica->group].step + 1;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && heap->count > 0 && heap->entry[0].key <= step) {
        struct heap_entry first = heap->entry[0];
        if (serving->request[first.id].stamp != first.stamp) {
            key_heap_pop(heap);
        } else if (replica->free_blocks > 0) {
            key_heap_pop(heap);
            serving->request[first.id].blocks++;
            batch_take_blocks(serving, replica, 1);
            status = push_next(serving, replica, first.id);
        } else {
            *preempted = true;
            status = preempt_last(serving, replica);
        }
    }
    return status;
}

int64_t batch_steps_with_room(const struct serving *serving, const struct replica *replica)
{
    if (replica->decoding == 0) {
        return INT64_MAX;
    }
    int64_t each = replica->free_blocks / replica->decoding - 1; /* one may be nearly full */
    int64_t fastest = 1 + serving->options->config->draft_tokens;
    int64_t steps = each * serving->options->config->block_tokens / fastest;
    return steps > 1 ? steps : 1;
}
