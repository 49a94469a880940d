/*
 * permute.cu -- where each choice's row goes: histogram, scan, placement; a stable counting sort.
 *
 * v1  a thread an expert walks all choices, twice. Bound by latency: num_tokens * top_k dependent
 *     steps.
 * v2  chunks of choices, a block each, and three kernels: count (shared-memory histogram a chunk),
 *     scan (an expert a thread over the chunks, then a warp over the experts), place. In a block
 *     the lanes of a step that have the same expert find each other by match.any, so a row is
 *     counts before + popc(lanes below), and nothing is atomic whose order could show. Bound by
 *     latency too, of three launches; bytes are 12 a choice.
 * v3  up to 8192 choices by one block in one launch: decoding is a chain of short kernels, and each
 *     launch less is a microsecond. Above, v2.
 *
 * Counts and offsets stay on the device: no version waits, so a layer can be one graph.
 */
#include "moe_kernels.h"

#include "launch.cuh"
#include "permute_plan.h"

static const unsigned ALL_LANES = 0xffffffffu;
static const int LANES = 32;
static const int THREADS = PERMUTE_WARPS * LANES;
static const int SCAN_THREADS = 1024;
static const int NO_CHOICE = -2; /* a lane beyond the last choice: the expert of none */

struct permute_arguments {
    struct permute_shape shape;
    int64_t num_choices;
    int64_t rows_max;
    int32_t num_chunks;
    int32_t *num_rows;
    int32_t *row_begin;
    int32_t *row_of;
    int32_t *token_of;
    const int32_t *expert;
    int32_t *chunk_rows; /* [num_chunks][num_experts]: counts, then counts of the chunks before */
};

/* All blocks: rows that nobody places are padding. */
static __device__ void fill_token_of(const struct permute_arguments &permute)
{
    int64_t stride = (int64_t)gridDim.x * blockDim.x;
    for (int64_t row = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; row < permute.rows_max;
         row += stride) {
        permute.token_of[row] = ROW_PADDING;
    }
}

/* ---- v1 ---- */

static __global__ void count_v1(struct permute_arguments permute)
{
    fill_token_of(permute);
    const int32_t expert = (int32_t)(blockIdx.x * blockDim.x + threadIdx.x);
    if (expert < permute.shape.num_experts) {
        int32_t rows = 0;
        for (int64_t i = 0; i < permute.num_choices; i++) {
            rows += permute.expert[i] == expert;
        }
        permute.num_rows[expert] = rows;
    }
}

static __global__ void begin_v1(struct permute_arguments permute)
{
    int32_t begin = 0;
    for (int32_t expert = 0; expert < permute.shape.num_experts; expert++) {
        permute.row_begin[expert] = begin;
        begin += permute_aligned(permute.num_rows[expert], permute.shape.row_align);
    }
    permute.row_begin[permute.shape.num_experts] = begin;
}

static __global__ void place_v1(struct permute_arguments permute)
{
    const int32_t expert = (int32_t)(blockIdx.x * blockDim.x + threadIdx.x) - 1; /* -1: dropped */
    if (expert >= permute.shape.num_experts) {
        return;
    }
    int32_t row = expert == EXPERT_NONE ? 0 : permute.row_begin[expert];
    for (int64_t i = 0; i < permute.num_choices; i++) {
        if (permute.expert[i] == expert) {
            permute.row_of[i] = expert == EXPERT_NONE ? ROW_DROPPED : row;
            if (expert != EXPERT_NONE) {
                permute.token_of[row++] = (int32_t)(i / permute.shape.top_k);
            }
        }
    }
}

/* ---- v2 and v3 ---- */

static __device__ __forceinline__ int32_t choice_of(const struct permute_arguments &permute,
                                                    int64_t i, int64_t end)
{
    return i < end ? permute.expert[i] : NO_CHOICE;
}

