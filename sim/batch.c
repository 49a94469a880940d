/*
 * batch.c -- fills one step after another with rows of a trace.
 *
 * Each batching is a function that writes the rows of the next step; ranks and contexts follow from
 * the slots and the rows alone. Nothing allocates after batcher_open.
 */
#include "batch.h"

#include <assert.h>
#include <stdlib.h>

#include "rng.h"

/* What a slot of an interleaved step works on. */
struct slot {
    int64_t request;
    int64_t position; /* of the next row in the request */
};

struct batcher {
    const struct trace *trace; /* NULL: a dense model */
    struct batch_config config;
    bool is_recorded; /* steps are the trace's own */
    const struct trace_request *requests;
    int64_t num_requests;
    struct trace_request whole; /* stands for the whole trace when it has no requests */
    int64_t num_steps;
    int64_t rows_left_out;
    int32_t tokens_max;
    struct trace_batch batch;
    int64_t *order;        /* [num_tokens] shuffled: rows in the order of use */
    struct slot *slots;    /* [tokens_per_step] interleaved */
    int64_t request_taken; /* interleaved: requests handed out so far */
    gsl_rng *rng;          /* interleaved: starts after the list has wrapped round */
};

static bool is_batching(const struct batcher *batcher, enum batching batching)
{
    return batcher->trace != NULL && !batcher->is_recorded && batcher->config.batching == batching;
}

static enum status check_config(const struct batch_config *config, bool needs_tokens,
                                struct error *error)
{
    enum status status = STATUS_OK;
    if (needs_tokens && (config->tokens_per_step < 1 || config->tokens_per_step > INT32_MAX - 1)) {
        status = error_add(error, STATUS_INVALID, "a step must have 1 to %d tokens, not %lld",
                           INT32_MAX - 1, (long long)config->tokens_per_step);
    }
    if (config->num_ranks < 1) {
        status = error_add(error, STATUS_INVALID, "tokens need at least one rank, not %d",
                           config->num_ranks);
    }
    if (config->num_steps_max < 0 || config->context_tokens < 0) {
        status = error_add(error, STATUS_INVALID, "steps and context tokens cannot be negative");
    }
    return status;
}

/* Steps of the trace's own: rows before the first and behind the last are left out. */
static void plan_recorded(struct batcher *batcher)
{
    const struct trace *trace = batcher->trace;
    int64_t max = batcher->config.num_steps_max;
    batcher->num_steps = max > 0 && max < trace->num_steps ? max : trace->num_steps;
    batcher->rows_left_out =
        trace->num_tokens - (trace->step_begin[trace->num_steps] - trace->step_begin[0]);
    for (int64_t step = 0; step < batcher->num_steps; step++) {
        int32_t tokens = (int32_t)(trace->step_begin[step + 1] - trace->step_begin[step]);
        batcher->tokens_max = tokens > batcher->tokens_max ? tokens : batcher->tokens_max;
    }
}

/* Sets num_steps, rows_left_out and tokens_max. */
static enum status plan_steps(struct batcher *batcher, struct error *error)
{
    const int64_t max = batcher->config.num_steps_max;
    const int64_t tokens = batcher->config.tokens_per_step;
    if (batcher->is_recorded) {
        plan_recorded(batcher);
        return STATUS_OK;
    }
    batcher->tokens_max = (int32_t)tokens;
    if (batcher->trace == NULL) {
        batcher->num_steps = max;
        return max > 0 ? STATUS_OK
                       : error_add(error, STATUS_INVALID,
                                   "without a trace the number of steps must be given");
    }
    bool wraps = is_batching(batcher, BATCHING_INTERLEAVED);
    int64_t filled = batcher->trace->num_tokens / tokens;
    batcher->rows_left_out = wraps ? 0 : batcher->trace->num_tokens % tokens;
    batcher->num_steps = max > 0 && (wraps || max < filled) ? max : filled;
    if (batcher->num_steps == 0) {
        return error_add(
            error, STATUS_INVALID, "trace %s: its %lld tokens do not fill one step of %lld%s",
            batcher->trace->name, (long long)batcher->trace->num_tokens, (long long)tokens,
            wraps ? "; give the number of steps, and requests will repeat" : "");
    }
    return STATUS_OK;
}

