/* serve_batch.c -- a replica's batch: admission, chunks, prompts read, sequences through. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "serve/serve_internal.h"

enum status deque_push(struct deque *deque, int32_t id, bool at_front)
{
    if (deque->count == deque->capacity) {
        int32_t capacity = deque->capacity == 0 ? 16 : 2 * deque->capacity;
        int32_t *larger = malloc((size_t)capacity * sizeof *larger);
        if (larger == NULL) {
            return STATUS_NO_MEMORY;
        }
        for (int32_t place = 0; place < deque->count; place++) {
            larger[place] = deque_at(deque, place);
        }
        free(deque->id);
        *deque = (struct deque){larger, 0, deque->count, capacity};
    }
    if (at_front) {
        deque->begin = (deque->begin - 1) & (deque->capacity - 1);
        deque->id[deque->begin] = id;
    } else {
        deque->id[(deque->begin + deque->count) & (deque->capacity - 1)] = id;
    }
    deque->count++;
    return STATUS_OK;
}

int32_t deque_pop(struct deque *deque)
{
    assert(deque->count > 0);
    int32_t id = deque->id[deque->begin];
    deque->begin = (deque->begin + 1) & (deque->capacity - 1);
    deque->count--;
    return id;
}

struct step_load batch_decode_load(const struct serving *serving, const struct replica *replica,
                                   int64_t step)
{
    int32_t tokens = replica->decoding * (1 + serving->options->config->draft_tokens);
    return (struct step_load){
        .sequences = replica->decoding,
        .decode_tokens = tokens,
        .context_tokens = (replica->context_base + replica->context_rate * step) / RATE_ONE,
        .head_tokens = tokens,
    };
}

/* The next chunk of a request that is being read. */
static void give_chunk(struct request_state *state, struct step_load *load, int32_t *budget)
{
    int32_t left = state->target_tokens - state->done_tokens;
    state->chunk_tokens = left < *budget ? left : *budget;
    *budget -= state->chunk_tokens;
    if (state->chunk_tokens > 0) {
        step_load_add_chunk(load, state->done_tokens, state->chunk_tokens);
        load->head_tokens += state->chunk_tokens == left;
    }
}

static enum status begin_reading(struct serving *serving, struct replica *replica)
{
    int32_t id = deque_pop(&replica->waiting);
    struct request_state *state = &serving->request[id];
    struct serve_request *request = &serving->result->request[id];
    struct series *series = series_of(serving, replica);
    series_advance(serving);
    series->waiting--;
    series->running++;
    replica->running++;
    state->blocks = batch_blocks(serving, state->target_tokens);
    state->done_tokens = prefix_find(serving, id);
    if (request->first_token_ns < 0) {
        request->cached_tokens = state->done_tokens;
    }
    serving->result->totals.cached_tokens += state->done_tokens;
    batch_take_blocks(serving, replica, state->blocks);
    enum status status = deque_push(&replica->reading, id, false);
    return status == STATUS_OK ? blocks_admit(replica, id, state->stamp) : status;
}

/* Chunks for those that are being read, then for those who wait, in the order of their coming. */
static enum status plan_reading(struct serving *serving, struct replica *replica,
                                struct step_load *load, bool admits)
{
    const struct serving_batch *limit = &pool_of(serving, replica)->batch;
    int32_t budget = limit->tokens - load->decode_tokens;
    enum status status = STATUS_OK;
    for (int32_t place = 0; place < replica->reading.count; place++) {
        give_chunk(&serving->request[deque_at(&replica->reading, place)], load, &budget);
    }
    while (status == STATUS_OK && admits && budget > 0 && replica->waiting.count > 0 &&
           replica->running < limit->sequences) {
        int32_t id = deque_at(&replica->waiting, 0);
        if (batch_blocks(serving, serving->request[id].target_tokens) > replica->free_blocks) {
            break;
        }
        status = begin_reading(serving, replica);
        give_chunk(&serving->request[id], load, &budget);
    }
    return status;
}

static int64_t transfer_ns(const struct serving *serving, int32_t tokens)
{
    const struct serve_options *options = serving->options;
    return (int64_t)(options->transfer_ns + options->transfer_ns_per_token * (double)tokens + 0.5);
}

/* A port passes what comes to it in order, and is kept for nothing that has yet to come: so bytes
 * take the receiver's only from when they begin to leave the sender's. */
static int64_t pass(int64_t *free_ns, int64_t now_ns, int64_t way_ns)
{
    *free_ns = (*free_ns > now_ns ? *free_ns : now_ns) + way_ns;
    return *free_ns;
}

enum status batch_transfer_in(struct serving *serving, int32_t id)
{
    const struct request_state *state = &serving->request[id];
    int64_t way_ns = transfer_ns(serving, state->target_tokens);
    int64_t end_ns = pass(&serving->replica[state->replica].port_free_ns, serving->now_ns, way_ns);
    return key_heap_push(&serving->events,
                         (struct heap_entry){.key = end_ns, .id = id, .kind = SERVE_TRANSFER_DONE});
}

