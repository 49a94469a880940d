/*
 * emulated_runtime.c -- the CUDA runtime's calls that moe-bench makes, on host memory; and the
 * grouped GEMMs, by the references.
 *
 * Streams do their work at once. What is captured is done then, and a graph's launch does nothing
 * more: all that `time` and `forward` want is that it can be called. EMULATOR_WITHOUT=gpu, driver,
 * hopper or graphs takes something away: there is no GPU, its driver is older than the program, it
 * is of another generation, or it captures nothing.
 */
#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "../emulator/emulated_memory.h"
#include "dev_grouped_gemm.h"
#include "forward.h"
#include "quantize.h"

static bool lacks(const char *what)
{
    const char *left_out = getenv("EMULATOR_WITHOUT");
    return left_out != NULL && strcmp(left_out, what) == 0;
}

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 3;
    return lacks("gpu")      ? cudaErrorNoDevice
           : lacks("driver") ? cudaErrorInsufficientDriver
                             : cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    return device < 3 ? cudaSuccess : cudaErrorInvalidDevice;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device)
{
    (void)device;
    *properties = (struct cudaDeviceProp){.name = "emulated GPU",
                                          .major = lacks("hopper") ? 10 : 9,
                                          .multiProcessorCount = 4,
                                          .l2CacheSize = 4096};
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *bus, int bytes, int device)
{
    (void)device;
    bus[0] = '\0';
    return bytes > 0 ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = 12020;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = 13000;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **memory, size_t bytes)
{
    *memory = emulated_memory_take(bytes);
    if (*memory != NULL) {
        memset(*memory, 0x5a, bytes); /* nothing may depend on what was there */
    }
    return *memory != NULL ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaFree(void *memory)
{
    emulated_memory_free(memory);
    return cudaSuccess;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
    (void)kind;
    memcpy(to, from, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    (void)stream;
    return cudaMemcpy(to, from, bytes, kind);
}

cudaError_t cudaMemcpy2D(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                         size_t width, size_t height, enum cudaMemcpyKind kind)
{
    (void)kind;
    for (size_t row = 0; row < height; row++) {
        memcpy((char *)to + row * to_pitch, (const char *)from + row * from_pitch, width);
    }
    return cudaSuccess;
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                              size_t width, size_t height, enum cudaMemcpyKind kind,
                              cudaStream_t stream)
{
    (void)stream;
    return cudaMemcpy2D(to, to_pitch, from, from_pitch, width, height, kind);
}

cudaError_t cudaMallocHost(void **memory, size_t bytes)
{
    return cudaMalloc(memory, bytes);
}

cudaError_t cudaFreeHost(void *memory)
{
    return cudaFree(memory);
}

cudaError_t cudaMemset(void *to, int value, size_t bytes)
{
    memset(to, value, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream)
{
    (void)stream;
    memset(to, value, bytes);
    return cudaSuccess;
}

const char *cudaGetErrorString(cudaError_t code)
{
    (void)code;
    return "emulated";
}

cudaError_t cudaGetLastError(void)
{
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void)
{
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    (void)flags;
    *stream = NULL;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    (void)stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    (void)stream;
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status)
{
    (void)stream;
    *status = cudaStreamCaptureStatusNone;
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    (void)stream;
    (void)mode;
    return lacks("graphs") ? cudaErrorNotSupported : cudaSuccess;
}

/* A graph is not NULL; nobody looks into it. */
static const int captured = 1;

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    (void)stream;
    *graph = (cudaGraph_t)(void *)(uintptr_t)&captured;
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    (void)stream;
    (void)event;
    (void)flags;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *made, cudaGraph_t graph, unsigned long long flags)
{
    (void)flags;
    *made = (cudaGraphExec_t)(void *)graph;
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    (void)graph;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph)
{
    (void)graph;
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream)
{
    (void)stream;
    return graph != NULL ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    *event = NULL;
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    (void)flags;
    return cudaEventCreate(event);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    (void)event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    (void)event;
    (void)stream;
    return cudaSuccess;
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags)
{
    (void)flags;
    return cudaEventRecord(event, stream);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    (void)event;
    return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t begin, cudaEvent_t end)
{
    (void)begin;
    (void)end;
    *ms = 1.0f;
    return cudaSuccess;
}

/* ---- the grouped GEMMs: tests/emulator runs the real ones ---- */

const char *grouped_gemm_version_name(enum grouped_gemm_version version)
{
    return version == GROUPED_GEMM_PLAIN ? "plain" : "automatic";
}

bool grouped_gemm_takes(enum grouped_gemm_version version, struct expert_shape shape,
                        enum dtype dtype)
{
    (void)shape;
    (void)dtype;
    return version == GROUPED_GEMM_PLAIN || version == GROUPED_GEMM_AUTOMATIC;
}

int64_t dev_grouped_gemm_workspace_bytes(void)
{
    return 256;
}

enum status dev_grouped_gemm_workspace_init(void *workspace, int64_t bytes, void *stream)
{
    (void)stream;
    memset(workspace, 0, (size_t)bytes);
    return STATUS_OK;
}

enum status dev_grouped_gate_up(struct expert_shape shape, struct matrix h, struct matrix x,
                                const int32_t *row_begin, const int32_t *num_rows,
                                struct matrix gate_up, const float *bias,
                                const struct grouped_gemm_run *run, void *stream)
{
    (void)run;
    (void)stream;
    return ref_grouped_gate_up(shape, h, x, row_begin, num_rows, gate_up, bias);
}

enum status dev_grouped_down(struct expert_shape shape, struct matrix y, struct matrix h,
                             const int32_t *row_begin, const int32_t *num_rows, struct matrix down,
                             const float *bias, const struct grouped_gemm_run *run, void *stream)
{
    (void)run;
    (void)stream;
    return ref_grouped_down(shape, y, h, row_begin, num_rows, down, bias);
}
