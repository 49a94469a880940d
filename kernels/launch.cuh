/*
 * launch.cuh -- a kernel's launch as a call that answers, and a block's dynamic shared memory.
 *
 * Not with <<<>>>, so that a plain C++ compiler can read the kernels: tests run them on the CPU.
 */
#ifndef MOESIM_LAUNCH_CUH
#define MOESIM_LAUNCH_CUH

#include <cuda_runtime.h>

#include "status.h"

template <class... Parameters, class... Arguments>
static enum status launch(void (*kernel)(Parameters...), unsigned blocks, unsigned threads,
                          size_t shared_bytes, void *stream, const Arguments &...arguments)
{
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(blocks);
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared_bytes;
    config.stream = (cudaStream_t)stream;
    if (cudaLaunchKernelEx(&config, kernel, arguments...) != cudaSuccess) {
        (void)cudaGetLastError(); /* said; must not be found by the next launch */
        return STATUS_CUDA;
    }
    return STATUS_OK;
}

static __device__ __forceinline__ void *block_memory()
{
    extern __shared__ uint4 block_memory_begin[]; /* aligned to 16 bytes */
    return block_memory_begin;
}

#endif
