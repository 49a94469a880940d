/*
 * bench_replay.c -- token-layers a second of each replay path, beside what the same core reads.
 *
 * DeepSeek-V3's shape: rows x 58 layers x top-8 of 256, one byte an id; expert counts, distinct
 * tokens of 32 ranks (their loads follow from the experts') and the traffic matrix of 32 sources,
 * 128 rows each in turn, to 4 nodes. Experts lie by number (contiguous) or by chance (scattered).
 *
 *   bench_replay [rows] [threads]     prints CSV; default 1000000 rows, 2 threads
 *
 * Time is CPU time, of several threads the longest one's, best of 9, so that a busy machine shows
 * less. Reading, arithmetic and replay, on one thread and on several, take turns, so that all meet
 * the same noise. read_share is against passes over the same ids that add 64-bit words up, run by
 * as many threads; arithmetic_speed_up is what those threads gain where nothing but registers is
 * used, which is all that a replay can gain: less than their number if they share a core. Counts of
 * every path are compared with the scalar path's. Run by hand: it is no test.
 *
 * Measured 2026-11-22 on two cores of an AMD EPYC (Zen 5), nothing beside it, gcc 12.2 -O2,
 * bench_replay 1000000 2, experts by number, millions of token-layers a second (share of reading):
 * scalar 65 (1.4 %), AVX2 610 (13.0 %), AVX-512 2492 (53.1 % of 37 GB/s) on one thread; on two
 * 1.98, 1.99 and 1.90 times that, arithmetic 1.98 to 2.00. Experts scattered: AVX2 the same,
 * AVX-512 592 (13 %).
 */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_clock.h"
#include "replay.h"

#define LAYERS           58
#define TOP_K            8
#define EXPERTS          256
#define RANKS            32
#define NODES            4
#define REPEATS          9
#define THREADS_LOG2_MAX 8
#define ROUNDS           20000000 /* of arithmetic: some 0.1 s */
#define NUM_SUMS         (EXPERTS + RANKS + RANKS * NODES)

/* Popular experts first, all distinct: the product of two draws leans to low numbers. */
static void fill(uint8_t *id, int64_t num_rows)
{
    uint64_t state = 88172645463325252;
    for (int64_t row = 0; row < num_rows; row++) {
        uint64_t chosen[4] = {0};
        for (int32_t k = 0; k < TOP_K;) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            uint64_t product = (state & 0xffff) * (0x8000 + (state >> 16 & 0xffff));
            uint32_t expert = (uint32_t)(product >> 25) * 37 & 255;
            if ((chosen[expert / 64] >> expert % 64 & 1) == 0) {
                chosen[expert / 64] |= UINT64_C(1) << expert % 64;
                id[row * TOP_K + k++] = (uint8_t)expert;
            }
        }
    }
}

/* The widest loads that the processor has, as the compiler makes them of a plain sum. */
typedef uint64_t vector __attribute__((vector_size(64)));

#define READ_ALL                                                                                   \
    vector sum[4] = {{0}};                                                                         \
    for (int64_t i = 0; i < num_vectors; i += 4) {                                                 \
        sum[0] += from[i];                                                                         \
        sum[1] += from[i + 1];                                                                     \
        sum[2] += from[i + 2];                                                                     \
        sum[3] += from[i + 3];                                                                     \
    }                                                                                              \
    vector all = sum[0] + sum[1] + sum[2] + sum[3];                                                \
    return all[0] + all[1] + all[2] + all[3] + all[4] + all[5] + all[6] + all[7];

#ifdef __x86_64__
__attribute__((target("avx512f"))) static uint64_t read_avx512(const vector *from,
                                                               int64_t num_vectors)
{
    READ_ALL
}

__attribute__((target("avx2"))) static uint64_t read_avx2(const vector *from, int64_t num_vectors)
{
    READ_ALL
}
#endif

static uint64_t read_plain(const vector *from, int64_t num_vectors)
{
    READ_ALL
}

