/*
 * small_plan.h -- plans from keys alone, and their searches, for tests of plans.
 */
#ifndef MOESIM_SMALL_PLAN_H
#define MOESIM_SMALL_PLAN_H

#include <criterion/criterion.h>

#include "plan.h"

#define SMALL_PLAN_KEYS 16

/* The router lab's model on H100s; extra may be NULL. */
static inline void small_plan_load(struct plan *plan, const char *const *keys, int32_t num_keys,
                                   const char *extra)
{
    static const char *const common[] = {"model=router-lab-14m",
                                         "trace.path=scenarios/traces/router-lab/loss_free",
                                         "gpus=[{gpu: h100-sxm, price: h100-neocloud}]",
                                         "search.redundant_experts=0", "search.micro_batches=1"};
    const char *overrides[SMALL_PLAN_KEYS];
    struct error error = {0};
    int32_t count = 0;
    for (size_t i = 0; i < sizeof common / sizeof common[0]; i++) {
        overrides[count++] = common[i];
    }
    cr_assert_lt(count + num_keys, SMALL_PLAN_KEYS);
    for (int32_t i = 0; i < num_keys; i++) {
        overrides[count++] = keys[i];
    }
    if (extra != NULL) {
        overrides[count++] = extra;
    }
    cr_assert_eq(plan_load(plan, NULL, overrides, count, &error), STATUS_OK, "%s", error.text);
}

/* Release with plan_answer_free. */
static inline struct plan_answer small_plan_search(const struct plan *plan, int32_t num_threads,
                                                   struct plan_store *store)
{
    struct error error = {0};
    struct plan_answer answer;
    struct plan_options options = {.num_threads = num_threads, .store = store};
    cr_assert_eq(plan_search(&answer, plan, &options, &error), STATUS_OK, "%s", error.text);
    return answer;
}

#endif
