/*
 * bench_route.c -- routing from recorded scores beside replaying recorded choices.
 *
 *     bench_route [TRACE]   a trace with scores; the router lab's slice without one
 *
 * Prints CSV: nanoseconds a token and layer, best of many passes over the trace, and how many times
 * a replay that is. Run by hand on a quiet machine: it is no test.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "route/route.h"

#define PASSES 40

static double now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

struct bench {
    struct trace trace;
    struct trace_side side;
    struct trace_batch batch;
    struct moe_model model;
    struct arena arena;
    struct error error;
};

/* One pass: every layer of the trace, its tokens as one step. */
static enum status route_all_layers(struct bench *bench, const struct router *router,
                                    struct arena *scratch)
{
    enum status status = STATUS_OK;
    size_t num_wishes = (size_t)bench->batch.num_tokens * (size_t)bench->trace.top_k;
    for (int32_t layer = 0; layer < bench->trace.num_layers && status == STATUS_OK; layer++) {
        arena_reset(scratch);
        struct route route = {.num_tokens = bench->batch.num_tokens,
                              .top_k = bench->trace.top_k,
                              .num_experts = bench->trace.num_experts,
                              .expert = arena_take(scratch, num_wishes, sizeof(int32_t)),
                              .gate_weight = arena_take(scratch, num_wishes, sizeof(float))};
        if (route.expert == NULL || route.gate_weight == NULL) {
            return STATUS_NO_MEMORY;
        }
        const struct route_input input = {.model = &bench->model,
                                          .trace = &bench->trace,
                                          .side = &bench->side,
                                          .batch = &bench->batch,
                                          .trace_layer = layer,
                                          .scratch = scratch};
        status = router->route(NULL, &input, &route, &bench->error);
    }
    return status;
}

static double best_ns(struct bench *bench, const struct router *router)
{
    struct arena scratch = {0};
    double best = 0.0;
    for (int32_t pass = 0; pass < PASSES; pass++) {
        double begin = now_ns();
        if (route_all_layers(bench, router, &scratch) != STATUS_OK) {
            best = -1.0;
            break;
        }
        double used = now_ns() - begin;
        best = pass == 0 || used < best ? used : best;
    }
    arena_free(&scratch);
    return best / ((double)bench->batch.num_tokens * bench->trace.num_layers);
}

static enum status set_up(struct bench *bench, const char *path)
{
    enum status status = trace_open(&bench->trace, path, &bench->error);
    if (status == STATUS_OK) {
        status = trace_side_open_scores(&bench->side, &bench->trace, "the bench", &bench->error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    int32_t num_tokens = (int32_t)bench->trace.num_tokens;
    int64_t *row = arena_alloc(&bench->arena, (size_t)num_tokens, sizeof *row);
    if (row == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t token = 0; token < num_tokens; token++) {
        row[token] = token;
    }
    bench->batch = (struct trace_batch){.num_tokens = num_tokens, .row = row};
    bench->model = (struct moe_model){.num_expert_groups = 1, .topk_groups = 1};
    return STATUS_OK;
}

int main(int argc, char **argv)
{
    static struct bench bench;
    enum status status =
        set_up(&bench, argc > 1 ? argv[1]
                                : SOURCE_DIRECTORY "/scenarios/traces/router-lab/aux_loss_scores");
    if (status == STATUS_OK) {
        int32_t count = 0;
        const struct router *const *all = route_all(&count);
        double replay_ns = best_ns(&bench, route_find("trace"));
        puts("router,experts,top_k,ns_a_token,times_replay");
        for (int32_t i = 0; i < count; i++) {
            double used_ns = best_ns(&bench, all[i]);
            printf("%s,%d,%d,%.1f,%.2f\n", all[i]->name, (int)bench.trace.num_experts,
                   (int)bench.trace.top_k, used_ns, used_ns / replay_ns);
        }
    }
    fputs(bench.error.text, stderr);
    trace_side_close(&bench.side);
    trace_close(&bench.trace);
    arena_free(&bench.arena);
    return status != STATUS_OK;
}
