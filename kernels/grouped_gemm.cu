/*
 * grouped_gemm.cu -- the grouped GEMMs' entry, and their plain versions.
 *
 * v1  One thread an output: reads a row of x and a row of weights. Bound by the loads of weights,
 *     which the threads of a warp take from 32 different rows. For every dtype and shape.
 * v2  Tiles of 32 x 256 in shared memory, filled up with zeros, multiplied by warp-level mma: every
 *     weight is loaded once for 32 tokens. Bound by the latency of its loads, since loading and
 *     multiplying take turns. fp8 is multiplied as bf16, which holds every e4m3 exactly.
 *
 * v3 to v5 are in grouped_gemm_large.cu, stream in grouped_gemm_stream.cu.
 */
#include "grouped_gemm.cuh"
#include "sm90.cuh"

/* --- what both read and write --- */

static __device__ __forceinline__ float element(const struct matrix &matrix, int64_t index)
{
    if (matrix.dtype == DTYPE_FP32) {
        return ((const float *)matrix.data)[index];
    }
    if (matrix.dtype == DTYPE_BF16) {
        return __bfloat162float(((const __nv_bfloat16 *)matrix.data)[index]);
    }
    __half_raw half =
        __nv_cvt_fp8_to_halfraw(((const __nv_fp8_storage_t *)matrix.data)[index], __NV_E4M3);
    return __half2float(__half(half));
}

/* The row of one expert's weights that makes column of gate (up 0) or up (up 1): gate_up_row. */
static __device__ __forceinline__ int32_t weight_row_of(const struct gemm_args &args,
                                                        int32_t column, int32_t up)
{
    if (!args.paired) {
        return column;
    }
    int32_t first = column - column % GATE_UP_GRANULE;
    int32_t width = min(args.out_columns - first, GATE_UP_GRANULE);
    return 2 * first + up * width + column % GATE_UP_GRANULE;
}

/* Scale of the weights that make column (of gate or up), for 128 columns of K. */
static __device__ __forceinline__ float weight_scale(const struct gemm_args &args, int64_t expert,
                                                     int32_t column, int32_t up, int32_t k_block)
{
    int64_t row = expert * args.weight_blocks + up * args.up_block + column / SCALE_BLOCK;
    return args.weight.scale[row * tile_count(args.depth, SCALE_BLOCK) + k_block];
}

static __device__ __forceinline__ float activate(const struct gemm_args &args, int64_t expert,
                                                 int32_t column, float gate, float up)
{
    if (args.bias != nullptr) {
        const float *bias = args.bias + expert * args.weight_rows;
        gate += bias[weight_row_of(args, column, 0)];
        up += args.paired ? bias[weight_row_of(args, column, 1)] : 0.0f;
    }
    return args.paired ? activate_pair(args.epilogue, gate, up)
                       : activate_single(args.epilogue, gate);
}

/* scale: of the value's block, for fp8. */
static __device__ __forceinline__ void put(const struct matrix &out, int64_t index, float value,
                                           float scale)
{
    if (out.dtype == DTYPE_FP32) {
        ((float *)out.data)[index] = value;
    } else if (out.dtype == DTYPE_BF16) {
        ((__nv_bfloat16 *)out.data)[index] = __float2bfloat16_rn(value);
    } else {
        ((__nv_fp8_storage_t *)out.data)[index] =
            __nv_cvt_float_to_fp8(__fdividef(value, scale), __NV_SATFINITE, __NV_E4M3);
    }
}

/* --- v1 --- */

static __device__ float product(const struct gemm_args &args, int64_t row, int64_t expert,
                                int32_t column, int32_t up)
{
    int64_t weight_row = expert * args.weight_rows + weight_row_of(args, column, up);
    float total = 0.0f;
    for (int32_t first = 0; first < args.depth; first += SCALE_BLOCK) {
        int32_t end = min(first + SCALE_BLOCK, args.depth);
        float sum = 0.0f;
        for (int32_t k = first; k < end; k++) {
            sum = fmaf(element(args.x, row * args.depth + k),
                       element(args.weight, weight_row * args.depth + k), sum);
        }
        if (args.x.dtype == DTYPE_FP8_E4M3) {
            int32_t block = first / SCALE_BLOCK;
            sum *= args.x.scale[block * args.x.scale_rows + row] *
                   weight_scale(args, expert, column, up, block);
        }
        total += sum;
    }
    return total;
}

