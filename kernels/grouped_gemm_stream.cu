/*
 * grouped_gemm_stream.cu -- the grouped GEMM for few rows an expert: weights on M, tokens on N.
 *
 * With up to 128 rows an expert every weight is read once and used little: bound by HBM. So nothing
 * matters but that all SMs read weights all the time:
 *
 *   - tiles are 256 rows of weights by up to 128 tokens; the tensor core's N is 8, 16, 32, 64 or
 *     128, whatever holds the tile's tokens, so padding costs no reads and little power;
 *   - experts without tokens have no tiles;
 *   - four stages of 32 KiB of weights are under way in each SM: 17 MB in all, where latency times
 *     bandwidth is 3 MB;
 *   - work is split evenly over the SMs in steps of K (tile_schedule.h). Tiles that several blocks
 *     have a part of are summed up in a fixed order by the last block to arrive, so two runs give
 *     the same bits.
 *
 * A thread holds rows r and r + 8 of d: gate and up of a column. 8 x 8 elements of d are transposed
 * between the threads of a warp on their way out, because out has tokens for rows.
 */
#include "grouped_gemm.cuh"
#include "sm90.cuh"
#include "wgmma.cuh"

#define STREAM_THREADS     384 /* a producer and two consumer warpgroups */
#define CONSUMER_THREADS   256
#define PRODUCER_REGISTERS 40
#define CONSUMER_REGISTERS 232

#define SCALES_OFFSET      (LARGE_STAGES * STAGE_BYTES)
#define FULL_OFFSET        (SCALES_OFFSET + LARGE_STAGES * SCALES_BYTES)
#define EMPTY_OFFSET       (FULL_OFFSET + LARGE_STAGES * 8)
#define AMAX_OFFSET        (EMPTY_OFFSET + LARGE_STAGES * 8)
#define LAST_OFFSET        (AMAX_OFFSET + 8 * TILE_TOKENS * 4)
#define STREAM_BYTES       (LAST_OFFSET + 16)

static_assert(STREAM_BYTES <= BLOCK_BYTES_MAX, "more shared memory than a block can have");
static_assert(128 * PRODUCER_REGISTERS + 256 * CONSUMER_REGISTERS <= REGISTERS_AT_LAUNCH,
              "more registers than the block gave back");

struct stream_maps {
    CUtensorMap x8;     /* boxes of 8 rows */
    CUtensorMap x64;    /* boxes of 64 rows */
    CUtensorMap weight; /* boxes of 128 rows */
};

struct stream_items {
    int32_t weight_tiles;

    __device__ __forceinline__ int32_t operator()(int32_t rows) const
    {
        return tile_count(rows, TILE_TOKENS) * weight_tiles;
    }
};

/* Part or whole of a tile, and where it is. */
struct stream_tile {
    struct stream_item item;
    int32_t group;
    int32_t weight;    /* tile */
    int32_t first_row; /* of x and out */
    int32_t rows;      /* tokens in the tile: 1 .. 128 */
};

/* A warp's way through its block's work. */
struct stream_walk {
    struct stream_plan plan;
    struct stream_items items;
    struct group_window window;
    int32_t index;
};

static __device__ __forceinline__ struct stream_walk begin_walk(const struct gemm_args &args)
{
    struct stream_walk walk;
    walk.items.weight_tiles = tile_count(args.weight_rows, TILE_WEIGHTS);
    walk.window = {-32, 0, 0};
    walk.index = 0;
    int32_t tiles = 0;
#pragma unroll 8 /* loads under way at one time: every block waits for them before its first copy  \
                  */
    for (int32_t group = (int32_t)threadIdx.x % 32; group < args.num_experts; group += 32) {
        tiles += walk.items(__ldg(&args.num_rows[group]));
    }
    tiles = (int32_t)__reduce_add_sync(0xffffffff, (unsigned)tiles);
    walk.plan = stream_plan(tiles, gemm_steps(args), (int32_t)gridDim.x);
    return walk;
}

static __device__ __forceinline__ bool
next_tile(struct stream_walk &walk, const struct gemm_args &args, struct stream_tile &tile)
{
    struct group_item found;
    if (!stream_item(walk.plan, (int32_t)blockIdx.x, walk.index, &tile.item) ||
        !find_item(walk.window, args, walk.items, tile.item.tile, found)) {
        return false;
    }
    walk.index++;
    int32_t token_tiles = tile_count(found.rows, TILE_TOKENS);
    int32_t before = found.index % token_tiles * TILE_TOKENS;
    tile.group = found.group;
    tile.weight = found.index / token_tiles;
    tile.first_row = __ldg(&args.row_begin[found.group]) + before;
    tile.rows = min(found.rows - before, TILE_TOKENS);
    return true;
}

