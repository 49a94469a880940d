/*
 * bench_dispatch.c -- what each replica dispatch costs the simulator a layer and batch.
 *
 * Lognormal loads (sigma 1) of one layer, placed by eplb; wishes drawn with the same weights.
 * Prints CSV: the median of 21 calls, how that compares with round_robin, the busiest rank over the
 * mean and the experts lent. Run by hand: it is no test.
 */
#include <gsl/gsl_randist.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "balance/eplb.h"
#include "bench_clock.h"
#include "dispatch/dispatch.h"
#include "rng.h"

#define NUM_CALLS 21
#define TOP_K     8

struct bench {
    struct arena arena;
    struct placement placement;
    struct cluster cluster;
    struct trace_batch batch;
    struct route route;
};

/* TOP_K different experts a token, by weight. */
static void draw_wishes(struct bench *bench, gsl_rng *rng, const double *weight)
{
    gsl_ran_discrete_t *law = gsl_ran_discrete_preproc((size_t)bench->route.num_experts, weight);
    for (int32_t token = 0; token < bench->route.num_tokens; token++) {
        int32_t *wish = &bench->route.expert[(int64_t)token * TOP_K];
        for (int32_t k = 0; k < TOP_K;) {
            wish[k] = (int32_t)gsl_ran_discrete(rng, law);
            bool is_new = true;
            for (int32_t other = 0; other < k; other++) {
                is_new = is_new && wish[other] != wish[k];
            }
            k += is_new;
        }
    }
    gsl_ran_discrete_free(law);
}

static enum status bench_open(struct bench *bench, int32_t num_experts, int32_t num_slots,
                              int32_t num_ranks, int32_t tokens_per_rank)
{
    gsl_rng *rng = rng_stream(1, "bench.dispatch", 0);
    struct arena *arena = &bench->arena;
    struct error error = {0};
    size_t tokens = (size_t)num_ranks * (size_t)tokens_per_rank;
    struct eplb_shape shape = {num_experts, num_slots, 1, 1, num_ranks};
    double *weight = arena_alloc(arena, (size_t)num_experts, sizeof *weight);
    int64_t *load = arena_alloc(arena, (size_t)num_experts, sizeof *load);
    int32_t *map = arena_alloc(arena, (size_t)num_slots, sizeof *map);
    for (int32_t expert = 0; expert < num_experts; expert++) {
        weight[expert] = gsl_ran_lognormal(rng, 0.0, 1.0);
        load[expert] = (int64_t)(weight[expert] * 1e6);
    }
    enum status status = eplb_layer(map, load, &shape, arena);
    if (status == STATUS_OK) {
        status =
            placement_init(&bench->placement, arena, num_experts, num_slots, num_ranks, &error);
    }
    if (status == STATUS_OK) {
        status = placement_set(&bench->placement, map, &error);
    }
    bench->cluster = (struct cluster){.num_nodes = num_ranks / 8, .gpus_per_node = 8};
    bench->batch = (struct trace_batch){
        .num_tokens = (int32_t)tokens,
        .source_rank = arena_alloc(arena, tokens, sizeof(int32_t)),
        .rank_begin = arena_alloc(arena, (size_t)num_ranks + 1, sizeof(int32_t))};
    bench->route = (struct route){.num_tokens = (int32_t)tokens,
                                  .top_k = TOP_K,
                                  .num_experts = num_experts,
                                  .expert = arena_alloc(arena, tokens * TOP_K, sizeof(int32_t)),
                                  .dropped = arena_alloc(arena, tokens * TOP_K, sizeof(bool)),
                                  .slot = arena_alloc(arena, tokens * TOP_K, sizeof(int32_t))};
    for (int32_t token = 0; token < (int32_t)tokens; token++) {
        bench->batch.source_rank[token] = token / tokens_per_rank;
        bench->batch.rank_begin[token / tokens_per_rank + 1] = token + 1;
    }
    draw_wishes(bench, rng, weight);
    gsl_rng_free(rng);
    return status;
}

static double busiest_over_mean(const struct bench *bench, const struct placement *served)
{
    int32_t tokens[1024] = {0};
    int32_t most = 0;
    int64_t wishes = (int64_t)bench->route.num_tokens * TOP_K;
    for (int64_t wish = 0; wish < wishes; wish++) {
        int32_t here = ++tokens[served->rank_of_slot[bench->route.slot[wish]]];
        most = here > most ? here : most;
    }
    return (double)most * served->num_ranks / (double)wishes;
}

/* Returns the median time of a call, or a negative number. */
static double bench_one(struct bench *bench, const struct replica_dispatch *dispatch,
                        const char *name, double first_us)
{
    double call_us[NUM_CALLS];
    struct arena scratch = {0};
    struct dispatch_loans loans = {0};
    void *state = calloc(1, dispatch->state_bytes + 1);
    for (int32_t call = 0; call < NUM_CALLS; call++) {
        loans = (struct dispatch_loans){0};
        arena_reset(&scratch);
        struct dispatch_input input = {.placement = &bench->placement,
                                       .batch = &bench->batch,
                                       .cluster = &bench->cluster,
                                       .scratch = &scratch,
                                       .seed = 1,
                                       .loans = &loans};
        double begin_s = clock_s(CLOCK_PROCESS_CPUTIME_ID);
        if (state == NULL || dispatch->assign(state, &input, &bench->route) != STATUS_OK) {
            return -1.0;
        }
        call_us[call] = 1e6 * (clock_s(CLOCK_PROCESS_CPUTIME_ID) - begin_s);
    }
    sort_times(call_us, NUM_CALLS);
    double median_us = call_us[NUM_CALLS / 2];
    const struct placement *served = loans.num_moves > 0 ? &loans.placement : &bench->placement;
    printf("%s,%s,%.1f,%.2f,%.3f,%d\n", name, dispatch->name, median_us,
           first_us > 0.0 ? median_us / first_us : 1.0, busiest_over_mean(bench, served),
           (int)loans.num_moves);
    arena_free(&scratch);
    free(state);
    return median_us;
}

static int run(const char *name, int32_t num_experts, int32_t num_slots, int32_t num_ranks,
               int32_t tokens_per_rank)
{
    static struct bench bench;
    int32_t count = 0;
    const struct replica_dispatch *const *all = dispatch_all(&count);
    double first_us = 0.0;
    int failed =
        bench_open(&bench, num_experts, num_slots, num_ranks, tokens_per_rank) != STATUS_OK;
    for (int32_t i = 0; i < count && !failed; i++) {
        double median_us = bench_one(&bench, all[i], name, first_us);
        first_us = i == 0 ? median_us : first_us;
        failed = median_us < 0.0;
    }
    arena_free(&bench.arena);
    return failed;
}

int main(void)
{
    puts("case,dispatch,call_us_median,over_first,busiest_over_mean,loans");
    int failed = run("256 on 288 slots of 32 ranks, 128 tokens a rank", 256, 288, 32, 128);
    failed |= run("384 on 512 slots of 64 ranks, 128 tokens a rank", 384, 512, 64, 128);
    return failed != 0;
}
