/*
 * grouped_gemm.cuh -- what the versions of the grouped GEMM have in common; not for callers.
 *
 * One GEMM of the two: out[row] = epilogue(x[row] weight[e]^T), e the expert of the row. `paired`
 * is the one whose weights are gate and up in granules of eight rows: two accumulators make one
 * column of out.
 */
#ifndef MOESIM_GROUPED_GEMM_CUH
#define MOESIM_GROUPED_GEMM_CUH

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp8.h>
#include <cuda_runtime.h>

#include "dev_grouped_gemm.h"
#include "quantize.h"
#include "sm90.cuh"
#include "tile_layout.h"

#define BLOCK_BYTES_MAX     (227 * 1024) /* shared memory of one block (CUDA C Programming Guide) */
#define REGISTERS_AT_LAUNCH (384 * 168)  /* 384 threads, in units of 8 registers a thread */

enum epilogue {
    EPILOGUE_NONE,
    EPILOGUE_SWIGLU,
    EPILOGUE_SWIGLU_CLAMPED,
    EPILOGUE_GELU,
};

struct gemm_args {
    int32_t num_experts;
    int32_t depth;       /* K: columns of x and weight */
    int32_t weight_rows; /* N: of one expert */
    int32_t out_columns; /* N, or N / 2 where paired */
    bool paired;
    enum epilogue epilogue;
    int64_t rows;
    struct matrix x;
    struct matrix weight;
    struct matrix out;
    int32_t weight_blocks; /* rows of scale blocks of one expert's weights */
    int32_t up_block;      /* paired: scale block of up's column 0 */
    const int32_t *row_begin;
    const int32_t *num_rows;
    const float *bias;
    float *parts;      /* stream: [block][2][256][128] */
    int32_t *arrivals; /* stream: [block], zero between calls */
};

/* Launches; each takes what grouped_gemm_takes says. */
enum status gemm_plain(const struct gemm_args *args, cudaStream_t stream);
enum status gemm_mma(const struct gemm_args *args, cudaStream_t stream);
enum status gemm_wgmma(const struct gemm_args *args, cudaStream_t stream);
enum status gemm_large(const struct gemm_args *args, int32_t num_sms, bool clusters,
                       cudaStream_t stream);
enum status gemm_stream(const struct gemm_args *args, int32_t num_sms, cudaStream_t stream);

/* Boxes of box_columns x box_rows of a [rows][columns] matrix, swizzled by 128 bytes; reads beyond
 * are zeros, writes beyond are left out. false: the driver refuses. (grouped_gemm.cu) */
bool tensor_map_rows(CUtensorMap *map, struct matrix matrix, int64_t rows, int32_t columns,
                     int32_t box_rows);

/* The same of [experts][rows][columns]; no box reaches into the next expert. */
bool tensor_map_experts(CUtensorMap *map, struct matrix matrix, int32_t num_experts, int32_t rows,
                        int32_t columns, int32_t box_rows);

/* cluster: blocks in one, 1 or 2. */
template <class... Parameters, class... Arguments>
static enum status launch_kernel(void (*kernel)(Parameters...), int64_t blocks, int32_t threads,
                                 int32_t shared_bytes, int32_t cluster, cudaStream_t stream,
                                 const Arguments &...arguments)
{
    if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes) !=
        cudaSuccess) {
        return STATUS_CUDA;
    }
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = (unsigned)cluster;
    attribute.val.clusterDim.y = 1;
    attribute.val.clusterDim.z = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3((unsigned)blocks);
    config.blockDim = dim3((unsigned)threads);
    config.dynamicSmemBytes = (size_t)shared_bytes;
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = cluster > 1 ? 1 : 0;
    if (cudaLaunchKernelEx(&config, kernel, arguments...) != cudaSuccess) {
        (void)cudaGetLastError(); /* told here; nobody else shall find it */
        return STATUS_CUDA;
    }
    return STATUS_OK;
}

/* The address of a block's shared memory, which the swizzle wants at a multiple of an atom. */
static __device__ __forceinline__ uint32_t swizzle_base(const void *shared)
{
    uint32_t base = shared_address(shared);
    if (base % ATOM_BYTES != 0) {
        __trap();
    }
    return base;
}

