/*
 * bench_place.c -- every placement strategy on measured loads: time, balance, what has to move.
 *
 *     bench_place [DIRECTORY_OF_PLACEMENT_DATA]
 *
 * 58 layers of 256 experts on 288 slots, 32 GPUs on 4 nodes, 8 groups; linear placement in force.
 * decode: dsv3_decode.csv, one window. ts64: dsv3_ts64.npy, 64 drifting steps; "held" plans on the
 * first 32 and measures step by step on the last 32, which is what a rebalance has to live with.
 * Checks eplb against its golden placement, then times on a warm cache and prints CSV.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_clock.h"
#include "place.h"
#include "placement_file.h"

#define NUM_RUNS 21

struct bench {
    struct load_file decode;
    struct load_file steps;
    struct load_file early; /* the first half of steps */
    struct load_file late;
    struct placement *linear; /* [num_layers] */
    struct arena data;
    struct error error;
};

static struct place_options options_of(const struct balance_strategy *strategy)
{
    return (struct place_options){.strategy = strategy,
                                  .num_slots = 288,
                                  .num_ranks = 32,
                                  .num_nodes = 4,
                                  .num_groups = 8,
                                  .expert_bytes = 44040192};
}

/* Times of plan() alone, ascending. */
static enum status time_plan(double *run_ms, struct bench *bench, const struct load_file *load,
                             const struct balance_strategy *strategy)
{
    struct place_options options = options_of(strategy);
    struct arena scratch = {0};
    enum status status = STATUS_OK;
    size_t slots = (size_t)options.num_slots;
    int32_t *map = malloc((size_t)load->num_layers * slots * sizeof *map);
    size_t state_bytes = balance_state_bytes(strategy, load->num_layers, load->num_experts);
    void *state = calloc(1, state_bytes + 1);
    if (map == NULL || state == NULL) {
        status = STATUS_NO_MEMORY;
    }
    for (int32_t run = 0; status == STATUS_OK && run < NUM_RUNS; run++) {
        struct balance_input input = {.num_layers = load->num_layers,
                                      .num_experts = load->num_experts,
                                      .num_slots = options.num_slots,
                                      .num_ranks = options.num_ranks,
                                      .num_nodes = options.num_nodes,
                                      .num_groups = options.num_groups,
                                      .load_tokens = load->load_tokens,
                                      .step_tokens = load->step_tokens,
                                      .num_steps = load->num_steps,
                                      .placement = bench->linear,
                                      .expert_bytes = options.expert_bytes,
                                      .scratch = &scratch};
        arena_reset(&scratch);
        memset(state, 0, state_bytes);
        for (int32_t layer = 0; layer < load->num_layers; layer++) {
            memcpy(map + (size_t)layer * slots, bench->linear[layer].expert_of_slot,
                   slots * sizeof *map);
        }
        double start_s = clock_s(CLOCK_MONOTONIC);
        status = strategy->plan(state, &input, map, &bench->error);
        run_ms[run] = 1e3 * (clock_s(CLOCK_MONOTONIC) - start_s);
    }
    sort_times(run_ms, NUM_RUNS);
    free(state);
    free(map);
    arena_free(&scratch);
    return status;
}

static enum status bench_strategy(struct bench *bench, const struct balance_strategy *strategy)
{
    double decode_ms[NUM_RUNS];
    double steps_ms[NUM_RUNS];
    struct place_options options = options_of(strategy);
    struct place_options still = options_of(balance_find("static"));
    struct place_result decode;
    struct place_result steps;
    struct place_result early;
    struct place_result late;
    struct arena arena = {0};
    enum status status = place(&decode, &options, &bench->decode, NULL, &arena, &bench->error);
    if (status == STATUS_OK) {
        status = place(&steps, &options, &bench->steps, NULL, &arena, &bench->error);
    }
    if (status == STATUS_OK) {
        status = place(&early, &options, &bench->early, NULL, &arena, &bench->error);
    }
    if (status == STATUS_OK) {
        status = place(&late, &still, &bench->late, early.expert_of_slot, &arena, &bench->error);
    }
    if (status == STATUS_OK) {
        status = time_plan(decode_ms, bench, &bench->decode, strategy);
    }
    if (status == STATUS_OK) {
        status = time_plan(steps_ms, bench, &bench->steps, strategy);
    }
    if (status == STATUS_OK) {
        printf("%s,%.2f,%.2f,%.4f,%d,%d,%.2f,%.2f,%.4f,%.4f,%.4f,%d\n", strategy->name,
               decode_ms[NUM_RUNS / 2], decode_ms[NUM_RUNS * 9 / 10], decode.after.balancedness,
               (int)decode.moves, (int)decode.after.duplicates, steps_ms[NUM_RUNS / 2],
               steps_ms[NUM_RUNS * 9 / 10], steps.after.balancedness, steps.after.balancedness_step,
               late.before.balancedness_step, (int)steps.moves);
        fflush(stdout);
    }
    arena_free(&arena);
    return status;
}

