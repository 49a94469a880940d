/*
 * bench_drift.c -- every placement strategy on loads that drift, decided on past steps only.
 *
 *     bench_drift [LOADS.npy [STRATEGY,... or all [SLOTS RANKS NODES [INTERVAL PRICE]]]]
 *
 * Protocol: the second half of the steps is judged. At its start, and after every interval of 1, 4,
 * 8, 16 or 32 steps, a strategy sees all steps before (and nothing behind) with the placement in
 * force, linear at first; what it answers serves the steps of the interval. Replicas share evenly.
 * balancedness is mean / max tokens a rank, averaged over layers and judged steps; split is what
 * the best split over the same replicas reaches, bound what any placement could. busiest_tokens is
 * the mean of max; net_tokens adds what the moves cost, at 44 MB over one NIC of 50 GB/s a rank
 * (150 GB/s inside a node) against 21.5 KB a token over the same NIC. moves counts (rank, expert)
 * pairs that were not resident; doubles those replicas at the end that share a rank with another of
 * their expert. ms_a_layer is CPU time, the median of the calls, of which each is the best of 5.
 * PRICE is told to strategies instead of what moves cost: so many times as much. Strategies that
 * look at more than loads are left out.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "balance/balance.h"
#include "bench_clock.h"
#include "bound.h"
#include "load_file.h"

#define EXPERT_BYTES 44040192

#define NUM_RUNS     5

static const int32_t intervals[] = {1, 4, 8, 16, 32};

struct drift_bench {
    struct load_file load;
    int32_t num_slots;
    int32_t num_ranks;
    int32_t num_nodes;
    double price;
    struct placement *placement; /* [num_layers] */
    int64_t *past_tokens;        /* [num_layers][num_experts] */
    int32_t *map;                /* [num_layers][num_slots] */
    struct expert_move *move;    /* [num_slots] */
    struct arena arena;
    struct arena scratch;
    struct error error;
};

struct tally {
    double balancedness;
    double split;
    double bound;
    double busiest_tokens;
    double move_tokens; /* moves, in tokens of the busiest rank */
    int64_t moves;
    int32_t doubles;
    int32_t num_plans;
    double plan_ms[512];
};

static enum status start(struct drift_bench *bench)
{
    const struct load_file *load = &bench->load;
    enum status status = STATUS_OK;
    for (int32_t layer = 0; status == STATUS_OK && layer < load->num_layers; layer++) {
        for (int32_t slot = 0; slot < bench->num_slots; slot++) {
            bench->map[slot] = slot % load->num_experts;
        }
        status = placement_set(&bench->placement[layer], bench->map, &bench->error);
    }
    return status;
}

/* The window is all steps before now. */
static struct balance_input input_of(struct drift_bench *bench, int32_t now, int32_t interval)
{
    const struct load_file *load = &bench->load;
    int64_t loads = (int64_t)load->num_layers * load->num_experts;
    memset(bench->past_tokens, 0, (size_t)loads * sizeof *bench->past_tokens);
    for (int64_t i = 0; i < now * loads; i++) {
        bench->past_tokens[i % loads] += load->step_tokens[i];
    }
    return (struct balance_input){.num_layers = load->num_layers,
                                  .num_experts = load->num_experts,
                                  .num_slots = bench->num_slots,
                                  .num_ranks = bench->num_ranks,
                                  .num_nodes = bench->num_nodes,
                                  .num_groups = 1,
                                  .load_tokens = bench->past_tokens,
                                  .step_tokens = load->step_tokens,
                                  .num_steps = now,
                                  .placement = bench->placement,
                                  .expert_bytes = EXPERT_BYTES,
                                  .interval_steps = interval,
                                  .near_move_ns = bench->price * EXPERT_BYTES / 150.0,
                                  .far_move_ns = bench->price * EXPERT_BYTES / 50.0,
                                  .token_ns = 21504 / 50.0,
                                  .scratch = &bench->scratch};
}

