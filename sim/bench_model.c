/* bench_model.c -- a phase's time by its constants, and a step's out of its phases. */
#include "bench_model.h"

#include <math.h>
#include <string.h>

#include "bench_model_internal.h"

#define CPU_ROW_ALIGN 4 /* kernels/cpu_forward.h */
#define CPU_VECTOR                                                                                 \
    16 /* float32 in the widest vectors: experts that the router computes at once                  \
        */

/* What a phase has to do. */
struct work {
    double items;
    double scans; /* gate: scores looked at while choosing */
    double bytes;
    double columns; /* of weights; 0: no GEMM */
    double depth;
};

static double element_bytes(const struct bench_row *row)
{
    return strcmp(row->dtype, "fp32") == 0 ? 4.0
                                           : 2.0; /* rows travel in bf16 where weights are fp8 */
}

static double weight_bytes(const struct bench_row *row)
{
    return strcmp(row->dtype, "fp32") == 0 ? 4.0 : strcmp(row->dtype, "fp8") == 0 ? 1.0 : 2.0;
}

/* Tokens of the row's rank. */
static double rank_tokens(const struct bench_row *row)
{
    int64_t tokens = row->num_tokens;
    return (double)(tokens * (row->rank + 1) / row->num_ranks -
                    tokens * row->rank / row->num_ranks);
}

static double padded(const struct bench_row *row, int32_t count, int32_t align)
{
    return (double)(row->is_cpu ? (count + align - 1) / align * align : count);
}

static struct work work_of(const struct bench_row *row)
{
    double hidden = row->hidden_dim;
    double ffn = row->ffn_dim;
    double wide = row->is_gated ? 2.0 : 1.0;
    double tokens = rank_tokens(row);
    double choices = tokens * row->top_k;
    double rows = 0.0;
    double active = 0.0;
    struct work work = {0};
    double padded_rows = 0.0;
    for (int32_t slot = 0; slot < row->num_slots; slot++) {
        rows += row->slot_tokens[slot];
        padded_rows += padded(row, row->slot_tokens[slot], CPU_ROW_ALIGN);
        active += row->slot_tokens[slot] > 0 ? 1.0 : 0.0;
    }
    switch (row->phase) {
    case BENCH_ROUTER:
        return (struct work){.bytes = tokens * hidden * element_bytes(row),
                             .columns = row->num_experts,
                             .depth = hidden};
    case BENCH_GATE:
        return (struct work){.items = tokens * hidden,
                             .scans = tokens * row->num_experts * row->top_k,
                             .bytes = tokens * hidden * element_bytes(row),
                             .columns =
                                 row->is_cpu ? padded(row, row->num_experts, CPU_VECTOR) : 0.0,
                             .depth = hidden};
    case BENCH_PERMUTE: /* of one rank, straight into the experts' padded rows */
        return (struct work){.items = choices,
                             .bytes = (tokens + (row->num_ranks == 1 ? padded_rows : choices)) *
                                      hidden * element_bytes(row)};
    case BENCH_ROWS:
    case BENCH_COMBINE:
        return (struct work){.items = choices,
                             .bytes = (tokens + choices) * hidden * element_bytes(row)};
    case BENCH_DISPATCH:
    case BENCH_RETURN:
        return (struct work){.items = row->num_ranks, .bytes = rows * hidden * element_bytes(row)};
    case BENCH_GATE_UP:
        work = (struct work){.columns = wide * ffn, .depth = hidden};
        break;
    case BENCH_DOWN:
        work = (struct work){.columns = hidden, .depth = ffn};
        break;
    case BENCH_SHARED:
        return (struct work){.items = 1.0,
                             .bytes =
                                 2.0 * tokens * (hidden + row->shared_ffn_dim) * element_bytes(row),
                             .columns = (wide + 1.0) * row->shared_ffn_dim,
                             .depth = hidden};
    case BENCH_LAYER:
    case BENCH_WALL:
    case BENCH_PHASE_COUNT:
        break;
    }
    work.items = active;
    work.bytes = rows * (hidden + ffn) * element_bytes(row);
    return work;
}

/* GEMMs of a GPU come in tiles and waves of tiles: the form of the compute model. */
static double tiled_gemm_s(const struct bench_row *row, const struct work *work,
                           const struct fitted_kernels *fitted)
{
    const struct expert_shape shape = {.hidden_dim = row->hidden_dim,
                                       .ffn_dim = row->ffn_dim,
                                       .weight_bytes = weight_bytes(row),
                                       .num_sms = row->num_sms,
                                       .gpu_sms = row->num_sms};
    struct expert_load load = {0};
    bool is_grouped = row->phase == BENCH_GATE_UP || row->phase == BENCH_DOWN;
    for (int32_t slot = 0; slot < row->num_slots && is_grouped; slot++) {
        expert_load_add(&load, row->slot_tokens[slot], 1.0);
    }
    if (!is_grouped) {
        expert_load_add(&load, (int64_t)rank_tokens(row), 1.0);
    }
    return load.active > 0.0 ? fitted_gemm_s(fitted, &shape, &load, work->columns, work->depth)
                             : 0.0;
}