/* Both halves of the steps, as loads of their own. */
static enum status halve(struct bench *bench)
{
    const struct load_file *steps = &bench->steps;
    size_t loads = (size_t)steps->num_layers * (size_t)steps->num_experts;
    struct load_file *halves[2] = {&bench->early, &bench->late};
    for (int32_t half = 0; half < 2; half++) {
        *halves[half] = *steps;
        halves[half]->num_steps = steps->num_steps / 2;
        halves[half]->step_tokens += (size_t)(half * halves[half]->num_steps) * loads;
        halves[half]->load_tokens = arena_alloc(&bench->data, loads, sizeof(int64_t));
        if (halves[half]->load_tokens == NULL) {
            return STATUS_NO_MEMORY;
        }
        for (size_t i = 0; i < (size_t)halves[half]->num_steps * loads; i++) {
            halves[half]->load_tokens[i % loads] += halves[half]->step_tokens[i];
        }
    }
    return STATUS_OK;
}

static enum status check_golden(struct bench *bench, const char *directory)
{
    char path[1024];
    int32_t *golden = NULL;
    struct place_result result;
    struct place_options options = options_of(balance_find("eplb"));
    snprintf(path, sizeof path, "%s/dsv3_decode_288_n4g32_hier.eplbstable.phy2log.csv", directory);
    enum status status = placement_file_read(&golden, path, &bench->decode, options.num_slots,
                                             &bench->data, &bench->error);
    if (status == STATUS_OK) {
        status = place(&result, &options, &bench->decode, NULL, &bench->data, &bench->error);
    }
    size_t bytes = (size_t)bench->decode.num_layers * 288 * sizeof *golden;
    if (status == STATUS_OK && memcmp(golden, result.expert_of_slot, bytes) != 0) {
        status = error_add(&bench->error, STATUS_INVALID, "%s: eplb differs", path);
    }
    return status;
}

static enum status open_bench(struct bench *bench, const char *directory)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/dsv3_decode.csv", directory);
    enum status status = load_file_read(&bench->decode, path, &bench->data, &bench->error);
    snprintf(path, sizeof path, "%s/dsv3_ts64.npy", directory);
    if (status == STATUS_OK) {
        status = load_file_read(&bench->steps, path, &bench->data, &bench->error);
    }
    if (status == STATUS_OK) {
        status = halve(bench);
    }
    if (status == STATUS_OK) {
        status = check_golden(bench, directory);
    }
    size_t layers = (size_t)bench->decode.num_layers;
    bench->linear = arena_alloc(&bench->data, layers, sizeof *bench->linear);
    for (size_t layer = 0; status == STATUS_OK && layer < layers; layer++) {
        status = bench->linear == NULL ? STATUS_NO_MEMORY
                                       : placement_init(&bench->linear[layer], &bench->data, 256,
                                                        288, 32, &bench->error);
    }
    return status;
}

int main(int argc, char **argv)
{
    static struct bench bench;
    int32_t count = 0;
    const struct balance_strategy *const *all = balance_all(&count);
    enum status status = open_bench(&bench, argc > 1 ? argv[1] : SHARED_DATA "/placement");
    printf("strategy,decode_ms_median,decode_ms_p90,decode_balancedness,decode_moves,"
           "decode_doubles,ts64_ms_median,ts64_ms_p90,ts64_balancedness,ts64_balancedness_step,"
           "ts64_held_balancedness_step,ts64_moves\n");
    for (int32_t i = 0; status == STATUS_OK && i < count; i++) {
        if ((all[i]->needs & ~(unsigned)(BALANCE_NEEDS_WINDOW | BALANCE_NEEDS_STEPS)) == 0) {
            status = bench_strategy(&bench, all[i]);
        } /* loads do not tell who is chosen together */
    }
    if (status != STATUS_OK) {
        fprintf(stderr, "bench_place: %s", bench.error.text);
    }
    arena_free(&bench.data);
    return status != STATUS_OK;
}