/* Asks for a placement, in bench->map, that serves from now on. */
static enum status ask(struct tally *tally, struct drift_bench *bench, void *state,
                       const struct balance_strategy *strategy, int32_t now, int32_t interval)
{
    const struct load_file *load = &bench->load;
    size_t slots = (size_t)bench->num_slots;
    size_t bytes = balance_state_bytes(strategy, load->num_layers, load->num_experts);
    struct balance_input input = input_of(bench, now, interval);
    double best_ms = 1e30;
    enum status status = STATUS_OK;
    void *before = malloc(bytes + 1);
    if (before == NULL) {
        return STATUS_NO_MEMORY;
    }
    memcpy(before, state, bytes);
    for (int32_t run = 0; status == STATUS_OK && run < NUM_RUNS; run++) {
        for (int32_t layer = 0; layer < load->num_layers; layer++) {
            memcpy(bench->map + (size_t)layer * slots, bench->placement[layer].expert_of_slot,
                   slots * sizeof *bench->map);
        }
        memcpy(state, before, bytes);
        arena_reset(&bench->scratch);
        double start_s = clock_s(CLOCK_PROCESS_CPUTIME_ID);
        status = strategy->plan(state, &input, bench->map, &bench->error);
        double run_ms = 1e3 * (clock_s(CLOCK_PROCESS_CPUTIME_ID) - start_s);
        best_ms = run_ms < best_ms ? run_ms : best_ms;
    }
    tally->plan_ms[tally->num_plans++] = best_ms;
    free(before);
    return status;
}

/* Puts what was answered in force. */
static enum status put_in_force(struct tally *tally, struct drift_bench *bench)
{
    enum status status = STATUS_OK;
    int32_t ranks_per_node = bench->num_ranks / bench->num_nodes;
    for (int32_t layer = 0; status == STATUS_OK && layer < bench->load.num_layers; layer++) {
        const int32_t *map = bench->map + (size_t)layer * (size_t)bench->num_slots;
        int32_t moves =
            placement_moves(&bench->placement[layer], bench->move, layer, map, ranks_per_node);
        tally->moves += moves;
        for (int32_t i = 0; i < moves; i++) {
            bool near = bench->move[i].from_rank / ranks_per_node ==
                        bench->move[i].to_rank / ranks_per_node;
            tally->move_tokens +=
                EXPERT_BYTES / (near ? 150.0 : 50.0) / (21504 / 50.0) / bench->num_ranks;
        }
        status = placement_set(&bench->placement[layer], map, &bench->error);
    }
    return status;
}

static enum status judge_layer(struct tally *tally, struct drift_bench *bench, int32_t step,
                               int32_t layer)
{
    const struct load_file *load = &bench->load;
    const struct placement *placement = &bench->placement[layer];
    const int32_t *tokens =
        load->step_tokens +
        ((size_t)step * (size_t)load->num_layers + (size_t)layer) * (size_t)load->num_experts;
    arena_reset(&bench->scratch);
    int64_t *wide = arena_alloc(&bench->scratch, (size_t)load->num_experts, sizeof *wide);
    if (wide == NULL) {
        return STATUS_NO_MEMORY;
    }
    double total = 0.0;
    for (int32_t expert = 0; expert < load->num_experts; expert++) {
        wide[expert] = tokens[expert];
        total += tokens[expert];
    }
    double busiest = 0.0;
    for (int32_t rank = 0; rank < bench->num_ranks; rank++) {
        double share = 0.0;
        for (int32_t slot = placement->rank_begin[rank]; slot < placement->rank_begin[rank + 1];
             slot++) {
            int32_t expert = placement->expert_of_slot[slot];
            share += (double)tokens[expert] / placement_num_replicas(placement, expert);
        }
        busiest = share > busiest ? share : busiest;
    }
    double split;
    double bound;
    enum status status = bound_any_split(&split, wide, placement, &bench->scratch, &bench->error);
    if (status == STATUS_OK) {
        status = bound_any_placement(&bound, wide, load->num_experts, bench->num_slots,
                                     bench->num_ranks, &bench->scratch, &bench->error);
    }
    if (status == STATUS_OK) {
        double mean = total / bench->num_ranks;
        tally->balancedness += busiest > 0.0 ? mean / busiest : 1.0;
        tally->split += split > 0.0 ? mean / split : 1.0;
        tally->bound += bound > 0.0 ? mean / bound : 1.0;
        tally->busiest_tokens += busiest;
    }
    return status;
}

static int32_t count_doubles(const struct drift_bench *bench)
{
    int32_t doubles = 0;
    for (int32_t layer = 0; layer < bench->load.num_layers; layer++) {
        const struct placement *placement = &bench->placement[layer];
        for (int32_t slot = 0; slot < bench->num_slots; slot++) {
            bool twice = false;
            for (int32_t other = placement->rank_begin[placement->rank_of_slot[slot]]; other < slot;
                 other++) {
                twice |= placement->expert_of_slot[other] == placement->expert_of_slot[slot];
            }
            doubles += twice;
        }
    }
    return doubles;
}