/* 128 bytes of K. */
static __host__ __device__ __forceinline__ int32_t gemm_steps(const struct gemm_args &args)
{
    return tile_count(args.depth * (args.x.dtype == DTYPE_FP8_E4M3 ? 1 : 2), ROW_BYTES);
}

static __device__ __forceinline__ float sigmoid_fast(float x)
{
    return __fdividef(1.0f, 1.0f + __expf(-x));
}

static __device__ __forceinline__ float activate_pair(enum epilogue epilogue, float gate, float up)
{
    if (epilogue == EPILOGUE_SWIGLU) {
        return gate * sigmoid_fast(gate) * up;
    }
    gate = fminf(gate, SWIGLU_LIMIT);
    up = fminf(fmaxf(up, -SWIGLU_LIMIT), SWIGLU_LIMIT);
    return (up + 1.0f) * gate * sigmoid_fast(SWIGLU_ALPHA * gate);
}

static __device__ __forceinline__ float activate_single(enum epilogue epilogue, float value)
{
    return epilogue == EPILOGUE_GELU ? 0.5f * value * (1.0f + erff(value * 0.70710678f)) : value;
}

/* As quantize.h but for the last bit: a division that rounds to nearest is a call, and what a
 * consumer holds in registers leaves no room for one. */
static __device__ __forceinline__ float fp8_scale(float amax)
{
    return fmaxf(amax, FP8_AMAX_MIN) * (1.0f / FP8_MAX);
}

static __device__ __forceinline__ uint32_t bf16_pair(float low, float high)
{
    __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    uint32_t bits;
    memcpy(&bits, &pair, sizeof bits);
    return bits;
}

static __device__ __forceinline__ uint16_t fp8_pair(float low, float high)
{
    return __nv_cvt_float2_to_fp8x2(make_float2(low, high), __NV_SATFINITE, __NV_E4M3);
}

/* A place in the ring of stages, and the parity of its phase. */
struct ring {
    uint32_t stage;
    uint32_t parity;
};

template <int STAGES> static __device__ __forceinline__ void ring_advance(struct ring &ring)
{
    ring.stage++;
    if (ring.stage == STAGES) {
        ring.stage = 0;
        ring.parity ^= 1;
    }
}

/* A warp's window on 32 groups, one a lane. Zero-initialise `end`, first = -32. */
struct group_window {
    int32_t first; /* group of lane 0 */
    int32_t rows;  /* of this lane's group */
    int32_t end;   /* items of all groups up to this lane's, itself included */
};

/* What number `item` of all groups' items is: */
struct group_item {
    int32_t group;
    int32_t index; /* of the group's items */
    int32_t rows;  /* of the group */
};

/* Loads the next 32 groups. */
template <class Items>
static __device__ __forceinline__ void window_move(struct group_window &window,
                                                   const struct gemm_args &args, Items items)
{
    int32_t lane = (int32_t)(threadIdx.x % 32);
    int32_t before = __shfl_sync(0xffffffff, window.end, 31);
    window.first += 32;
    int32_t group = window.first + lane;
    window.rows = group < args.num_experts ? __ldg(&args.num_rows[group]) : 0;
    int32_t sum = items(window.rows);
    for (int32_t distance = 1; distance < 32; distance *= 2) {
        int32_t left = __shfl_up_sync(0xffffffff, sum, (uint32_t)distance);
        sum += lane >= distance ? left : 0;
    }
    window.end = before + sum;
}

/* Called by whole warps with items that never decrease. false: there are not so many. */
template <class Items>
static __device__ __forceinline__ bool find_item(struct group_window &window,
                                                 const struct gemm_args &args, Items items,
                                                 int32_t item, struct group_item &found)
{
    uint32_t holds = __ballot_sync(0xffffffff, item < window.end);
    while (holds == 0) {
        if (window.first + 32 >= args.num_experts) {
            return false;
        }
        window_move(window, args, items);
        holds = __ballot_sync(0xffffffff, item < window.end);
    }
    int32_t lane = __ffs((int)holds) - 1;
    found.group = window.first + lane;
    found.rows = __shfl_sync(0xffffffff, window.rows, lane);
    found.index = item - (__shfl_sync(0xffffffff, window.end, lane) - items(found.rows));
    return true;
}

#endif