/* A warp counts its run into its row of rows[PERMUTE_WARPS][num_experts], zero before. */
static __device__ void count_run(const struct permute_arguments &permute, struct permute_run run,
                                 uint16_t *rows, int32_t lane)
{
    for (int64_t first = run.begin; first < run.end; first += LANES) {
        int32_t expert = choice_of(permute, first + lane, run.end);
        unsigned same = __match_any_sync(ALL_LANES, expert);
        if (expert >= 0 && permute_lanes_below(same, lane) == 0) { /* one lane an expert */
            rows[expert] = (uint16_t)(rows[expert] + __popc(same));
        }
        __syncwarp(); /* the next step reads what this one wrote */
    }
}

/* A warp places its run. before[expert]: rows of the chunk in earlier warps; begin[expert]: the
 * chunk's first row. */
static __device__ void place_run(const struct permute_arguments &permute, struct permute_run run,
                                 uint16_t *before, const int32_t *begin, int32_t lane)
{
    for (int64_t first = run.begin; first < run.end; first += LANES) {
        int32_t expert = choice_of(permute, first + lane, run.end);
        unsigned same = __match_any_sync(ALL_LANES, expert);
        unsigned below = permute_lanes_below(same, lane);
        int32_t row = ROW_DROPPED;
        if (expert >= 0) {
            row = begin[expert] + before[expert] + __popc(below);
            permute.token_of[row] = (int32_t)((first + lane) / permute.shape.top_k);
        }
        if (expert != NO_CHOICE) {
            permute.row_of[first + lane] = row;
        }
        __syncwarp(); /* all have read before one writes */
        if (expert >= 0 && below == 0) {
            before[expert] = (uint16_t)(before[expert] + __popc(same));
        }
        __syncwarp();
    }
}

/* rows[warp][expert] becomes the sum over earlier warps; the chunk's rows are returned. */
static __device__ int32_t sum_warps(uint16_t *rows, int32_t num_experts, int32_t expert)
{
    int32_t sum = 0;
    for (int32_t warp = 0; warp < PERMUTE_WARPS; warp++) {
        int32_t mine = rows[warp * num_experts + expert];
        rows[warp * num_experts + expert] = (uint16_t)sum;
        sum += mine;
    }
    return sum;
}

/* One warp: row_begin of num_rows, and a copy in begin where that is not NULL. */
static __device__ void scan_experts(const struct permute_arguments &permute,
                                    const int32_t *num_rows, int32_t *begin, int32_t lane)
{
    int32_t before = 0;
    for (int32_t first = 0; first < permute.shape.num_experts; first += LANES) {
        int32_t expert = first + lane;
        bool there = expert < permute.shape.num_experts;
        int32_t mine = there ? permute_aligned(num_rows[expert], permute.shape.row_align) : 0;
        int32_t sum = mine; /* of this lane and those below */
        for (int distance = 1; distance < LANES; distance *= 2) {
            int32_t other = __shfl_up_sync(ALL_LANES, sum, distance);
            sum += lane >= distance ? other : 0;
        }
        if (there) {
            permute.row_begin[expert] = before + sum - mine;
            if (begin != NULL) {
                begin[expert] = before + sum - mine;
            }
        }
        before += __shfl_sync(ALL_LANES, sum, LANES - 1);
    }
    if (lane == 0) {
        permute.row_begin[permute.shape.num_experts] = before;
    }
}

/* The chunk of this block: the first half of the work that counting and placing share. Ends with
 * rows[warp][expert] counted and a barrier. */
static __device__ struct permute_run count_chunk(const struct permute_arguments &permute,
                                                 int64_t begin, int64_t choices, uint16_t *rows)
{
    const int32_t experts = permute.shape.num_experts;
    const int32_t warp = (int32_t)threadIdx.x / LANES;
    for (int32_t i = (int32_t)threadIdx.x; i < PERMUTE_WARPS * experts; i += THREADS) {
        rows[i] = 0;
    }
    __syncthreads();
    struct permute_run run = permute_warp_run(permute.num_choices, begin, choices, warp);
    count_run(permute, run, &rows[warp * experts], (int32_t)threadIdx.x % LANES);
    __syncthreads();
    return run;
}

