/*
 * ep.cu -- expert parallelism's own steps: slots, counts received, rows sent and returned.
 *
 * As DeepEP's low-latency mode: a source writes each row straight to its place among the rows of
 * the slot at the destination, and fetches it from there when the experts are done. Destinations
 * are pointers, so they may lie on this GPU or on one whose memory is mapped. Places follow from
 * counts alone (ref_ep_receive), so nothing is atomic and results repeat bit for bit.
 *
 * v1  a warp a row, 16 bytes a lane. Bound by HBM: each row is read once and written once.
 */
#include "dev_ep_kernels.h"

#include "ep_plan.h"
#include "launch.cuh"

static const unsigned ALL_LANES = 0xffffffffu;
static const int LANES = 32;
static const int WARPS = 8;

static __global__ void choose_slots(struct ep_slots slots, int64_t num_choices, int32_t top_k,
                                    int64_t first_token, int32_t *slot, const int32_t *expert)
{
    const int64_t choice = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (choice >= num_choices) {
        return;
    }
    int32_t wanted = expert[choice];
    int32_t found = EXPERT_NONE;
    if (wanted != EXPERT_NONE) {
        int32_t begin = slots.copy_begin[wanted];
        int32_t copies = slots.copy_begin[wanted + 1] - begin;
        found = slots.copy_slot[begin + ep_copy_of_token(first_token, choice / top_k, copies)];
    }
    slot[choice] = found;
}

/* One warp: a slot a lane, 32 at a time; sources in order, so that place is their running sum. */
static __global__ void receive(struct ep_rank rank, const struct ep_source *source,
                               int32_t num_ranks, int32_t row_align)
{
    const int32_t lane = (int32_t)threadIdx.x;
    int32_t before = 0;
    for (int32_t first = 0; first < rank.num_slots; first += LANES) {
        int32_t slot = first + lane;
        bool there = slot < rank.num_slots;
        int32_t rows = 0;
        for (int32_t s = 0; s < num_ranks && there; s++) {
            rank.place[s * rank.num_slots + slot] = rows;
            rows += source[s].num_rows[rank.first_slot + slot];
        }
        int32_t mine = (rows + row_align - 1) & -row_align;
        int32_t sum = mine;
        for (int distance = 1; distance < LANES; distance *= 2) {
            int32_t other = __shfl_up_sync(ALL_LANES, sum, distance);
            sum += lane >= distance ? other : 0;
        }
        int32_t begin = before + sum - mine;
        if (there) {
            rank.num_rows[slot] = rows;
            rank.row_begin[slot] = begin;
            for (int32_t s = 0; s < num_ranks; s++) {
                rank.place[s * rank.num_slots + slot] += begin;
            }
        }
        before += __shfl_sync(ALL_LANES, sum, LANES - 1);
    }
    if (lane == 0) {
        rank.row_begin[rank.num_slots] = before;
    }
}

/* Where row `row` of a source lies at its destination. */
static __device__ __forceinline__ int64_t remote_row(const struct ep_move &move, int32_t row,
                                                     const struct ep_rank **rank)
{
    const int32_t *begin = move.source.row_begin;
    int32_t slot = ep_slot_of_row(begin, move.num_slots, row);
    const struct ep_rank *to = &move.rank[move.rank_of_slot[slot]];
    *rank = to;
    return to->place[move.source_rank * to->num_slots + slot - to->first_slot] + row - begin[slot];
}

/* A warp copies bytes, V at a time. */
template <class V>
static __device__ __forceinline__ void copy_bytes(char *to, const char *from, int64_t bytes,
                                                  int32_t lane)
{
    for (int64_t i = lane; i < bytes / (int64_t)sizeof(V); i += LANES) {
        ((V *)to)[i] = ((const V *)from)[i];
    }
}

static __device__ __forceinline__ void copy_row(char *to, const char *from, int64_t bytes,
                                                int32_t lane)
{
    if (bytes % 16 == 0) { /* rows then begin at multiples of 16 */
        copy_bytes<uint4>(to, from, bytes, lane);
    } else {
        copy_bytes<uint8_t>(to, from, bytes, lane);
    }
}

static __global__ void __launch_bounds__(WARPS *LANES) dispatch_v1(struct ep_move move)
{
    const int32_t lane = (int32_t)threadIdx.x % LANES;
    const int32_t row = (int32_t)(blockIdx.x * WARPS + threadIdx.x / LANES);
    if (row >= move.source.row_begin[move.num_slots]) {
        return; /* the grid is as large as the rows could be */
    }
    const struct ep_rank *to;
    int64_t at = remote_row(move, row, &to);
    const struct matrix *from = &move.source.sent;
    int64_t bytes = (int64_t)move.hidden_dim * (from->dtype == DTYPE_FP8_E4M3 ? 1 : 2);
    copy_row((char *)to->x.data + at * bytes, (const char *)from->data + row * bytes, bytes, lane);
    int32_t blocks = (move.hidden_dim + SCALE_BLOCK - 1) / SCALE_BLOCK;
    for (int32_t block = lane; from->dtype == DTYPE_FP8_E4M3 && block < blocks; block += LANES) {
        to->x.scale[block * to->x.scale_rows + at] = from->scale[block * from->scale_rows + row];
    }
}

static __global__ void __launch_bounds__(WARPS *LANES) return_v1(struct ep_move move)
{
    const int32_t lane = (int32_t)threadIdx.x % LANES;
    const int32_t row = (int32_t)(blockIdx.x * WARPS + threadIdx.x / LANES);
    if (row >= move.source.row_begin[move.num_slots]) {
        return;
    }
    const struct ep_rank *from;
    int64_t at = remote_row(move, row, &from);
    int64_t bytes = (int64_t)move.hidden_dim * 2;
    copy_row((char *)move.source.returned.data + row * bytes,
             (const char *)from->y.data + at * bytes, bytes, lane);
}

extern "C" enum status dev_ep_choose_slots(struct ep_slots slots, int32_t num_tokens, int32_t top_k,
                                           int64_t first_token, int32_t *slot,
                                           const int32_t *expert, cudaStream_t stream)
{
    const unsigned threads = 256;
    int64_t choices = (int64_t)num_tokens * top_k;
    if (choices == 0) {
        return STATUS_OK;
    }
    return launch(choose_slots, (unsigned)((choices + threads - 1) / threads), threads, 0, stream,
                  slots, choices, top_k, first_token, slot, expert);
}

extern "C" enum status dev_ep_receive(struct ep_rank rank, const struct ep_source *source,
                                      int32_t num_ranks, int32_t row_align, cudaStream_t stream)
{
    return launch(receive, 1, LANES, 0, stream, rank, source, num_ranks, row_align);
}

extern "C" enum status dev_ep_dispatch(struct ep_move move, int64_t rows_max, cudaStream_t stream)
{
    if (rows_max == 0) {
        return STATUS_OK;
    }
    return launch(dispatch_v1, (unsigned)((rows_max + WARPS - 1) / WARPS), WARPS * LANES, 0, stream,
                  move);
}

extern "C" enum status dev_ep_return(struct ep_move move, int64_t rows_max, cudaStream_t stream)
{
    if (rows_max == 0) {
        return STATUS_OK;
    }
    return launch(return_v1, (unsigned)((rows_max + WARPS - 1) / WARPS), WARPS * LANES, 0, stream,
                  move);
}