/* The largest value of 128 threads. */
static __device__ float block_max(float value)
{
    __shared__ float of_warp[4];
    for (int32_t distance = 16; distance > 0; distance /= 2) {
        value = fmaxf(value, __shfl_xor_sync(0xffffffff, value, distance));
    }
    of_warp[threadIdx.x / 32] = value;
    __syncthreads();
    return fmaxf(fmaxf(of_warp[0], of_warp[1]), fmaxf(of_warp[2], of_warp[3]));
}

/* A block computes 128 columns of one row, whose expert its threads look for together. */
static __global__ void __launch_bounds__(SCALE_BLOCK)
    grouped_gemm_plain(const __grid_constant__ struct gemm_args args)
{
    __shared__ int32_t expert;
    int32_t blocks = tile_count(args.out_columns, SCALE_BLOCK);
    int64_t row = blockIdx.x / blocks;
    int32_t block = (int32_t)blockIdx.x % blocks;
    int32_t column = block * SCALE_BLOCK + (int32_t)threadIdx.x;
    if (threadIdx.x == 0) {
        expert = -1;
    }
    __syncthreads();
    for (int32_t e = (int32_t)threadIdx.x; e < args.num_experts; e += SCALE_BLOCK) {
        int64_t within = row - args.row_begin[e];
        if (within >= 0 && within < args.num_rows[e]) {
            expert = e;
        }
    }
    __syncthreads();
    if (expert < 0) {
        return; /* padding */
    }
    bool inside = column < args.out_columns;
    float value = 0.0f;
    if (inside) {
        float gate = product(args, row, expert, column, 0);
        float up = args.paired ? product(args, row, expert, column, 1) : 0.0f;
        value = activate(args, expert, column, gate, up);
    }
    float scale = 1.0f;
    if (args.out.dtype == DTYPE_FP8_E4M3) {
        scale = fp8_scale(block_max(fabsf(value)));
        if (threadIdx.x == 0) {
            args.out.scale[block * args.out.scale_rows + row] = scale;
        }
    }
    if (inside) {
        put(args.out, row * args.out_columns + column, value, scale);
    }
}

enum status gemm_plain(const struct gemm_args *args, cudaStream_t stream)
{
    int64_t blocks = args->rows * tile_count(args->out_columns, SCALE_BLOCK);
    return launch_kernel(grouped_gemm_plain, blocks, SCALE_BLOCK, 0, 1, stream, *args);
}

/* --- v2 --- */

#define MMA_TOKENS  32
#define MMA_DEPTH   32 /* of K a step */
#define MMA_STRIDE  40 /* elements between rows: fragments of a warp then touch every bank once */
#define MMA_THREADS 256
#define MMA_OUT     257 /* floats between tokens of a tile's sums */

struct __align__(16) mma_operands
{ /* filled 16 bytes at a time */
    uint16_t x[MMA_TOKENS][MMA_STRIDE];
    uint16_t weight[TILE_WEIGHTS][MMA_STRIDE];
};

union mma_shared {
    struct mma_operands in;
    float sum[MMA_TOKENS][MMA_OUT];
};

struct mma_items {
    int32_t weight_tiles;

    __device__ __forceinline__ int32_t operator()(int32_t rows) const
    {
        return tile_count(rows, MMA_TOKENS) * weight_tiles;
    }
};

struct mma_tile {
    int32_t group;
    int32_t weight; /* tile */
    int64_t first_row;
    int32_t rows;
};

/* The row of the expert's weights that is row n of a tile, -1 beyond the last. */
static __device__ __forceinline__ int32_t tile_weight_row(const struct gemm_args &args,
                                                          int32_t tile, int32_t n)
{
    int32_t column =
        args.paired ? tile * (TILE_WEIGHTS / 2) + n / 16 * 8 + n % 8 : tile * TILE_WEIGHTS + n;
    return column < args.out_columns ? weight_row_of(args, column, args.paired ? n / 8 % 2 : 0)
                                     : -1;
}

