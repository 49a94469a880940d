/*
 * bench_flow.c -- CPU time of an all-to-all under exact max-min sharing.
 *
 *     bench_flow [DIRECTORY_OF_TRAFFIC_MATRICES]
 *
 * Nodes of 8. "tree": 450 GB/s a GPU and direction for all its traffic, and 400 GB/s a node uplink.
 * "rails": traffic between nodes passes 50 GB/s NICs, one a GPU, traffic inside a node 450 GB/s
 * ports. All flows start together, without latency. Every run is checked before its time counts:
 * the last finish must not lie before the busiest link's bytes over its bandwidth, nor 2 % behind,
 * and every run must end at the same time. Prints CSV; CPU seconds of opening, starting and
 * finishing all flows, the least and the median of the runs.
 *
 * SimGrid 3.32 CM02 takes 2.5-4.4 s for 64 ranks "skew" on the tree and 119 s for 128 (a 2-core
 * shared x86 machine; field/peers.md).
 */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench_clock.h"
#include "net/maxmin.h"

#define NUM_RUNS      21
#define RANKS_MAX     256
#define GPUS_PER_NODE 8
#define GPU_RATE      450.0 /* bytes per ns */
#define UPLINK_RATE   400.0
#define NIC_RATE      50.0

enum wiring { TREE, RAILS };

/* Links: GPU out and in, then NIC out and in (rails) or node out and in (tree). */
struct bench {
    enum wiring wiring;
    int32_t num_ranks;
    int32_t num_links;
    double capacity[4 * RANKS_MAX];
    double scratch[4 * RANKS_MAX];
    struct maxmin_flow *flow; /* [num_ranks^2] */
    int32_t num_flows;
};

static void add_flow(struct bench *bench, int32_t src, int32_t dst, double bytes)
{
    int32_t ranks = bench->num_ranks;
    int32_t src_node = src / GPUS_PER_NODE;
    int32_t dst_node = dst / GPUS_PER_NODE;
    struct maxmin_flow *flow = &bench->flow[bench->num_flows];
    *flow = (struct maxmin_flow){
        .id = bench->num_flows, .num_links = 2, .link = {src, ranks + dst}, .bytes = bytes};
    bench->num_flows++;
    if (src_node == dst_node) {
        return;
    }
    if (bench->wiring == RAILS) {
        flow->link[0] = 2 * ranks + src;
        flow->link[1] = 3 * ranks + dst;
    } else {
        flow->num_links = 4;
        flow->link[1] = 2 * ranks + src_node;
        flow->link[2] = 3 * ranks + dst_node;
        flow->link[3] = ranks + dst;
    }
}

static bool load(struct bench *bench, const char *path)
{
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        fprintf(stderr, "bench_flow: no %s\n", path);
        return false;
    }
    int32_t src = 0;
    int32_t dst = 0;
    double bytes = 0.0;
    bench->num_flows = 0;
    bench->num_links = 4 * bench->num_ranks;
    for (int32_t link = 0; link < bench->num_links; link++) {
        double outer = bench->wiring == RAILS ? NIC_RATE : UPLINK_RATE;
        bench->capacity[link] = link < 2 * bench->num_ranks ? GPU_RATE : outer;
    }
    while (fscanf(file, "%d %d %lf", &src, &dst, &bytes) == 3) {
        if (src < bench->num_ranks && dst < bench->num_ranks) {
            add_flow(bench, src, dst, bytes);
        }
    }
    fclose(file);
    return bench->num_flows > 0;
}

/* The time of the last finish; 0 when memory is out. */
static double simulate(const struct bench *bench)
{
    struct maxmin *net = NULL;
    double last_ns = 0.0;
    if (maxmin_open(&net, bench->capacity, bench->num_links) == STATUS_OK &&
        maxmin_start(net, 0.0, bench->flow, bench->num_flows) == STATUS_OK) {
        for (int32_t i = 0; i < bench->num_flows; i++) {
            last_ns = maxmin_next_ns(net);
            (void)maxmin_pop(net);
        }
    }
    maxmin_close(net);
    return last_ns;
}

static int run(struct bench *bench, const char *directory, const char *name, const char *file,
               int32_t num_ranks, enum wiring wiring)
{
    char path[1024];
    double run_s[NUM_RUNS];
    bench->num_ranks = num_ranks;
    bench->wiring = wiring;
    snprintf(path, sizeof path, "%s/%s", directory, file);
    if (!load(bench, path)) {
        return 1;
    }
    double bound_ns = maxmin_bound_ns(bench->capacity, bench->num_links, bench->flow,
                                      bench->num_flows, bench->scratch);
    double makespan_ns = simulate(bench);
    if (!(makespan_ns >= bound_ns * (1.0 - 1e-9) && makespan_ns <= 1.02 * bound_ns)) {
        fprintf(stderr, "bench_flow: %s %d: %f ns, bound %f ns\n", name, (int)num_ranks,
                makespan_ns, bound_ns);
        return 1;
    }
    for (int32_t i = 0; i < NUM_RUNS; i++) {
        double start_s = clock_s(CLOCK_PROCESS_CPUTIME_ID);
        double again_ns = simulate(bench);
        run_s[i] = clock_s(CLOCK_PROCESS_CPUTIME_ID) - start_s;
        if (fabs(again_ns - makespan_ns) > 0.0) {
            fprintf(stderr, "bench_flow: %s %d: two runs differ\n", name, (int)num_ranks);
            return 1;
        }
    }
    sort_times(run_s, NUM_RUNS);
    printf("%s,%s,%d,%d,%.3f,%.3f,%d,%.5f,%.5f\n", wiring == RAILS ? "rails" : "tree", name,
           (int)num_ranks, (int)bench->num_flows, makespan_ns * 1e-3, bound_ns * 1e-3, NUM_RUNS,
           run_s[0], run_s[NUM_RUNS / 2]);
    return 0;
}

int main(int argc, char **argv)
{
    const char *directory = argc > 1 ? argv[1] : SHARED_DATA "/network";
    struct bench *bench = calloc(1, sizeof *bench);
    int failed = bench == NULL;
    if (!failed) {
        bench->flow = calloc((size_t)RANKS_MAX * RANKS_MAX, sizeof *bench->flow);
        failed = bench->flow == NULL;
    }
    printf("wiring,traffic,ranks,flows,makespan_us,bound_us,runs,cpu_s_min,cpu_s_median\n");
    for (enum wiring wiring = TREE; wiring <= RAILS && !failed; wiring++) {
        failed |= run(bench, directory, "uniform", "tm_uniform_64.txt", 64, wiring);
        failed |= run(bench, directory, "skew", "tm_skew_64.txt", 64, wiring);
        failed |= run(bench, directory, "skew", "tm_skew_256.txt", 128, wiring);
        failed |= run(bench, directory, "skew", "tm_skew_256.txt", 256, wiring);
    }
    if (bench != NULL) {
        free(bench->flow);
    }
    free(bench);
    return failed;
}
