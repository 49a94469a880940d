/*
 * bench_case.h -- a layer with random weights on the GPU, and tokens with a routing for it.
 */
#ifndef MOESIM_BENCH_CASE_H
#define MOESIM_BENCH_CASE_H

#include "bench_gpu.h"
#include "bench_work.h"
#include "dev_layer.h"

/* Weights of a layer, scaled so that what comes out is about as large as what goes in. */
struct gpu_weights {
    struct dev_memory memory;
    struct dev_weights weights;
};

MUST_CHECK enum status gpu_weights_create(struct gpu *gpu, const struct bench_layer *layer,
                                          uint64_t seed, struct gpu_weights *made);
void gpu_weights_free(struct gpu_weights *made);

/* Tokens and where they go. Host and device copies of the same routing. */
struct gpu_tokens {
    struct dev_memory memory;
    int32_t num_tokens;
    const char *routing;    /* label, for rows */
    int32_t *expert;        /* host [num_tokens][top_k] */
    float *gate_weight;     /* host */
    int32_t *expert_tokens; /* host [num_experts] rows of each */
    struct bench_load load;
    void *x[GPU_INPUTS_MAX]; /* device [num_tokens][hidden_dim] bf16 */
    void *out;
    int32_t *dev_expert;
    float *dev_gate_weight;
};

MUST_CHECK enum status gpu_tokens_create(struct gpu *gpu, const struct bench_options *options,
                                         int32_t num_tokens, const char *routing,
                                         struct gpu_tokens *made, struct error *error);
void gpu_tokens_free(struct gpu_tokens *made);

/* How the options want a layer run. */
struct dev_layer_options gpu_layer_options(const struct gpu *gpu,
                                           const struct bench_options *options);

/* What every row of a case has: layer, tokens, routing, loads, ceilings. */
struct bench_row gpu_row(const struct gpu *gpu, const struct bench_options *options,
                         const struct gpu_tokens *tokens, const char *command, const char *kernel);

/* A contender's samples and the clocks of now; written. */
MUST_CHECK enum status gpu_write_row(struct gpu *gpu, struct bench_csv *csv, struct bench_row *row,
                                     struct gpu_contender *contender);

/* What commands that need a GPU begin and end with. begin: BENCH_OK and the GPU is open, or the
 * exit code, said why. end: the exit code of a status, said why. */
int gpu_begin(struct gpu *gpu, const struct bench_options *options, struct bench_csv *csv,
              struct error *error);
int gpu_end(struct gpu *gpu, enum status status, const struct error *error, int32_t num_failed);

#endif