/* Eight elements of a row as bf16, zeros from the row's end on. */
static __device__ __forceinline__ void load_eight(uint16_t *to, const struct matrix &from,
                                                  int64_t row, int32_t first, int32_t depth)
{
    for (int32_t i = 0; i < 8; i++) {
        float value = first + i < depth ? element(from, row * depth + first + i) : 0.0f;
        to[i] = __bfloat16_as_ushort(__float2bfloat16_rn(value));
    }
}

static __device__ __forceinline__ void load_operands(struct mma_operands &to,
                                                     const struct gemm_args &args,
                                                     const struct mma_tile &tile, int32_t first)
{
    const int32_t chunks = MMA_DEPTH / 8;
    for (int32_t i = (int32_t)threadIdx.x; i < (MMA_TOKENS + TILE_WEIGHTS) * chunks;
         i += MMA_THREADS) {
        int32_t row = i / chunks;
        int32_t k = i % chunks * 8;
        bool token = row < MMA_TOKENS;
        int32_t n = row - MMA_TOKENS;
        uint16_t *at = token ? &to.x[row][k] : &to.weight[n][k];
        int32_t from = token ? (row < tile.rows ? row : -1) : tile_weight_row(args, tile.weight, n);
        if (from < 0) {
            *(uint4 *)at = make_uint4(0, 0, 0, 0);
        } else if (token) {
            load_eight(at, args.x, tile.first_row + from, first + k, args.depth);
        } else {
            load_eight(at, args.weight, (int64_t)tile.group * args.weight_rows + from, first + k,
                       args.depth);
        }
    }
}

/* 32 tokens by this warp's 32 rows of weights. */
static __device__ __forceinline__ void multiply_step(float (&sum)[2][4][4],
                                                     const struct mma_operands &in)
{
    int32_t lane = (int32_t)threadIdx.x % 32;
    int32_t first = (int32_t)threadIdx.x / 32 * 32;
    for (int32_t k = lane % 4 * 2; k < MMA_DEPTH; k += 16) {
        uint32_t a[2][4];
        for (int32_t i = 0; i < 8; i++) {
            a[i / 4][i % 4] =
                *(const uint32_t *)&in.x[i / 4 * 16 + i % 2 * 8 + lane / 4][k + i / 2 % 2 * 8];
        }
        for (int32_t j = 0; j < 4; j++) {
            const uint16_t *row = in.weight[first + j * 8 + lane / 4];
            uint32_t b[2] = {*(const uint32_t *)&row[k], *(const uint32_t *)&row[k + 8]};
            warp_multiply(sum[0][j], a[0], b);
            warp_multiply(sum[1][j], a[1], b);
        }
    }
}

/* sum += part scaled (fp8), part = 0. */
static __device__ __forceinline__ void promote(float (&sum)[2][4][4], float (&part)[2][4][4],
                                               const struct gemm_args &args,
                                               const struct mma_tile &tile, int32_t k_block)
{
    int32_t lane = (int32_t)threadIdx.x % 32;
    for (int32_t i = 0; i < 32; i++) {
        int32_t n = (int32_t)threadIdx.x / 32 * 32 + i / 4 % 4 * 8 + lane % 4 * 2 + i % 2;
        int32_t token = i / 16 * 16 + i / 2 % 2 * 8 + lane / 4;
        float scale = 1.0f;
        if (args.x.dtype == DTYPE_FP8_E4M3) {
            int32_t column = args.paired ? tile.weight * (TILE_WEIGHTS / 2) + n / 16 * 8
                                         : tile.weight * TILE_WEIGHTS + n;
            int64_t row = tile.first_row + min(token, tile.rows - 1);
            scale = args.x.scale[k_block * args.x.scale_rows + row] *
                    weight_scale(args, tile.group, min(column, args.out_columns - 1),
                                 args.paired ? n / 8 % 2 : 0, k_block);
        }
        float &from = part[i / 16][i / 4 % 4][i % 4];
        float &to = sum[i / 16][i / 4 % 4][i % 4];
        to = fmaf(from, scale, to);
        from = 0.0f;
    }
}

