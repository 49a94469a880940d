/*
 * kernel_rows.h -- published measurements of single kernels: GEMMs, attention, experts of one rank.
 *
 * One kernel a row. Columns that are read: kernel, gpu, library, dtype, kv_dtype, phase, m, n, k,
 * num_groups, num_experts, topk, hidden, inter, ep, local_experts, tokens, tokens_scope,
 * tokens_per_expert, batch, seq_or_kv_len, q_heads, model_shape, distribution, num_slots,
 * latency_us; a cell may be empty where the kernel has no such thing. q_heads of attention holds
 * heads-kvheads-dim, of MLA heads-rank-rope. What a row is becomes clear from `kernel`; rows that
 * are no such kernel, or lack a number, are kept with the reason why they cannot be predicted.
 */
#ifndef MOESIM_KERNEL_ROWS_H
#define MOESIM_KERNEL_ROWS_H

#include <stdint.h>

#include "cluster.h"
#include "gpu/fitted_attention.h"
#include "gpu/fitted_gemm.h"
#include "moe_rows.h"
#include "status.h"

enum kernel_class {
    KERNEL_GEMM, /* dense or grouped */
    KERNEL_ATTENTION,
    KERNEL_MOE,   /* whole expert phase of a rank */
    KERNEL_OTHER, /* nothing that is modelled */
};

struct kernel_row {
    int64_t line;     /* in the table */
    const char *skip; /* why it cannot be predicted: static storage; NULL: it can */
    const char *odd;  /* which cell it was, with file and line; else NULL */
    enum kernel_class class;
    int32_t gpu;              /* index into kernel_rows.moe.gpu; -1: too many GPUs */
    char label[NAME_BYTES];   /* what it is, as a group of errors is called */
    char library[NAME_BYTES]; /* as the table has it, without its version */
    char dtype[NAME_BYTES];
    char kernels[NAME_BYTES]; /* as the constants are called */
    char shape[NAME_BYTES];   /* rows of one shape are held out together; */
    char part[NAME_BYTES];    /* where there is but one shape, parts of it */
    enum precision precision;
    enum tile_choice tiles;     /* GEMM */
    enum attention_phase phase; /* attention */
    double heads_min;           /* attention: as the constants have it */
    struct gemm_shape gemm;     /* without the GPU's SMs, as the next */
    struct attention_shape attention;
    int64_t moe; /* index into kernel_rows.moe.row */
    double latency_ns;
};

/* Zero-initialise; release with kernel_rows_free. */
struct kernel_rows {
    int64_t num_rows;
    int64_t capacity;
    struct kernel_row *row;
    struct moe_rows moe; /* the rows of experts, and the GPUs and the odd ones of all rows */
};

/* A row with a cell that should be a number and is none is skipped; a line without a cell is an
 * error with file and line. */
MUST_CHECK enum status kernel_rows_read(struct kernel_rows *rows, const char *path,
                                        struct error *error);
void kernel_rows_free(struct kernel_rows *rows); /* safe on a zeroed struct, and twice */

/* Predictions in ns by given constants, on a GPU. */
double kernel_row_gemm_ns(const struct kernel_row *row, const struct gpu_spec *gpu,
                          const struct gemm_constants *constants);
double kernel_row_attention_ns(const struct kernel_row *row, const struct gpu_spec *gpu,
                               const struct attention_constants *constants);

/* The constants of the row's kernels in its format in a preset, or NULL. */
const struct gemm_constants *kernel_row_gemm(const struct kernel_row *row,
                                             const struct gpu_spec *gpu);
const struct attention_constants *kernel_row_attention(const struct kernel_row *row,
                                                       const struct gpu_spec *gpu);

#endif
