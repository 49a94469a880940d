/* bench_cuda_gpu.c -- the GPU, its memory and its ceilings; see bench_gpu.h. */
#include "bench_gpu.h"

#include <stdlib.h>
#include <string.h>

#include "bench_nvml.h"
#include "lt_gemm.h"

#ifndef CEILING_DIM /* tests on the CPU make them small */
#define CEILING_BYTES ((int64_t)1 << 30)
#define CEILING_DIM   8192
#endif

struct gpu_dense {
    struct dev_memory memory;
    struct lt lt;
    struct lt_gemm gemm;
    void *x[GPU_INPUTS_MAX];
    void *weights;
    void *out;
};

static void dense_free(struct gpu_dense *dense)
{
    if (dense != NULL) {
        lt_gemm_free(&dense->gemm);
        lt_close(&dense->lt);
        dev_memory_free(&dense->memory);
        free(dense);
    }
}

int gpu_count(struct error *error)
{
    int count = 0;
    int driver = 0;
    int built_with = 0;
    cudaError_t code = cudaGetDeviceCount(&count);
    if (code == cudaSuccess && count > 0) {
        return count;
    }
    (void)cudaDriverGetVersion(&driver);
    (void)cudaRuntimeGetVersion(&built_with);
    if (code == cudaErrorInsufficientDriver && driver > 0) {
        error_add(error, STATUS_INVALID,
                  "the driver knows CUDA up to %d.%d, this program was built with %d.%d: take a "
                  "newer driver, or build with that CUDA Toolkit",
                  driver / 1000, driver % 1000 / 10, built_with / 1000, built_with % 1000 / 10);
    } else if (code == cudaSuccess || code == cudaErrorNoDevice || driver == 0) {
        error_add(error, STATUS_INVALID, "no CUDA GPU on this machine");
    } else {
        error_add(error, STATUS_INVALID, "the GPUs cannot be used: %s", cudaGetErrorString(code));
    }
    return 0;
}

enum status gpu_open(struct gpu *gpu, int32_t device, struct error *error)
{
    struct cudaDeviceProp properties;
    char bus[32] = "";
    *gpu = (struct gpu){0};
    cudaError_t code = cudaSetDevice(device);
    code = code == cudaSuccess ? cudaGetDeviceProperties(&properties, device) : code;
    if (code == cudaSuccess && properties.major != 9) {
        return error_add(error, STATUS_INVALID,
                         "%s has compute capability %d.%d: these kernels are Hopper's (9.0)",
                         properties.name, properties.major, properties.minor);
    }
    if (code == cudaSuccess) {
        snprintf(gpu->machine.device, sizeof gpu->machine.device, "%.95s", properties.name);
        gpu->machine.num_sms = properties.multiProcessorCount;
        gpu->l2_bytes = properties.l2CacheSize;
        gpu->flush_bytes = 4 * gpu->l2_bytes;
        code = cudaStreamCreateWithFlags(&gpu->stream, cudaStreamNonBlocking);
    }
    code = code == cudaSuccess ? cudaEventCreate(&gpu->begin) : code;
    code = code == cudaSuccess ? cudaEventCreate(&gpu->end) : code;
    code = code == cudaSuccess ? cudaMalloc(&gpu->flush, (size_t)gpu->flush_bytes) : code;
    code = code == cudaSuccess
               ? cudaMemsetAsync(gpu->flush, 0x5a, (size_t)gpu->flush_bytes, gpu->stream)
               : code;
    code = code == cudaSuccess ? cudaDeviceGetPCIBusId(bus, sizeof bus, device) : code;
    if (code != cudaSuccess) {
        gpu_close(gpu);
        return error_add(error, STATUS_CUDA, "the GPU cannot be used: %s",
                         cudaGetErrorString(code));
    }
    gpu->nvml = nvml_open(bus);
    gpu_read_clocks(gpu, &gpu->machine);
    return STATUS_OK;
}

void gpu_close(struct gpu *gpu)
{
    dense_free(gpu->dense);
    nvml_close(gpu->nvml);
    cudaFree(gpu->flush);
    if (gpu->begin != NULL) {
        cudaEventDestroy(gpu->begin);
    }
    if (gpu->end != NULL) {
        cudaEventDestroy(gpu->end);
    }
    if (gpu->stream != NULL) {
        cudaStreamDestroy(gpu->stream);
    }
    *gpu = (struct gpu){0};
}

void gpu_read_clocks(struct gpu *gpu, struct bench_machine *machine)
{
    if (gpu->nvml != NULL) {
        nvml_read(gpu->nvml, machine);
    } else {
        int version = 0;
        cudaDriverGetVersion(&version);
        snprintf(machine->driver, sizeof machine->driver, "CUDA %d.%d", version / 1000,
                 version % 1000 / 10);
    }
}

/* ---- ceilings ---- */

