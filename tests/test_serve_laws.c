/*
 * test_serve_laws.c -- what holds for every deployment and all requests: nothing is lost or made,
 * and steps that are taken together end as they do one by one.
 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

#include "digest.h"
#include "rng.h"
#include "small_serving.h"

/* Everything that may vary, drawn. */
static struct serve_options random_options(gsl_rng *rng, struct serving_config *config,
                                           struct arrivals_law *law)
{
    *config = small_serving_config;
    config->block_tokens = 1 << gsl_rng_uniform_int(rng, 6);
    config->router = (enum serving_router)gsl_rng_uniform_int(rng, 2);
    config->prefix_cache = (enum prefix_cache)gsl_rng_uniform_int(rng, 2);
    config->hit_rate = gsl_rng_uniform(rng);
    config->draft_tokens = (int32_t)gsl_rng_uniform_int(rng, 3);
    config->acceptance = gsl_rng_uniform(rng);
    config->ttft_target_s = 0.1;
    *law = (struct arrivals_law){.rate_per_s = 5.0 + 300.0 * gsl_rng_uniform(rng),
                                 .cv = 2.0 * gsl_rng_uniform(rng),
                                 .duration_s = 2.0,
                                 .prompt_tokens = 1.0 + 300.0 * gsl_rng_uniform(rng),
                                 .prompt_cv = gsl_rng_uniform(rng),
                                 .decode_tokens = 1.0 + 100.0 * gsl_rng_uniform(rng),
                                 .decode_cv = gsl_rng_uniform(rng),
                                 .seed = gsl_rng_get(rng)};
    struct serve_options options = {.config = config,
                                    .transfer_ns = 1e4,
                                    .transfer_ns_per_token = 1e3 * gsl_rng_uniform(rng),
                                    .seed = law->seed};
    for (int32_t pool = 0; pool < SERVE_POOLS; pool++) {
        int32_t sequences = 1 + (int32_t)gsl_rng_uniform_int(rng, 32);
        int64_t kv_tokens = 300 + (int64_t)gsl_rng_uniform_int(rng, 3000);
        options.pool[pool] = (struct serve_pool){
            .model = {.step_ns = small_linear_ns},
            .num_groups = pool == SERVE_MAIN ? 1 + (int32_t)gsl_rng_uniform_int(rng, 3)
                                             : (int32_t)gsl_rng_uniform_int(rng, 3),
            .replicas_per_group = 1 + (int32_t)gsl_rng_uniform_int(rng, 4),
            .batch = {.tokens = 3 * sequences + (int32_t)gsl_rng_uniform_int(rng, 500),
                      .sequences = sequences},
            .kv_blocks = kv_tokens / config->block_tokens};
    }
    return options;
}

/* Experts that move now and then. */
static void add_stalls(struct serve_options *options, gsl_rng *rng)
{
    for (int32_t pool = 0; pool < SERVE_POOLS; pool++) {
        struct rebalance_stalls *stalls = &options->pool[pool].stalls;
        stalls->interval_steps = (int32_t)gsl_rng_uniform_int(rng, 3) * 7;
        for (int32_t i = 0; i < REBALANCE_STALLS; i++) {
            stalls->stall_ns[i] = 1e7 * gsl_rng_uniform(rng);
        }
    }
}

/* A deployment and who comes to it. options borrows config. */
struct world {
    struct serving_config config;
    struct arrivals_law law;
    struct serve_options options;
    struct arrivals arrivals;
};

static void draw_world(struct world *world, uint64_t seed, uint64_t round)
{
    gsl_rng *rng = rng_stream(seed, "random serving", round);
    world->options = random_options(rng, &world->config, &world->law);
    add_stalls(&world->options, rng);
    gsl_rng_free(rng);
}

static void serve_world(struct serve_result *result, struct world *world)
{
    small_expect(arrivals_generate(&world->arrivals, &world->law, &small_serving_error));
    small_expect(serve_run(result, &world->arrivals, &world->options, &small_serving_error));
}

Test(serve_laws, no_request_and_no_token_is_lost_or_made)
{
    for (uint64_t round = 0; round < 400; round++) {
        struct world world;
        struct serve_result result;
        draw_world(&world, 1, round);
        serve_world(&result, &world);
        small_check_conservation(&result, &world.arrivals);
        serve_result_free(&result);
        arrivals_free(&world.arrivals);
    }
}

/* From a request's first token to its last there is a gap before each but the first, whatever it
 * waits for: steps, the cache, weights, or its entries on their way. */
Test(serve_laws, gaps_between_tokens_add_up_to_answers)
{
    for (uint64_t round = 0; round < 200; round++) {
        struct world world;
        struct serve_result result;
        draw_world(&world, 4, round);
        world.config.draft_tokens = 0;
        serve_world(&result, &world);
        const struct serve_latency *gaps = &result.latency[SERVE_ITL];
        int64_t count = 0;
        double sum_s = 0.0;
        for (int64_t i = 0; i < world.arrivals.count; i++) {
            const struct serve_request *request = &result.request[i];
            if (request->end_ns >= 0) {
                count += request->decode_tokens - 1;
                sum_s += (double)(request->end_ns - request->first_token_ns) * 1e-9;
            }
        }
        cr_assert_eq(gaps->count, count, "round %d", (int)round);
        cr_assert_float_eq(gaps->mean_s * (double)count, sum_s, 1e-6 * sum_s, "round %d",
                           (int)round);
        serve_result_free(&result);
        arrivals_free(&world.arrivals);
    }
}