/* Reserves blocks for requests that wait elsewhere, and sends their KV entries on their way. */
static enum status take_arriving(struct serving *serving, struct replica *replica)
{
    const struct serving_batch *limit = &pool_of(serving, replica)->batch;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && replica->arriving.count > 0 && replica->waiting.count == 0 &&
           replica->running < limit->sequences) {
        int32_t id = deque_at(&replica->arriving, 0);
        struct request_state *state = &serving->request[id];
        int32_t blocks = batch_blocks(serving, state->target_tokens);
        if (blocks > replica->free_blocks) {
            break;
        }
        struct replica *from = &serving->replica[state->prefill_replica];
        struct series *series = series_of(serving, replica);
        int64_t way_ns = transfer_ns(serving, state->target_tokens);
        int64_t out_ns = pass(&from->port_free_ns, serving->now_ns, way_ns) - way_ns;
        (void)deque_pop(&replica->arriving);
        state->blocks = blocks;
        batch_take_blocks(serving, replica, blocks);
        series->waiting--;
        series->running++;
        replica->running++;
        status =
            key_heap_push(&serving->events,
                          (struct heap_entry){.key = out_ns, .id = id, .kind = SERVE_TRANSFER_OUT});
    }
    return status;
}

enum status batch_plan(struct serving *serving, struct replica *replica, struct step_load *load)
{
    bool preempted = false;
    enum status status = blocks_grow(serving, replica, &preempted);
    while (status == STATUS_OK && replica->ready.count > 0) {
        int32_t id = deque_pop(&replica->ready);
        status = blocks_admit(replica, id, serving->request[id].stamp);
        if (status == STATUS_OK) {
            status = blocks_join(serving, replica, id);
        }
        if (status == STATUS_OK) {
            status = deque_push(&replica->joined, id, false);
        }
    }
    if (status != STATUS_OK) {
        return status;
    }
    bool is_empty = replica->decoding == 0 && replica->reading.count == 0;
    *load = batch_decode_load(serving, replica, serving->group[replica->group].step + 1);
    status = plan_reading(serving, replica, load, !preempted || is_empty);
    blocks_tidy(serving, replica);
    return status == STATUS_OK ? take_arriving(serving, replica) : status;
}

static void leave(struct serving *serving, struct replica *replica, int32_t id)
{
    struct request_state *state = &serving->request[id];
    blocks_leave(serving, replica, id);
    batch_take_blocks(serving, replica, -state->blocks);
    state->blocks = 0;
    replica->load--;
    serve_request_done(serving, id);
}

/* A prompt is in the cache, and the first token behind it is known. */
static enum status finish_reading(struct serving *serving, struct replica *replica, int32_t id)
{
    struct request_state *state = &serving->request[id];
    struct serve_request *request = &serving->result->request[id];
    enum serve_pool_kind pool = serving->group[replica->group].pool;
    if (request->first_token_ns < 0) {
        request->first_token_ns = serving->now_ns;
    } else {
        series_gap(serving, (double)(serving->now_ns - state->last_token_ns), 1);
    }
    state->answered++;
    serving->result->totals.new_tokens++;
    series_now(serving, pool)->new_tokens++;
    prefix_keep(serving, id);
    if (state->answered == request->decode_tokens) {
        leave(serving, replica, id);
        return STATUS_OK;
    }
    if (pool == SERVE_MAIN) {
        return blocks_join(serving, replica, id);
    }
    blocks_leave(serving, replica, id);
    state->prefill_replica = (int32_t)(replica - serving->replica);
    state->prefill_blocks = state->blocks;
    return serve_hand_over(serving, id);
}

enum status batch_finish(struct serving *serving, struct replica *replica)
{
    int64_t step = serving->group[replica->group].step;
    enum serve_pool_kind pool = serving->group[replica->group].pool;
    enum status status = STATUS_OK;
    while (replica->ends.count > 0 && replica->ends.entry[0].key <= step) {
        struct heap_entry first = replica->ends.entry[0];
        struct request_state *state = &serving->request[first.id];
        key_heap_pop(&replica->ends);
        if (state->stamp == first.stamp) {
            int64_t tokens = serving->result->request[first.id].decode_tokens - state->answered;
            serving->result->totals.new_tokens += tokens;
            series_now(serving, pool)->new_tokens += tokens;
            leave(serving, replica, first.id);
        }
    }
    for (int32_t place = 0; place < replica->reading.count; place++) {
        struct request_state *state = &serving->request[deque_at(&replica->reading, place)];
        state->done_tokens += state->chunk_tokens;
        serving->result->totals.read_tokens += state->chunk_tokens;
        series_now(serving, pool)->read_tokens += state->chunk_tokens;
        state->chunk_tokens = 0;
    }
    while (status == STATUS_OK && replica->reading.count > 0) {
        int32_t id = deque_at(&replica->reading, 0);
        if (serving->request[id].done_tokens < serving->request[id].target_tokens) {
            break;
        }
        (void)deque_pop(&replica->reading);
        status = finish_reading(serving, replica, id);
    }
    return status;
}

int64_t batch_steps_to_end(const struct serving *serving, struct replica *replica)
{
    struct key_heap *ends = &replica->ends;
    while (ends->count > 0 && serving->request[ends->entry[0].id].stamp != ends->entry[0].stamp) {
        key_heap_pop(ends);
    }
    return ends->count > 0 ? ends->entry[0].key - serving->group[replica->group].step : INT64_MAX;
}