static double median_ns(const struct gpu_contender *contender)
{
    struct bench_row row = {0};
    bench_row_samples(&row, contender->sample_ns, contender->num_samples);
    return row.median_ns;
}

struct copy_case {
    void *from;
    void *to;
};

static enum status run_copy(void *context, int32_t version, int32_t input, cudaStream_t stream)
{
    const struct copy_case *copy = context;
    (void)version;
    (void)input;
    return cudaMemcpyAsync(copy->to, copy->from, (size_t)CEILING_BYTES, cudaMemcpyDeviceToDevice,
                           stream) == cudaSuccess
               ? STATUS_OK
               : STATUS_CUDA;
}

static enum status run_dense(void *context, int32_t version, int32_t input, cudaStream_t stream)
{
    const struct gpu_dense *dense = context;
    (void)version;
    return lt_gemm_run(&dense->gemm, &dense->lt, dense->out, dense->x[input], dense->weights,
                       stream);
}

struct gpu_work gpu_dense_work(const struct gpu *gpu)
{
    return (struct gpu_work){run_dense, gpu->dense};
}

double gpu_dense_flops_per_s(const struct gpu_contender *contender)
{
    double dim = CEILING_DIM;
    return 2.0 * dim * dim * dim / median_ns(contender) * 1e9;
}

static enum status copy_ceiling(struct gpu *gpu)
{
    struct dev_memory memory = {0};
    struct copy_case copy = {dev_alloc(&memory, CEILING_BYTES), dev_alloc(&memory, CEILING_BYTES)};
    struct gpu_contender contender = {.name = "copy", .work = {run_copy, &copy}};
    enum status status = memory.failed ? STATUS_CUDA : STATUS_OK;
    if (status == STATUS_OK) {
        status = gpu_fill(copy.from, DTYPE_BF16, CEILING_BYTES / 2, 1.0f, 1, gpu->stream);
    }
    if (status == STATUS_OK) {
        status = gpu_time(gpu, &contender, 1, 1, 20, 2.0);
    }
    if (status == STATUS_OK && contender.num_samples > 0) {
        gpu->copy_bytes_per_s = 2.0 * (double)CEILING_BYTES / median_ns(&contender) * 1e9;
    }
    gpu_contenders_free(&contender, 1);
    dev_memory_free(&memory);
    return status;
}

/* x, weights and out; every input set its own x. */
static enum status dense_fill(struct gpu *gpu, struct gpu_dense *dense)
{
    int64_t count = (int64_t)CEILING_DIM * CEILING_DIM;
    enum status status = STATUS_OK;
    for (int32_t input = 0; input < GPU_INPUTS_MAX && status == STATUS_OK; input++) {
        dense->x[input] = dev_alloc(&dense->memory, count * 2);
        status = dense->memory.failed ? STATUS_CUDA
                                      : gpu_fill(dense->x[input], DTYPE_BF16, count, 1.0f,
                                                 (uint64_t)input + 1, gpu->stream);
    }
    dense->weights = dev_alloc(&dense->memory, count * 2);
    dense->out = dev_alloc(&dense->memory, count * 2);
    if (status == STATUS_OK) {
        status = dense->memory.failed
                     ? STATUS_CUDA
                     : gpu_fill(dense->weights, DTYPE_BF16, count, 1.0f, 9, gpu->stream);
    }
    return status;
}

static enum status dense_ceiling(struct gpu *gpu)
{
    struct lt_shape shape = {CEILING_DIM, CEILING_DIM, CEILING_DIM, DTYPE_BF16, false};
    gpu->dense = calloc(1, sizeof *gpu->dense);
    if (gpu->dense == NULL) {
        return STATUS_NO_MEMORY;
    }
    enum status status = lt_open(&gpu->dense->lt);
    status = status == STATUS_OK ? dense_fill(gpu, gpu->dense) : status;
    status = status == STATUS_OK ? lt_gemm_plan(&gpu->dense->gemm, &gpu->dense->lt, shape, NULL)
                                 : status;
    struct gpu_contender contender = {.name = "dense", .work = gpu_dense_work(gpu)};
    if (status == STATUS_OK) {
        status = gpu_time(gpu, &contender, 1, GPU_INPUTS_MAX, 30, 2.0);
    }
    if (status == STATUS_OK && contender.num_samples > 0) {
        gpu->bf16_flops_per_s = gpu_dense_flops_per_s(&contender);
    }
    gpu_contenders_free(&contender, 1);
    return status;
}

enum status gpu_ceilings(struct gpu *gpu)
{
    if (gpu->copy_bytes_per_s > 0.0) {
        return STATUS_OK;
    }
    bool turns = gpu->turns; /* the other program has nothing to do here */
    gpu->turns = false;
    enum status status = copy_ceiling(gpu);
    status = status == STATUS_OK ? dense_ceiling(gpu) : status;
    gpu->turns = turns;
    return status;
}
