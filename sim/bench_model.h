/*
 * bench_model.h -- the phases of a MoE layer as moe-bench runs it, predicted by fitted constants.
 *
 * Each phase has constants of its own, in the struct of the compute model `fitted`:
 *
 *     T = t0 + items slot_ns + bytes / activation_bytes_per_s
 *         + sum_e |N K b / weight_bytes_per_s, 2 N K m_e / flops_per_s|      |x, y| = (x^p +
 * y^p)^(1/p)
 *
 *   gate               items: turns of the router's loop (tokens x hidden_dim); scores looked at
 *                      (tokens x experts x top_k) at row_bytes_per_s; one GEMM without weights to
 *                      stream: the router stays in the cache
 *   router             a GEMM that has all tokens (CUDA)
 *   permute, rows, combine
 *                      items: choices; bytes: tokens and rows
 *   dispatch, return   items: ranks; bytes: rows that come to the rank
 *   gate_up, down      items: experts with tokens; m_e: its rows, padded to four on the CPU; on a
 *                      GPU the sum is the one of gpu/fitted.c, in tiles and waves
 *   shared             as an expert that has all tokens
 *
 * A step of several ranks waits for the slowest wherever rows are exchanged:
 *
 *     layer = max(gate + permute) + dispatch + max(gate_up + down) + return + max(shared + combine)
 *
 * Left out: what one phase leaves in the caches for the next; ranks that share memory bandwidth.
 */
#ifndef MOESIM_BENCH_MODEL_H
#define MOESIM_BENCH_MODEL_H

#include "bench_rows.h"
#include "calibrate.h"

/* The constants of a device, format and number of processes: alone and with others are two worlds
 * where cores share memory. */
struct bench_constants {
    char device[NAME_BYTES];
    char dtype[NAME_BYTES];
    bool is_parallel; /* several ranks */
    enum bench_phase phase;
    struct fitted_kernels fitted;  /* num_rows, error_median and error_p90: held out */
    struct error_summary held_out; /* a shape at a time; num_rows 0: there is only one */
};

#define BENCH_CONSTANTS_MAX 256

struct bench_model {
    int32_t num_constants;
    struct bench_constants constants[BENCH_CONSTANTS_MAX];
};

/* Fits every phase that the rows hold. STATUS_INVALID when nothing can be fitted. */
MUST_CHECK enum status bench_model_fit(struct bench_model *model, const struct bench_rows *rows,
                                       struct error *error);

/* What the model says a row takes, in ns; a layer's row out of the other rows of its step.
 * Negative: there are no constants for it, or rows of its step are missing. */
double bench_model_predict(const struct bench_model *model, const struct bench_rows *rows,
                           const struct bench_row *row);

/* One phase of one rank by given constants. */
double bench_phase_ns(const struct bench_row *row, const struct fitted_kernels *fitted);

#endif