/* A warp writes four tokens, 128 columns at a time. */
static __device__ __forceinline__ void store_tokens(const union mma_shared &shared,
                                                    const struct gemm_args &args,
                                                    const struct mma_tile &tile)
{
    int32_t lane = (int32_t)threadIdx.x % 32;
    int32_t columns = args.paired ? TILE_WEIGHTS / 2 : TILE_WEIGHTS;
    for (int32_t token = (int32_t)threadIdx.x / 32; token < tile.rows; token += 8) {
        int64_t row = tile.first_row + token;
        for (int32_t first = 0; first < columns; first += SCALE_BLOCK) {
            float value[4];
            float amax = 0.0f;
            for (int32_t i = 0; i < 4; i++) {
                int32_t c = first + 32 * i + lane;
                int32_t n = args.paired ? c / 8 * 16 + c % 8 : c;
                int32_t column = tile.weight * columns + c;
                float up = args.paired ? shared.sum[token][n + 8] : 0.0f;
                value[i] = column < args.out_columns
                               ? activate(args, tile.group, column, shared.sum[token][n], up)
                               : 0.0f;
                amax = fmaxf(amax, fabsf(value[i]));
            }
            for (int32_t distance = 16; distance > 0; distance /= 2) {
                amax = fmaxf(amax, __shfl_xor_sync(0xffffffff, amax, distance));
            }
            float scale = fp8_scale(amax);
            int32_t column = tile.weight * columns + first;
            if (args.out.dtype == DTYPE_FP8_E4M3 && lane == 0 && column < args.out_columns) {
                args.out.scale[column / SCALE_BLOCK * args.out.scale_rows + row] = scale;
            }
            for (int32_t i = 0; i < 4; i++) {
                if (column + 32 * i + lane < args.out_columns) {
                    put(args.out, row * args.out_columns + column + 32 * i + lane, value[i], scale);
                }
            }
        }
    }
}

static __global__ void __launch_bounds__(MMA_THREADS)
    grouped_gemm_mma(const __grid_constant__ struct gemm_args args)
{
    __shared__ union mma_shared shared;
    struct mma_items items = {
        tile_count(args.out_columns, args.paired ? TILE_WEIGHTS / 2 : TILE_WEIGHTS)};
    struct group_window window = {-32, 0, 0};
    struct group_item item;
    if (!find_item(window, args, items, (int32_t)blockIdx.x, item)) {
        return; /* more blocks than tiles: the host does not know how many there are */
    }
    struct tile at = tile_in_bands(item.index, tile_count(item.rows, MMA_TOKENS),
                                   items.weight_tiles, band_tiles(items.weight_tiles));
    int32_t before = at.token * MMA_TOKENS;
    struct mma_tile tile = {item.group, at.weight, (int64_t)args.row_begin[item.group] + before,
                            min(item.rows - before, MMA_TOKENS)};
    float sum[2][4][4] = {};
    float part[2][4][4] = {};
    for (int32_t first = 0; first < args.depth; first += MMA_DEPTH) {
        load_operands(shared.in, args, tile, first);
        __syncthreads();
        multiply_step(part, shared.in);
        __syncthreads();
        int32_t end = first + MMA_DEPTH;
        if (end % SCALE_BLOCK == 0 || end >= args.depth) {
            promote(sum, part, args, tile, first / SCALE_BLOCK);
        }
    }
    int32_t lane = (int32_t)threadIdx.x % 32;
    for (int32_t i = 0; i < 32; i++) {
        int32_t n = (int32_t)threadIdx.x / 32 * 32 + i / 4 % 4 * 8 + lane % 4 * 2 + i % 2;
        int32_t token = i / 16 * 16 + i / 2 % 2 * 8 + lane / 4;
        shared.sum[token][n] = sum[i / 16][i / 4 % 4][i % 4];
    }
    __syncthreads();
    store_tokens(shared, args, tile);
}

