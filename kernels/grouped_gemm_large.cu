/*
 * grouped_gemm_large.cu -- the grouped GEMM for many rows an expert: x on M, weights on N.
 *
 * v1 and v2 are in grouped_gemm.cu. A stage is 128 bytes of K of every row: 64 bf16 or 128 fp8.
 *
 * v3  64 x 256 tiles. The copy engine loads a stage, one warpgroup multiplies, one after the
 *     other. Bound by the latency of every load.
 * v4  128 x 256 tiles, one persistent block an SM. A producer thread keeps four stages filled; two
 *     consumer warpgroups multiply 64 x 256 each, always with a batch under way, and one's epilogue
 *     runs beside the other's last batches. Token tiles run fastest within bands, so weights come
 *     from L2. Bound by L2: 48 KiB a stage that takes 1024 cycles, 48 bytes a cycle and SM, which
 *     is about what L2 delivers.
 * v5  Clusters of two blocks: what both need each loads half of, for both. 32 bytes a cycle and SM;
 *     bound by the tensor core or, under load, by power.
 *
 * fp8: the tensor core sums 128 columns, the scaled sums are added in float32 by the consumers, in
 * turns. h is rounded in the epilogue: a tile is 128 columns of h wide, a block of scales.
 * bf16 h and y leave through shared memory, 128 columns at a time; fp8 h likewise.
 */
#include "grouped_gemm.cuh"
#include "sm90.cuh"
#include "wgmma.cuh"

#define LARGE_THREADS   384 /* a producer and two consumer warpgroups */
#define LARGE_CONSUMERS 2
#define CONSUMER_WARPS  (LARGE_CONSUMERS * 4)
/* 128 x 40 + 256 x 232 = the 64,512 registers that 384 threads start with. */
#define PRODUCER_REGISTERS 40
#define CONSUMER_REGISTERS 232

#define STAGING_OFFSET     (LARGE_STAGES * STAGE_BYTES)
#define SCALES_OFFSET      (STAGING_OFFSET + LARGE_CONSUMERS * STAGING_BYTES)
#define FULL_OFFSET        (SCALES_OFFSET + LARGE_STAGES * SCALES_BYTES)
#define EMPTY_OFFSET       (FULL_OFFSET + LARGE_STAGES * 8)
#define LARGE_BYTES        (EMPTY_OFFSET + LARGE_STAGES * 8)

static_assert(LARGE_BYTES <= BLOCK_BYTES_MAX, "more shared memory than a block can have");
static_assert(128 * PRODUCER_REGISTERS + 256 * CONSUMER_REGISTERS <= REGISTERS_AT_LAUNCH,
              "more registers than the block gave back");

struct large_maps {
    CUtensorMap x;      /* boxes of 64 rows */
    CUtensorMap weight; /* boxes of 128 rows */
    CUtensorMap out;    /* boxes of 64 rows */
};

struct large_items {
    int32_t weight_tiles;
    bool clusters;

    __device__ __forceinline__ int32_t operator()(int32_t rows) const
    {
        int32_t token_tiles = tile_count(rows, TILE_TOKENS);
        return clusters ? pair_count(token_tiles, weight_tiles) : token_tiles * weight_tiles;
    }
};

struct large_tile {
    int32_t group;
    int32_t weight;      /* tile */
    int32_t first_row;   /* of x and out */
    int32_t rows;        /* that the group has from there on */
    bool shares_weights; /* clusters: with the other block; else it shares the tokens */
};

