/*
 * emulator.h -- enough of a Hopper GPU to run the grouped GEMMs' own source on the CPU.
 *
 * The kernels' files are compiled as C++ with this header in place of kernels/sm90.cuh and
 * kernels/wgmma.cuh; the threads of a block are fibers that change over wherever a thread waits, in
 * random order. What the hardware may do late is done as late as it may: a multiply reads its
 * operands and writes d only in the wait that is for it, a copy to shared memory at a random time,
 * a store from it in the wait for it or at a random time before. Shared memory begins as NaNs. So a
 * barrier that is missing or waited for in the wrong phase, a stage given back too early, a wrong
 * address or descriptor show as wrong numbers, and a lost arrival as a standstill. By turns a warp
 * is slow, so that others get ahead of it; who reaches into a block that has ended fails. Three
 * fences are looked for where they have to stand: between a thread's writes and a store of the copy
 * engine from there, before the first multiply of a batch, between a barrier's initialisation and a
 * copy. EMULATOR_WITHOUT=writes, multiplies or barriers takes one of them away: the run then has to
 * fail.
 *
 * Sources: PTX ISA 8.x, "mbarrier", "cp.async.bulk.tensor", "wgmma.mma_async", "stmatrix",
 * "movmatrix", "mma.m16n8k16". Left out: the order of memory accesses between threads other than
 * that of those fences, register budgets, time. A wait for wgmma here waits for the whole
 * warpgroup, where the hardware waits for the warp.
 */
#ifndef MOESIM_EMULATOR_H
#define MOESIM_EMULATOR_H

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp8.h>
#include <cuda_runtime.h>
#include <functional>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

namespace emulator
{

/* A thread of a block, as CUDA's built-in variables show it. */
struct place {
    dim3 thread;
    dim3 block;
    dim3 grid;
};

const struct place &here();

void launch(const cudaLaunchConfig_t &config, const std::function<void()> &kernel);

/* Deposits a value among `width` (32 or 128) neighbouring threads, returns when all have come. The
 * values of all are valid until the next call. */
const uint64_t *meet(int width, uint64_t value);

void barrier_init(uint32_t barrier, uint32_t arrivals);
void barrier_arrive(uint32_t barrier, uint32_t rank, uint32_t bytes);
void barrier_wait(uint32_t barrier, uint32_t parity);
void sync_threads(int id, int threads);
void cluster_sync();
uint32_t cluster_rank();

void fence_barriers();
void fence_writes();
void fence_multiplies();

uint8_t *memory(uint32_t address, uint32_t bytes);
void written(uint32_t address, uint32_t bytes); /* by the thread, not by the copy engine */
void load_box(uint32_t to, const CUtensorMap *map, uint32_t barrier, int32_t x, int32_t y,
              int32_t z, uint16_t blocks);
void load_bytes(uint32_t to, const void *from, uint32_t bytes, uint32_t barrier);
void store_box(const CUtensorMap *map, uint32_t from, int32_t x, int32_t y);
void store_wait();
void multiply(float *d, int columns, uint64_t a, uint64_t b, bool add, bool fp8);
void commit();
void wait(int pending);
void store_matrices(uint32_t to, const uint32_t (&value)[4]);
uint32_t transpose_matrix(uint32_t pair);
void warp_multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);

} // namespace emulator

/* --- the runtime --- */

extern "C" {
cudaError_t emulated_entry_point(const char *name, void **function, unsigned version,
                                 unsigned long long flags, cudaDriverEntryPointQueryResult *found);
cudaError_t emulated_attribute(int *value, cudaDeviceAttr attribute, int device);
cudaError_t emulated_memset(void *to, int value, size_t bytes, cudaStream_t stream);
}

template <class... Parameters, class... Arguments>
static cudaError_t emulated_launch(const cudaLaunchConfig_t *config, void (*kernel)(Parameters...),
                                   const Arguments &...arguments)
{
    emulator::launch(*config, [&] { kernel(arguments...); });
    return cudaSuccess;
}

#define cudaLaunchKernelEx               emulated_launch
#define cudaFuncSetAttribute(...)        cudaSuccess
#define cudaGetLastError()               cudaSuccess
#define cudaGetDevice(device)            (*(device) = 0, cudaSuccess)
#define cudaDeviceGetAttribute           emulated_attribute
#define cudaMemsetAsync                  emulated_memset
#define cudaGetDriverEntryPointByVersion emulated_entry_point

/* --- CUDA C++ --- */

#undef __device__
#undef __global__
#undef __host__
#undef __shared__
#undef __forceinline__
#undef __launch_bounds__
#undef __grid_constant__
#define __device__
#define __global__
#define __host__
#define __shared__      EMULATED_SHARED
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

/* A built-in variable's x, read whenever it is used. */
struct emulated_x {
    unsigned (*read)();
    operator unsigned() const
    {
        return read();
    }
};

struct emulated_dim {
    struct emulated_x x;
};

static const struct emulated_dim threadIdx = {{[] { return emulator::here().thread.x; }}};
static const struct emulated_dim blockIdx = {{[] { return emulator::here().block.x; }}};
static const struct emulated_dim gridDim = {{[] { return emulator::here().grid.x; }}};

#define __expf(x)         expf(x)
#define __fdividef(x, y)  ((x) / (y))
#define __ldg(pointer)    (*(pointer))
#define __ldcg(pointer)   (*(pointer))
#define __stcg(to, value) ((void)(*(to) = (value)))
#define __threadfence()   ((void)0)
#define __syncthreads()   emulator::sync_threads(0, 0)
#define __syncwarp()      ((void)emulator::meet(32, 0))
#define __trap()          abort()
#define __ffs(bits)       __builtin_ffs(bits)

