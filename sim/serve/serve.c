/* serve.c -- requests arrive, events happen in the order of their times, until all have left. */
#include "serve/serve.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "digest.h"
#include "rng.h"
#include "serve/serve_internal.h"

#define NS_PER_S       1e9
#define PROGRESS_EVERY 4096 /* events */

static int32_t pool_replicas(const struct serve_pool *pool)
{
    return pool->num_groups * pool->replicas_per_group;
}

static enum status open_pools(struct serving *serving)
{
    int32_t groups = 0;
    int32_t widest = 0;
    for (int32_t pool = 0; pool < SERVE_POOLS; pool++) {
        const struct serve_pool *options = &serving->options->pool[pool];
        serving->pool_first[pool] = serving->num_replicas;
        serving->num_replicas += pool_replicas(options);
        groups += options->num_groups;
        widest = options->replicas_per_group > widest ? options->replicas_per_group : widest;
    }
    serving->pool_first[SERVE_POOLS] = serving->num_replicas;
    serving->replica =
        arena_alloc(&serving->arena, (size_t)serving->num_replicas, sizeof *serving->replica);
    serving->group = arena_alloc(&serving->arena, (size_t)groups, sizeof *serving->group);
    serving->scratch = arena_alloc(&serving->arena, (size_t)widest, sizeof *serving->scratch);
    if (serving->replica == NULL || serving->group == NULL || serving->scratch == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t pool = 0; pool < SERVE_POOLS; pool++) {
        const struct serve_pool *options = &serving->options->pool[pool];
        for (int32_t i = 0; i < options->num_groups; i++) {
            struct group *group = &serving->group[serving->num_groups];
            group->pool = (enum serve_pool_kind)pool;
            group->first_replica = serving->pool_first[pool] + i * options->replicas_per_group;
            group->load = arena_alloc(&serving->arena, (size_t)options->replicas_per_group,
                                      sizeof *group->load);
            if (group->load == NULL) {
                return STATUS_NO_MEMORY;
            }
            for (int32_t j = 0; j < options->replicas_per_group; j++) {
                struct replica *replica = &serving->replica[group->first_replica + j];
                replica->group = serving->num_groups;
                replica->free_blocks = options->kv_blocks;
            }
            serving->num_groups++;
        }
    }
    return STATUS_OK;
}

/* Steps that an answer takes: one token each, and of the drafted ones those that are right until
 * the first that is not. The first token comes from reading the prompt. */
static int32_t draw_steps(const struct serving_config *config, int32_t decode_tokens, gsl_rng *rng)
{
    int32_t steps = 0;
    if (config->draft_tokens == 0) {
        return decode_tokens - 1;
    }
    for (int32_t tokens = 1; tokens < decode_tokens; steps++) {
        tokens++;
        for (int32_t draft = 0; draft < config->draft_tokens && tokens < decode_tokens; draft++) {
            if (gsl_rng_uniform(rng) >= config->acceptance) {
                break;
            }
            tokens++;
        }
    }
    return steps;
}

static enum status open_requests(struct serving *serving)
{
    const struct arrivals *arrivals = serving->arrivals;
    struct serve_result *result = serving->result;
    int64_t count = arrivals->count;
    serving->request = arena_alloc(&serving->arena, (size_t)count, sizeof *serving->request);
    result->request = calloc((size_t)count, sizeof *result->request);
    gsl_rng *rng = rng_stream(serving->options->seed, "draft acceptance", 0);
    bool is_open = serving->request != NULL && result->request != NULL && rng != NULL;
    int32_t concurrency = serving->options->concurrency;
    bool is_closed = concurrency > 0;
    serving->num_released = is_closed && concurrency < count ? concurrency : count;
    result->totals.num_requests = count;
    for (int64_t i = 0; i < count && is_open; i++) {
        const struct arrival *arrival = &arrivals->arrival[i];
        struct serve_request *request = &result->request[i];
        request->arrival_ns = is_closed ? 0 : llround(arrival->arrival_s * NS_PER_S);
        request->first_token_ns = -1;
        request->end_ns = -1;
        request->prompt_tokens = arrival->prompt_tokens;
        request->decode_tokens = arrival->decode_tokens;
        request->replica = -1;
        serving->request[i].target_tokens = arrival->prompt_tokens;
        serving->request[i].steps_left =
            draw_steps(serving->options->config, arrival->decode_tokens, rng);
    }
    if (rng != NULL) {
        gsl_rng_free(rng);
    }
    return is_open ? STATUS_OK : STATUS_NO_MEMORY;
}