/* Rounding of each step's end to a nanosecond is all that may differ. */
Test(serve_laws, steps_taken_together_end_as_they_do_one_by_one)
{
    for (uint64_t round = 0; round < 200; round++) {
        struct world world;
        struct serve_result together;
        struct serve_result apart;
        draw_world(&world, 2, round);
        world.law.rate_per_s = fmin(world.law.rate_per_s, 20.0); /* pauses between requests */
        world.config.draft_tokens = 0;                           /* contexts in whole tokens */
        serve_world(&together, &world);
        world.options.every_step = true;
        small_expect(serve_run(&apart, &world.arrivals, &world.options, &small_serving_error));
        cr_assert_eq(together.totals.new_tokens, apart.totals.new_tokens);
        for (int32_t measure = 0; measure < SERVE_MEASURES; measure++) {
            cr_assert_float_eq(together.latency[measure].mean_s, apart.latency[measure].mean_s,
                               1e-6 * apart.latency[measure].mean_s + 1e-9, "round %d measure %d",
                               (int)round, measure);
        }
        serve_result_free(&together);
        serve_result_free(&apart);
        arrivals_free(&world.arrivals);
    }
}

static int compare(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left;
    int64_t b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

/* The n-th comes after the first ones when the n-th leaves, answered or refused. */
static void check_outstanding(const struct serve_result *result, int64_t concurrency)
{
    int64_t count = result->totals.num_requests;
    int64_t *left_ns = malloc((size_t)count * sizeof *left_ns);
    cr_assert_not_null(left_ns);
    for (int64_t i = 0; i < count; i++) {
        const struct serve_request *request = &result->request[i];
        left_ns[i] = request->end_ns >= 0 ? request->end_ns : request->arrival_ns;
    }
    qsort(left_ns, (size_t)count, sizeof *left_ns, compare);
    for (int64_t i = 0; i < count; i++) {
        int64_t room_ns = i < concurrency ? 0 : left_ns[i - concurrency];
        cr_assert_eq(result->request[i].arrival_ns, room_ns, "request %lld", (long long)i);
    }
    free(left_ns);
}

static void close_loop(struct world *world, uint64_t seed, uint64_t round)
{
    draw_world(world, seed, round);
    gsl_rng *rng = rng_stream(seed, "concurrency", round);
    world->options.concurrency = 1 + (int32_t)gsl_rng_uniform_int(rng, 60);
    world->law.num_requests = 1 + (int64_t)gsl_rng_uniform_int(rng, 400);
    gsl_rng_free(rng);
}

Test(serve_laws, a_closed_loop_keeps_its_number_of_requests_outstanding)
{
    int64_t refused = 0;
    int64_t preemptions = 0;
    for (uint64_t round = 0; round < 300; round++) {
        struct world world;
        struct serve_result result;
        close_loop(&world, 5, round);
        serve_world(&result, &world);
        cr_assert_eq(world.arrivals.count, world.law.num_requests);
        small_check_conservation(&result, &world.arrivals);
        check_outstanding(&result, world.options.concurrency);
        refused += result.totals.num_refused;
        preemptions += result.totals.preemptions;
        serve_result_free(&result);
        arrivals_free(&world.arrivals);
    }
    cr_assert_gt(refused, 0);
    cr_assert_gt(preemptions, 0);
}

/* Steps of whole nanoseconds: not even rounding differs, in any pool or group. */
Test(serve_laws, a_closed_loop_is_the_same_step_by_step)
{
    int64_t events_together = 0;
    int64_t events_apart = 0;
    for (uint64_t round = 0; round < 200; round++) {
        struct world world;
        struct serve_result together;
        struct serve_result apart;
        close_loop(&world, 6, round);
        world.config.draft_tokens = 0;
        for (int32_t pool = 0; pool < SERVE_POOLS; pool++) {
            world.options.pool[pool].stalls.interval_steps = 0;
        }
        serve_world(&together, &world);
        world.options.every_step = true;
        small_expect(serve_run(&apart, &world.arrivals, &world.options, &small_serving_error));
        cr_assert_eq(together.totals.digest, apart.totals.digest, "round %d", (int)round);
        events_together += together.totals.num_events;
        events_apart += apart.totals.num_events;
        serve_result_free(&together);
        serve_result_free(&apart);
        arrivals_free(&world.arrivals);
    }
    cr_expect_lt(events_together, events_apart);
}

Test(serve_laws, a_closed_loop_of_all_requests_is_all_coming_at_once)
{
    for (uint64_t round = 0; round < 50; round++) {
        struct world world;
        struct serve_result closed;
        struct serve_result open;
        close_loop(&world, 7, round);
        world.options.concurrency = (int32_t)world.law.num_requests;
        serve_world(&closed, &world);
        world.options.concurrency = 0; /* the law lets all of them come at 0 */
        small_expect(serve_run(&open, &world.arrivals, &world.options, &small_serving_error));
        cr_assert_eq(closed.totals.digest, open.totals.digest, "round %d", (int)round);
        serve_result_free(&closed);
        serve_result_free(&open);
        arrivals_free(&world.arrivals);
    }
}

/* Moves when what happens in the loop, or how requests are drawn, changes. */
Test(serve_laws, histories_are_pinned)
{
    uint64_t digest = DIGEST_START;
    for (uint64_t round = 0; round < 20; round++) {
        struct serving_config config;
        struct arrivals_law law;
        struct arrivals arrivals;
        struct serve_result result;
        gsl_rng *rng = rng_stream(3, "random serving", round);
        const struct serve_options options = random_options(rng, &config, &law);
        gsl_rng_free(rng);
        small_expect(arrivals_generate(&arrivals, &law, &small_serving_error));
        small_expect(serve_run(&result, &arrivals, &options, &small_serving_error));
        digest = digest_u64(digest, result.totals.digest);
        serve_result_free(&result);
        arrivals_free(&arrivals);
    }
    cr_assert_eq(digest, UINT64_C(0x190851b826cb9689), "digest %016llx",
                 (unsigned long long)digest);
}
