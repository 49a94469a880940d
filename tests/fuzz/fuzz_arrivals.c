/*
 * fuzz_arrivals.c -- any bytes as somebody's list of requests: refused with reasons, or served to
 * the last token by a small deployment, and a plan's day.
 *
 * The first byte chooses the deployment, the rest is the file.
 */
#include <stdio.h>

#include "arrivals.h"
#include "input.h"
#include "plan_arrivals.h"
#include "serve/serve.h"

#define REQUESTS_MAX 200 /* a long file is read whole, but not served */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* A millisecond and more for contexts. */
static double step_ns(const void *context, const struct step_load *load, int32_t num_replicas)
{
    double sum_ns = 1e6;
    (void)context;
    for (int32_t i = 0; i < num_replicas; i++) {
        sum_ns += 10.0 * (double)load[i].context_tokens;
    }
    return sum_ns;
}

static void serve(struct arrivals *arrivals, uint8_t choice)
{
    static struct error error;
    const struct serving_config config = {.block_tokens = 1 + (choice & 15),
                                          .prefix_cache = (choice & 16) != 0 ? PREFIX_CACHE_HASHES
                                                                             : PREFIX_CACHE_NONE,
                                          .cache_tokens = (choice & 32) != 0 ? 2048 : 0,
                                          .draft_tokens = (choice & 64) != 0,
                                          .acceptance = 0.5};
    struct serve_options options = {.config = &config, .transfer_ns = 1e5, .seed = 1};
    struct serve_result result;
    for (int32_t pool = 0; pool < SERVE_POOLS; pool++) {
        options.pool[pool] =
            (struct serve_pool){.model = {.step_ns = step_ns},
                                .num_groups = pool == SERVE_MAIN || (choice & 128) != 0,
                                .replicas_per_group = 2,
                                .batch = {.tokens = 64, .sequences = 8},
                                .kv_blocks = 4096 / config.block_tokens};
    }
    arrivals->count = arrivals->count < REQUESTS_MAX ? arrivals->count : REQUESTS_MAX;
    error.num_problems = 0;
    error.text_bytes = 0;
    if (serve_run(&result, arrivals, &options, &error) != STATUS_OK) {
        __builtin_trap();
    }
    const struct serve_totals *totals = &result.totals;
    if (totals->read_tokens + totals->cached_tokens !=
        totals->prompt_tokens + totals->again_tokens) {
        __builtin_trap();
    }
    serve_result_free(&result);
}

/* What a plan takes from the file is no more than it has, and comes in order. */
static void plan_day(const char *path)
{
    static struct error error;
    struct plan_arrivals arrivals = {0};
    struct arrivals drawn = {0};
    error.num_problems = 0;
    error.text_bytes = 0;
    (void)snprintf(arrivals.path, sizeof arrivals.path, "%s", path);
    if (plan_arrivals_read(&arrivals, &error) == STATUS_OK) {
        const struct cost_traffic *traffic = &arrivals.traffic;
        if (!(cost_peak_over_mean(traffic) >= 1.0) || !(traffic->requests_per_day > 0.0) ||
            !(traffic->cached_share >= 0.0 && traffic->cached_share < 1.0) ||
            plan_arrivals_longest(&arrivals, traffic) < 2 ||
            plan_arrivals_draw(&drawn, &arrivals, traffic, 10.0, 30.0, 1, &error) != STATUS_OK) {
            __builtin_trap();
        }
        for (int64_t i = 1; i < drawn.count; i++) {
            if (!(drawn.arrival[i].arrival_s >= drawn.arrival[i - 1].arrival_s)) {
                __builtin_trap();
            }
        }
    }
    arrivals_free(&drawn);
    plan_arrivals_free(&arrivals);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct error error;
    struct arrivals arrivals;
    error.num_problems = 0;
    error.text_bytes = 0;
    if (bytes == 0) {
        return 0;
    }
    const char *path = input_write("arrivals", data + 1, bytes - 1);
    enum status status = arrivals_read(&arrivals, path, ARRIVALS_UNKNOWN, &error);
    if ((status == STATUS_OK) != (error.num_problems == 0)) {
        __builtin_trap();
    }
    if (status == STATUS_OK) {
        serve(&arrivals, data[0]);
        plan_day(path);
    }
    arrivals_free(&arrivals);
    return 0;
}
