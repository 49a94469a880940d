/*
 * sm90.cuh -- Hopper's instructions that CUDA C++ has no name for: barriers in shared memory, the
 * copy engine's tensor copies, register budgets, stmatrix. PTX ISA 8.0 and its names.
 *
 * A barrier goes through phases, and a phase ends when all arrivals have come and all bytes that
 * were announced are written. wait_phase(b, p) returns once the phase of parity p has ended; a
 * fresh barrier is in phase 0, and the phase before it, of parity 1, counts as ended.
 */
#ifndef MOESIM_SM90_CUH
#define MOESIM_SM90_CUH

#include <cuda.h>
#include <stdint.h>
#include <stdio.h>

__device__ __forceinline__ uint32_t shared_address(const void *pointer)
{
    return (uint32_t)__cvta_generic_to_shared(pointer);
}

__device__ __forceinline__ void barrier_init(uint32_t barrier, uint32_t arrivals)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(barrier), "r"(arrivals)
                 : "memory");
}

/* Makes initialised barriers known to the copy engine and the other block of a cluster. */
__device__ __forceinline__ void barrier_init_fence()
{
    asm volatile("fence.mbarrier_init.release.cluster;\n" ::: "memory");
}

__device__ __forceinline__ void barrier_arrive(uint32_t barrier)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];\n" ::"r"(barrier) : "memory");
}

/* Arrives at the barrier that lies at the same address in block `rank` of the cluster. Of the
 * default scope, the block: nothing is written to memory for the other one to read, and a release
 * to the whole cluster is a MEMBAR.ALL.GPU, in every stage. What the waiting block overwrites was
 * read by wgmma, whose end wgmma_wait has seen. */
__device__ __forceinline__ void barrier_arrive_at(uint32_t barrier, uint32_t rank)
{
    asm volatile("{\n.reg .b32 remote;\n"
                 "mapa.shared::cluster.u32 remote, %0, %1;\n"
                 "mbarrier.arrive.shared::cluster.b64 _, [remote];\n}\n" ::"r"(barrier),
                 "r"(rank)
                 : "memory");
}

/* Arrives and announces bytes that copies will write. */
__device__ __forceinline__ void barrier_expect(uint32_t barrier, uint32_t bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(barrier),
                 "r"(bytes)
                 : "memory");
}

/* A wait for what never comes hangs the GPU and says nothing. Built with MOESIM_WATCHDOG it says
 * who waits where after three seconds, and ends the kernel; without, the wait is a few
 * instructions. */
__device__ __forceinline__ void barrier_watch(uint32_t barrier, uint32_t parity, uint64_t *since_ns)
{
#ifdef MOESIM_WATCHDOG
    uint64_t now_ns;
    asm volatile("mov.u64 %0, %%globaltimer;\n" : "=l"(now_ns));
    *since_ns = *since_ns == 0 ? now_ns : *since_ns;
    if (now_ns - *since_ns > 3000000000u) {
        if (threadIdx.x % 32 == 0) {
            printf("block %u of %u, thread %u: waits for phase %u of barrier %u\n", blockIdx.x,
                   gridDim.x, threadIdx.x, parity, barrier);
        }
        __trap();
    }
#else
    (void)barrier;
    (void)parity;
    (void)since_ns;
#endif
}

__device__ __forceinline__ void barrier_wait(uint32_t barrier, uint32_t parity)
{
    uint32_t ended;
    uint64_t since_ns = 0;
    do {
        barrier_watch(barrier, parity, &since_ns);
        asm volatile("{\n.reg .pred p;\n"
                     "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
                     "selp.u32 %0, 1, 0, p;\n}\n"
                     : "=r"(ended)
                     : "r"(barrier), "r"(parity)
                     : "memory");
    } while (ended == 0);
}

__device__ __forceinline__ void cluster_sync()
{
    asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;\n" ::: "memory");
}

__device__ __forceinline__ uint32_t cluster_rank()
{
    uint32_t rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;\n" : "=r"(rank));
    return rank;
}

/* A barrier of some of the block's warps; id 0 is __syncthreads. */
template <int ID, int THREADS> __device__ __forceinline__ void sync_threads()
{
    asm volatile("bar.sync %0, %1;\n" ::"n"(ID), "n"(THREADS) : "memory");
}

__device__ __forceinline__ void sync_threads_of(int id, int threads)
{
    asm volatile("bar.sync %0, %1;\n" ::"r"(id), "r"(threads) : "memory");
}

template <int COUNT> __device__ __forceinline__ void registers_give()
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;\n" ::"n"(COUNT));
}

template <int COUNT> __device__ __forceinline__ void registers_take()
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;\n" ::"n"(COUNT));
}

__device__ __forceinline__ void prefetch_map(const CUtensorMap *map)
{
    asm volatile("prefetch.tensormap [%0];\n" ::"l"((uint64_t)map) : "memory");
}

