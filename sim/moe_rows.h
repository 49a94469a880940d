/*
 * moe_rows.h -- published measurements of whole MoE operations, read for calibrate and validate.
 *
 * The table is ai-dynamo/aiconfigurator's (collector/ @ 095f58a51c4c), one operation a row: columns
 * row_id, gpu, framework, version, kernel_source, dtype, model_shape, num_experts, topk, hidden,
 * inter, moe_tp, moe_ep, tokens, distribution, latency_us, source. `tokens` is global over the EP
 * group; the operation measured is rank 0's, which holds the first num_experts / moe_ep experts.
 * What each of them got is not in the table, so it is counted again as the collector dealt it out
 * and as the engine's gate read it.
 *
 * Whole runs of TensorRT-LLM's CUTLASS kernels are up to five times as slow as their neighbours,
 * and no model of the kernel can tell which: the collector (trtllm/collect_moe.py) loads tuned
 * tactics from the first file whose name begins with format, dimensions and local experts, so 1
 * finds 128, and what another model or EP degree was tuned for is not what the run looks up: it
 * takes the default. In bf16 and fp8 on H100, B200 and GB200, of runs that can meet another's file
 * 69 of 198 are slow, of those that cannot none of 324. The fit's loss keeps them from pulling.
 */
#ifndef MOESIM_MOE_ROWS_H
#define MOESIM_MOE_ROWS_H

#include <stdbool.h>
#include <stdint.h>

#include "cluster.h"
#include "gpu/fitted.h"
#include "odd_rows.h"
#include "status.h"

/* Skewed rows were measured as the mean of five random routings; the model is averaged over so many
 * other ones, and over fewer of them where a fit asks thousands of times. */
#define MOE_DRAWS     24
#define MOE_FIT_DRAWS 6

enum moe_class {
    MOE_BALANCED,    /* one GPU, every expert alike */
    MOE_BALANCED_EP, /* rank 0 of several */
    MOE_SKEWED,      /* power law, one GPU */
    MOE_SKEWED_EP,   /* power law, the most loaded rank of several */
    MOE_CLASS_COUNT,
};

enum moe_skip {
    MOE_USED,
    MOE_SKIP_NUMBER,       /* a cell that is no number, or out of range */
    MOE_SKIP_EXPERTS,      /* experts, top-k and EP that do not go together */
    MOE_SKIP_NOT_GATED,    /* Nemotron: two matrices an expert, another operation */
    MOE_SKIP_TP,           /* experts split by tensor parallelism: not modelled */
    MOE_SKIP_GPU,          /* no preset has the GPU's name as an alias */
    MOE_SKIP_KERNELS,      /* a kernel source that has no name here */
    MOE_SKIP_PRECISION,    /* a format that is not modelled */
    MOE_SKIP_DISTRIBUTION, /* neither balanced nor a power law */
    MOE_SKIP_CONSTANTS,    /* validate: the preset has no constants for these kernels */
    MOE_SKIP_COUNT,
};

/* What rank 0 does with choices of other ranks' experts. */
enum moe_remote {
    MOE_REMOTE_SEEN,     /* sees all tokens of the group, leaves out what is not its own */
    MOE_REMOTE_TO_FIRST, /* likewise, but does their other choices as well, as its first expert */
};

/* How the engine that was measured read the logits it was given. */
struct moe_gate {
    bool is_grouped; /* DeepSeek-V3's: 4 of 8 groups */
    enum moe_remote remote;
};

struct moe_row {
    enum moe_skip skip;
    const char *odd; /* NUMBER and EXPERTS: what is wrong, with file and line; else NULL */
    enum moe_class class;
    int32_t gpu; /* index into moe_rows.gpu */
    char kernels[NAME_BYTES];
    enum precision precision;
    enum tile_height tile_rows; /* where the engine's rule is known, else TILE_ROWS_TUNED */
    char dtype[NAME_BYTES];
    char model_shape[NAME_BYTES];
    char distribution[NAME_BYTES];
    int32_t num_experts, top_k, hidden_dim, ffn_dim, tp, ep;
    int64_t tokens;
    struct moe_gate gate;
    bool drops_choices; /* leaves other ranks' out before it does anything else */
    bool is_exchanged;  /* handed what an exchange brought: choices of other ranks cost nothing */
    int64_t filled; /* > 0: experts got so many tokens one after the other, 0: by distribution */
    double latency_ns;
    int32_t num_loads;        /* 1, or MOE_DRAWS */
    struct expert_load *load; /* [num_loads], of rank 0 */
};

#define MOE_GPUS_MAX 32

/* Zero-initialise; release with moe_rows_free. */
struct moe_rows {
    int64_t num_rows;
    int64_t capacity;
    struct moe_row *row;
    struct expert_load *load;
    int32_t num_gpus;
    struct gpu_spec *gpu;             /* [num_gpus] presets, with their constants */
    char gpu_name[MOE_GPUS_MAX][128]; /* as the table has it */
    bool gpu_known[MOE_GPUS_MAX];
    struct odd_rows odd;
};

/* Reads the table and counts what rank 0 got in every usable row. A row whose cells are not the
 * numbers that are due is skipped; a line without a cell is an error with file and line. */
MUST_CHECK enum status moe_rows_read(struct moe_rows *rows, const char *path, struct error *error);
void moe_rows_free(struct moe_rows *rows); /* safe on a zeroed struct, and twice */

/* What the model says a row takes, in ns; token copies of all experts of the row's rank 0. */
double moe_row_predict(const struct moe_row *row, const struct gpu_spec *gpu,
                       const struct fitted_kernels *fitted);

/* The same over the first num_draws of its routings. */
double moe_row_predict_few(const struct moe_row *row, const struct gpu_spec *gpu,
                           const struct fitted_kernels *fitted, int32_t num_draws);

/* The constants of the row's kernels in its precision, or NULL. */
const struct fitted_kernels *moe_row_constants(const struct moe_row *row,
                                               const struct gpu_spec *gpu);

/* What the tensor cores compute in: weights of 4 bit meet activations of 16 (w4a16) or 8 (w4a8). */
enum precision moe_row_arithmetic(const struct moe_row *row);

const char *moe_class_name(enum moe_class class);
const char *moe_skip_reason(enum moe_skip skip);

/* How the collector dealt out tokens; declared for the tests.
 *
 * balanced: token i goes to experts i + j stride, j < top_k, stride = ceil(num_experts / top_k);
 * with fewer tokens than stride they are spread over it. tokens_of [num_experts] out. */
void moe_deal_balanced(int64_t *tokens_of, int64_t tokens, int32_t num_experts, int32_t top_k);

#endif
