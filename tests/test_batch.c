/*
 * test_batch.c -- which rows share a step, on which rank, with how much context.
 *
 * The trace: 10 rows in three requests of 4, 3 and 3 rows with prompts of 100, 0 and 20 tokens.
 */
#include "batch.h"

#include <criterion/criterion.h>
#include <gsl/gsl_randist.h>
#include <stdlib.h>
#include <string.h>

#include "rng.h"
#include "trace_internal.h"

#define ROWS     10
#define REQUESTS 3

static struct error error;
static struct trace trace;
static struct batcher *batcher;

static void make_trace(void)
{
    static const int32_t layer = 0;
    struct trace_description description = {.model = "tiny",
                                            .num_experts = 4,
                                            .top_k = 1,
                                            .num_layers = 1,
                                            .model_layer = &layer,
                                            .origin = "mock"};
    struct trace_request *requests = calloc(REQUESTS, sizeof *requests);
    uint8_t *expert = calloc(ROWS, 1);
    cr_assert(requests != NULL && expert != NULL);
    requests[0] = (struct trace_request){.prompt_tokens = 100, .row_offset = 0, .num_rows = 4};
    requests[1] = (struct trace_request){.prompt_tokens = 0, .row_offset = 4, .num_rows = 3};
    requests[2] = (struct trace_request){.prompt_tokens = 20, .row_offset = 7, .num_rows = 3};
    cr_assert_eq(
        trace_from_memory(&trace, &description, expert, NULL, requests, REQUESTS, ROWS, &error),
        STATUS_OK);
}

static void free_trace(void)
{
    batcher_close(batcher);
    trace_close(&trace);
}

TestSuite(batch, .init = make_trace, .fini = free_trace);

static void open_batcher(const struct trace *of, struct batch_config config)
{
    if (config.num_ranks == 0) {
        config.num_ranks = 1;
    }
    cr_assert_eq(batcher_open(&batcher, of, &config, &error), STATUS_OK, "%s", error.text);
}

static void expect_step(int32_t count, const int64_t *row, const int32_t *context_tokens)
{
    const struct trace_batch *batch = batcher_next(batcher);
    cr_assert_not_null(batch);
    cr_assert_eq(batch->num_tokens, count);
    for (int32_t i = 0; i < count; i++) {
        cr_expect_eq(batch->row[i], row[i], "step %d slot %d: row %d", (int)batch->step, i,
                     (int)batch->row[i]);
        cr_expect_eq(batch->context_tokens[i], context_tokens[i], "step %d slot %d: context %d",
                     (int)batch->step, i, batch->context_tokens[i]);
    }
}

static void expect_refused(const struct trace *of, struct batch_config config, const char *part)
{
    error = (struct error){0};
    cr_expect_eq(batcher_open(&batcher, of, &config, &error), STATUS_INVALID);
    cr_expect_null(batcher);
    cr_expect_not_null(strstr(error.text, part), "'%s' not in: %s", part, error.text);
}

Test(batch, consecutive_takes_rows_in_file_order_and_leaves_the_rest_out)
{
    open_batcher(&trace, (struct batch_config){BATCHING_CONSECUTIVE, .tokens_per_step = 4});

    cr_expect_eq(batcher_num_steps(batcher), 2);
    cr_expect_eq(batcher_rows_left_out(batcher), 2);
    cr_expect_eq(batcher_tokens_max(batcher), 4);
    expect_step(4, (int64_t[]){0, 1, 2, 3}, (int32_t[]){100, 101, 102, 103});
    /* the second request has no prompt: a token sees at least itself */
    expect_step(4, (int64_t[]){4, 5, 6, 7}, (int32_t[]){1, 1, 2, 20});
    cr_expect_null(batcher_next(batcher));
    cr_expect_null(batcher_next(batcher));
}

Test(batch, a_fixed_context_replaces_that_of_the_requests)
{
    open_batcher(&trace, (struct batch_config){BATCHING_CONSECUTIVE, .tokens_per_step = 2,
                                               .num_steps_max = 1, .context_tokens = 4096});

    cr_expect_eq(batcher_num_steps(batcher), 1);
    expect_step(2, (int64_t[]){0, 1}, (int32_t[]){4096, 4096});
    cr_expect_null(batcher_next(batcher));
}

/* Two slots, three requests. Slot 0 takes request 0, slot 1 request 1; after its three rows slot 1
 * goes on with request 2, and slot 0 has a fourth row. Step 4: the list is through, so slot 0 takes
 * request 0 again, at a drawn row. */