enum status gemm_mma(const struct gemm_args *args, cudaStream_t stream)
{
    int64_t token_tiles = args->rows / MMA_TOKENS + args->num_experts;
    int32_t columns = args->paired ? TILE_WEIGHTS / 2 : TILE_WEIGHTS;
    int64_t blocks = token_tiles * tile_count(args->out_columns, columns);
    return launch_kernel(grouped_gemm_mma, blocks, MMA_THREADS, 0, 1, stream, *args);
}

/* --- tensor maps --- */

/* The driver is not linked: a program linked with it does not start where there is none. */
static bool encode(CUtensorMap *map, struct matrix matrix, const uint64_t *size, uint32_t rank,
                   int32_t box_rows)
{
    void *function = nullptr;
    cudaDriverEntryPointQueryResult found;
    if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                         cudaEnableDefault, &found) != cudaSuccess ||
        found != cudaDriverEntryPointSuccess) {
        return false;
    }
    bool fp8 = matrix.dtype == DTYPE_FP8_E4M3;
    uint64_t row_bytes = size[0] * (fp8 ? 1 : 2);
    cuuint64_t dimension[3] = {size[0], size[1], rank == 3 ? size[2] : 1};
    cuuint64_t stride_bytes[2] = {row_bytes, row_bytes * size[1]};
    cuuint32_t box[3] = {(cuuint32_t)(fp8 ? ROW_BYTES : ROW_BYTES / 2), (cuuint32_t)box_rows, 1};
    cuuint32_t step[3] = {1, 1, 1};
    auto encode_tiled = (decltype(&cuTensorMapEncodeTiled))function;
    return encode_tiled(map, fp8 ? CU_TENSOR_MAP_DATA_TYPE_UINT8 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                        rank, matrix.data, dimension, stride_bytes, box, step,
                        CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                        CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                        CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

bool tensor_map_rows(CUtensorMap *map, struct matrix matrix, int64_t rows, int32_t columns,
                     int32_t box_rows)
{
    uint64_t size[2] = {(uint64_t)columns, (uint64_t)rows};
    return encode(map, matrix, size, 2, box_rows);
}

bool tensor_map_experts(CUtensorMap *map, struct matrix matrix, int32_t num_experts, int32_t rows,
                        int32_t columns, int32_t box_rows)
{
    uint64_t size[3] = {(uint64_t)columns, (uint64_t)rows, (uint64_t)num_experts};
    return encode(map, matrix, size, 3, box_rows);
}

/* --- choice --- */

/* Rows an expert up to which weights are streamed: one tile of tokens. */
#define STREAM_ROWS_MAX TILE_TOKENS

static const char *const version_names[NUM_GROUPED_GEMM_VERSIONS] = {
    "automatic", "plain", "mma", "wgmma", "persistent", "cluster", "stream",
};

const char *grouped_gemm_version_name(enum grouped_gemm_version version)
{
    return version < NUM_GROUPED_GEMM_VERSIONS ? version_names[version] : nullptr;
}

bool grouped_gemm_takes(enum grouped_gemm_version version, struct expert_shape shape,
                        enum dtype dtype)
{
    if (version == GROUPED_GEMM_AUTOMATIC || version == GROUPED_GEMM_PLAIN) {
        return true;
    }
    if (version == GROUPED_GEMM_MMA) {
        return dtype != DTYPE_FP32;
    }
    bool fp8 = dtype == DTYPE_FP8_E4M3;
    int32_t multiple = fp8 ? 16 : 8;
    return version < NUM_GROUPED_GEMM_VERSIONS && dtype != DTYPE_FP32 &&
           shape.hidden_dim % multiple == 0 && shape.ffn_dim % multiple == 0 &&
           !(fp8 && (version == GROUPED_GEMM_WGMMA || shape.activation == ACTIVATION_GELU));
}

enum grouped_gemm_version grouped_gemm_choose(struct expert_shape shape, enum dtype dtype,
                                              int64_t expected_rows, uint32_t without)
{
    static const enum grouped_gemm_version few[] = {GROUPED_GEMM_STREAM, GROUPED_GEMM_CLUSTER,
                                                    GROUPED_GEMM_PERSISTENT, GROUPED_GEMM_WGMMA,
                                                    GROUPED_GEMM_MMA};
    static const enum grouped_gemm_version many[] = {GROUPED_GEMM_CLUSTER, GROUPED_GEMM_PERSISTENT,
                                                     GROUPED_GEMM_STREAM, GROUPED_GEMM_WGMMA,
                                                     GROUPED_GEMM_MMA};
    bool is_few = expected_rows <= (int64_t)STREAM_ROWS_MAX * shape.num_experts;
    for (size_t i = 0; i < sizeof few / sizeof few[0]; i++) {
        enum grouped_gemm_version version = is_few ? few[i] : many[i];
        if ((without >> version & 1) == 0 && grouped_gemm_takes(version, shape, dtype)) {
            return version;
        }
    }
    return GROUPED_GEMM_PLAIN;
}

/* --- entry --- */

static int64_t parts_bytes(int32_t num_sms)
{
    return (int64_t)num_sms * 2 * TILE_WEIGHTS * TILE_TOKENS * 4;
}

/* Arrivals come first; parts begin at a multiple of 16 bytes behind them. */
static int64_t arrivals_bytes(int32_t num_sms)
{
    return (int64_t)tile_count(num_sms, 4) * 16;
}

static int32_t device_sms(void)
{
    int device = 0;
    int sms = 0;
    if (cudaGetDevice(&device) != cudaSuccess ||
        cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, device) != cudaSuccess) {
        return 0;
    }
    return sms;
}