/* Box at column x, row y of a matrix. */
__device__ __forceinline__ void load_box(uint32_t to, const CUtensorMap *map, uint32_t barrier,
                                         int32_t x, int32_t y)
{
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4}], [%2];\n" ::"r"(to),
                 "l"((uint64_t)map), "r"(barrier), "r"(x), "r"(y)
                 : "memory");
}

/* Box at column x, row y of matrix z. */
__device__ __forceinline__ void load_box(uint32_t to, const CUtensorMap *map, uint32_t barrier,
                                         int32_t x, int32_t y, int32_t z)
{
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4, %5}], [%2];\n" ::"r"(to),
                 "l"((uint64_t)map), "r"(barrier), "r"(x), "r"(y), "r"(z)
                 : "memory");
}

/* The same into every block of the cluster whose bit is set, each block's own barrier included. */
__device__ __forceinline__ void load_box_shared(uint32_t to, const CUtensorMap *map,
                                                uint32_t barrier, int32_t x, int32_t y,
                                                uint16_t blocks)
{
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
                 ".multicast::cluster [%0], [%1, {%3, %4}], [%2], %5;\n" ::"r"(to),
                 "l"((uint64_t)map), "r"(barrier), "r"(x), "r"(y), "h"(blocks)
                 : "memory");
}

__device__ __forceinline__ void load_box_shared(uint32_t to, const CUtensorMap *map,
                                                uint32_t barrier, int32_t x, int32_t y, int32_t z,
                                                uint16_t blocks)
{
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
                 ".multicast::cluster [%0], [%1, {%3, %4, %5}], [%2], %6;\n" ::"r"(to),
                 "l"((uint64_t)map), "r"(barrier), "r"(x), "r"(y), "r"(z), "h"(blocks)
                 : "memory");
}

/* Plain bytes: both addresses and the count are multiples of 16. */
__device__ __forceinline__ void load_bytes(uint32_t to, const void *from, uint32_t bytes,
                                           uint32_t barrier)
{
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1], %2, [%3];\n" ::"r"(to),
                 "l"((uint64_t)__cvta_generic_to_global(from)), "r"(bytes), "r"(barrier)
                 : "memory");
}

/* What this thread wrote to shared memory, made visible to the copy engine. */
__device__ __forceinline__ void shared_writes_fence()
{
    asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
}

__device__ __forceinline__ void store_box(const CUtensorMap *map, uint32_t from, int32_t x,
                                          int32_t y)
{
    asm volatile(
        "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];\n" ::"l"(
            (uint64_t)map),
        "r"(from), "r"(x), "r"(y)
        : "memory");
}

__device__ __forceinline__ void store_commit()
{
    asm volatile("cp.async.bulk.commit_group;\n" ::: "memory");
}

/* Until this thread's stores have read their shared memory. */
__device__ __forceinline__ void store_wait_read()
{
    asm volatile("cp.async.bulk.wait_group.read 0;\n" ::: "memory");
}

/* Until this thread's stores have been written. */
__device__ __forceinline__ void store_wait()
{
    asm volatile("cp.async.bulk.wait_group 0;\n" ::: "memory");
}

/* Four 8 x 8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8. */
__device__ __forceinline__ void store_matrices(uint32_t to, uint32_t a, uint32_t b, uint32_t c,
                                               uint32_t d)
{
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};\n" ::"r"(to),
                 "r"(a), "r"(b), "r"(c), "r"(d)
                 : "memory");
}

__device__ __forceinline__ float shared_float(uint32_t from)
{
    float value;
    asm volatile("ld.shared.f32 %0, [%1];\n" : "=f"(value) : "r"(from) : "memory");
    return value;
}

__device__ __forceinline__ uint4 shared_chunk(uint32_t from)
{
    uint4 value;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
                 : "r"(from)
                 : "memory");
    return value;
}

__device__ __forceinline__ void store_shared(uint32_t to, uint16_t value)
{
    asm volatile("st.shared.u16 [%0], %1;\n" ::"r"(to), "h"(value) : "memory");
}

__device__ __forceinline__ void store_shared(uint32_t to, float value)
{
    asm volatile("st.shared.f32 [%0], %1;\n" ::"r"(to), "f"(value) : "memory");
}

__device__ __forceinline__ uint16_t shared_u16(uint32_t from)
{
    uint16_t value;
    asm volatile("ld.shared.u16 %0, [%1];\n" : "=h"(value) : "r"(from) : "memory");
    return value;
}

/* An 8 x 8 matrix of 16-bit elements, lane l having row l / 4, columns 2 (l % 4) and the next. */
__device__ __forceinline__ uint32_t transpose_matrix(uint32_t pair)
{
    uint32_t out;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;\n" : "=r"(out) : "r"(pair));
    return out;
}

/* d[16][8] += a[16][16] b[8][16]^T in bf16. */
__device__ __forceinline__ void warp_multiply(float (&d)[4], const uint32_t (&a)[4],
                                              const uint32_t (&b)[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#endif
