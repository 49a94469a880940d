/*
 * permute_plan.h -- how a permutation's choices are shared out, for kernels, launcher and tests.
 *
 * Choices, in the order of (token, k), are cut into chunks, one a block; a chunk into one run of
 * consecutive choices a warp; a warp walks its run 32 at a time. So "before" means: an earlier
 * chunk, or the same and an earlier warp, or the same and an earlier step, or a lower lane; each of
 * these is counted apart and the four counts are added: a choice's place among those of its expert.
 */
#ifndef MOESIM_PERMUTE_PLAN_H
#define MOESIM_PERMUTE_PLAN_H

#include <stdint.h>

#ifdef __CUDACC__
#define PERMUTE_PLAN static __host__ __device__ __forceinline__
#else
#define PERMUTE_PLAN static inline
#endif

#define PERMUTE_WARPS          16
#define PERMUTE_CHUNK          2048 /* choices of a block: 4 steps a warp */
#define PERMUTE_SINGLE_CHOICES 8192 /* up to so many, one block does all: 16 steps a warp */

/* Choices begin to end - 1. */
struct permute_run {
    int64_t begin;
    int64_t end;
};

PERMUTE_PLAN int64_t permute_chunks(int64_t num_choices)
{
    return (num_choices + PERMUTE_CHUNK - 1) / PERMUTE_CHUNK;
}

/* The run of a warp in the chunk that begins at chunk_begin and has at most chunk_choices, a
 * multiple of 32 PERMUTE_WARPS. */
PERMUTE_PLAN struct permute_run permute_warp_run(int64_t num_choices, int64_t chunk_begin,
                                                 int64_t chunk_choices, int32_t warp)
{
    int64_t width = chunk_choices / PERMUTE_WARPS;
    struct permute_run run;
    run.begin = chunk_begin + warp * width;
    run.end = run.begin + width;
    run.begin = run.begin < num_choices ? run.begin : num_choices;
    run.end = run.end < num_choices ? run.end : num_choices;
    return run;
}

/* Lanes below this one among same, the lanes that have the same expert. */
PERMUTE_PLAN uint32_t permute_lanes_below(uint32_t same, int32_t lane)
{
    return same & ((1u << lane) - 1);
}

PERMUTE_PLAN int32_t permute_aligned(int32_t num_rows, int32_t row_align)
{
    return (num_rows + row_align - 1) & -row_align;
}

#endif
