/*
 * bench_work.h -- the arithmetic and the memory traffic that a case cannot do without.
 *
 * Multiplications and additions count apart. Every input is read once and every output written
 * once; weights count where an expert has rows. So bytes over time never exceeds what the memory
 * does.
 */
#ifndef MOESIM_BENCH_WORK_H
#define MOESIM_BENCH_WORK_H

#include <stdint.h>

#include "bench.h"

struct bench_work {
    double flops;
    double bytes;
};

/* What of a layer. */
struct bench_load {
    int64_t num_tokens;
    int64_t rows;           /* choices that are computed */
    int32_t active_experts; /* with one row or more */
};

enum bench_part {
    BENCH_ROUTER,
    BENCH_GATE,
    BENCH_PERMUTE,
    BENCH_ROWS,
    BENCH_GATE_UP,
    BENCH_DOWN,
    BENCH_COMBINE,
    BENCH_SHARED,
    BENCH_PART_COUNT,
};

struct bench_load bench_load_of(const int32_t *expert_tokens, int32_t num_experts,
                                int64_t num_tokens);

struct bench_work bench_work_of(const struct bench_layer *layer, enum bench_part part,
                                struct bench_load load);

/* Of all parts. */
struct bench_work bench_work_layer(const struct bench_layer *layer, struct bench_load load);

#endif