template <bool CLUSTERS>
static __device__ __forceinline__ bool find_tile(struct group_window &window,
                                                 const struct gemm_args &args, int32_t number,
                                                 struct large_tile &tile)
{
    struct large_items items = {tile_count(args.weight_rows, TILE_WEIGHTS), CLUSTERS};
    struct group_item item;
    if (!find_item(window, args, items, number, item)) {
        return false;
    }
    int32_t token_tiles = tile_count(item.rows, TILE_TOKENS);
    struct tile at;
    if (CLUSTERS) {
        struct pair pair = pair_in_group(item.index, token_tiles, items.weight_tiles);
        at = tile_of_pair(pair, (int32_t)cluster_rank());
        tile.shares_weights = pair.shares_weights;
    } else {
        at = tile_in_bands(item.index, token_tiles, items.weight_tiles,
                           band_tiles(items.weight_tiles));
        tile.shares_weights = false;
    }
    tile.group = item.group;
    tile.weight = at.weight;
    tile.first_row = __ldg(&args.row_begin[item.group]) + at.token * TILE_TOKENS;
    tile.rows = item.rows - at.token * TILE_TOKENS;
    return true;
}

/* --- the producer: one thread keeps the stages filled --- */

template <bool FP8>
static __device__ __forceinline__ void load_scales(const struct gemm_args &args, uint32_t base,
                                                   struct ring ring, int32_t first_row,
                                                   int32_t step)
{
    int64_t first = first_row & ~3;
    const float *from = args.x.scale + step * args.x.scale_rows + first;
    load_bytes(base + SCALES_OFFSET + ring.stage * SCALES_BYTES, from,
               scales_bytes(args.x.scale_rows, first_row), base + FULL_OFFSET + ring.stage * 8);
}

template <bool FP8, bool CLUSTERS>
static __device__ __forceinline__ void
load_stage(const struct large_maps &maps, const struct gemm_args &args, uint32_t base,
           struct ring ring, const struct large_tile &tile, int32_t step)
{
    uint32_t tokens = base + ring.stage * STAGE_BYTES;
    uint32_t weights = tokens + TOKENS_BYTES;
    uint32_t full = base + FULL_OFFSET + ring.stage * 8;
    int32_t column = step * (FP8 ? ROW_BYTES : ROW_BYTES / 2);
    int32_t weight_row = tile.weight * TILE_WEIGHTS;
    uint32_t bytes = STAGE_BYTES + (FP8 ? scales_bytes(args.x.scale_rows, tile.first_row) : 0);
    barrier_expect(full, bytes);
    if (CLUSTERS && !tile.shares_weights) {
        uint32_t half = cluster_rank() * WGMMA_ROWS;
        load_box_shared(tokens + half * ROW_BYTES, &maps.x, full, column,
                        tile.first_row + (int32_t)half, 3);
    } else {
        load_box(tokens, &maps.x, full, column, tile.first_row);
        load_box(tokens + TOKENS_BYTES / 2, &maps.x, full, column, tile.first_row + WGMMA_ROWS);
    }
    if (CLUSTERS && tile.shares_weights) {
        uint32_t half = cluster_rank() * (TILE_WEIGHTS / 2);
        load_box_shared(weights + half * ROW_BYTES, &maps.weight, full, column,
                        weight_row + (int32_t)half, tile.group, 3);
    } else {
        load_box(weights, &maps.weight, full, column, weight_row, tile.group);
        load_box(weights + WEIGHTS_BYTES / 2, &maps.weight, full, column,
                 weight_row + TILE_WEIGHTS / 2, tile.group);
    }
    if (FP8) {
        load_scales<FP8>(args, base, ring, tile.first_row, step);
    }
}

template <bool FP8, bool CLUSTERS>
static __device__ __forceinline__ void produce(const struct large_maps &maps,
                                               const struct gemm_args &args, uint32_t base)
{
    struct group_window window = {-32, 0, 0};
    struct ring ring = {0, 0};
    struct large_tile tile;
    int32_t steps = gemm_steps(args);
    int32_t first = (int32_t)blockIdx.x / (CLUSTERS ? 2 : 1);
    int32_t stride = (int32_t)gridDim.x / (CLUSTERS ? 2 : 1);
    for (int32_t number = first; find_tile<CLUSTERS>(window, args, number, tile);
         number += stride) {
        if (threadIdx.x % 32 == 0) {
            for (int32_t step = 0; step < steps; step++) {
                barrier_wait(base + EMPTY_OFFSET + ring.stage * 8, ring.parity ^ 1);
                load_stage<FP8, CLUSTERS>(maps, args, base, ring, tile, step);
                ring_advance<LARGE_STAGES>(ring);
            }
        }
        __syncwarp();
    }
}