/* --- the producer --- */

static __device__ __forceinline__ void load_tokens(const struct stream_maps &maps, uint32_t to,
                                                   uint32_t full, int32_t column, int32_t row,
                                                   int32_t columns)
{
    int32_t box = columns < 64 ? 8 : 64;
    const CUtensorMap *map = columns < 64 ? &maps.x8 : &maps.x64;
    for (int32_t first = 0; first < columns; first += box) {
        load_box(to + (uint32_t)first * ROW_BYTES, map, full, column, row + first);
    }
}

template <bool FP8>
static __device__ __forceinline__ void
load_stage(const struct stream_maps &maps, const struct gemm_args &args, uint32_t base,
           struct ring ring, const struct stream_tile &tile, int32_t step)
{
    uint32_t tokens = base + ring.stage * STAGE_BYTES;
    uint32_t weights = tokens + TOKENS_BYTES;
    uint32_t full = base + FULL_OFFSET + ring.stage * 8;
    int32_t column = step * (FP8 ? ROW_BYTES : ROW_BYTES / 2);
    int32_t weight_row = tile.weight * TILE_WEIGHTS;
    int32_t columns = stream_columns(tile.rows);
    uint32_t scales = FP8 ? scales_bytes(args.x.scale_rows, tile.first_row) : 0;
    barrier_expect(full, WEIGHTS_BYTES + (uint32_t)columns * ROW_BYTES + scales);
    load_box(weights, &maps.weight, full, column, weight_row, tile.group);
    load_box(weights + WEIGHTS_BYTES / 2, &maps.weight, full, column, weight_row + TILE_WEIGHTS / 2,
             tile.group);
    load_tokens(maps, tokens, full, column, tile.first_row, columns);
    if (FP8) {
        int64_t first = step * args.x.scale_rows + (tile.first_row & ~3);
        load_bytes(base + SCALES_OFFSET + ring.stage * SCALES_BYTES, args.x.scale + first, scales,
                   full);
    }
}

template <bool FP8>
static __device__ __forceinline__ void produce(const struct stream_maps &maps,
                                               const struct gemm_args &args, uint32_t base)
{
    struct stream_walk walk = begin_walk(args);
    struct ring ring = {0, 0};
    struct stream_tile tile;
    while (next_tile(walk, args, tile)) {
        if (threadIdx.x == 0) {
            int32_t end = tile.item.first_step + tile.item.num_steps;
            for (int32_t step = tile.item.first_step; step < end; step++) {
                barrier_wait(base + EMPTY_OFFSET + ring.stage * 8, ring.parity ^ 1);
                load_stage<FP8>(maps, args, base, ring, tile, step);
                ring_advance<LARGE_STAGES>(ring);
            }
        }
        __syncwarp();
    }
}

/* --- a consumer: 128 rows of weights, two at a time of 64, by N tokens --- */

struct consumer {
    uint32_t base;  /* of shared memory */
    int32_t index;  /* warpgroup 0 or 1 */
    int32_t thread; /* of the warpgroup's 128 */
};

static __device__ __forceinline__ void release_stage(const struct consumer &self, uint32_t stage)
{
    __syncwarp();
    if (self.thread % 32 == 0) {
        barrier_arrive(self.base + EMPTY_OFFSET + stage * 8);
    }
}

static __device__ __forceinline__ uint64_t weight_operand(const struct consumer &self,
                                                          uint32_t stage)
{
    return operand_descriptor(self.base + stage * STAGE_BYTES + TOKENS_BYTES +
                              (uint32_t)self.index * 2 * WGMMA_ROWS * ROW_BYTES);
}

