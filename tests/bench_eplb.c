/*
 * bench_eplb.c -- time of one EPLB rebalance of 58 layers x 256 -> 288 slots, 32 GPUs on 4 nodes.
 *
 *     bench_eplb [DIRECTORY_OF_PLACEMENT_DATA]
 *
 * Checks against the golden placements, then times on a warm cache and prints CSV. The PyTorch
 * original takes 464 ms (hierarchical) and 1279 ms (global) on a 2-core shared x86 machine
 * (strategies.md, section 6).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "balance/balance.h"
#include "bench_clock.h"
#include "csv.h"

#define NUM_RUNS 101

static int rebalance(const struct balance_input *input, int32_t *expert_of_slot)
{
    static struct error error;
    if (balance_find("eplb")->plan(NULL, input, expert_of_slot, &error) != STATUS_OK) {
        fprintf(stderr, "%s", error.text);
        return 1;
    }
    return 0;
}

static int bench(const char *directory, const char *name, const char *mode, int32_t num_groups)
{
    char path[1024];
    int failed = 1;
    double run_ms[NUM_RUNS];
    struct arena arena = {0};
    int32_t *expert_of_slot = NULL;
    snprintf(path, sizeof path, "%s/%s.csv", directory, name);
    struct csv load = csv_read(path);
    snprintf(path, sizeof path, "%s/%s_288_n4g32_%s.eplbstable.phy2log.csv", directory, name, mode);
    struct csv golden = csv_read(path);
    if (load.value == NULL || golden.value == NULL) {
        fprintf(stderr, "bench_eplb: no usable %s or its loads\n", path);
        goto done;
    }
    struct balance_input input = {
        .num_layers = (int32_t)load.num_rows,
        .num_experts = (int32_t)load.num_columns,
        .num_slots = (int32_t)golden.num_columns,
        .num_ranks = 32,
        .num_nodes = 4,
        .num_groups = num_groups,
        .load_tokens = load.value,
        .scratch = &arena,
    };
    int64_t num_values = golden.num_rows * golden.num_columns;
    expert_of_slot = calloc((size_t)num_values, sizeof *expert_of_slot);
    if (expert_of_slot == NULL || rebalance(&input, expert_of_slot) != 0) {
        goto done;
    }
    for (int64_t i = 0; i < num_values; i++) {
        if (expert_of_slot[i] != golden.value[i]) {
            fprintf(stderr, "bench_eplb: %s: value %lld differs\n", path, (long long)i);
            goto done;
        }
    }
    for (int32_t run = 0; run < NUM_RUNS; run++) {
        arena_reset(&arena);
        double start_s = clock_s(CLOCK_MONOTONIC);
        if (rebalance(&input, expert_of_slot) != 0) {
            goto done;
        }
        run_ms[run] = 1e3 * (clock_s(CLOCK_MONOTONIC) - start_s);
    }
    sort_times(run_ms, NUM_RUNS);
    printf("%s,%s,%lld,%d,%.3f,%.3f,%.3f\n", name, mode, (long long)load.num_rows, NUM_RUNS,
           run_ms[0], run_ms[NUM_RUNS / 2], run_ms[NUM_RUNS * 9 / 10]);
    failed = 0;

done:
    arena_free(&arena);
    free(expert_of_slot);
    free(golden.value);
    free(load.value);
    return failed;
}

int main(int argc, char **argv)
{
    const char *directory = argc > 1 ? argv[1] : SHARED_DATA "/placement";
    printf("load,policy,layers,runs,rebalance_ms_min,rebalance_ms_median,rebalance_ms_p90\n");
    int failed = 0;
    failed |= bench(directory, "dsv3_logn", "hier", 8);
    failed |= bench(directory, "dsv3_logn", "glob", 1);
    failed |= bench(directory, "dsv3_decode", "hier", 8);
    failed |= bench(directory, "dsv3_decode", "glob", 1);
    return failed;
}