/* --- a consumer: 64 rows of tokens by 256 rows of weights --- */

struct consumer {
    uint32_t base;    /* of shared memory */
    uint32_t staging; /* of its own */
    uint32_t index;   /* warpgroup 0 or 1 */
    int32_t thread;   /* of the warpgroup's 128 */
};

/* Every warp tells that it is done with a stage; a cluster's stages are filled by both blocks. */
template <bool CLUSTERS>
static __device__ __forceinline__ void release_stage(const struct consumer &self, uint32_t stage)
{
    uint32_t empty = self.base + EMPTY_OFFSET + stage * 8;
    uint32_t lane = (uint32_t)self.thread % 32;
    __syncwarp();
    if (CLUSTERS) {
        if (lane < 2) {
            barrier_arrive_at(empty, lane);
        }
    } else if (lane == 0) {
        barrier_arrive(empty);
    }
}

static __device__ __forceinline__ void wait_stage(const struct consumer &self, struct ring ring)
{
    barrier_wait(self.base + FULL_OFFSET + ring.stage * 8, ring.parity);
}

static __device__ __forceinline__ uint64_t token_operand(const struct consumer &self,
                                                         uint32_t stage)
{
    return operand_descriptor(self.base + stage * STAGE_BYTES +
                              self.index * WGMMA_ROWS * ROW_BYTES);
}

static __device__ __forceinline__ uint64_t weight_operand(const struct consumer &self,
                                                          uint32_t stage)
{
    return operand_descriptor(self.base + stage * STAGE_BYTES + TOKENS_BYTES);
}

/* A stage is given back one step late, so that the tensor core always has a batch to go on with. */
template <bool CLUSTERS>
static __device__ __forceinline__ void
accumulate_bf16(float (&sum)[128], const struct consumer &self, struct ring &ring, int32_t steps)
{
    uint32_t last = ring.stage;
    for (int32_t step = 0; step < steps; step++) {
        wait_stage(self, ring);
        uint64_t a = token_operand(self, ring.stage);
        uint64_t b = weight_operand(self, ring.stage);
        wgmma_fence();
#pragma unroll
        for (uint32_t k = 0; k < 4; k++) {
            wgmma_bf16(sum, operand_at(a, 0, k), operand_at(b, 0, k), step > 0 || k > 0);
        }
        wgmma_commit();
        if (step > 0) {
            wgmma_wait<1>();
            release_stage<CLUSTERS>(self, last);
        }
        last = ring.stage;
        ring_advance<LARGE_STAGES>(ring);
    }
    wgmma_wait<0>();
    release_stage<CLUSTERS>(self, last);
    wgmma_touch(sum);
}

/* Scales of the weights of a tile: of two blocks of rows, a float32 for 128 columns each. */
struct weight_scales {
    const float *block[2];
};

template <bool PAIRED>
static __device__ __forceinline__ struct weight_scales
scales_of_tile(const struct gemm_args &args, const struct large_tile &tile, int32_t steps)
{
    int32_t first = PAIRED ? tile.weight : 2 * tile.weight;
    int32_t second = PAIRED ? tile.weight + args.up_block : 2 * tile.weight + 1;
    int32_t last = args.weight_blocks - 1;
    const float *scale = args.weight.scale + (int64_t)tile.group * args.weight_blocks * steps;
    struct weight_scales scales;
    scales.block[0] = scale + (int64_t)min(first, last) * steps;
    scales.block[1] = scale + (int64_t)min(second, last) * steps;
    return scales;
}