static enum status run(struct drift_bench *bench, const struct balance_strategy *strategy,
                       int32_t interval)
{
    struct tally tally = {0};
    const struct load_file *load = &bench->load;
    int32_t first = load->num_steps / 2;
    enum status status = start(bench);
    void *state = calloc(1, balance_state_bytes(strategy, load->num_layers, load->num_experts) + 1);
    if (state == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t step = first; status == STATUS_OK && step < load->num_steps; step++) {
        if ((step - first) % interval == 0) {
            status = ask(&tally, bench, state, strategy, step, interval);
            if (status == STATUS_OK) {
                status = put_in_force(&tally, bench);
            }
        }
        for (int32_t layer = 0; status == STATUS_OK && layer < load->num_layers; layer++) {
            status = judge_layer(&tally, bench, step, layer);
        }
    }
    free(state);
    if (status == STATUS_OK) {
        double judged = (double)(load->num_steps - first) * load->num_layers;
        sort_times(tally.plan_ms, tally.num_plans);
        printf("%s,%d,%.4f,%.4f,%.4f,%.1f,%.1f,%lld,%d,%.4f\n", strategy->name, (int)interval,
               tally.balancedness / judged, tally.split / judged, tally.bound / judged,
               tally.busiest_tokens / judged, (tally.busiest_tokens + tally.move_tokens) / judged,
               (long long)tally.moves, (int)count_doubles(bench),
               tally.plan_ms[tally.num_plans / 2] / load->num_layers);
        fflush(stdout);
    }
    return status;
}

static enum status open_bench(struct drift_bench *bench, const char *path)
{
    struct arena *arena = &bench->arena;
    struct load_file *load = &bench->load;
    enum status status = load_file_read(load, path, arena, &bench->error);
    if (status != STATUS_OK) {
        return status;
    }
    size_t layers = (size_t)load->num_layers;
    size_t slots = (size_t)bench->num_slots;
    bench->placement = arena_alloc(arena, layers, sizeof *bench->placement);
    bench->past_tokens = arena_alloc(arena, layers * (size_t)load->num_experts, sizeof(int64_t));
    bench->map = arena_alloc(arena, layers * slots, sizeof *bench->map);
    bench->move = arena_alloc(arena, slots, sizeof *bench->move);
    if (bench->placement == NULL || bench->past_tokens == NULL || bench->map == NULL ||
        bench->move == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (size_t layer = 0; status == STATUS_OK && layer < layers; layer++) {
        status = placement_init(&bench->placement[layer], arena, load->num_experts,
                                bench->num_slots, bench->num_ranks, &bench->error);
    }
    return status;
}

int main(int argc, char **argv)
{
    static struct drift_bench bench = {
        .num_slots = 288, .num_ranks = 32, .num_nodes = 4, .price = 1.0};
    int32_t interval = argc == 8 ? atoi(argv[6]) : 0; /* 0: all */
    const char *path = argc > 1 ? argv[1] : SHARED_DATA "/placement/dsv3_ts64.npy";
    const char *only = argc > 2 && strcmp(argv[2], "all") != 0 ? argv[2] : NULL;
    int32_t count = 0;
    const struct balance_strategy *const *all = balance_all(&count);
    if (access(path, R_OK) != 0) {
        printf("bench_drift: no data: %s\n", path);
        return 0;
    }
    bench.price = argc == 8 ? atof(argv[7]) : bench.price;
    if (argc == 6 || argc == 8) {
        bench.num_slots = atoi(argv[3]);
        bench.num_ranks = atoi(argv[4]);
        bench.num_nodes = atoi(argv[5]);
    }
    enum status status = open_bench(&bench, path);
    printf(
        "strategy,interval_steps,balancedness,split,bound,busiest_tokens,net_tokens,moves,doubles,"
        "ms_a_layer\n");
    for (int32_t i = 0; i < count; i++) {
        bool wanted = only == NULL || strstr(only, all[i]->name) != NULL;
        if (!wanted || all[i]->needs > (BALANCE_NEEDS_WINDOW | BALANCE_NEEDS_STEPS)) {
            continue;
        }
        for (size_t at = 0; at < sizeof intervals / sizeof intervals[0]; at++) {
            if (status == STATUS_OK && (interval == 0 || interval == intervals[at])) {
                status = run(&bench, all[i], intervals[at]);
            }
        }
    }
    if (status != STATUS_OK) {
        fprintf(stderr, "bench_drift: %s", bench.error.text);
    }
    arena_free(&bench.arena);
    arena_free(&bench.scratch);
    return status != STATUS_OK;
}