int64_t dev_grouped_gemm_workspace_bytes(void)
{
    int32_t sms = device_sms();
    return sms == 0 ? 0 : arrivals_bytes(sms) + parts_bytes(sms);
}

enum status dev_grouped_gemm_workspace_init(void *workspace, int64_t bytes, void *stream)
{
    int32_t sms = device_sms();
    if (sms == 0) {
        return STATUS_CUDA;
    }
    if (workspace == nullptr || bytes < arrivals_bytes(sms) + parts_bytes(sms)) {
        return STATUS_INVALID;
    }
    return cudaMemsetAsync(workspace, 0, (size_t)arrivals_bytes(sms), (cudaStream_t)stream) ==
                   cudaSuccess
               ? STATUS_OK
               : STATUS_CUDA;
}

static bool aligned(struct matrix matrix)
{
    return (uintptr_t)matrix.data % 16 == 0 && (uintptr_t)matrix.scale % 16 == 0;
}

/* What grouped_gemm_takes cannot see. */
static bool takes_operands(enum grouped_gemm_version version, const struct gemm_args *args,
                           enum dtype fast_out)
{
    if (version <= GROUPED_GEMM_MMA) {
        return true;
    }
    bool fp8 = args->x.dtype == DTYPE_FP8_E4M3;
    return aligned(args->x) && aligned(args->weight) && aligned(args->out) &&
           args->out.dtype == fast_out && (!fp8 || args->x.scale_rows % 4 == 0);
}

static enum status launch(enum grouped_gemm_version version, const struct gemm_args *args,
                          int32_t num_sms, cudaStream_t stream)
{
    switch (version) {
    case GROUPED_GEMM_PLAIN:
        return gemm_plain(args, stream);
    case GROUPED_GEMM_MMA:
        return gemm_mma(args, stream);
    case GROUPED_GEMM_WGMMA:
        return gemm_wgmma(args, stream);
    case GROUPED_GEMM_PERSISTENT:
        return gemm_large(args, num_sms, false, stream);
    case GROUPED_GEMM_CLUSTER:
        return gemm_large(args, num_sms, true, stream);
    case GROUPED_GEMM_STREAM:
        return gemm_stream(args, num_sms, stream);
    case GROUPED_GEMM_AUTOMATIC:
    case NUM_GROUPED_GEMM_VERSIONS:
        break;
    }
    return STATUS_INVALID;
}