/* The replica of a pool that takes the next request. */
static int32_t route(struct serving *serving, enum serve_pool_kind pool)
{
    int32_t first = serving->pool_first[pool];
    int32_t count = serving->pool_first[pool + 1] - first;
    int32_t best = first;
    if (serving->options->config->router == SERVING_ROUND_ROBIN) {
        best = first + serving->next_replica[pool];
        serving->next_replica[pool] = (serving->next_replica[pool] + 1) % count;
        return best;
    }
    for (int32_t i = first + 1; i < first + count; i++) {
        best = serving->replica[i].load < serving->replica[best].load ? i : best;
    }
    return best;
}

/* Puts a request, which counts as waiting already, into a replica's queue and lets its group know.
 */
static enum status enqueue(struct serving *serving, int32_t id, enum serve_pool_kind pool,
                           bool is_read)
{
    int32_t index = route(serving, pool);
    struct replica *replica = &serving->replica[index];
    serving->request[id].replica = index;
    replica->load++;
    if (pool == SERVE_MAIN) {
        serving->result->request[id].replica = index;
    }
    enum status status = deque_push(is_read ? &replica->arriving : &replica->waiting, id, false);
    return status == STATUS_OK ? group_wake(serving, replica->group) : status;
}

enum status serve_hand_over(struct serving *serving, int32_t id)
{
    serving->request[id].last_token_ns = serving->now_ns;
    series_advance(serving);
    serving->series[SERVE_MAIN].waiting++;
    return enqueue(serving, id, SERVE_MAIN, true);
}

static void fold(struct serving *serving, int64_t value)
{
    struct serve_totals *totals = &serving->result->totals;
    totals->digest = digest_u64(totals->digest, (uint64_t)value);
}

/* A request is done or refused; where they are kept outstanding, the next one comes. */
static void leave(struct serving *serving, int32_t id)
{
    serving->num_left++;
    fold(serving, id);
    if (serving->num_released < serving->arrivals->count) {
        serving->result->request[serving->num_released++].arrival_ns = serving->now_ns;
    }
}

void serve_request_done(struct serving *serving, int32_t id)
{
    struct serve_request *request = &serving->result->request[id];
    request->end_ns = serving->now_ns;
    serving->result->totals.prompt_tokens += request->prompt_tokens;
    leave(serving, id);
    fold(serving, request->first_token_ns);
    fold(serving, request->end_ns);
}

static enum serve_pool_kind pool_of_arrivals(const struct serving *serving)
{
    return serving->options->pool[SERVE_PREFILL].num_groups > 0 ? SERVE_PREFILL : SERVE_MAIN;
}

static bool fits(const struct serving *serving, const struct serve_request *request)
{
    const struct serve_pool *pool = serving->options->pool;
    int64_t all = (int64_t)request->prompt_tokens + request->decode_tokens;
    bool fits_prefill =
        pool[SERVE_PREFILL].num_groups == 0 ||
        batch_blocks(serving, request->prompt_tokens) <= pool[SERVE_PREFILL].kv_blocks;
    return fits_prefill && batch_blocks(serving, all) <= pool[SERVE_MAIN].kv_blocks;
}

static enum status arrive(struct serving *serving)
{
    int32_t id = (int32_t)serving->next_arrival++;
    const struct serve_request *request = &serving->result->request[id];
    enum serve_pool_kind pool = pool_of_arrivals(serving);
    series_now(serving, pool)->arrivals++;
    if (!fits(serving, request)) {
        serving->result->totals.num_refused++;
        leave(serving, id);
        return STATUS_OK;
    }
    series_advance(serving);
    serving->series[pool].waiting++;
    if (serving->options->host_ns <= 0.0) {
        return enqueue(serving, id, pool, false);
    }
    return key_heap_push(
        &serving->events,
        (struct heap_entry){.key = serving->now_ns + llround(serving->options->host_ns),
                            .id = id,
                            .kind = SERVE_HOST_DONE});
}