/* sum += part * scale of the row * scale of the weights. Half 0 and 1 of the weights' rows are
 * scaled apart or, where gate and up alternate by eight rows, the granules are. */
template <bool PAIRED, int HALF>
static __device__ __forceinline__ void promote(float (&sum)[128], const float (&part)[64],
                                               const float (&row)[2], const float (&weight)[2])
{
    float scale[2][2]; /* [even or odd granule][row or row + 8] */
#pragma unroll
    for (int32_t i = 0; i < 4; i++) {
        scale[i / 2][i % 2] = row[i % 2] * weight[PAIRED ? i / 2 : HALF];
    }
#pragma unroll
    for (int32_t i = 0; i < 64; i++) {
        sum[64 * HALF + i] = fmaf(part[i], scale[i / 4 % 2][i / 2 % 2], sum[64 * HALF + i]);
    }
}

template <bool PAIRED, int HALF>
static __device__ __forceinline__ void multiply_half(float (&part)[64], uint64_t a, uint64_t b)
{
    wgmma_fence();
#pragma unroll
    for (uint32_t k = 0; k < 4; k++) {
        wgmma_fp8(part, operand_at(a, 0, k), operand_at(b, HALF * 128, k), k > 0);
    }
    wgmma_commit();
    wgmma_wait<0>();
    wgmma_touch(part);
}

/* Sums of 128 columns are scaled and added in float32 outside of the tensor core (DeepSeek-V3,
 * section 3.3.2): while one consumer does so, the other multiplies. */
template <bool PAIRED, bool CLUSTERS>
static __device__ __forceinline__ void
accumulate_fp8(float (&sum)[128], const struct consumer &self, struct ring &ring, int32_t steps,
               const struct gemm_args &args, const struct large_tile &tile)
{
    struct weight_scales scales = scales_of_tile<PAIRED>(args, tile, steps);
    float next[2] = {__ldg(scales.block[0]), __ldg(scales.block[1])};
    uint32_t row = (uint32_t)(tile.first_row & 3) + self.index * WGMMA_ROWS +
                   (uint32_t)fragment_row(self.thread, 0);
    wgmma_clear(sum);
    for (int32_t step = 0; step < steps; step++) {
        float weight[2] = {next[0], next[1]};
        int32_t ahead = min(step + 1, steps - 1);
        next[0] = __ldg(scales.block[0] + ahead);
        next[1] = __ldg(scales.block[1] + ahead);
        wait_stage(self, ring);
        uint32_t at = self.base + SCALES_OFFSET + ring.stage * SCALES_BYTES + row * 4;
        float of_row[2] = {shared_float(at), shared_float(at + 32)};
        uint64_t a = token_operand(self, ring.stage);
        uint64_t b = weight_operand(self, ring.stage);
        float part[64];
        multiply_half<PAIRED, 0>(part, a, b);
        promote<PAIRED, 0>(sum, part, of_row, weight);
        multiply_half<PAIRED, 1>(part, a, b);
        release_stage<CLUSTERS>(self, ring.stage);
        promote<PAIRED, 1>(sum, part, of_row, weight);
        ring_advance<LARGE_STAGES>(ring);
    }
}

/* --- epilogue --- */