static uint64_t read_all(const vector *from, int64_t num_vectors)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f")) {
        return read_avx512(from, num_vectors);
    }
    if (__builtin_cpu_supports("avx2")) {
        return read_avx2(from, num_vectors);
    }
#endif
    return read_plain(from, num_vectors);
}

/* Seconds: reads num_bytes by num_threads. */
static double time_read(const uint8_t *bytes, int64_t num_bytes, int32_t num_threads)
{
    double longest_s = 0.0;
    uint64_t all = 0;
#pragma omp parallel num_threads(num_threads) reduction(max : longest_s) reduction(+ : all)
    {
        const vector *from = (const vector *)(const void *)bytes;
        int64_t share = num_bytes / (int64_t)sizeof *from / num_threads / 4 * 4;
        double begin_s = clock_s(CLOCK_THREAD_CPUTIME_ID);
        all += read_all(from + share * omp_get_thread_num(), share);
        longest_s = clock_s(CLOCK_THREAD_CPUTIME_ID) - begin_s;
    }
    return all == 1 ? 0.0 : longest_s; /* the sum is used */
}

/* Seconds: arithmetic in registers, shared out among num_threads. */
static double time_arithmetic(int32_t num_threads)
{
    double longest_s = 0.0;
    uint64_t all = 0;
#pragma omp parallel num_threads(num_threads) reduction(max : longest_s) reduction(+ : all)
    {
        uint64_t chain[8] = {0};
        double begin_s = clock_s(CLOCK_THREAD_CPUTIME_ID);
        for (int64_t i = 0; i < ROUNDS / num_threads; i++) {
#pragma GCC unroll 8
            for (uint64_t j = 0; j < 8; j++) { /* so many that none waits for its latency */
                chain[j] = (chain[j] ^ chain[j] >> 7) + j;
            }
        }
        longest_s = clock_s(CLOCK_THREAD_CPUTIME_ID) - begin_s;
        for (int32_t j = 0; j < 8; j++) {
            all += chain[j];
        }
    }
    return all == 1 ? 0.0 : longest_s;
}

/* Seconds; sums[NUM_SUMS] out: everything counted, all layers. */
static double time_replay(int64_t *sums, const struct replay_shape *shape, enum replay_path path,
                          const uint8_t *id, int64_t num_rows, int32_t num_threads)
{
    double longest_s = 0.0;
    memset(sums, 0, NUM_SUMS * sizeof *sums);
#pragma omp parallel num_threads(num_threads) reduction(max : longest_s)
    {
        int64_t mine[NUM_SUMS] = {0};
        struct replay_counts counts = {mine, mine + EXPERTS, mine + EXPERTS + RANKS};
        struct replay *replay;
        double begin_s = clock_s(CLOCK_THREAD_CPUTIME_ID);
        if (replay_open(&replay, shape, path) != STATUS_OK) {
            abort();
        }
#pragma omp for schedule(static)
        for (int32_t layer = 0; layer < LAYERS; layer++) {
            const uint8_t *rows = id + (int64_t)layer * num_rows * TOP_K;
            if (replay_count(replay, &counts, rows, 0, num_rows) >= 0) {
                abort();
            }
        }
        replay_close(replay);
        longest_s = clock_s(CLOCK_THREAD_CPUTIME_ID) - begin_s;
#pragma omp critical
        for (int32_t i = 0; i < NUM_SUMS; i++) {
            sums[i] += mine[i];
        }
    }
    return longest_s;
}

/* Seconds, the best of REPEATS. */
struct times {
    double read_s;
    double arithmetic_s;
    double replay_s;
};

static double smaller(double a, double b)
{
    return a < b ? a : b;
}

static void time_all(struct times *best, int64_t *sums, const struct replay_shape *shape,
                     enum replay_path path, const uint8_t *id, int64_t num_rows,
                     int32_t num_threads)
{
    best->read_s = smaller(best->read_s, time_read(id, num_rows * LAYERS * TOP_K, num_threads));
    best->arithmetic_s = smaller(best->arithmetic_s, time_arithmetic(num_threads));
    best->replay_s =
        smaller(best->replay_s, time_replay(sums, shape, path, id, num_rows, num_threads));
}