template <int N>
static __device__ __forceinline__ void accumulate_bf16(float (&sum)[2][N / 2],
                                                       const struct consumer &self,
                                                       struct ring &ring, int32_t steps)
{
    uint32_t last = ring.stage;
    wgmma_clear(sum[0]);
    wgmma_clear(sum[1]);
    for (int32_t step = 0; step < steps; step++) {
        barrier_wait(self.base + FULL_OFFSET + ring.stage * 8, ring.parity);
        uint64_t a = weight_operand(self, ring.stage);
        uint64_t b = operand_descriptor(self.base + ring.stage * STAGE_BYTES);
        wgmma_fence();
#pragma unroll
        for (uint32_t k = 0; k < 4; k++) {
            wgmma_bf16(sum[0], operand_at(a, 0, k), operand_at(b, 0, k), 1);
            wgmma_bf16(sum[1], operand_at(a, WGMMA_ROWS, k), operand_at(b, 0, k), 1);
        }
        wgmma_commit();
        if (step > 0) {
            wgmma_wait<1>();
            release_stage(self, last);
        }
        last = ring.stage;
        ring_advance<LARGE_STAGES>(ring);
    }
    wgmma_wait<0>();
    release_stage(self, last);
    wgmma_touch(sum[0]);
    wgmma_touch(sum[1]);
}

/* Scales of the weights of a thread's rows r and r + 8, a float32 for 128 columns. */
struct weight_scales {
    const float *of[2];
};

template <bool PAIRED>
static __device__ __forceinline__ struct weight_scales
scales_of_tile(const struct gemm_args &args, const struct consumer &self,
               const struct stream_tile &tile)
{
    int32_t steps = gemm_steps(args);
    int32_t low = PAIRED ? tile.weight : 2 * tile.weight + self.index;
    int32_t high = PAIRED ? tile.weight + args.up_block : low;
    int32_t last = args.weight_blocks - 1;
    const float *scale =
        args.weight.scale + (int64_t)tile.group * args.weight_blocks * steps + tile.item.first_step;
    struct weight_scales scales;
    scales.of[0] = scale + (int64_t)min(low, last) * steps;
    scales.of[1] = scale + (int64_t)min(high, last) * steps;
    return scales;
}

/* Tokens that are multiplied before their sums are scaled: 64 leave room for all of d. */
#define FP8_COLUMNS(N) ((N) < 64 ? (N) : 64)

/* d of 64 rows of weights, tokens FIRST and on. */
template <int N, int FIRST>
static __device__ __forceinline__ void multiply_promote(float (&sum)[N / 2], uint64_t a, uint64_t b,
                                                        uint32_t token_scales,
                                                        const float (&weight)[2])
{
    float part[FP8_COLUMNS(N) / 2];
    wgmma_fence();
#pragma unroll
    for (uint32_t k = 0; k < 4; k++) {
        wgmma_fp8(part, operand_at(a, 0, k), operand_at(b, FIRST, k), k > 0);
    }
    wgmma_commit();
    wgmma_wait<0>();
    wgmma_touch(part);
#pragma unroll
    for (int32_t i = 0; i < FP8_COLUMNS(N) / 8; i++) {
        uint32_t at = token_scales + (uint32_t)(FIRST + 8 * i) * 4;
        float token[2] = {shared_float(at), shared_float(at + 4)};
#pragma unroll
        for (int32_t v = 0; v < 4; v++) {
            float *to = &sum[FIRST / 2 + 4 * i + v];
            *to = fmaf(part[4 * i + v], token[v % 2] * weight[v / 2], *to);
        }
    }
}

template <bool PAIRED, int N>
static __device__ __forceinline__ void
accumulate_fp8(float (&sum)[2][N / 2], const struct consumer &self, struct ring &ring,
               const struct gemm_args &args, const struct stream_tile &tile)
{
    struct weight_scales scales = scales_of_tile<PAIRED>(args, self, tile);
    int32_t steps = tile.item.num_steps;
    float next[2] = {__ldg(scales.of[0]), __ldg(scales.of[1])};
    uint32_t scale_byte = (uint32_t)((tile.first_row & 3) + fragment_column(self.thread, 0)) * 4;
    wgmma_clear(sum[0]);
    wgmma_clear(sum[1]);
    for (int32_t step = 0; step < steps; step++) {
        float weight[2] = {next[0], next[1]};
        int32_t ahead = min(step + 1, steps - 1);
        next[0] = __ldg(scales.of[0] + ahead);
        next[1] = __ldg(scales.of[1] + ahead);
        barrier_wait(self.base + FULL_OFFSET + ring.stage * 8, ring.parity);
        uint64_t a = weight_operand(self, ring.stage);
        uint64_t b = operand_descriptor(self.base + ring.stage * STAGE_BYTES);
        uint32_t tokens = self.base + SCALES_OFFSET + ring.stage * SCALES_BYTES + scale_byte;
#pragma unroll
        for (uint32_t half = 0; half < 2; half++) {
            uint64_t rows = operand_at(a, half * WGMMA_ROWS, 0);
            multiply_promote<N, 0>(sum[half], rows, b, tokens, weight);
            if constexpr (N > 64) {
                multiply_promote<N, 64>(sum[half], rows, b, tokens, weight);
            }
        }
        release_stage(self, ring.stage);
        ring_advance<LARGE_STAGES>(ring);
    }
}

