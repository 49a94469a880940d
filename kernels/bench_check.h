/*
 * bench_check.h -- how a kernel is held against its twin: poisoned outputs, two runs, one error.
 */
#ifndef MOESIM_BENCH_CHECK_H
#define MOESIM_BENCH_CHECK_H

#include "bench_difference.h"
#include "bench_gpu.h"

#define CHECK_OUTPUTS_MAX 4

/* One output of a kernel. expected begins as poison too, so that what the twin leaves alone must be
 * left alone by the kernel. */
struct check_output {
    enum check_kind kind;
    void *device;
    void *expected; /* host */
    int64_t bytes;
    double tolerance; /* relative Frobenius error below which it passes; of CHECK_BITS: 0 */
    const char *name; /* where a difference is told: name, and rows of so many bytes */
    int64_t row_bytes;
};

#define CHECK_POISON 0xa5 /* of bits: no id, and no count that a case has */
#define CHECK_NAN    0xff /* of numbers: NaN in fp32, bf16 and fp8 */

/* Host memory filled with an output's poison; NULL: no memory. */
void *check_poison(enum check_kind kind, int64_t bytes);

struct check {
    struct gpu *gpu;
    const struct bench_options *options;
    struct bench_csv *csv;
    struct error *error;
    int32_t num_checked;
    int32_t num_failed;  /* versions that differ, or that could not run */
    int32_t num_skipped; /* cases for which this machine lacks something, said what */
    double start_s;
};

/* The row's kernel, layer and so on stand already. Runs versions first to last twice each (those of
 * --versions, where that is given) and writes a row for each; of one that differs, also where.
 * STATUS_CUDA: the GPU is lost, nothing more can be checked. */
MUST_CHECK enum status check_versions(struct check *check, struct bench_row *row,
                                      const char *const *version_name, int32_t first_version,
                                      int32_t last_version, struct gpu_work work,
                                      const struct check_output *output, int32_t num_outputs);

/* False when the time is over: nothing new is begun. */
bool check_goes_on(const struct check *check);

/* A line of a dry run: what, and "versions v1 to vN". */
void check_plan(const struct check *check, const char *kernel, const char *what,
                int32_t num_versions);

/* The cases of each kernel; each returns STATUS_OK unless the GPU or memory gave out. */
MUST_CHECK enum status check_gate(struct check *check);
MUST_CHECK enum status check_permute(struct check *check);
MUST_CHECK enum status check_permute_rows(struct check *check);
MUST_CHECK enum status check_combine(struct check *check);
MUST_CHECK enum status check_grouped_gemm(struct check *check);
MUST_CHECK enum status check_layer(struct check *check);
MUST_CHECK enum status check_ep(struct check *check);
/* Skipped, with a line, where NCCL or GPUs are missing. */
MUST_CHECK enum status check_ep_nccl(struct check *check);
/* The layer of the options, at its real size, on sampled rows; nothing for --size small. */
MUST_CHECK enum status check_model(struct check *check);

/* Small layers, one for each way that models differ; dtype is left open. */
extern const struct bench_layer check_small_layers[];
extern const int32_t check_num_small_layers;

/* "v1", "v2", ... [index 1 on]. */
extern const char *const check_version_names[];

#endif
