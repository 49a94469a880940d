/*
 * test_drops_oracle.c -- drop rates of GPT-OSS-20B's real routing, against an independent recount.
 *
 * The trace is shared/data/traces/gpt-oss-20b: routing of GPT-OSS-20B while decoding 563 requests.
 * Steps of 1024 consecutive rows, the whole step competing, drop 40.50 % of all assignments at
 * capacity factor 1. tests/oracle_drops.py counts the same with numpy on the raw file.
 */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "batch.h"
#include "import/import.h"
#include "npy.h"
#include "route/route.h"

#define NUM_EXPERTS 32
#define STEP_TOKENS 1024
#define TOP_K       4
#define STEP_WISHES (STEP_TOKENS * TOP_K)

static const char *const experts_path = SHARED_DATA "/traces/gpt-oss-20b/experts.npy";

static const struct {
    const char *capacity_factor;
    double dropped_percent; /* the project's acceptance numbers */
} expected[] = {{"1", 40.50}, {"1.25", 31.47}, {"1.5", 24.12}, {"2", 13.79}, {"3", 4.81}};

#define NUM_FACTORS (sizeof expected / sizeof expected[0])

static void open_trace(struct npy *npy)
{
    if (access(experts_path, R_OK) != 0) {
        cr_skip_test("no data: %s", experts_path);
    }
    static struct error error;
    cr_assert_eq(npy_open(npy, experts_path, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(npy->type, NPY_UINT8);
    cr_assert_eq(npy->num_dims, 3);
    cr_assert_eq(npy->dim[2], TOP_K);
}

static int64_t count_dropped(const struct npy *npy, const struct drop_policy *policy,
                             double capacity_factor)
{
    static int32_t expert[STEP_WISHES];
    static float gate_weight[STEP_WISHES];
    static bool dropped[STEP_WISHES];
    struct arena arena = {0};
    const struct route_settings settings = {.capacity_factor = capacity_factor,
                                            .capacity_scope = CAPACITY_GLOBAL};
    const struct route_input input = {.settings = &settings, .scratch = &arena};
    int64_t total = 0;
    const uint8_t *ids = npy->data; /* [tokens][layers][TOP_K] */
    for (int64_t step = 0; step < npy->dim[0] / STEP_TOKENS; step++) {
        for (int64_t layer = 0; layer < npy->dim[1]; layer++) {
            for (int64_t i = 0; i < STEP_WISHES; i++) {
                int64_t token = step * STEP_TOKENS + i / TOP_K;
                expert[i] = ids[(token * npy->dim[1] + layer) * TOP_K + i % TOP_K];
                gate_weight[i] = 1.0f / (float)(2 + i % TOP_K); /* best first; many ties */
            }
            struct route route = {.num_tokens = STEP_TOKENS,
                                  .top_k = TOP_K,
                                  .num_experts = NUM_EXPERTS,
                                  .expert = expert,
                                  .gate_weight = gate_weight,
                                  .dropped = dropped,
                                  .assignments = STEP_WISHES};
            arena_reset(&arena);
            cr_assert_eq(capacity_apply(&route, policy, &input), STATUS_OK);
            total += route.dropped_assignments;
        }
    }
    arena_free(&arena);
    return total;
}

Test(drops_oracle, consecutive_steps_drop_the_accepted_percentages)
{
    struct npy npy;
    open_trace(&npy);
    int64_t assignments = npy.dim[0] / STEP_TOKENS * STEP_TOKENS * npy.dim[1] * TOP_K;

    for (size_t i = 0; i < NUM_FACTORS; i++) {
        double factor = strtod(expected[i].capacity_factor, NULL);
        int64_t dropped = count_dropped(&npy, drop_find("position"), factor);
        double percent = 100.0 * (double)dropped / (double)assignments;

        cr_expect_float_eq(percent, expected[i].dropped_percent, 0.005, "factor %s: %.4f %%",
                           expected[i].capacity_factor, percent);
    }
    npy_close(&npy);
}

Test(drops_oracle, both_policies_drop_exactly_what_numpy_counts)
{
    struct npy npy;
    open_trace(&npy);
    char command[2048];
    int length =
        snprintf(command, sizeof command, "/usr/bin/python3 %s/tests/oracle_drops.py %s %d",
                 SOURCE_DIRECTORY, experts_path, STEP_TOKENS);
    for (size_t i = 0; i < NUM_FACTORS; i++) {
        length += snprintf(command + length, sizeof command - (size_t)length, " %s",
                           expected[i].capacity_factor);
    }

    FILE *oracle = popen(command, "r");
    cr_assert_not_null(oracle);
    char factor[16];
    int64_t assignments;
    int64_t dropped;
    size_t lines = 0;
    while (fscanf(oracle, "%15s %" SCNd64 " %" SCNd64, factor, &assignments, &dropped) == 3) {
        cr_expect_eq(count_dropped(&npy, drop_find("position"), strtod(factor, NULL)), dropped,
                     "factor %s", factor);
        cr_expect_eq(count_dropped(&npy, drop_find("gate_weight"), strtod(factor, NULL)), dropped,
                     "factor %s", factor);
        lines++;
    }
    int exit_status = pclose(oracle);

    npy_close(&npy);
    if (WIFEXITED(exit_status) && WEXITSTATUS(exit_status) == 77) {
        cr_skip_test("no numpy for /usr/bin/python3: apt-get install python3-numpy");
    }
    cr_assert_eq(exit_status, 0);
    cr_assert_eq(lines, NUM_FACTORS);
}

/* The same counts through everything a run uses: import, trace, batcher, router, drop policy. */
static int64_t count_dropped_in_trace(const struct trace *trace, double capacity_factor)
{
    static struct error error;
    static int32_t expert[STEP_WISHES];
    static float gate_weight[STEP_WISHES];
    static bool dropped[STEP_WISHES];
    struct arena arena = {0};
    struct batch_config config = {
        .batching = BATCHING_CONSECUTIVE, .tokens_per_step = STEP_TOKENS, .num_ranks = 8};
    struct batcher *batcher;
    const struct trace_batch *batch;
    int64_t total = 0;
    cr_assert_eq(batcher_open(&batcher, trace, &config, &error), STATUS_OK, "%s", error.text);
    while ((batch = batcher_next(batcher)) != NULL) {
        for (int32_t layer = 0; layer < trace->num_layers; layer++) {
            const struct route_settings settings = {.capacity_factor = capacity_factor,
                                                    .capacity_scope = CAPACITY_GLOBAL,
                                                    .num_ranks = 8};
            const struct route_input input = {.settings = &settings,
                                              .trace = trace,
                                              .batch = batch,
                                              .trace_layer = layer,
                                              .scratch = &arena};
            struct route route = {.num_tokens = batch->num_tokens,
                                  .top_k = TOP_K,
                                  .num_experts = NUM_EXPERTS,
                                  .expert = expert,
                                  .gate_weight = gate_weight,
                                  .dropped = dropped};
            arena_reset(&arena);
            cr_assert_eq(route_find("trace")->route(NULL, &input, &route, &error), STATUS_OK, "%s",
                         error.text);
            cr_assert_eq(route.assignments, STEP_WISHES);
            cr_assert_eq(capacity_apply(&route, drop_find("position"), &input), STATUS_OK);
            total += route.dropped_assignments;
        }
    }
    batcher_close(batcher);
    arena_free(&arena);
    return total;
}

Test(drops_oracle, an_imported_trace_drops_as_much_as_the_raw_file)
{
    static struct error error;
    struct npy npy;
    open_trace(&npy);
    char directory[] = "/tmp/moesim-drops-XXXXXX";
    char path[64];
    char command[128];
    cr_assert_not_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/trace", directory);
    const char *const paths[] = {experts_path};
    struct import_options options = {
        .format = "npy",
        .paths = paths,
        .num_paths = 1,
        .axis = {TRACE_AXIS_TOKEN, TRACE_AXIS_LAYER, TRACE_AXIS_K},
        .model = "gpt-oss-20b",
    };
    struct import_summary summary;
    struct trace trace = {0};
    cr_assert_eq(import_run(path, &options, &summary, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(trace_open(&trace, path, &error), STATUS_OK, "%s", error.text);

    cr_expect_eq(count_dropped_in_trace(&trace, 1.0),
                 count_dropped(&npy, drop_find("position"), 1.0));
    cr_expect_eq(count_dropped_in_trace(&trace, 1.5),
                 count_dropped(&npy, drop_find("position"), 1.5));

    trace_close(&trace);
    npy_close(&npy);
    snprintf(command, sizeof command, "rm -r %s", directory);
    cr_assert_eq(system(command), 0);
}