static __global__ void __launch_bounds__(THREADS) count_v2(struct permute_arguments permute)
{
    uint16_t *rows = (uint16_t *)block_memory(); /* [PERMUTE_WARPS][num_experts] */
    const int32_t experts = permute.shape.num_experts;
    fill_token_of(permute);
    count_chunk(permute, (int64_t)blockIdx.x * PERMUTE_CHUNK, PERMUTE_CHUNK, rows);
    for (int32_t expert = (int32_t)threadIdx.x; expert < experts; expert += THREADS) {
        permute.chunk_rows[(int64_t)blockIdx.x * experts + expert] =
            sum_warps(rows, experts, expert);
    }
}

/* One block, an expert a thread: chunk_rows become the rows of the chunks before. Eight loads are
 * in flight at a time: one after the other the chunks would cost a memory latency each. */
static __global__ void __launch_bounds__(SCAN_THREADS) scan_v2(struct permute_arguments permute)
{
    const int UNROLL = 8;
    const int32_t experts = permute.shape.num_experts;
    const int32_t expert = (int32_t)threadIdx.x;
    int32_t sum = 0;
    for (int32_t first = 0; first < permute.num_chunks && expert < experts; first += UNROLL) {
        int32_t rows[UNROLL];
#pragma unroll
        for (int i = 0; i < UNROLL; i++) {
            rows[i] = first + i < permute.num_chunks
                          ? permute.chunk_rows[(int64_t)(first + i) * experts + expert]
                          : 0;
        }
#pragma unroll
        for (int i = 0; i < UNROLL; i++) {
            if (first + i < permute.num_chunks) {
                permute.chunk_rows[(int64_t)(first + i) * experts + expert] = sum;
            }
            sum += rows[i];
        }
    }
    if (expert < experts) {
        permute.num_rows[expert] = sum;
    }
    __syncthreads(); /* the first warp reads what the block wrote */
    if (threadIdx.x < LANES) {
        scan_experts(permute, permute.num_rows, NULL, (int32_t)threadIdx.x);
    }
}

static __global__ void __launch_bounds__(THREADS) place_v2(struct permute_arguments permute)
{
    uint16_t *rows = (uint16_t *)block_memory(); /* [PERMUTE_WARPS][num_experts], then begin */
    const int32_t experts = permute.shape.num_experts;
    int32_t *begin = (int32_t *)&rows[PERMUTE_WARPS * experts]; /* an even number: aligned */
    const int64_t chunk_begin = (int64_t)blockIdx.x * PERMUTE_CHUNK;
    struct permute_run run = count_chunk(permute, chunk_begin, PERMUTE_CHUNK, rows);
    for (int32_t expert = (int32_t)threadIdx.x; expert < experts; expert += THREADS) {
        begin[expert] =
            permute.row_begin[expert] + permute.chunk_rows[(int64_t)blockIdx.x * experts + expert];
        sum_warps(rows, experts, expert);
    }
    __syncthreads();
    place_run(permute, run, &rows[(int32_t)threadIdx.x / LANES * experts], begin,
              (int32_t)threadIdx.x % LANES);
}

static __global__ void __launch_bounds__(THREADS) permute_v3(struct permute_arguments permute)
{
    uint16_t *rows =
        (uint16_t *)block_memory(); /* [PERMUTE_WARPS][num_experts], then num_rows, begin */
    const int32_t experts = permute.shape.num_experts;
    int32_t *num_rows = (int32_t *)&rows[PERMUTE_WARPS * experts];
    int32_t *begin = &num_rows[experts];
    fill_token_of(permute);
    int64_t step = PERMUTE_WARPS * LANES;
    int64_t choices = (permute.num_choices + step - 1) / step * step;
    struct permute_run run = count_chunk(permute, 0, choices, rows);
    for (int32_t expert = (int32_t)threadIdx.x; expert < experts; expert += THREADS) {
        num_rows[expert] = sum_warps(rows, experts, expert);
        permute.num_rows[expert] = num_rows[expert];
    }
    __syncthreads();
    if (threadIdx.x < LANES) {
        scan_experts(permute, num_rows, begin, (int32_t)threadIdx.x);
    }
    __syncthreads();
    place_run(permute, run, &rows[(int32_t)threadIdx.x / LANES * experts], begin,
              (int32_t)threadIdx.x % LANES);
}