/* sum += bias, then out's values: paired, granules 2 i and 2 i + 1 make columns 8 i .. 8 i + 7. */
template <bool FP8, bool PAIRED>
static __device__ __forceinline__ void finish(float (&sum)[128], const struct gemm_args &args,
                                              const struct large_tile &tile, int32_t thread)
{
    if (args.bias != nullptr) {
        int32_t first = tile.weight * TILE_WEIGHTS + fragment_column(thread, 0);
        const float *bias = args.bias + (int64_t)tile.group * args.weight_rows;
#pragma unroll
        for (int32_t i = 0; i < 128; i++) {
            int32_t column = first + i / 4 * 8 + i % 2;
            sum[i] += column < args.weight_rows ? __ldg(&bias[column]) : 0.0f;
        }
    }
    if (PAIRED && args.epilogue == EPILOGUE_SWIGLU) {
#pragma unroll
        for (int32_t i = 0; i < 64; i++) {
            sum[i] =
                activate_pair(EPILOGUE_SWIGLU, sum[i / 4 * 8 + i % 4], sum[i / 4 * 8 + 4 + i % 4]);
        }
    } else if (PAIRED) {
#pragma unroll
        for (int32_t i = 0; i < 64; i++) {
            sum[i] = activate_pair(EPILOGUE_SWIGLU_CLAMPED, sum[i / 4 * 8 + i % 4],
                                   sum[i / 4 * 8 + 4 + i % 4]);
        }
    } else if (!FP8 && args.epilogue == EPILOGUE_GELU) {
#pragma unroll
        for (int32_t i = 0; i < 128; i++) {
            sum[i] = activate_single(EPILOGUE_GELU, sum[i]);
        }
    }
}

template <int PASS>
static __device__ __forceinline__ void stage_bf16(const float (&value)[128],
                                                  const struct consumer &self, uint32_t staging)
{
#pragma unroll
    for (int32_t q = 0; q < 8; q++) {
        const float *v = &value[64 * PASS + 8 * q];
        store_matrices(staging + staging_matrix(self.thread / 32, self.thread % 32, q),
                       bf16_pair(v[0], v[1]), bf16_pair(v[2], v[3]), bf16_pair(v[4], v[5]),
                       bf16_pair(v[6], v[7]));
    }
}

/* Rows r and r + 8 of this thread, 128 columns each, four threads a row: rounded to fp8 with a
 * scale a row. */
template <int PASS>
static __device__ __forceinline__ void
stage_fp8(const float (&value)[128], const struct consumer &self, uint32_t staging,
          const struct gemm_args &args, int32_t block, int32_t first_row, int32_t rows)
{
#pragma unroll
    for (int32_t h = 0; h < 2; h++) {
        float amax = 0.0f;
#pragma unroll
        for (int32_t i = 0; i < 32; i++) {
            amax = fmaxf(amax, fabsf(value[64 * PASS + i / 2 * 4 + 2 * h + i % 2]));
        }
        amax = fmaxf(amax, __shfl_xor_sync(0xffffffff, amax, 1));
        amax = fmaxf(amax, __shfl_xor_sync(0xffffffff, amax, 2));
        float scale = fp8_scale(amax);
        float inverse = __fdividef(1.0f, scale);
        int32_t row = fragment_row(self.thread, 2 * h);
        if (self.thread % 4 == 0 && row < rows) {
            args.out.scale[block * args.out.scale_rows + first_row + row] = scale;
        }
#pragma unroll
        for (int32_t i = 0; i < 16; i++) {
            const float *v = &value[64 * PASS + 4 * i + 2 * h];
            uint32_t byte = (uint32_t)fragment_column(self.thread, 4 * i);
            store_shared(staging + swizzled((uint32_t)row, byte),
                         fp8_pair(v[0] * inverse, v[1] * inverse));
        }
    }
}

/* Rows that do not fill their 64: by the threads themselves, since a box would overwrite what lies
 * behind the group. */
template <bool OUT_FP8>
static __device__ __forceinline__ void store_masked(const struct gemm_args &args,
                                                    const struct consumer &self, uint32_t staging,
                                                    int32_t first_row, int32_t rows, int32_t column)
{
    constexpr int32_t out_bytes = OUT_FP8 ? 1 : 2;
    constexpr int32_t chunks = 128 * out_bytes / 16;
    int64_t row_bytes = (int64_t)args.out_columns * out_bytes;
    for (int32_t i = self.thread; i < rows * chunks; i += 128) {
        int32_t row = i / chunks;
        int32_t chunk = i % chunks;
        int64_t byte = (int64_t)column * out_bytes + chunk * 16;
        if (byte < row_bytes) {
            uint8_t *to = (uint8_t *)args.out.data + (first_row + row) * row_bytes + byte;
            *(uint4 *)to = shared_chunk(staging + staging_chunk(row, chunk));
        }
    }
}