static void print_times(const char *path, const char *placement, int32_t threads,
                        const struct times *times, const struct times *one, double token_layers,
                        bool equals)
{
    printf("%s,%s,%d,%.1f,%.1f,%.3f,%.2f,%.2f,%s\n", path, placement, threads,
           token_layers / times->replay_s * 1e-6, token_layers * TOP_K / times->read_s * 1e-9,
           times->read_s / times->replay_s, one->replay_s / times->replay_s,
           one->arithmetic_s / times->arithmetic_s, equals ? "yes" : "no");
    fflush(stdout);
}

static void bench(const char *placement, const struct replay_shape *shape, const uint8_t *id,
                  int64_t num_rows, int32_t threads_max)
{
    int64_t scalar[NUM_SUMS];
    for (int path = REPLAY_SCALAR; path < REPLAY_PATH_COUNT; path++) {
        struct times best[THREADS_LOG2_MAX];
        int64_t sums[NUM_SUMS];
        bool equals[THREADS_LOG2_MAX];
        if (!replay_path_runs((enum replay_path)path)) {
            continue;
        }
        for (int32_t i = 0; i < THREADS_LOG2_MAX; i++) {
            best[i] = (struct times){1e30, 1e30, 1e30};
            equals[i] = true;
        }
        for (int32_t repeat = 0; repeat < REPEATS; repeat++) {
            for (int32_t i = 0; i < THREADS_LOG2_MAX && 1 << i <= threads_max; i++) {
                time_all(&best[i], sums, shape, (enum replay_path)path, id, num_rows, 1 << i);
                if (path == REPLAY_SCALAR && repeat == 0 && i == 0) {
                    memcpy(scalar, sums, sizeof scalar);
                }
                equals[i] &= memcmp(scalar, sums, sizeof scalar) == 0;
            }
        }
        for (int32_t i = 0; i < THREADS_LOG2_MAX && 1 << i <= threads_max; i++) {
            print_times(replay_path_name((enum replay_path)path), placement, 1 << i, &best[i],
                        &best[0], (double)num_rows * LAYERS, equals[i]);
        }
    }
}

int main(int argc, char **argv)
{
    int64_t num_rows = argc > 1 ? atoll(argv[1]) : 1000000;
    int32_t threads_max = argc > 2 ? atoi(argv[2]) : 2;
    uint8_t *id = aligned_alloc(64, (size_t)(num_rows * LAYERS * TOP_K + 63) / 64 * 64);
    int32_t rank_of_expert[EXPERTS];
    int32_t node_of_rank[RANKS];
    if (id == NULL) {
        return 1;
    }
    fill(id, num_rows * LAYERS);
    for (int32_t rank = 0; rank < RANKS; rank++) {
        node_of_rank[rank] = rank / (RANKS / NODES);
    }
    struct replay_shape shape = {.num_experts = EXPERTS,
                                 .top_k = TOP_K,
                                 .id_bytes = 1,
                                 .num_ranks = RANKS,
                                 .num_nodes = NODES,
                                 .rank_of_expert = rank_of_expert,
                                 .node_of_rank = node_of_rank,
                                 .num_sources = RANKS,
                                 .rows_per_source = 128};
    puts("path,placement,threads,million_token_layers_per_s,read_gb_per_s,read_share,speed_up,"
         "arithmetic_speed_up,equals_scalar");
    for (int32_t expert = 0; expert < EXPERTS; expert++) {
        rank_of_expert[expert] = expert / (EXPERTS / RANKS);
    }
    bench("contiguous", &shape, id, num_rows, threads_max);
    for (int32_t expert = 0; expert < EXPERTS; expert++) {
        rank_of_expert[expert] = expert * 77 % RANKS;
    }
    bench("scattered", &shape, id, num_rows, threads_max);
    free(id);
    return 0;
}
