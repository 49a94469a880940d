/* served_scenario.c -- a scenario is loaded, opened and served, by one thread. */
#include "served_scenario.h"

#include <criterion/criterion.h>

#include "serve/deployment.h"

struct served_means served_scenario(const char *path)
{
    static struct error error;
    struct scenario scenario;
    struct deployment deployment;
    struct serve_result result = {0};
    const struct deployment_progress progress = {.num_threads = 1};
    cr_assert_eq(scenario_load(&scenario, path, NULL, 0, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(deployment_open(&deployment, &scenario, NULL, &progress, &error), STATUS_OK, "%s",
                 error.text);
    cr_assert_eq(serve_run(&result, &deployment.arrivals, &deployment.options, &error), STATUS_OK,
                 "%s", error.text);
    const struct served_means means = {result.latency[SERVE_TTFT].mean_s * 1e3,
                                       result.latency[SERVE_TPOT].mean_s * 1e3};
    serve_result_free(&result);
    deployment_close(&deployment);
    scenario_free(&scenario);
    return means;
}