/* Puts this block's part of a tile down; the last of the tile's blocks takes all parts up. */
template <int N>
static __device__ __forceinline__ bool
join_parts(float (&sum)[2][N / 2], const struct consumer &self, const struct gemm_args &args,
           const struct stream_plan &plan, const struct stream_item &item)
{
    const int64_t part_size = (int64_t)TILE_WEIGHTS * TILE_TOKENS / 4; /* in float4 */
    int32_t thread = self.index * 128 + self.thread;
    struct stream_parts parts = stream_parts(plan, item.tile);
    float4 *all = (float4 *)args.parts + thread;
    int32_t block = (int32_t)blockIdx.x;
    float4 *own = all + stream_slot(block, block - parts.first) * part_size;
#pragma unroll
    for (int32_t i = 0; i < N / 4; i++) {
        const float *v = &sum[i / (N / 8)][i % (N / 8) * 4];
        __stcg(own + i * CONSUMER_THREADS, make_float4(v[0], v[1], v[2], v[3]));
    }
    __threadfence();
    sync_threads<3, CONSUMER_THREADS>();
    uint32_t last = self.base + LAST_OFFSET;
    if (thread == 0) {
        bool is_last = atomicAdd(&args.arrivals[parts.first], 1) == parts.count - 1;
        if (is_last) {
            args.arrivals[parts.first] = 0; /* for the next call */
        }
        store_shared(last, (uint16_t)is_last);
    }
    sync_threads<3, CONSUMER_THREADS>();
    if (shared_u16(last) == 0) {
        return false;
    }
    __threadfence();
    wgmma_clear(sum[0]);
    wgmma_clear(sum[1]);
    for (int32_t part = 0; part < parts.count; part++) {
        const float4 *from = all + stream_slot(parts.first + part, part) * part_size;
#pragma unroll
        for (int32_t i = 0; i < N / 4; i++) {
            float4 v = __ldcg(from + i * CONSUMER_THREADS);
            float *to = &sum[i / (N / 8)][i % (N / 8) * 4];
            to[0] += v.x;
            to[1] += v.y;
            to[2] += v.z;
            to[3] += v.w;
        }
    }
    return true;
}

/* --- epilogue --- */

/* Bias and activation; paired, values of row r lie in elements 4 i and 4 i + 1 afterwards. */
template <bool FP8, bool PAIRED, int N>
static __device__ __forceinline__ void finish(float (&sum)[2][N / 2], const struct consumer &self,
                                              const struct gemm_args &args,
                                              const struct stream_tile &tile)
{
#pragma unroll
    for (int32_t half = 0; half < 2; half++) {
        int32_t row = tile.weight * TILE_WEIGHTS + (2 * self.index + half) * WGMMA_ROWS +
                      fragment_row(self.thread, 0);
        float bias[2] = {0.0f, 0.0f};
        if (args.bias != nullptr) {
            const float *from = args.bias + (int64_t)tile.group * args.weight_rows;
            bias[0] = row < args.weight_rows ? __ldg(from + row) : 0.0f;
            bias[1] = row + 8 < args.weight_rows ? __ldg(from + row + 8) : 0.0f;
        }
#pragma unroll
        for (int32_t i = 0; i < N / 2; i++) {
            sum[half][i] += bias[i / 2 % 2];
        }
#pragma unroll
        for (int32_t i = 0; i < N / 2; i++) {
            if (PAIRED && i % 4 < 2) {
                sum[half][i] = activate_pair(args.epilogue, sum[half][i], sum[half][i + 2]);
            } else if (!PAIRED && !FP8) {
                sum[half][i] = activate_single(args.epilogue, sum[half][i]);
            }
        }
    }
}

/* First column of out of this warp's rows r (high 0) or r + 8 (high 1) of a half. */
template <bool PAIRED>
static __device__ __forceinline__ int32_t first_column(const struct consumer &self,
                                                       const struct stream_tile &tile, int32_t half,
                                                       int32_t high)
{
    int32_t row = tile.weight * TILE_WEIGHTS + (2 * self.index + half) * WGMMA_ROWS +
                  self.thread / 32 * 16 + high * 8;
    return PAIRED ? row / 2 : row;
}