Test(batch, interleaved_slots_follow_their_requests)
{
    open_batcher(&trace, (struct batch_config){BATCHING_INTERLEAVED, .tokens_per_step = 2,
                                               .num_steps_max = 5, .seed = 3});
    gsl_rng *rng = rng_stream(3, "batch", 0);
    int64_t start = (int64_t)gsl_rng_uniform_int(rng, 4);
    gsl_rng_free(rng);

    cr_expect_eq(batcher_num_steps(batcher), 5);
    cr_expect_eq(batcher_rows_left_out(batcher), 0);
    expect_step(2, (int64_t[]){0, 4}, (int32_t[]){100, 1});
    expect_step(2, (int64_t[]){1, 5}, (int32_t[]){101, 1});
    expect_step(2, (int64_t[]){2, 6}, (int32_t[]){102, 2});
    expect_step(2, (int64_t[]){3, 7}, (int32_t[]){103, 20});
    expect_step(2, (int64_t[]){start, 8}, (int32_t[]){100 + (int32_t)start, 21});
    cr_expect_null(batcher_next(batcher));
}

/* Eight slots, three requests: slots 0 to 2 start at the front, the copies at drawn rows. */
Test(batch, interleaved_copies_of_a_request_start_at_drawn_rows)
{
    const int64_t offset[REQUESTS] = {0, 4, 7};
    const unsigned long rows[REQUESTS] = {4, 3, 3};
    open_batcher(&trace, (struct batch_config){BATCHING_INTERLEAVED, .tokens_per_step = 8,
                                               .num_steps_max = 1, .seed = 5});
    gsl_rng *rng = rng_stream(5, "batch", 0);

    const struct trace_batch *batch = batcher_next(batcher);

    for (int32_t i = 0; i < 8; i++) {
        int64_t position = i < REQUESTS ? 0 : (int64_t)gsl_rng_uniform_int(rng, rows[i % REQUESTS]);
        cr_expect_eq(batch->row[i], offset[i % REQUESTS] + position, "slot %d", i);
    }
    gsl_rng_free(rng);
}

Test(batch, interleaved_runs_as_many_steps_as_the_trace_would_fill)
{
    open_batcher(&trace, (struct batch_config){BATCHING_INTERLEAVED, .tokens_per_step = 3});

    cr_expect_eq(batcher_num_steps(batcher), 3);
    for (int32_t step = 0; step < 3; step++) {
        cr_expect_not_null(batcher_next(batcher));
    }
    cr_expect_null(batcher_next(batcher));
}

Test(batch, a_trace_without_requests_is_one_request)
{
    free(trace.requests);
    trace.requests = NULL;
    trace.num_requests = 0;
    open_batcher(&trace, (struct batch_config){BATCHING_INTERLEAVED, .tokens_per_step = 1});

    cr_expect_eq(batcher_num_steps(batcher), ROWS);
    for (int64_t row = 0; row < ROWS; row++) {
        int32_t context = row < 1 ? 1 : (int32_t)row;
        expect_step(1, &row, &context);
    }
}

Test(batch, shuffled_is_gsls_permutation_of_all_rows)
{
    int64_t order[ROWS];
    for (int64_t row = 0; row < ROWS; row++) {
        order[row] = row;
    }
    gsl_rng *rng = rng_stream(11, "shuffle", 0);
    gsl_ran_shuffle(rng, order, ROWS, sizeof order[0]);
    gsl_rng_free(rng);

    open_batcher(&trace,
                 (struct batch_config){BATCHING_SHUFFLED, .tokens_per_step = 5, .seed = 11});

    for (int32_t step = 0; step < 2; step++) {
        const struct trace_batch *batch = batcher_next(batcher);
        cr_assert_not_null(batch);
        cr_expect_arr_eq(batch->row, order + step * 5, 5 * sizeof order[0]);
        for (int32_t i = 0; i < 5; i++) {
            int64_t row = batch->row[i];
            int32_t context = (int32_t)(row < 4   ? 100 + row
                                        : row < 5 ? 1
                                        : row < 7 ? row - 4
                                                  : 13 + row);
            cr_expect_eq(batch->context_tokens[i], context, "row %d", (int)row);
        }
    }
}

Test(batch, recorded_steps_win_over_every_batching)
{
    static const int64_t begin[3] = {1, 3, 9};
    trace.num_steps = 2;
    trace.step_begin = begin;
    for (int32_t batching = BATCHING_INTERLEAVED; batching <= BATCHING_SHUFFLED; batching++) {
        open_batcher(&trace, (struct batch_config){.batching = (enum batching)batching});
        cr_expect_eq(batcher_num_steps(batcher), 2);
        cr_expect_eq(batcher_rows_left_out(batcher), 2); /* rows 0 and 9 */
        cr_expect_eq(batcher_tokens_max(batcher), 6);
        expect_step(2, (int64_t[]){1, 2}, (int32_t[]){101, 102});
        expect_step(6, (int64_t[]){3, 4, 5, 6, 7, 8}, (int32_t[]){103, 1, 1, 2, 20, 21});
        cr_expect_null(batcher_next(batcher));
        batcher_close(batcher);
    }
    open_batcher(&trace, (struct batch_config){.num_steps_max = 1});
    cr_expect_eq(batcher_num_steps(batcher), 1);
    cr_expect_eq(batcher_tokens_max(batcher), 2);
}