static inline int32_t min(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

template <class T> static inline T warp_value(T value, int32_t lane)
{
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    bits = emulator::meet(32, bits)[lane];
    memcpy(&value, &bits, sizeof value);
    return value;
}

template <class T> static inline T __shfl_sync(uint32_t, T value, int32_t lane)
{
    return warp_value(value, lane);
}

template <class T> static inline T __shfl_up_sync(uint32_t, T value, uint32_t distance)
{
    int32_t lane = (int32_t)(threadIdx.x % 32);
    return warp_value(value, lane < (int32_t)distance ? lane : lane - (int32_t)distance);
}

template <class T> static inline T __shfl_xor_sync(uint32_t, T value, int32_t bits)
{
    return warp_value(value, (int32_t)(threadIdx.x % 32) ^ bits);
}

static inline uint32_t __ballot_sync(uint32_t, bool holds)
{
    const uint64_t *all = emulator::meet(32, holds);
    uint32_t ballot = 0;
    for (int lane = 0; lane < 32; lane++) {
        ballot |= (uint32_t)all[lane] << lane;
    }
    return ballot;
}

static inline uint32_t __reduce_add_sync(uint32_t, uint32_t value)
{
    const uint64_t *all = emulator::meet(32, value);
    uint32_t sum = 0;
    for (int lane = 0; lane < 32; lane++) {
        sum += (uint32_t)all[lane];
    }
    return sum;
}

static inline int32_t atomicAdd(int32_t *to, int32_t value)
{
    int32_t before = *to;
    *to += value;
    return before;
}

/* --- sm90.cuh --- */

#define MOESIM_SM90_CUH

static inline uint32_t shared_address(const void *)
{
    return 1024; /* where a block's memory begins, as on the hardware */
}

#define barrier_init_fence()    emulator::fence_barriers()
#define prefetch_map(map)       ((void)(map))
#define shared_writes_fence()   emulator::fence_writes()
#define store_commit()          ((void)0)
#define store_wait_read()       store_wait()
#define sync_threads_of(id, of) emulator::sync_threads(id, of)

using emulator::barrier_init;
using emulator::barrier_wait;
using emulator::cluster_rank;
using emulator::cluster_sync;
using emulator::load_bytes;
using emulator::store_box;
using emulator::store_wait;
using emulator::transpose_matrix;
using emulator::warp_multiply;

static inline void barrier_arrive(uint32_t barrier)
{
    emulator::barrier_arrive(barrier, ~0u, 0);
}

static inline void barrier_arrive_at(uint32_t barrier, uint32_t rank)
{
    emulator::barrier_arrive(barrier, rank, 0);
}

static inline void barrier_expect(uint32_t barrier, uint32_t bytes)
{
    emulator::barrier_arrive(barrier, ~0u, bytes);
}

template <int ID, int THREADS> static inline void sync_threads()
{
    emulator::sync_threads(ID, THREADS);
}

template <int COUNT> static inline void registers_give()
{
}

template <int COUNT> static inline void registers_take()
{
}

static inline void load_box(uint32_t to, const CUtensorMap *map, uint32_t barrier, int32_t x,
                            int32_t y, int32_t z = 0)
{
    emulator::load_box(to, map, barrier, x, y, z, 0);
}

static inline void load_box_shared(uint32_t to, const CUtensorMap *map, uint32_t barrier, int32_t x,
                                   int32_t y, uint16_t blocks)
{
    emulator::load_box(to, map, barrier, x, y, 0, blocks);
}

static inline void load_box_shared(uint32_t to, const CUtensorMap *map, uint32_t barrier, int32_t x,
                                   int32_t y, int32_t z, uint16_t blocks)
{
    emulator::load_box(to, map, barrier, x, y, z, blocks);
}

static inline void store_matrices(uint32_t to, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    const uint32_t value[4] = {a, b, c, d};
    emulator::store_matrices(to, value);
}

template <class T> static inline T shared_value(uint32_t from)
{
    T value;
    memcpy(&value, emulator::memory(from, sizeof value), sizeof value);
    return value;
}

#define shared_float shared_value<float>
#define shared_chunk shared_value<uint4>
#define shared_u16   shared_value<uint16_t>

template <class T> static inline void store_shared(uint32_t to, T value)
{
    memcpy(emulator::memory(to, sizeof value), &value, sizeof value);
    emulator::written(to, sizeof value);
}

/* --- wgmma.cuh --- */

#define MOESIM_WGMMA_CUH

#define wgmma_fence()  emulator::fence_multiplies()
#define wgmma_commit() emulator::commit()

template <int PENDING> static inline void wgmma_wait()
{
    emulator::wait(PENDING);
}

template <int COUNT> static inline void wgmma_touch(float (&)[COUNT])
{
}

template <int COUNT> static inline void wgmma_clear(float (&d)[COUNT])
{
    for (int i = 0; i < COUNT; i++) {
        d[i] = 0.0f;
    }
}

template <int COUNT>
static inline void wgmma_bf16(float (&d)[COUNT], uint64_t a, uint64_t b, int32_t add)
{
    emulator::multiply(d, 2 * COUNT, a, b, add != 0, false);
}

template <int COUNT>
static inline void wgmma_fp8(float (&d)[COUNT], uint64_t a, uint64_t b, int32_t add)
{
    emulator::multiply(d, 2 * COUNT, a, b, add != 0, true);
}

#endif
