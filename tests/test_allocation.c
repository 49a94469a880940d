/*
 * test_allocation.c -- after the first steps a run asks for no memory.
 *
 * The linker sends every call of ours for memory through the counters here (--wrap); those inside
 * shared libraries stay as they are.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine.h"
#include "simulate.h"

#define NUM_STEPS  24
#define FIRST_CALM 4 /* before it, blocks grow to what a step needs */

/* The only globals that change: the linker leaves no other way to tell the test. */
static int64_t num_calls;

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);

void *__wrap_malloc(size_t bytes)
{
    num_calls++;
    return __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t size)
{
    num_calls++;
    return __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t bytes)
{
    num_calls++;
    return __real_realloc(memory, bytes);
}

void *__wrap_aligned_alloc(size_t alignment, size_t bytes)
{
    num_calls++;
    return __real_aligned_alloc(alignment, bytes);
}

struct watch {
    int64_t calls_after[NUM_STEPS + 1]; /* of so many steps */
};

static bool note_calls(void *context, int64_t step, int64_t num_steps)
{
    struct watch *watch = context;
    cr_assert(step >= 1 && step <= num_steps && num_steps == NUM_STEPS);
    watch->calls_after[step] = num_calls;
    return true;
}

static void expect_calm(const char *const *override, int32_t num_overrides)
{
    struct error error = {0};
    struct scenario scenario = {0};
    struct trace trace = {0};
    struct engine *engine = NULL;
    struct watch watch = {{0}};
    struct engine_observer observer = {.context = &watch, .step_done = note_calls};
    cr_assert_eq(scenario_load(&scenario,
                               SOURCE_DIRECTORY
                               "/scenarios/studies/deepseek_v3_decode_32xh800.yaml",
                               override, num_overrides, &error),
                 STATUS_OK, "%s", error.text);
    cr_assert_eq(simulate_open_trace(&trace, &scenario, 1, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(engine_open(&engine, &scenario, &trace, &error), STATUS_OK, "%s", error.text);
    int64_t before = num_calls;

    cr_assert_eq(engine_run(engine, &observer, &error), STATUS_OK, "%s", error.text);

    cr_expect_gt(watch.calls_after[1], before); /* else nothing is counted at all */
    for (int32_t step = FIRST_CALM; step <= NUM_STEPS; step++) {
        cr_expect_eq(watch.calls_after[step], watch.calls_after[FIRST_CALM - 1],
                     "%s: step %d asked %lld times", override[0], step,
                     (long long)(watch.calls_after[step] - watch.calls_after[step - 1]));
    }
    engine_close(engine);
    trace_close(&trace);
    scenario_free(&scenario);
}

#define SMALL "trace.tokens_per_rank=8", "trace.tokens=8192", "trace.steps=24"

Test(allocation, steps_ask_for_no_memory_with_alpha_beta)
{
    static const char *const override[] = {"network=alpha_beta", SMALL};
    expect_calm(override, 4);
}

Test(allocation, steps_ask_for_no_memory_with_shared_links)
{
    static const char *const override[] = {"network=flow", SMALL};
    expect_calm(override, 4);
}

Test(allocation, steps_ask_for_no_memory_with_the_normal_kernels)
{
    static const char *const override[] = {"dispatch.collective=deepep_normal", SMALL};
    expect_calm(override, 4);
}

Test(allocation, steps_ask_for_no_memory_where_tokens_are_dropped)
{
    static const char *const override[] = {"routing.capacity_factor=1", SMALL};
    expect_calm(override, 4);
}

/* Where every expert has a replica or none, and ranks lend or do not. */
Test(allocation, steps_ask_for_no_memory_whichever_replicas_serve)
{
    int32_t count = 0;
    const struct replica_dispatch *const *all = dispatch_all(&count);
    for (int32_t i = 0; i < count; i++) {
        char replica[64];
        (void)snprintf(replica, sizeof replica, "dispatch.replica=%s", all[i]->name);
        const char *const override[] = {replica, "placement.redundant_experts=32", SMALL};
        expect_calm(override, 5);
    }
}