static double gemm_s(const struct bench_row *row, const struct work *work,
                     const struct fitted_kernels *fitted)
{
    double stream_s = work->columns * work->depth * weight_bytes(row) / fitted->weight_bytes_per_s;
    double row_s = 2.0 * work->columns * work->depth / fitted->flops_per_s;
    if (row->phase == BENCH_GATE) {
        return rank_tokens(row) * row_s;
    }
    if (!row->is_cpu) {
        return tiled_gemm_s(row, work, fitted);
    }
    if (row->phase == BENCH_SHARED) {
        return fitted_norm(stream_s, rank_tokens(row) * row_s, fitted->blend);
    }
    double sum_s = 0.0;
    for (int32_t slot = 0; slot < row->num_slots; slot++) {
        if (row->slot_tokens[slot] > 0) {
            double rows = padded(row, row->slot_tokens[slot], CPU_ROW_ALIGN);
            sum_s += fitted_norm(stream_s, rows * row_s, fitted->blend);
        }
    }
    return sum_s;
}

double bench_phase_ns(const struct bench_row *row, const struct fitted_kernels *fitted)
{
    struct work work = work_of(row);
    double seconds =
        work.bytes / fitted->activation_bytes_per_s + work.scans / fitted->row_bytes_per_s;
    if (work.columns > 0.0) {
        seconds += gemm_s(row, &work, fitted);
    }
    return fitted->t0_ns + work.items * fitted->slot_ns + seconds * 1e9;
}

const struct bench_constants *bench_model_find(const struct bench_model *model,
                                               const struct bench_row *row)
{
    for (int32_t i = 0; i < model->num_constants; i++) {
        const struct bench_constants *constants = &model->constants[i];
        if (constants->phase == row->phase && constants->is_parallel == (row->num_ranks > 1) &&
            strcmp(constants->dtype, row->dtype) == 0 &&
            strcmp(constants->device, row->device) == 0) {
            return constants;
        }
    }
    return NULL;
}

/* The parts of a step between two exchanges, for the ranks that are slowest in each. */
enum part { PART_BEFORE, PART_DISPATCH, PART_EXPERTS, PART_RETURN, PART_AFTER, PART_COUNT };

static enum part part_of(enum bench_phase phase)
{
    static const enum part parts[BENCH_PHASE_COUNT] = {
        [BENCH_ROUTER] = PART_BEFORE,     [BENCH_ROWS] = PART_BEFORE,
        [BENCH_GATE] = PART_BEFORE,       [BENCH_PERMUTE] = PART_BEFORE,
        [BENCH_DISPATCH] = PART_DISPATCH, [BENCH_GATE_UP] = PART_EXPERTS,
        [BENCH_DOWN] = PART_EXPERTS,      [BENCH_RETURN] = PART_RETURN,
        [BENCH_SHARED] = PART_AFTER,      [BENCH_COMBINE] = PART_AFTER};
    return parts[phase];
}

/* The step's other rows: none may lack constants, and each rank has to be there. */
static double layer_ns(const struct bench_model *model, const struct bench_rows *rows,
                       const struct bench_row *layer)
{
    double longest[PART_COUNT] = {0.0};
    int32_t num_ranks = 0;
    for (int32_t rank = 0; rank < layer->num_ranks; rank++) {
        double part_ns[PART_COUNT] = {0.0};
        bool is_there = false;
        for (int64_t i = 0; i < rows->num_rows; i++) {
            const struct bench_row *row = &rows->row[i];
            if (row->skip != BENCH_USED || row->step != layer->step || row->rank != rank ||
                row->phase >= BENCH_LAYER) {
                continue;
            }
            double ns = bench_model_predict(model, rows, row);
            if (ns < 0.0) {
                return ns;
            }
            part_ns[part_of(row->phase)] += ns;
            is_there = true;
        }
        num_ranks += is_there;
        for (int32_t part = 0; part < PART_COUNT; part++) {
            longest[part] = fmax(longest[part], part_ns[part]);
        }
    }
    double sum_ns = 0.0;
    for (int32_t part = 0; part < PART_COUNT; part++) {
        sum_ns += longest[part];
    }
    return num_ranks == layer->num_ranks ? sum_ns : -1.0;
}

double bench_model_predict(const struct bench_model *model, const struct bench_rows *rows,
                           const struct bench_row *row)
{
    if (row->phase >= BENCH_LAYER) {
        return layer_ns(model, rows, row);
    }
    const struct bench_constants *constants = bench_model_find(model, row);
    return constants == NULL ? -1.0 : bench_phase_ns(row, &constants->fitted);
}