static enum status finish_transfer(struct serving *serving, int32_t id)
{
    const struct request_state *state = &serving->request[id];
    struct replica *from = &serving->replica[state->prefill_replica];
    struct replica *replica = &serving->replica[state->replica];
    batch_take_blocks(serving, from, -state->prefill_blocks);
    from->load--; /* until now its cache and its port had to do with the request */
    enum status status = group_wake(serving, from->group);
    if (status == STATUS_OK) {
        status = deque_push(&replica->ready, id, false);
    }
    return status == STATUS_OK ? group_wake(serving, replica->group) : status;
}

static enum status next_event(struct serving *serving)
{
    const struct heap_entry *first = serving->events.count > 0 ? &serving->events.entry[0] : NULL;
    bool is_arrival = serving->next_arrival < serving->num_released;
    if (is_arrival) {
        int64_t arrival_ns = serving->result->request[serving->next_arrival].arrival_ns;
        is_arrival = first == NULL || arrival_ns <= first->key;
        serving->now_ns = is_arrival ? arrival_ns : serving->now_ns;
    }
    serving->result->totals.num_events++;
    if (is_arrival) {
        return arrive(serving);
    }
    assert(first != NULL); /* else requests wait for what nobody does */
    struct heap_entry event = *first;
    key_heap_pop(&serving->events);
    if (event.kind == SERVE_HOST_DONE) {
        serving->now_ns = event.key;
        return enqueue(serving, event.id, pool_of_arrivals(serving), false);
    }
    if (event.kind == SERVE_TRANSFER_OUT) {
        serving->now_ns = event.key;
        return batch_transfer_in(serving, event.id);
    }
    if (event.kind == SERVE_TRANSFER_DONE) {
        serving->now_ns = event.key;
        return finish_transfer(serving, event.id);
    }
    if (event.stamp != serving->group[event.id].stamp) {
        return STATUS_OK; /* the group ended earlier: somebody came */
    }
    serving->now_ns = event.key;
    return group_step_end(serving, event.id);
}

static enum status run(struct serving *serving)
{
    const struct serve_options *options = serving->options;
    int64_t count = serving->arrivals->count;
    enum status status = STATUS_OK;
    for (int64_t events = 0; serving->num_left < count && status == STATUS_OK; events++) {
        status = next_event(serving);
        if (status == STATUS_OK && events % PROGRESS_EVERY == 0 && options->progress != NULL &&
            !options->progress(options->context, serving->num_left, count)) {
            status = error_add(serving->error, STATUS_INVALID, "interrupted");
        }
    }
    series_advance(serving);
    return status;
}

static void close_all(struct serving *serving)
{
    for (int32_t i = 0; serving->replica != NULL && i < serving->num_replicas; i++) {
        struct replica *replica = &serving->replica[i];
        free(replica->waiting.id);
        free(replica->arriving.id);
        free(replica->ready.id);
        free(replica->joined.id);
        free(replica->reading.id);
        free(replica->admitted);
        key_heap_free(&replica->ends);
        key_heap_free(&replica->blocks);
    }
    key_heap_free(&serving->events);
    prefix_close(serving);
    arena_free(&serving->arena);
    free(serving);
}

enum status serve_run(struct serve_result *result, const struct arrivals *arrivals,
                      const struct serve_options *options, struct error *error)
{
    *result = (struct serve_result){.totals.digest = DIGEST_START};
    struct serving *serving = calloc(1, sizeof *serving);
    if (serving == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    assert(arrivals->count > 0 && arrivals->count <= INT32_MAX);
    serving->options = options;
    serving->arrivals = arrivals;
    serving->result = result;
    serving->error = error;
    enum status status = open_pools(serving);
    if (status == STATUS_OK) {
        status = open_requests(serving);
    }
    if (status == STATUS_OK) {
        status = prefix_open(serving);
    }
    if (status == STATUS_OK) {
        series_open(serving);
        status = run(serving);
    }
    if (status == STATUS_OK) {
        status = serve_summarise(serving);
    }
    if (status == STATUS_NO_MEMORY) {
        status = error_add(error, status, "out of memory after %lld of %lld requests",
                           (long long)serving->num_left, (long long)arrivals->count);
    }
    close_all(serving);
    return status;
}

void serve_result_free(struct serve_result *result)
{
    free(result->request);
    for (int32_t pool = 0; pool < SERVE_POOLS; pool++) {
        free(result->window[pool]);
    }
    *result = (struct serve_result){0};
}