template <bool PAIRED, int N>
static __device__ __forceinline__ void
store_bf16(const float (&sum)[2][N / 2], const struct consumer &self, const struct gemm_args &args,
           const struct stream_tile &tile)
{
    int32_t lane = self.thread % 32;
    uint16_t *out = (uint16_t *)args.out.data;
#pragma unroll
    for (int32_t half = 0; half < 2; half++) {
#pragma unroll
        for (int32_t i = 0; i < N / 4; i++) { /* i / 2: eight tokens; i % 2: rows r or r + 8 */
            if (PAIRED && i % 2 == 1) {
                continue;
            }
            uint32_t pair = transpose_matrix(bf16_pair(sum[half][2 * i], sum[half][2 * i + 1]));
            int32_t token = i / 2 * 8 + lane / 4;
            int32_t column = first_column<PAIRED>(self, tile, half, i % 2) + lane % 4 * 2;
            if (token < tile.rows && column < args.out_columns) {
                int64_t at = (int64_t)(tile.first_row + token) * args.out_columns + column;
                *(uint32_t *)&out[at] = pair;
            }
        }
    }
}

/* The largest |value| of each of a token's 128 columns, all consumers together: in shared memory
 * [warp][token], for scale_of. */
template <int N>
static __device__ __forceinline__ void share_amax(const float (&sum)[2][N / 2],
                                                  const struct consumer &self)
{
    int32_t warp = self.index * 4 + self.thread / 32;
    uint32_t to = self.base + AMAX_OFFSET + (uint32_t)(warp * TILE_TOKENS) * 4;
#pragma unroll
    for (int32_t i = 0; i < N / 4; i++) { /* i / 2: eight tokens; i % 2: of the thread's two */
        int32_t at = i / 2 * 4 + i % 2;
        float amax = fmaxf(fabsf(sum[0][at]), fabsf(sum[1][at]));
        amax = fmaxf(amax, __shfl_xor_sync(0xffffffff, amax, 4));
        amax = fmaxf(amax, __shfl_xor_sync(0xffffffff, amax, 8));
        amax = fmaxf(amax, __shfl_xor_sync(0xffffffff, amax, 16));
        if (self.thread % 32 < 4) {
            store_shared(to + (uint32_t)fragment_column(self.thread, at) * 4, amax);
        }
    }
}

static __device__ __forceinline__ float scale_of(const struct consumer &self, int32_t token)
{
    float amax = 0.0f;
#pragma unroll
    for (uint32_t warp = 0; warp < 8; warp++) {
        amax = fmaxf(amax, shared_float(self.base + AMAX_OFFSET +
                                        (warp * TILE_TOKENS + (uint32_t)token) * 4));
    }
    return fp8_scale(amax);
}

template <int N>
static __device__ __forceinline__ void
store_fp8(const float (&sum)[2][N / 2], const struct consumer &self, const struct gemm_args &args,
          const struct stream_tile &tile)
{
    int32_t lane = self.thread % 32;
    uint8_t *out = (uint8_t *)args.out.data;
    sync_threads<3, CONSUMER_THREADS>(); /* the scales of the tile before have been read */
    share_amax<N>(sum, self);
    sync_threads<3, CONSUMER_THREADS>();
    int32_t thread = self.index * 128 + self.thread;
    if (thread < tile.rows) {
        args.out.scale[tile.weight * args.out.scale_rows + tile.first_row + thread] =
            scale_of(self, thread);
    }
#pragma unroll
    for (int32_t i = 0; i < N / 8; i++) {
        int32_t token = 8 * i + lane % 4 * 2;
        float inverse[2] = {__fdividef(1.0f, scale_of(self, token)),
                            __fdividef(1.0f, scale_of(self, token + 1))};
#pragma unroll
        for (int32_t half = 0; half < 2; half++) {
            uint32_t two =
                fp8_pair(sum[half][4 * i] * inverse[0], sum[half][4 * i + 1] * inverse[1]);
            uint32_t columns = transpose_matrix((two & 0xff) | (two & 0xff00) << 8);
            int32_t row = 8 * i + lane / 4;
            int32_t column = first_column<true>(self, tile, half, 0) + lane % 4 * 2;
            if (row < tile.rows && column < args.out_columns) {
                int64_t at = (int64_t)(tile.first_row + row) * args.out_columns + column;
                *(uint16_t *)&out[at] = (uint16_t)((columns & 0xff) | columns >> 8);
            }
        }
    }
}

