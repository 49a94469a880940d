/*
 * bench_cuda_check.c -- the kernels against their twins in reference/ on random data.
 */
#include "bench_cuda.h"

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "moe_kernels.h"

/* Host arrays of one case, filled from a linear congruential generator: the same on every machine.
 */
struct combine_case {
    struct combine_shape shape;
    int32_t num_rows;
    float *expert_out;
    float *gate_weight;
    int32_t *row_of;
    float *expected;
    float *out;
};

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static int fill_case(struct combine_case *test, struct combine_shape shape, uint32_t seed)
{
    size_t outputs = (size_t)shape.num_tokens * (size_t)shape.hidden_dim;
    size_t choices = (size_t)shape.num_tokens * (size_t)shape.top_k;
    *test = (struct combine_case){.shape = shape, .num_rows = shape.num_tokens * shape.top_k};
    size_t inputs = (size_t)test->num_rows * (size_t)shape.hidden_dim;
    test->expert_out = malloc(inputs * sizeof(float));
    test->gate_weight = malloc(choices * sizeof(float));
    test->row_of = malloc(choices * sizeof(int32_t));
    test->expected = malloc(outputs * sizeof(float));
    test->out = malloc(outputs * sizeof(float));
    if (test->expert_out == NULL || test->gate_weight == NULL || test->row_of == NULL ||
        test->expected == NULL || test->out == NULL) {
        return 1;
    }
    for (size_t index = 0; index < inputs; index++) {
        test->expert_out[index] = (float)next_random(&seed) * 0x1p-23f - 1.0f;
    }
    for (size_t index = 0; index < choices; index++) {
        test->gate_weight[index] = (float)next_random(&seed) * 0x1p-24f;
        uint32_t row = next_random(&seed) % ((uint32_t)test->num_rows + 1);
        test->row_of[index] = (int32_t)row - 1; /* -1 is ROW_DROPPED */
    }
    return ref_combine(shape, test->expected, test->expert_out, test->row_of, test->gate_weight) !=
           STATUS_OK;
}

static void free_case(struct combine_case *test)
{
    free(test->expert_out);
    free(test->gate_weight);
    free(test->row_of);
    free(test->expected);
    free(test->out);
}

static int run_on_device(struct combine_case *test, void *const device[4])
{
    size_t outputs = (size_t)test->shape.num_tokens * (size_t)test->shape.hidden_dim;
    size_t choices = (size_t)test->shape.num_tokens * (size_t)test->shape.top_k;
    size_t inputs = (size_t)test->num_rows * (size_t)test->shape.hidden_dim;
    int failed = 0;
    /* 0xff bytes are NaNs: an output the kernel leaves out cannot pass. */
    failed |= cudaMemset(device[0], 0xff, outputs * sizeof(float)) != cudaSuccess;
    failed |= cudaMemcpy(device[1], test->expert_out, inputs * sizeof(float),
                         cudaMemcpyHostToDevice) != cudaSuccess;
    failed |= cudaMemcpy(device[2], test->row_of, choices * sizeof(int32_t),
                         cudaMemcpyHostToDevice) != cudaSuccess;
    failed |= cudaMemcpy(device[3], test->gate_weight, choices * sizeof(float),
                         cudaMemcpyHostToDevice) != cudaSuccess;
    failed |=
        dev_combine(test->shape, device[0], device[1], device[2], device[3], NULL) != STATUS_OK;
    failed |= cudaMemcpy(test->out, device[0], outputs * sizeof(float), cudaMemcpyDeviceToHost) !=
              cudaSuccess;
    return failed;
}

static int check_combine(struct combine_shape shape)
{
    struct combine_case test;
    void *device[4] = {NULL, NULL, NULL, NULL};
    int failed = fill_case(&test, shape, 1);
    size_t outputs = (size_t)shape.num_tokens * (size_t)shape.hidden_dim * sizeof(float);
    size_t choices = (size_t)shape.num_tokens * (size_t)shape.top_k * sizeof(float);
    size_t inputs = (size_t)test.num_rows * (size_t)shape.hidden_dim * sizeof(float);
    const size_t bytes[4] = {outputs, inputs, choices, choices};
    for (int index = 0; index < 4 && !failed; index++) {
        failed = cudaMalloc(&device[index], bytes[index]) != cudaSuccess;
    }
    if (!failed) {
        failed = run_on_device(&test, device) || memcmp(test.out, test.expected, outputs) != 0;
    }
    for (int index = 0; index < 4; index++) {
        cudaFree(device[index]);
    }
    printf("combine v1  %6d tokens  top-%-2d  hidden %5d  %s\n", (int)shape.num_tokens,
           (int)shape.top_k, (int)shape.hidden_dim, failed ? "DIFFERS" : "equal to the reference");
    free_case(&test);
    return failed;
}

int bench_cuda_check(const struct bench_options *options, struct bench_csv *csv)
{
    static const struct combine_shape shapes[] = {
        {1, 8, 7168}, {128, 8, 7168}, {4096, 4, 2880}, {333, 2, 4097}};
    (void)csv;
    if (options->dry_run) {
        return BENCH_OK;
    }
    int num_gpus = 0;
    if (cudaGetDeviceCount(&num_gpus) != cudaSuccess || num_gpus == 0) {
        puts("moe-bench: no CUDA GPU on this machine: skipped");
        return BENCH_SKIPPED;
    }
    int failed = 0;
    for (size_t index = 0; index < sizeof shapes / sizeof shapes[0]; index++) {
        failed |= check_combine(shapes[index]);
    }
    return failed ? BENCH_FAILED : BENCH_OK;
}