/* 128 columns of out by way of shared memory. */
template <bool OUT_FP8, int PASS>
static __device__ __forceinline__ void
store_pass(const float (&value)[128], const struct large_maps &maps, const struct gemm_args &args,
           const struct consumer &self, int32_t first_row, int32_t rows, int32_t column)
{
    if (column >= args.out_columns) {
        return;
    }
    uint32_t staging = self.staging;
    int barrier = 1 + (int)self.index;
    if (self.thread == 0) {
        store_wait_read(); /* of the pass before */
    }
    sync_threads_of(barrier, 128);
    if constexpr (OUT_FP8) {
        stage_fp8<PASS>(value, self, staging, args, column / SCALE_BLOCK, first_row, rows);
    } else {
        stage_bf16<PASS>(value, self, staging);
    }
    shared_writes_fence();
    sync_threads_of(barrier, 128);
    if (rows < WGMMA_ROWS) {
        store_masked<OUT_FP8>(args, self, staging, first_row, rows, column);
    } else if (self.thread == 0) {
        store_box(&maps.out, staging, column, first_row);
        if (!OUT_FP8 && column + 64 < args.out_columns) {
            store_box(&maps.out, staging + STAGING_BYTES / 2, column + 64, first_row);
        }
        store_commit();
    }
}

template <bool FP8, bool PAIRED, bool CLUSTERS>
static __device__ __forceinline__ void
consume(const struct large_maps &maps, const struct gemm_args &args, const struct consumer &self)
{
    struct group_window window = {-32, 0, 0};
    struct ring ring = {0, 0};
    struct large_tile tile;
    int32_t steps = gemm_steps(args);
    int32_t first = (int32_t)blockIdx.x / (CLUSTERS ? 2 : 1);
    int32_t stride = (int32_t)gridDim.x / (CLUSTERS ? 2 : 1);
    for (int32_t number = first; find_tile<CLUSTERS>(window, args, number, tile);
         number += stride) {
        int32_t rows = min(tile.rows - (int32_t)self.index * WGMMA_ROWS, WGMMA_ROWS);
        if (rows <= 0) { /* the tile ends in the other consumer's half */
            for (int32_t step = 0; step < steps; step++) {
                wait_stage(self, ring);
                release_stage<CLUSTERS>(self, ring.stage);
                ring_advance<LARGE_STAGES>(ring);
            }
            continue;
        }
        float sum[128];
        if constexpr (FP8) {
            accumulate_fp8<PAIRED, CLUSTERS>(sum, self, ring, steps, args, tile);
        } else {
            accumulate_bf16<CLUSTERS>(sum, self, ring, steps);
        }
        finish<FP8, PAIRED>(sum, args, tile, self.thread);
        int32_t first_row = tile.first_row + (int32_t)self.index * WGMMA_ROWS;
        int32_t column = tile.weight * (PAIRED ? TILE_WEIGHTS / 2 : TILE_WEIGHTS);
        store_pass<FP8 && PAIRED, 0>(sum, maps, args, self, first_row, rows, column);
        if (!PAIRED) {
            store_pass<false, 1>(sum, maps, args, self, first_row, rows, column + 128);
        }
    }
    if (self.thread == 0) {
        store_wait();
    }
}