/* 7 slots on 3 ranks: i * 3 / 7 = 0 0 0 1 1 2 2. 2 slots on 5 ranks: 0 and 2. */
Test(batch, slots_are_dealt_to_ranks_in_order)
{
    const int32_t rank_of_7[7] = {0, 0, 0, 1, 1, 2, 2};
    const int32_t begin_of_7[4] = {0, 3, 5, 7};
    const int32_t begin_of_2[6] = {0, 1, 1, 2, 2, 2};

    open_batcher(&trace,
                 (struct batch_config){BATCHING_CONSECUTIVE, .tokens_per_step = 7, .num_ranks = 3});
    const struct trace_batch *batch = batcher_next(batcher);
    cr_expect_arr_eq(batch->source_rank, rank_of_7, sizeof rank_of_7);
    cr_expect_arr_eq(batch->rank_begin, begin_of_7, sizeof begin_of_7);
    batcher_close(batcher);

    open_batcher(&trace,
                 (struct batch_config){BATCHING_CONSECUTIVE, .tokens_per_step = 2, .num_ranks = 5});
    batch = batcher_next(batcher);
    cr_expect_eq(batch->source_rank[1], 2);
    cr_expect_arr_eq(batch->rank_begin, begin_of_2, sizeof begin_of_2);
}

Test(batch, every_slot_lies_in_its_ranks_range_for_any_shape)
{
    for (int32_t tokens = 1; tokens <= ROWS; tokens++) {
        for (int32_t ranks = 1; ranks <= 13; ranks++) {
            open_batcher(&trace,
                         (struct batch_config){BATCHING_CONSECUTIVE, .tokens_per_step = tokens,
                                               .num_ranks = ranks});
            const struct trace_batch *batch = batcher_next(batcher);
            for (int32_t rank = 0; rank < ranks; rank++) {
                cr_assert_leq(batch->rank_begin[rank], batch->rank_begin[rank + 1]);
                for (int32_t i = batch->rank_begin[rank]; i < batch->rank_begin[rank + 1]; i++) {
                    cr_assert_eq(batch->source_rank[i], rank);
                }
            }
            cr_assert_eq(batch->rank_begin[0], 0);
            cr_assert_eq(batch->rank_begin[ranks], tokens);
            batcher_close(batcher);
            batcher = NULL;
        }
    }
}

Test(batch, equal_seeds_give_equal_steps_and_others_do_not)
{
    int64_t row[3][ROWS];
    const uint64_t seed[3] = {1, 1, 2};

    for (int32_t run = 0; run < 3; run++) {
        open_batcher(&trace, (struct batch_config){BATCHING_SHUFFLED, .tokens_per_step = ROWS,
                                                   .seed = seed[run]});
        memcpy(row[run], batcher_next(batcher)->row, sizeof row[run]);
        batcher_close(batcher);
        batcher = NULL;
    }

    cr_expect_arr_eq(row[0], row[1], sizeof row[0]);
    cr_expect_neq(memcmp(row[0], row[2], sizeof row[0]), 0);
}

Test(batch, a_dense_model_needs_no_trace_but_a_number_of_steps)
{
    open_batcher(NULL, (struct batch_config){.tokens_per_step = 3, .num_steps_max = 2});

    cr_expect_eq(batcher_num_steps(batcher), 2);
    expect_step(3, (int64_t[]){0, 0, 0}, (int32_t[]){1, 1, 1});
    cr_expect_not_null(batcher_next(batcher));
    cr_expect_null(batcher_next(batcher));
    batcher_close(batcher);
    expect_refused(NULL, (struct batch_config){.tokens_per_step = 3, .num_ranks = 1},
                   "the number of steps must be given");
}

Test(batch, what_makes_no_step_is_refused)
{
    for (int32_t batching = BATCHING_INTERLEAVED; batching <= BATCHING_SHUFFLED; batching++) {
        struct batch_config config = {(enum batching)batching, .tokens_per_step = 11,
                                      .num_ranks = 1};
        expect_refused(&trace, config, "its 10 tokens do not fill one step of 11");
    }
    expect_refused(&trace, (struct batch_config){.num_ranks = 1}, "1 to 2147483646 tokens, not 0");
    expect_refused(&trace, (struct batch_config){.tokens_per_step = 1}, "at least one rank");
    expect_refused(&trace,
                   (struct batch_config){.tokens_per_step = 1, .num_ranks = 1, .num_steps_max = -1},
                   "cannot be negative");
    batcher_close(NULL);
}

Test(batch, interleaved_repeats_a_trace_shorter_than_a_step)
{
    open_batcher(&trace, (struct batch_config){BATCHING_INTERLEAVED, .tokens_per_step = 64,
                                               .num_steps_max = 20});

    cr_expect_eq(batcher_num_steps(batcher), 20);
    for (int32_t step = 0; step < 20; step++) {
        const struct trace_batch *batch = batcher_next(batcher);
        cr_assert_not_null(batch);
        for (int32_t i = 0; i < 64; i++) {
            cr_assert(batch->row[i] >= 0 && batch->row[i] < ROWS);
        }
    }
}
