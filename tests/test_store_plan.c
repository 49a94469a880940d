/* test_store_plan.c -- results files that plans alone write into. */
#include <criterion/criterion.h>
#include <unistd.h>

#include "plan.h"
#include "small_plan.h"
#include "store_plan.h"

static const char *const small[] = {
    "traffic={requests_per_day: 1G, input_tokens: 1000, output_tokens: 200}",
    "search={prefill: {ep: 1, tokens_per_rank: 1024}, decode: {ep: 1, sequences_per_rank: 64}}",
};

Test(store_plan, a_file_made_for_a_plan_keeps_its_points)
{
    struct plan plan;
    struct store *store = NULL;
    struct plan_store *points = NULL;
    struct error error = {0};
    unlink("test_store_plan.db");
    small_plan_load(&plan, small, sizeof small / sizeof small[0], NULL);
    cr_assert_eq(store_open(&store, "test_store_plan.db", true, &error), STATUS_OK);
    cr_assert_eq(plan_store_open(&points, store, &error), STATUS_OK, "%s", error.text);
    struct plan_answer answer = small_plan_search(&plan, 2, points);
    plan_store_close(points);

    store_close(store);

    cr_expect_eq(access("test_store_plan.db", F_OK), 0, "the file went with all its points");
    unlink("test_store_plan.db");
    plan_answer_free(&answer);
    plan_free(&plan);
}