static enum status launch_v1(const struct permute_arguments &permute, void *stream)
{
    const unsigned threads = 32; /* a walk each: spread over many SMs */
    unsigned blocks = ((unsigned)permute.shape.num_experts + 1 + threads - 1) / threads;
    enum status status = launch(count_v1, blocks, threads, 0, stream, permute);
    status = status == STATUS_OK ? launch(begin_v1, 1, 1, 0, stream, permute) : status;
    return status == STATUS_OK ? launch(place_v1, blocks, threads, 0, stream, permute) : status;
}

static enum status launch_v2(const struct permute_arguments &permute, void *stream)
{
    size_t experts = (size_t)permute.shape.num_experts;
    size_t bytes = PERMUTE_WARPS * experts * sizeof(uint16_t);
    unsigned blocks = permute.num_chunks > 0 ? (unsigned)permute.num_chunks : 1;
    enum status status = launch(count_v2, blocks, THREADS, bytes, stream, permute);
    status = status == STATUS_OK ? launch(scan_v2, 1, SCAN_THREADS, 0, stream, permute) : status;
    return status == STATUS_OK ? launch(place_v2, blocks, THREADS,
                                        bytes + experts * sizeof(int32_t), stream, permute)
                               : status;
}

static enum status launch_v3(const struct permute_arguments &permute, void *stream)
{
    size_t experts = (size_t)permute.shape.num_experts;
    size_t bytes = experts * (PERMUTE_WARPS * sizeof(uint16_t) + 2 * sizeof(int32_t));
    return launch(permute_v3, 1, THREADS, bytes, stream, permute);
}

extern "C" int64_t dev_permute_work(struct permute_shape shape)
{
    int64_t chunks = permute_chunks((int64_t)shape.num_tokens * shape.top_k);
    return (chunks > 0 ? chunks : 1) * shape.num_experts * (int64_t)sizeof(int32_t);
}

extern "C" enum status dev_permute_version(int32_t version, struct permute_shape shape,
                                           int32_t *num_rows, int32_t *row_begin, int32_t *row_of,
                                           int32_t *token_of, const int32_t *expert, void *work,
                                           void *stream)
{
    /* The kernels' shared memory holds 40 bytes an expert: 40 KiB for the most a gate has. */
    if (version < 1 || version > DEV_PERMUTE_VERSIONS || !permute_shape_valid(shape) ||
        shape.num_experts > GATE_EXPERTS_MAX) {
        return STATUS_INVALID;
    }
    int64_t num_choices = (int64_t)shape.num_tokens * shape.top_k;
    struct permute_arguments permute = {shape,
                                        num_choices,
                                        permute_rows_max(shape),
                                        (int32_t)permute_chunks(num_choices),
                                        num_rows,
                                        row_begin,
                                        row_of,
                                        token_of,
                                        expert,
                                        (int32_t *)work};
    if (version == 1) {
        return launch_v1(permute, stream);
    }
    return version == 2 || num_choices > PERMUTE_SINGLE_CHOICES ? launch_v2(permute, stream)
                                                                : launch_v3(permute, stream);
}

extern "C" enum status dev_permute(struct permute_shape shape, int32_t *num_rows,
                                   int32_t *row_begin, int32_t *row_of, int32_t *token_of,
                                   const int32_t *expert, void *work, void *stream)
{
    return dev_permute_version(DEV_PERMUTE_VERSIONS, shape, num_rows, row_begin, row_of, token_of,
                               expert, work, stream);
}