/* Fisher and Yates (Durstenfeld 1964), as gsl_ran_shuffle. */
static enum status shuffle_rows(struct batcher *batcher, struct error *error)
{
    const int64_t num_tokens = batcher->trace->num_tokens;
    gsl_rng *rng = rng_stream(batcher->config.seed, "shuffle", 0);
    batcher->order = malloc((size_t)num_tokens * sizeof *batcher->order);
    enum status status = STATUS_OK;
    if (rng == NULL || batcher->order == NULL) {
        status = error_add(error, STATUS_NO_MEMORY, "no memory to shuffle %lld rows",
                           (long long)num_tokens);
    } else if ((uint64_t)num_tokens > gsl_rng_max(rng)) {
        status = error_add(error, STATUS_INVALID,
                           "trace %s: %lld rows are too many to shuffle; use interleaved",
                           batcher->trace->name, (long long)num_tokens);
    }
    for (int64_t row = 0; row < num_tokens && status == STATUS_OK; row++) {
        batcher->order[row] = row;
    }
    for (int64_t last = num_tokens - 1; last > 0 && status == STATUS_OK; last--) {
        int64_t other = (int64_t)gsl_rng_uniform_int(rng, (unsigned long)(last + 1));
        int64_t row = batcher->order[last];
        batcher->order[last] = batcher->order[other];
        batcher->order[other] = row;
    }
    if (rng != NULL) {
        gsl_rng_free(rng);
    }
    return status;
}

/* The next request of the list for a slot; once the list has been through, from within. */
static void take_request(struct batcher *batcher, struct slot *slot)
{
    slot->request = batcher->request_taken % batcher->num_requests;
    slot->position = 0;
    if (batcher->request_taken >= batcher->num_requests) {
        uint64_t rows = (uint64_t)batcher->requests[slot->request].num_rows;
        uint64_t range = gsl_rng_max(batcher->rng); /* longer requests start within their first */
        slot->position = (int64_t)gsl_rng_uniform_int(batcher->rng, rows < range ? rows : range);
    }
    batcher->request_taken++;
}

static enum status open_slots(struct batcher *batcher, struct error *error)
{
    const int64_t tokens = batcher->config.tokens_per_step;
    batcher->rng = rng_stream(batcher->config.seed, "batch", 0);
    batcher->slots = malloc((size_t)tokens * sizeof *batcher->slots);
    if (batcher->rng == NULL || batcher->slots == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "no memory for steps of %lld tokens",
                         (long long)tokens);
    }
    for (int64_t i = 0; i < tokens; i++) {
        take_request(batcher, &batcher->slots[i]);
    }
    return STATUS_OK;
}

static enum status open_arrays(struct batcher *batcher, struct error *error)
{
    size_t tokens = (size_t)batcher->tokens_max;
    struct trace_batch *batch = &batcher->batch;
    batch->step = -1;
    batch->row = calloc(tokens, sizeof *batch->row);
    batch->source_rank = malloc(tokens * sizeof *batch->source_rank);
    batch->context_tokens = malloc(tokens * sizeof *batch->context_tokens);
    batch->rank_begin = malloc(((size_t)batcher->config.num_ranks + 1) * sizeof *batch->rank_begin);
    if (batch->row == NULL || batch->source_rank == NULL || batch->context_tokens == NULL ||
        batch->rank_begin == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "no memory for steps of %zu tokens", tokens);
    }
    return STATUS_OK;
}

enum status batcher_open(struct batcher **batcher, const struct trace *trace,
                         const struct batch_config *config, struct error *error)
{
    bool is_recorded = trace != NULL && trace->num_steps > 0;
    *batcher = NULL;
    enum status status = check_config(config, !is_recorded, error);
    if (status != STATUS_OK) {
        return status;
    }
    struct batcher *fresh = calloc(1, sizeof *fresh);
    if (fresh == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "no memory for steps");
    }
    fresh->trace = trace;
    fresh->config = *config;
    fresh->is_recorded = is_recorded;
    if (trace != NULL) {
        fresh->whole.num_rows = trace->num_tokens;
        fresh->requests = trace->num_requests > 0 ? trace->requests : &fresh->whole;
        fresh->num_requests = trace->num_requests > 0 ? trace->num_requests : 1;
    }
    status = plan_steps(fresh, error);
    if (status == STATUS_OK) {
        status = open_arrays(fresh, error);
    }
    if (status == STATUS_OK && is_batching(fresh, BATCHING_SHUFFLED)) {
        status = shuffle_rows(fresh, error);
    }
    if (status == STATUS_OK && is_batching(fresh, BATCHING_INTERLEAVED)) {
        status = open_slots(fresh, error);
    }
    if (status != STATUS_OK) {
        batcher_close(fresh);
        return status;
    }
    *batcher = fresh;
    return STATUS_OK;
}