template <bool FP8, bool PAIRED, bool CLUSTERS>
static __global__ void __launch_bounds__(LARGE_THREADS, 1)
    grouped_gemm_large(const __grid_constant__ struct large_maps maps,
                       const __grid_constant__ struct gemm_args args)
{
    extern __shared__ __align__(ATOM_BYTES) uint8_t shared[];
    uint32_t base = swizzle_base(shared);
    if (threadIdx.x == 0) {
        for (uint32_t stage = 0; stage < LARGE_STAGES; stage++) {
            barrier_init(base + FULL_OFFSET + stage * 8, 1);
            barrier_init(base + EMPTY_OFFSET + stage * 8, CONSUMER_WARPS * (CLUSTERS ? 2 : 1));
        }
        barrier_init_fence();
        prefetch_map(&maps.x);
        prefetch_map(&maps.weight);
        prefetch_map(&maps.out);
    }
    if (CLUSTERS) {
        cluster_sync();
    } else {
        __syncthreads();
    }
    if (threadIdx.x < 128) {
        registers_give<PRODUCER_REGISTERS>();
        if (threadIdx.x < 32) {
            produce<FP8, CLUSTERS>(maps, args, base);
        }
    } else {
        registers_take<CONSUMER_REGISTERS>();
        uint32_t index = threadIdx.x / 128 - 1;
        struct consumer self = {base, base + STAGING_OFFSET + index * STAGING_BYTES, index,
                                (int32_t)(threadIdx.x % 128)};
        consume<FP8, PAIRED, CLUSTERS>(maps, args, self);
    }
    if (CLUSTERS) {
        cluster_sync(); /* the other block may still copy into this one's memory */
    }
}

/* --- v3 --- */

#define SINGLE_STAGING_OFFSET STAGE_BYTES
#define SINGLE_FULL_OFFSET    (SINGLE_STAGING_OFFSET + STAGING_BYTES)
#define SINGLE_BYTES          (SINGLE_FULL_OFFSET + 8)

struct single_items {
    int32_t weight_tiles;

    __device__ __forceinline__ int32_t operator()(int32_t rows) const
    {
        return tile_count(rows, WGMMA_ROWS) * weight_tiles;
    }
};

static __device__ __forceinline__ void
accumulate_single(float (&sum)[128], const struct large_maps &maps, const struct consumer &self,
                  const struct large_tile &tile, int32_t steps)
{
    uint32_t full = self.base + SINGLE_FULL_OFFSET;
    uint32_t weights = self.base + TOKENS_BYTES;
    int32_t weight_row = tile.weight * TILE_WEIGHTS;
    for (int32_t step = 0; step < steps; step++) {
        if (self.thread == 0) {
            int32_t column = step * (ROW_BYTES / 2);
            barrier_expect(full, WGMMA_ROWS * ROW_BYTES + WEIGHTS_BYTES);
            load_box(self.base, &maps.x, full, column, tile.first_row);
            load_box(weights, &maps.weight, full, column, weight_row, tile.group);
            load_box(weights + WEIGHTS_BYTES / 2, &maps.weight, full, column,
                     weight_row + TILE_WEIGHTS / 2, tile.group);
        }
        barrier_wait(full, step % 2);
        uint64_t a = token_operand(self, 0);
        uint64_t b = weight_operand(self, 0);
        wgmma_fence();
#pragma unroll
        for (uint32_t k = 0; k < 4; k++) {
            wgmma_bf16(sum, operand_at(a, 0, k), operand_at(b, 0, k), step > 0 || k > 0);
        }
        wgmma_commit();
        wgmma_wait<0>();
        __syncthreads(); /* the stage is free */
    }
    wgmma_touch(sum);
}