static enum status run_gemm(struct expert_shape shape, struct gemm_args *args, enum dtype fast_out,
                            const struct grouped_gemm_run *run, void *stream)
{
    if (shape.num_experts < 1 || shape.hidden_dim < 1 || shape.ffn_dim < 1 || run->rows < 0 ||
        run->rows > INT32_MAX || args->x.dtype != args->weight.dtype) {
        return STATUS_INVALID;
    }
    if (run->rows == 0) {
        return STATUS_OK; /* no expert can have a row; a grid of no blocks is a CUDA error */
    }
    args->rows = run->rows;
    int64_t expected = run->expected_rows > 0 ? run->expected_rows : run->rows;
    enum grouped_gemm_version version = run->version;
    if (version == GROUPED_GEMM_AUTOMATIC) {
        version = grouped_gemm_choose(shape, args->x.dtype, expected, run->without);
        if (!takes_operands(version, args, fast_out)) {
            version = GROUPED_GEMM_MMA;
        }
    }
    if (!grouped_gemm_takes(version, shape, args->x.dtype) ||
        !takes_operands(version, args, fast_out)) {
        return STATUS_INVALID;
    }
    int32_t sms = device_sms();
    if (sms == 0) {
        return STATUS_CUDA;
    }
    if (version == GROUPED_GEMM_STREAM &&
        (run->workspace == nullptr || (uintptr_t)run->workspace % 16 != 0 ||
         run->workspace_bytes < arrivals_bytes(sms) + parts_bytes(sms))) {
        return STATUS_INVALID;
    }
    args->arrivals = (int32_t *)run->workspace;
    args->parts = (float *)((uint8_t *)run->workspace + arrivals_bytes(sms));
    int32_t blocks = run->num_sms > 0 && run->num_sms < sms ? run->num_sms : sms;
    return launch(version, args, blocks, (cudaStream_t)stream);
}

static enum epilogue epilogue_of(enum activation activation)
{
    return activation == ACTIVATION_SWIGLU           ? EPILOGUE_SWIGLU
           : activation == ACTIVATION_SWIGLU_CLAMPED ? EPILOGUE_SWIGLU_CLAMPED
                                                     : EPILOGUE_GELU;
}

enum status dev_grouped_gate_up(struct expert_shape shape, struct matrix h, struct matrix x,
                                const int32_t *row_begin, const int32_t *num_rows,
                                struct matrix gate_up, const float *bias,
                                const struct grouped_gemm_run *run, void *stream)
{
    struct gemm_args args = {};
    args.num_experts = shape.num_experts;
    args.depth = shape.hidden_dim;
    args.weight_rows = gate_up_rows(shape);
    args.out_columns = shape.ffn_dim;
    args.paired = shape.activation != ACTIVATION_GELU;
    args.epilogue = epilogue_of(shape.activation);
    args.x = x;
    args.weight = gate_up;
    args.out = h;
    args.weight_blocks = gate_up_blocks(shape);
    args.up_block = scale_blocks(shape.ffn_dim);
    args.row_begin = row_begin;
    args.num_rows = num_rows;
    args.bias = bias;
    return run_gemm(shape, &args, x.dtype, run, stream);
}

enum status dev_grouped_down(struct expert_shape shape, struct matrix y, struct matrix h,
                             const int32_t *row_begin, const int32_t *num_rows, struct matrix down,
                             const float *bias, const struct grouped_gemm_run *run, void *stream)
{
    struct gemm_args args = {};
    args.num_experts = shape.num_experts;
    args.depth = shape.ffn_dim;
    args.weight_rows = shape.hidden_dim;
    args.out_columns = shape.hidden_dim;
    args.epilogue = EPILOGUE_NONE;
    args.x = h;
    args.weight = down;
    args.out = y;
    args.weight_blocks = scale_blocks(shape.hidden_dim);
    args.row_begin = row_begin;
    args.num_rows = num_rows;
    args.bias = bias;
    if (y.dtype == DTYPE_FP8_E4M3) {
        return STATUS_INVALID;
    }
    return run_gemm(shape, &args, DTYPE_BF16, run, stream);
}
