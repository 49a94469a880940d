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

#include "bench_clock.h"
#include "route/route.h"

#define PASSES    40
#define NUM_RANKS 4

struct bench {
    struct trace trace;
    struct trace_side side;
    struct trace_batch batch;
    struct moe_model model;
    struct cluster cluster;
    struct placement placement;
    struct route_settings settings;
    void *state;
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
        const struct route_input input = {.settings = &bench->settings,
                                          .model = &bench->model,
                                          .trace = &bench->trace,
                                          .side = &bench->side,
                                          .batch = &bench->batch,
                                          .trace_layer = layer,
                                          .placement = &bench->placement,
                                          .cluster = &bench->cluster,
                                          .scratch = scratch};
        status = router->route(bench->state, &input, &route, &bench->error);
    }
    return status;
}

static double best_ns(struct bench *bench, const struct router *router)
{
    struct arena scratch = {0};
    double best = 0.0;
    size_t cells = (size_t)bench->trace.num_layers * (size_t)bench->trace.num_experts;
    bench->state =
        arena_alloc(&bench->arena, router->state_bytes + cells * router->expert_state_bytes, 1);
    if (bench->state == NULL) {
        return -1.0;
    }
    for (int32_t pass = 0; pass < PASSES; pass++) {
        double begin_s = clock_s(CLOCK_PROCESS_CPUTIME_ID);
        if (route_all_layers(bench, router, &scratch) != STATUS_OK) {
            best = -1.0;
            break;
        }
        double used = 1e9 * (clock_s(CLOCK_PROCESS_CPUTIME_ID) - begin_s);
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
    int32_t *rank_begin = arena_alloc(&bench->arena, NUM_RANKS + 1, sizeof *rank_begin);
    if (row == NULL || rank_begin == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t rank = 0; rank <= NUM_RANKS; rank++) {
        rank_begin[rank] = num_tokens * rank / NUM_RANKS;
    }
    for (int32_t token = 0; token < num_tokens; token++) {
        row[token] = token;
    }
    bench->batch =
        (struct trace_batch){.num_tokens = num_tokens, .row = row, .rank_begin = rank_begin};
    bench->model = (struct moe_model){.num_expert_groups = 8, .topk_groups = 4};
    bench->cluster = (struct cluster){.num_nodes = NUM_RANKS, .gpus_per_node = 1};
    bench->settings = (struct route_settings){.num_ranks = NUM_RANKS, .tolerance = 0.05};
    return placement_init(&bench->placement, &bench->arena, bench->trace.num_experts,
                          bench->trace.num_experts, NUM_RANKS, &bench->error);
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
            if (all[i]->top_k != 0 && all[i]->top_k != bench.trace.top_k) {
                continue; /* a gate of another k */
            }
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