template <bool FP8, bool PAIRED, int N>
static __device__ __forceinline__ void
compute_tile(const struct consumer &self, struct ring &ring, const struct gemm_args &args,
             const struct stream_plan &plan, const struct stream_tile &tile)
{
    float sum[2][N / 2];
    if constexpr (FP8) {
        accumulate_fp8<PAIRED, N>(sum, self, ring, args, tile);
    } else {
        accumulate_bf16<N>(sum, self, ring, tile.item.num_steps);
    }
    if (tile.item.num_steps < plan.steps && !join_parts<N>(sum, self, args, plan, tile.item)) {
        return;
    }
    finish<FP8, PAIRED, N>(sum, self, args, tile);
    if constexpr (FP8 && PAIRED) {
        store_fp8<N>(sum, self, args, tile);
    } else {
        store_bf16<PAIRED, N>(sum, self, args, tile);
    }
}

template <bool FP8, bool PAIRED>
static __device__ __forceinline__ void consume(const struct gemm_args &args,
                                               const struct consumer &self)
{
    struct stream_walk walk = begin_walk(args);
    struct ring ring = {0, 0};
    struct stream_tile tile;
    while (next_tile(walk, args, tile)) {
        switch (stream_columns(tile.rows)) {
        case 8:
            compute_tile<FP8, PAIRED, 8>(self, ring, args, walk.plan, tile);
            break;
        case 16:
            compute_tile<FP8, PAIRED, 16>(self, ring, args, walk.plan, tile);
            break;
        case 32:
            compute_tile<FP8, PAIRED, 32>(self, ring, args, walk.plan, tile);
            break;
        case 64:
            compute_tile<FP8, PAIRED, 64>(self, ring, args, walk.plan, tile);
            break;
        default:
            compute_tile<FP8, PAIRED, 128>(self, ring, args, walk.plan, tile);
            break;
        }
    }
}

template <bool FP8, bool PAIRED>
static __global__ void __launch_bounds__(STREAM_THREADS, 1)
    grouped_gemm_stream(const __grid_constant__ struct stream_maps maps,
                        const __grid_constant__ struct gemm_args args)
{
    extern __shared__ __align__(ATOM_BYTES) uint8_t shared[];
    uint32_t base = swizzle_base(shared);
    if (threadIdx.x == 0) {
        for (uint32_t stage = 0; stage < LARGE_STAGES; stage++) {
            barrier_init(base + FULL_OFFSET + stage * 8, 1);
            barrier_init(base + EMPTY_OFFSET + stage * 8, CONSUMER_THREADS / 32);
        }
        barrier_init_fence();
        prefetch_map(&maps.x8);
        prefetch_map(&maps.x64);
        prefetch_map(&maps.weight);
    }
    __syncthreads();
    if (threadIdx.x < 128) {
        registers_give<PRODUCER_REGISTERS>();
        if (threadIdx.x < 32) {
            produce<FP8>(maps, args, base);
        }
    } else {
        registers_take<CONSUMER_REGISTERS>();
        struct consumer self = {base, (int32_t)threadIdx.x / 128 - 1, (int32_t)threadIdx.x % 128};
        consume<FP8, PAIRED>(args, self);
    }
}

enum status gemm_stream(const struct gemm_args *args, int32_t num_sms, cudaStream_t stream)
{
    struct stream_maps maps;
    bool fp8 = args->x.dtype == DTYPE_FP8_E4M3;
    auto kernel =
        fp8 ? args->paired ? grouped_gemm_stream<true, true> : grouped_gemm_stream<true, false>
        : args->paired ? grouped_gemm_stream<false, true>
                       : grouped_gemm_stream<false, false>;
    if (!tensor_map_rows(&maps.x8, args->x, args->rows, args->depth, 8) ||
        !tensor_map_rows(&maps.x64, args->x, args->rows, args->depth, 64) ||
        !tensor_map_experts(&maps.weight, args->weight, args->num_experts, args->weight_rows,
                            args->depth, TILE_WEIGHTS / 2)) {
        return STATUS_CUDA;
    }
    return launch_kernel(kernel, num_sms, STREAM_THREADS, STREAM_BYTES, 1, stream, maps, *args);
}
