/*
 * bench_gpu.h -- the GPU under test: memory, random data, graphs, timing, clocks and power.
 *
 * Timing. Each contender of a case is one CUDA graph an input set. A round flushes the L2, then
 * times one contender between two events; contenders take turns, so that all see the same thermal
 * state, and inputs rotate. The flush takes longer than the host needs to enqueue, so nothing but
 * the graph's own launch (2 us or less; `ceilings` measures it) stands between the events.
 */
#ifndef MOESIM_BENCH_GPU_H
#define MOESIM_BENCH_GPU_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

#include "bench_csv.h"
#include "dev_memory.h"
#include "matrix.h"

#define GPU_INPUTS_MAX     2
#define GPU_CONTENDERS_MAX 24

struct nvml;
struct gpu_dense;

struct gpu {
    struct bench_machine machine;
    int64_t l2_bytes;
    cudaStream_t stream;
    cudaEvent_t begin;
    cudaEvent_t end;
    void *flush; /* four times the L2 */
    int64_t flush_bytes;
    struct nvml *nvml;       /* NULL: not there, clocks and power stay unknown */
    double copy_bytes_per_s; /* this run's ceilings, measured once by gpu_ceilings; 0: not yet */
    double bf16_flops_per_s;
    struct gpu_dense *dense; /* what the second was measured with; NULL: not yet */
    bool turns; /* wait for a line on stdin before each round: another program has its turn */
};

/* How many GPUs this program can use; of none, error says why. */
int gpu_count(struct error *error);
/* Makes device the thread's current one. STATUS_INVALID: it is no Hopper; STATUS_CUDA: it fails. */
MUST_CHECK enum status gpu_open(struct gpu *gpu, int32_t device, struct error *error);
void gpu_close(struct gpu *gpu);

/* Clocks, power and temperature of this moment, into machine. */
void gpu_read_clocks(struct gpu *gpu, struct bench_machine *machine);

/* Uniform in [-amplitude, amplitude), a function of seed and index alone. fp8: random elements. */
MUST_CHECK enum status gpu_fill(void *data, enum dtype dtype, int64_t count, float amplitude,
                                uint64_t seed, cudaStream_t stream);
/* In [low, high). */
MUST_CHECK enum status gpu_fill_range(float *data, int64_t count, float low, float high,
                                      uint64_t seed, cudaStream_t stream);
/* Elements and, for fp8, scales such that values are about amplitude. */
MUST_CHECK enum status gpu_fill_matrix(struct matrix matrix, int64_t count, int64_t num_scales,
                                       float amplitude, uint64_t seed, cudaStream_t stream);

/* Work for a stream, in a version, on input set 0 to GPU_INPUTS_MAX - 1. */
struct gpu_work {
    enum status (*launch)(void *context, int32_t version, int32_t input, cudaStream_t stream);
    void *context;
};

struct gpu_contender {
    const char *name;
    struct gpu_work work;
    int32_t version;
    cudaGraphExec_t graph[GPU_INPUTS_MAX];
    bool direct; /* what it does cannot be captured: timed with the host's launches in between */
    double *sample_ns;
    int32_t num_samples;
    enum status status; /* what capturing or a launch answered */
};

/* Captures contenders (num_inputs graphs each), warms up, and times them in turns until num_samples
 * each or budget_s is over (at least three). A contender that fails is left out with its status. */
MUST_CHECK enum status gpu_time(struct gpu *gpu, struct gpu_contender *contender,
                                int32_t num_contenders, int32_t num_inputs, int32_t num_samples,
                                double budget_s);
/* Fills the L2 with something else, on the stream. By reading: what a kernel finds there then has
 * not to be written back to HBM in its own time. */
MUST_CHECK enum status gpu_flush(struct gpu *gpu);
/* Frees graphs and samples. */
void gpu_contenders_free(struct gpu_contender *contender, int32_t num_contenders);

/* This run's ceilings, once: a copy of 2 GiB (bytes read and written) and cuBLAS bf16 8192^3 on
 * random data. */
MUST_CHECK enum status gpu_ceilings(struct gpu *gpu);

/* That product, after gpu_ceilings, to be timed in turns with others: the peak of their clocks and
 * thermal state. And its rate, of a contender with samples. */
struct gpu_work gpu_dense_work(const struct gpu *gpu);
double gpu_dense_flops_per_s(const struct gpu_contender *contender);

#endif