template <bool PAIRED>
static __global__ void __launch_bounds__(128)
    grouped_gemm_single(const __grid_constant__ struct large_maps maps,
                        const __grid_constant__ struct gemm_args args)
{
    extern __shared__ __align__(ATOM_BYTES) uint8_t shared[];
    uint32_t base = swizzle_base(shared);
    struct consumer self = {base, base + SINGLE_STAGING_OFFSET, 0, (int32_t)threadIdx.x};
    struct single_items items = {tile_count(args.weight_rows, TILE_WEIGHTS)};
    struct group_window window = {-32, 0, 0};
    struct group_item item;
    if (!find_item(window, args, items, (int32_t)blockIdx.x, item)) {
        return; /* more blocks than tiles: the host does not know how many there are */
    }
    if (threadIdx.x == 0) {
        barrier_init(base + SINGLE_FULL_OFFSET, 1);
        barrier_init_fence();
    }
    __syncthreads();
    struct tile at = tile_in_bands(item.index, tile_count(item.rows, WGMMA_ROWS),
                                   items.weight_tiles, band_tiles(items.weight_tiles));
    int32_t before = at.token * WGMMA_ROWS;
    int32_t rows = min(item.rows - before, WGMMA_ROWS);
    struct large_tile tile = {item.group, at.weight, __ldg(&args.row_begin[item.group]) + before,
                              rows, false};
    float sum[128];
    accumulate_single(sum, maps, self, tile, gemm_steps(args));
    finish<false, PAIRED>(sum, args, tile, self.thread);
    int32_t column = tile.weight * (PAIRED ? TILE_WEIGHTS / 2 : TILE_WEIGHTS);
    store_pass<false, 0>(sum, maps, args, self, tile.first_row, rows, column);
    if (!PAIRED) {
        store_pass<false, 1>(sum, maps, args, self, tile.first_row, rows, column + 128);
    }
    if (self.thread == 0) {
        store_wait();
    }
}

/* --- launch --- */

static bool make_maps(struct large_maps *maps, const struct gemm_args &args)
{
    return tensor_map_rows(&maps->x, args.x, args.rows, args.depth, WGMMA_ROWS) &&
           tensor_map_experts(&maps->weight, args.weight, args.num_experts, args.weight_rows,
                              args.depth, TILE_WEIGHTS / 2) &&
           tensor_map_rows(&maps->out, args.out, args.rows, args.out_columns, WGMMA_ROWS);
}

template <bool FP8, bool CLUSTERS>
static enum status launch_large(const struct large_maps &maps, const struct gemm_args &args,
                                int32_t num_sms, cudaStream_t stream)
{
    auto kernel = args.paired ? grouped_gemm_large<FP8, true, CLUSTERS>
                              : grouped_gemm_large<FP8, false, CLUSTERS>;
    int32_t cluster = CLUSTERS ? 2 : 1;
    return launch_kernel(kernel, num_sms / cluster * cluster, LARGE_THREADS, LARGE_BYTES, cluster,
                         stream, maps, args);
}

enum status gemm_large(const struct gemm_args *args, int32_t num_sms, bool clusters,
                       cudaStream_t stream)
{
    struct large_maps maps;
    if (!make_maps(&maps, *args)) {
        return STATUS_CUDA;
    }
    bool fp8 = args->x.dtype == DTYPE_FP8_E4M3;
    if (clusters && num_sms >= 2) {
        return fp8 ? launch_large<true, true>(maps, *args, num_sms, stream)
                   : launch_large<false, true>(maps, *args, num_sms, stream);
    }
    return fp8 ? launch_large<true, false>(maps, *args, num_sms, stream)
               : launch_large<false, false>(maps, *args, num_sms, stream);
}

enum status gemm_wgmma(const struct gemm_args *args, cudaStream_t stream)
{
    struct large_maps maps;
    if (!make_maps(&maps, *args)) {
        return STATUS_CUDA;
    }
    auto kernel = args->paired ? grouped_gemm_single<true> : grouped_gemm_single<false>;
    int64_t token_tiles = args->rows / WGMMA_ROWS + args->num_experts;
    int64_t blocks = token_tiles * tile_count(args->weight_rows, TILE_WEIGHTS);
    return launch_kernel(kernel, blocks, 128, SINGLE_BYTES, 1, stream, maps, *args);
}