void batcher_close(struct batcher *batcher)
{
    if (batcher == NULL) {
        return;
    }
    if (batcher->rng != NULL) {
        gsl_rng_free(batcher->rng);
    }
    free(batcher->slots);
    free(batcher->order);
    free(batcher->batch.row);
    free(batcher->batch.source_rank);
    free(batcher->batch.context_tokens);
    free(batcher->batch.rank_begin);
    free(batcher);
}

int64_t batcher_num_steps(const struct batcher *batcher)
{
    return batcher->num_steps;
}

int64_t batcher_rows_left_out(const struct batcher *batcher)
{
    return batcher->rows_left_out;
}

int32_t batcher_tokens_max(const struct batcher *batcher)
{
    return batcher->tokens_max;
}

/* The tokens a request holds before its row at position. */
static int32_t context_at(const struct batcher *batcher, int64_t request, int64_t position)
{
    if (batcher->config.context_tokens > 0) {
        return batcher->config.context_tokens;
    }
    int64_t context = batcher->requests[request].prompt_tokens + position;
    return context < 1 ? 1 : context > INT32_MAX ? INT32_MAX : (int32_t)context;
}

/* The request that a row belongs to: the last that does not begin after it. */
static int64_t request_of(const struct batcher *batcher, int64_t row)
{
    int64_t low = 0;
    int64_t high = batcher->num_requests; /* requests[low] begins at row or before, [high] after */
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (batcher->requests[middle].row_offset <= row) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Every slot goes on with its request. */
static void fill_interleaved(struct batcher *batcher)
{
    struct trace_batch *batch = &batcher->batch;
    for (int32_t i = 0; i < batch->num_tokens; i++) {
        struct slot *slot = &batcher->slots[i];
        if (slot->position == batcher->requests[slot->request].num_rows) {
            take_request(batcher, slot);
        }
        batch->row[i] = batcher->requests[slot->request].row_offset + slot->position;
        batch->context_tokens[i] = context_at(batcher, slot->request, slot->position);
        slot->position++;
    }
}

/* Rows from first on, in file order or in that of the shuffle. */
static void fill_ordered(struct batcher *batcher, int64_t first)
{
    struct trace_batch *batch = &batcher->batch;
    for (int32_t i = 0; i < batch->num_tokens; i++) {
        int64_t row = batcher->order != NULL ? batcher->order[first + i] : first + i;
        int64_t request = request_of(batcher, row);
        batch->row[i] = row;
        batch->context_tokens[i] =
            context_at(batcher, request, row - batcher->requests[request].row_offset);
    }
}

static void fill_dense(struct batcher *batcher)
{
    struct trace_batch *batch = &batcher->batch;
    int32_t context = batcher->config.context_tokens;
    for (int32_t i = 0; i < batch->num_tokens; i++) {
        batch->context_tokens[i] = context > 0 ? context : 1;
    }
}

/* Deals the step's slots to the ranks: slot i of S to rank i * num_ranks / S. */
static void deal_slots(struct trace_batch *batch, int32_t num_tokens, int32_t num_ranks)
{
    if (batch->num_tokens == num_tokens) {
        return; /* as in the step before */
    }
    batch->num_tokens = num_tokens;
    for (int32_t i = 0; i < num_tokens; i++) {
        batch->source_rank[i] = (int32_t)((int64_t)i * num_ranks / num_tokens);
    }
    for (int32_t rank = 0; rank <= num_ranks; rank++) { /* the first i that is dealt to it */
        batch->rank_begin[rank] =
            (int32_t)(((int64_t)rank * num_tokens + num_ranks - 1) / num_ranks);
    }
}

const struct trace_batch *batcher_next(struct batcher *batcher)
{
    struct trace_batch *batch = &batcher->batch;
    if (batch->step + 1 >= batcher->num_steps) {
        return NULL;
    }
    batch->step++;
    const int64_t *begin = batcher->trace == NULL ? NULL : batcher->trace->step_begin;
    int64_t tokens = batcher->is_recorded ? begin[batch->step + 1] - begin[batch->step]
                                          : batcher->config.tokens_per_step;
    deal_slots(batch, (int32_t)tokens, batcher->config.num_ranks);
    if (batcher->trace == NULL) {
        fill_dense(batcher);
    } else if (batcher->slots != NULL) {
        fill_interleaved(batcher);
    } else {
        fill_ordered(batcher, batcher->is_recorded ? begin[batch->step] : batch->step * tokens);
    }
    return batch;
}
