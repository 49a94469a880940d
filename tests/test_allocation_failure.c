/*
 * test_allocation_failure.c -- whichever call for memory fails, a run says so and leaves nothing,
 * or does without and has the same result.
 *
 * The linker sends every call of ours for memory through the gate here (--wrap); those inside
 * shared libraries stay as they are. Under the sanitizers the same runs show leaks and bad frees.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "serve/deployment.h"
#include "simulate.h"

#define STUDY     SOURCE_DIRECTORY "/scenarios/studies/router_lab_training_8xh100.yaml"
#define CALLS_MAX 20000
#define NEVER     INT64_MAX

/* The only global that changes: the linker leaves no other way to tell the test. Calls that still
 * succeed; then one fails. */
static int64_t calls_left = NEVER;

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);

static bool fails(void)
{
    return calls_left != NEVER && calls_left-- == 0;
}

void *__wrap_malloc(size_t bytes)
{
    return fails() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t bytes)
{
    return fails() ? NULL : __real_realloc(memory, bytes);
}

void *__wrap_aligned_alloc(size_t alignment, size_t bytes)
{
    return fails() ? NULL : __real_aligned_alloc(alignment, bytes);
}

/* A whole run, from the scenario's file to the last step; digest is its result's. */
static enum status simulate(uint64_t *digest, const char *const *override, int32_t num_overrides,
                            struct error *error)
{
    struct scenario scenario = {0};
    struct trace trace = {0};
    struct engine *engine = NULL;
    enum status status = scenario_load(&scenario, STUDY, override, num_overrides, error);
    if (status == STATUS_OK) {
        status = simulate_open_trace(&trace, &scenario, 1, error);
    }
    if (status == STATUS_OK) {
        status = engine_open(&engine, &scenario, &trace, error);
    }
    if (status == STATUS_OK) {
        status = engine_run(engine, NULL, error);
    }
    *digest = status == STATUS_OK ? engine_metrics(engine)->digest : 0;
    engine_close(engine);
    trace_close(&trace);
    scenario_free(&scenario);
    return status;
}

static enum status serve(uint64_t *digest, const char *const *override, int32_t num_overrides,
                         struct error *error)
{
    struct scenario scenario = {0};
    struct trace trace = {0};
    struct deployment deployment = {0};
    struct serve_result result = {0};
    const struct deployment_progress progress = {.num_threads = 1};
    enum status status = scenario_load(&scenario, STUDY, override, num_overrides, error);
    if (status == STATUS_OK) {
        status = simulate_open_trace(&trace, &scenario, 1, error);
    }
    if (status == STATUS_OK) {
        status = deployment_open(&deployment, &scenario, &trace, &progress, error);
    }
    if (status == STATUS_OK) {
        status = serve_run(&result, &deployment.arrivals, &deployment.options, error);
    }
    *digest = result.totals.digest;
    serve_result_free(&result);
    deployment_close(&deployment);
    trace_close(&trace);
    scenario_free(&scenario);
    return status;
}

static void fail_every_call_once(enum status (*run)(uint64_t *, const char *const *, int32_t,
                                                    struct error *),
                                 const char *const *override, int32_t num_overrides)
{
    struct error error = {0};
    uint64_t expected = 0;
    int64_t told = 0;
    bool reached = true;
    cr_assert_eq(run(&expected, override, num_overrides, &error), STATUS_OK, "%s", error.text);
    for (int64_t calls = 0; reached; calls++) {
        uint64_t digest = 0;
        error = (struct error){0};
        calls_left = calls;
        enum status status = run(&digest, override, num_overrides, &error);
        reached = calls_left < 0;
        calls_left = NEVER;
        cr_assert_lt(calls, CALLS_MAX);
        if (status == STATUS_OK) { /* a search for a name that was not needed, as it were */
            cr_assert_eq(digest, expected, "call %lld failed and changed the result",
                         (long long)calls);
            continue;
        }
        told++;
        cr_assert(reached, "%s", error.text);
        cr_assert(strstr(error.text, "memory") != NULL, "call %lld: '%s'", (long long)calls,
                  error.text);
    }
    cr_log_info("%lld failures were told\n", (long long)told);
    cr_expect_gt(told, 30); /* the calls were counted at all: arenas make them few */
}

#define SMALL "trace.tokens_per_rank=4", "trace.steps=5"

Test(allocation_failure, is_told_by_a_run_that_rebalances)
{
    static const char *const override[] = {
        "placement.strategy=eplb", "placement.redundant_experts=8",
        "placement.rebalance_interval_steps=2", "overlap.micro_batches=2", SMALL};
    fail_every_call_once(simulate, override, 6);
}

Test(allocation_failure, is_told_by_a_run_with_shared_links_and_drops)
{
    static const char *const override[] = {"network=flow",
                                           "cluster.fabric=rails",
                                           "cluster.nodes_per_leaf=1",
                                           "routing.capacity_factor=1",
                                           "dispatch.collective=deepep_normal",
                                           SMALL};
    fail_every_call_once(simulate, override, 7);
}

Test(allocation_failure, is_told_by_requests_that_are_served)
{
    static const char serving[] =
        "serving={arrivals: {rate_per_s: 2000, duration_s: 0.02, prompt_tokens: 40, decode_tokens: "
        "40, decode_cv: 1}, batch: {tokens: 8, sequences: 8}, kv: {tokens: 256, block_tokens: 8}}";
    static const char *const override[] = {"placement.strategy=eplb",
                                           "placement.rebalance_interval_steps=2",
                                           "trace.tokens_per_rank=4", serving};
    fail_every_call_once(serve, override, 4);
}
