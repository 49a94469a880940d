/* kernel_row.c -- one row of the table of kernels: what it measured, and in whose words. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel_rows_internal.h"
#include "moe_rows_internal.h"

#define NUMBER_MIN 1e-3 /* of all that is read: shapes, tokens, microseconds */
#define NUMBER_MAX 1e9

/* The collector of SGLang's prefill rows (collect_wideep_deepep_moe.py) fills expert after expert
 * for `uniform`; times tell that it stops at the alignment of DeepGEMM's contiguous layout. */
#define FILLED_TOKENS 128

/* Decode of MLA has other kernels for 128 heads than for 8 to 64: constants of both together are
 * off by 8 to 10 % on 128 heads (aiconfigurator @ 095f58a). */
#define WIDE_HEADS 128.0

static const char missing[] = "a shape or the latency is missing";

/* GEMM formats of the table. One scale a tensor, weight-only and SmoothQuant are kernels of their
 * own; int4 weights weigh what mxfp4's do, up to their scales. */
static const struct gemm_format {
    const char *dtype;
    const char *suffix;
    enum precision precision;
} gemm_formats[] = {
    {"bfloat16", "", PRECISION_BF16},
    {"bf16", "", PRECISION_BF16},
    {"fp8_block", "", PRECISION_FP8},
    {"nvfp4", "", PRECISION_NVFP4},
    {"fp8", "_fp8_tensor", PRECISION_FP8},
    {"int8_wo", "_weight_only", PRECISION_INT8},
    {"int4_wo", "_weight_only", PRECISION_MXFP4},
    {"sq", "_smoothquant", PRECISION_INT8},
};

static bool begins_with(const char *text, const char *beginning)
{
    return strncmp(text, beginning, strlen(beginning)) == 0;
}

/* Reads cells that are numbers where they are not empty; an empty one makes row unpredictable. */
struct wanted {
    enum kernel_column column;
    double *value;
};

static enum status read_numbers(struct kernel_row *row, const struct csv_stream *table,
                                const struct wanted *wanted, int32_t count, struct error *error)
{
    enum status status = STATUS_OK;
    for (int32_t i = 0; i < count; i++) {
        if (table->cell[wanted[i].column][0] == '\0') {
            row->skip = missing;
        } else if (csv_stream_number(wanted[i].value, table, (int32_t)wanted[i].column, error) !=
                   STATUS_OK) {
            status = STATUS_INVALID;
        } else if (*wanted[i].value < NUMBER_MIN || *wanted[i].value > NUMBER_MAX) {
            status = error_add(error, STATUS_INVALID, "%s: %s is %s, not from %g to %g",
                               table->place, table->name[wanted[i].column],
                               table->cell[wanted[i].column], NUMBER_MIN, NUMBER_MAX);
        }
    }
    return status;
}

static enum tile_choice tiles_of(const struct kernel_row *row, const struct csv_stream *table)
{
    const char *gpu = table->cell[KERNEL_COLUMN_GPU];
    bool is_hopper = strstr(gpu, "H100") || strstr(gpu, "H20") || strstr(gpu, "H800");
    bool is_own = begins_with(row->library, "TRT-LLM");
    bool is_block = strcmp(row->dtype, "fp8_block") == 0;
    return strstr(row->library, "DeepGEMM")             ? TILES_FEWEST_WAVES
           : is_own && is_block && is_hopper            ? TILES_FEWEST_WAVES_SWAPPED
           : is_own && strcmp(row->dtype, "nvfp4") == 0 ? TILES_FIXED
           : (is_own && !is_block) || strcmp(row->dtype, "bfloat16") == 0 ? TILES_TUNED
                                                                          : TILES_TUNED_WHOLE;
}

/* Whose it is: an engine's, measured around its own layer, or a library's alone. */
static const char *engine_of(const struct kernel_row *row)
{
    return begins_with(row->library, "TRT-LLM")  ? "trtllm"
           : begins_with(row->library, "vLLM")   ? "vllm"
           : begins_with(row->library, "SGLang") ? "sglang"
                                                 : "flash";
}

static enum status parse_dense(struct kernel_row *row, const struct csv_stream *table,
                               struct error *error)
{
    const struct wanted wanted[] = {{KERNEL_COLUMN_M, &row->gemm.rows},
                                    {KERNEL_COLUMN_N, &row->gemm.columns},
                                    {KERNEL_COLUMN_K, &row->gemm.depth},
                                    {KERNEL_COLUMN_LATENCY_US, &row->latency_ns}};
    const struct gemm_format *format = NULL;
    const char *engine = engine_of(row);
    bool is_own = strcmp(engine, "trtllm") == 0;
    bool is_single = strcmp(engine, "vllm") == 0 && strcmp(row->dtype, "nvfp4") == 0;
    bool is_hosted = strcmp(engine, "vllm") == 0 && strcmp(row->dtype, "fp8_block") == 0;
    row->class = KERNEL_GEMM;
    row->gemm.groups = 1.0;
    /* aiconfigurator's collectors take so many sets of weights in turn (@ 095f58a) */
    row->gemm.rounds = strcmp(engine, "flash") == 0 ? 0.0 : is_single ? 1.0 : is_own ? 5.0 : 6.0;
    row->tiles = tiles_of(row, table);
    (void)snprintf(row->label, sizeof row->label, "dense GEMM");
    for (size_t i = 0; i < sizeof gemm_formats / sizeof gemm_formats[0]; i++) {
        format = strcmp(row->dtype, gemm_formats[i].dtype) == 0 ? &gemm_formats[i] : format;
    }
    enum status status = read_numbers(row, table, wanted, 4, error);
    if (begins_with(row->library, "DeepGEMM")) {
        row->precision = PRECISION_FP8;
        (void)snprintf(row->kernels, sizeof row->kernels, "deepgemm");
    } else if (strcmp(engine, "flash") != 0 && format != NULL && !is_hosted) {
        row->precision = format->precision;
        (void)snprintf(row->kernels, sizeof row->kernels, "%s%s%s", engine, is_own ? "" : "_linear",
                       format->suffix);
    } else {
        row->skip = is_hosted ? "vLLM's fp8 in blocks was timed with its host's 83 us"
                              : "the library or its format is not known";
    }
    row->gemm.weight_bytes = precision_weight_bytes(row->precision);
    (void)snprintf(row->shape, sizeof row->shape, "%.0f x %.0f", row->gemm.columns,
                   row->gemm.depth);
    return status;
}

/* Of expert layers: up has gate and up side by side. Of DeepGEMM's own table: m, n and k stand. */
static enum status parse_grouped(struct kernel_row *row, const struct csv_stream *table,
                                 struct error *error)
{
    const char *kernel = table->cell[KERNEL_COLUMN_KERNEL];
    bool is_layer = strstr(kernel, "_proj") != NULL;
    bool is_up = strstr(kernel, "up_proj") != NULL;
    double inner = 0.0;
    double hidden = 0.0;
    const struct wanted layer[] = {{KERNEL_COLUMN_TOKENS_PER_EXPERT, &row->gemm.rows},
                                   {KERNEL_COLUMN_HIDDEN, &hidden},
                                   {KERNEL_COLUMN_INTER, &inner},
                                   {KERNEL_COLUMN_LOCAL_EXPERTS, &row->gemm.groups},
                                   {KERNEL_COLUMN_LATENCY_US, &row->latency_ns}};
    const struct wanted plain[] = {{KERNEL_COLUMN_TOKENS_PER_EXPERT, &row->gemm.rows},
                                   {KERNEL_COLUMN_N, &row->gemm.columns},
                                   {KERNEL_COLUMN_K, &row->gemm.depth},
                                   {KERNEL_COLUMN_NUM_GROUPS, &row->gemm.groups},
                                   {KERNEL_COLUMN_LATENCY_US, &row->latency_ns}};
    enum status status = is_layer ? read_numbers(row, table, layer, 5, error)
                                  : read_numbers(row, table, plain, 5, error);
    if (is_layer) {
        row->gemm.columns = is_up ? 2.0 * inner : hidden;
        row->gemm.depth = is_up ? hidden : inner;
    }
    row->class = KERNEL_GEMM;
    row->precision = PRECISION_FP8;
    row->tiles = TILES_FEWEST_WAVES;
    row->gemm.is_ragged = strstr(kernel, "contiguous") != NULL;
    row->gemm.weight_bytes = precision_weight_bytes(PRECISION_FP8);
    const char *layout = row->gemm.is_ragged ? "contiguous" : "masked";
    (void)snprintf(row->kernels, sizeof row->kernels, "deepgemm_%s", layout);
    (void)snprintf(row->label, sizeof row->label, "grouped GEMM %s", layout);
    (void)snprintf(row->shape, sizeof row->shape, "%.0f x %.0f", row->gemm.columns,
                   row->gemm.depth);
    return status;
}

/* heads-kvheads-dim; of MLA heads-rank-rope decoding, heads-nope-rope in prefill. */
static bool parse_heads(struct attention_shape *shape, const char *text, bool is_mla,
                        bool is_prefill)
{
    double number[3] = {0};
    char end = '\0';
    if (sscanf(text, "%lf-%lf-%lf%c", &number[0], &number[1], &number[2], &end) != 3) {
        return false;
    }
    for (int32_t i = 0; i < 3; i++) {
        if (!(number[i] >= 1.0 && number[i] <= 1e5)) {
            return false;
        }
    }
    shape->q_heads = number[0];
    shape->kv_heads = is_mla ? (is_prefill ? number[0] : 1.0) : number[1];
    shape->qk_dim = is_mla ? number[1] + number[2] : number[2];
    shape->v_dim = is_mla ? number[1] : number[2];
    return shape->kv_heads <= shape->q_heads;
}

static enum status parse_attention(struct kernel_row *row, const struct csv_stream *table,
                                   struct error *error)
{
    struct attention_shape *shape = &row->attention;
    bool is_mla = begins_with(table->cell[KERNEL_COLUMN_KERNEL], "mla");
    bool is_prefill = strcmp(table->cell[KERNEL_COLUMN_PHASE], "prefill") == 0;
    const struct wanted wanted[] = {{KERNEL_COLUMN_LENGTH, &shape->tokens},
                                    {KERNEL_COLUMN_LATENCY_US, &row->latency_ns},
                                    {KERNEL_COLUMN_BATCH, &shape->sequences}};
    shape->sequences = 1.0; /* a prefill row need not say it */
    bool is_single = is_prefill && table->cell[KERNEL_COLUMN_BATCH][0] == '\0';
    enum status status = read_numbers(row, table, wanted, is_single ? 2 : 3, error);
    row->class = KERNEL_ATTENTION;
    row->phase = is_mla ? (is_prefill ? PHASE_MLA_PREFILL : PHASE_MLA_DECODE)
                        : (is_prefill ? PHASE_GQA_PREFILL : PHASE_GQA_DECODE);
    bool is_fp8 = strcmp(table->cell[KERNEL_COLUMN_KV_DTYPE], "fp8") == 0;
    row->precision = is_fp8 ? PRECISION_FP8 : PRECISION_BF16;
    (void)snprintf(row->label, sizeof row->label, "%s attention %s (%s KV)", is_mla ? "MLA" : "GQA",
                   is_prefill ? "prefill" : "decode", precision_name(row->precision));
    (void)snprintf(row->kernels, sizeof row->kernels, "%s%s", engine_of(row),
                   is_prefill && strcmp(row->dtype, "fp8") == 0 ? "_fp8" : "");
    const char *heads = table->cell[KERNEL_COLUMN_Q_HEADS];
    if (!parse_heads(shape, heads, is_mla, is_prefill)) {
        row->skip = "heads, KV heads and dimension are not told";
        return error_add(error, STATUS_INVALID,
                         "%s: q_heads is '%s', not heads-kvheads-dim with at least as many heads "
                         "as KV heads",
                         table->place, heads);
    }
    double element = is_fp8 ? 1.0 : 2.0;
    shape->kv_bytes =
        element *
        (is_mla && !is_prefill ? shape->qk_dim : shape->kv_heads * (shape->qk_dim + shape->v_dim));
    (void)snprintf(row->shape, sizeof row->shape, "%.63s", heads);
    (void)snprintf(row->part, sizeof row->part, is_prefill ? "length %.0f" : "batch %.0f",
                   is_prefill ? shape->tokens : shape->sequences);
    return status;
}

/* The whole attention of DeepSeek-V3 (arXiv 2412.19437, 4.2) with its projections, as SGLang runs
 * it: 128 heads, ranks 1536 and 512, head dimensions 128 and 64. */
static enum status parse_module(struct kernel_row *row, const struct csv_stream *table,
                                struct error *error)
{
    struct attention_shape *shape = &row->attention;
    const char *kernel = table->cell[KERNEL_COLUMN_KERNEL];
    bool is_prefill = strcmp(table->cell[KERNEL_COLUMN_PHASE], "prefill") == 0;
    const struct wanted wanted[] = {{KERNEL_COLUMN_BATCH, &shape->sequences},
                                    {KERNEL_COLUMN_LENGTH, &shape->tokens},
                                    {KERNEL_COLUMN_Q_HEADS, &shape->q_heads},
                                    {KERNEL_COLUMN_LATENCY_US, &row->latency_ns}};
    enum status status = read_numbers(row, table, wanted, 4, error);
    double heads = shape->q_heads;
    bool is_fp8 = strcmp(table->cell[KERNEL_COLUMN_KV_DTYPE], "fp8") == 0;
    row->class = KERNEL_ATTENTION;
    row->phase = is_prefill ? PHASE_MODULE_PREFILL : PHASE_MODULE_DECODE;
    row->precision = PRECISION_FP8;
    shape->kv_heads = is_prefill ? heads : 1.0;
    shape->qk_dim = is_prefill ? 128.0 + 64.0 : 512.0 + 64.0;
    shape->v_dim = is_prefill ? 128.0 : 512.0;
    shape->kv_bytes = (512.0 + 64.0) * (is_fp8 ? 1.0 : 2.0);
    shape->hidden_dim = 7168.0;
    shape->projection_params = 7168.0 * (1536.0 + 512.0 + 64.0) + 1536.0 * heads * (128.0 + 64.0) +
                               512.0 * heads * (128.0 + 128.0) + heads * 128.0 * 7168.0;
    shape->projection_bytes = shape->projection_params * precision_weight_bytes(PRECISION_FP8);
    (void)snprintf(row->label, sizeof row->label, "MLA module %s",
                   is_prefill ? "prefill" : "decode");
    int length = (int)strcspn(strchr(kernel, '(') + 1, ")");
    (void)snprintf(row->kernels, sizeof row->kernels, "sglang_%.*s", length < 40 ? length : 40,
                   strchr(kernel, '(') + 1);
    (void)snprintf(row->shape, sizeof row->shape, "%.40s %.0f heads",
                   table->cell[KERNEL_COLUMN_MODEL_SHAPE], heads);
    (void)snprintf(row->part, sizeof row->part, "batch %.0f", shape->sequences);
    row->heads_min = !is_prefill && heads >= WIDE_HEADS ? WIDE_HEADS : 0.0;
    if (strcmp(table->cell[KERNEL_COLUMN_MODEL_SHAPE], "DeepSeek-V3") != 0) {
        row->skip = "the dimensions of the model's MLA are not known";
    }
    return status;
}

/* Placements made by EPLB count as even, over all slots; so do uniform routings. */
static void spread_evenly(struct moe_row *moe, double slots)
{
    bool is_balanced = strstr(moe->distribution, "_eplb") != NULL ||
                       strcmp(moe->distribution, "uniform") == 0 ||
                       strcmp(moe->distribution, "balanced") == 0;
    moe->class = is_balanced ? MOE_BALANCED_EP : MOE_SKEWED_EP;
    if (is_balanced && slots >= 1.0 && fmod(slots, (double)moe->ep) <= 0.0) {
        moe->num_experts = (int32_t)slots;
    }
}

static bool fits_experts(const struct moe_row *moe, double slots)
{
    return moe->num_experts >= 1 && moe->num_experts <= 1024 && slots <= 1024.0 &&
           moe->num_experts % moe->ep == 0 && moe->top_k <= moe->num_experts && moe->tokens >= 1 &&
           moe->tokens <= 100000000;
}

static enum status parse_moe(struct kernel_row *row, struct moe_row *moe,
                             const struct csv_stream *table, struct error *error)
{
    const char *kernel = table->cell[KERNEL_COLUMN_KERNEL];
    const char *phase = table->cell[KERNEL_COLUMN_PHASE];
    double experts = 0.0, top_k = 0.0, hidden = 0.0, ffn = 0.0, ep = 0.0, tokens = 0.0, slots = 0.0;
    const struct wanted wanted[] = {{KERNEL_COLUMN_NUM_EXPERTS, &experts},
                                    {KERNEL_COLUMN_TOPK, &top_k},
                                    {KERNEL_COLUMN_HIDDEN, &hidden},
                                    {KERNEL_COLUMN_INTER, &ffn},
                                    {KERNEL_COLUMN_EP, &ep},
                                    {KERNEL_COLUMN_TOKENS, &tokens},
                                    {KERNEL_COLUMN_LATENCY_US, &row->latency_ns},
                                    {KERNEL_COLUMN_NUM_SLOTS, &slots}};
    bool has_slots = table->cell[KERNEL_COLUMN_NUM_SLOTS][0] != '\0';
    enum status status = read_numbers(row, table, wanted, has_slots ? 8 : 7, error);
    row->class = KERNEL_MOE;
    row->precision = strcmp(row->dtype, "nvfp4") == 0      ? PRECISION_NVFP4
                     : strstr(row->dtype, "mxfp4") != NULL ? PRECISION_MXFP4
                                                           : PRECISION_FP8;
    if (status != STATUS_OK || row->skip != NULL) {
        return status;
    }
    bool is_prefill = strcmp(phase, "prefill") == 0 || strcmp(phase, "context") == 0;
    bool is_mega = begins_with(kernel, "fused Mega-MoE");
    const char *name = is_mega                            ? "deepgemm_mega"
                       : strstr(kernel, "deepep") != NULL ? "sglang_deepep"
                                                          : "trtllm_wideep";
    const char *suffix = strcmp(phase, "both") == 0 ? "" : is_prefill ? "_prefill" : "_decode";
    (void)snprintf(row->kernels, sizeof row->kernels, "%s%s", name, suffix);
    (void)snprintf(row->label, sizeof row->label, "experts of a rank%s",
                   is_mega ? " with dispatch and combine" : "");
    (void)snprintf(row->shape, sizeof row->shape, "%.40s EP %.0f",
                   table->cell[KERNEL_COLUMN_MODEL_SHAPE], ep);
    bool is_local = begins_with(table->cell[KERNEL_COLUMN_TOKENS_SCOPE], "per rank");
    *moe = (struct moe_row){.precision = row->precision,
                            .num_experts = (int32_t)fmin(experts, 1e6),
                            .top_k = (int32_t)fmin(top_k, 1e6),
                            .hidden_dim = (int32_t)fmin(hidden, 1e6),
                            .ffn_dim = (int32_t)fmin(ffn, 1e6),
                            .tp = 1,
                            .ep = (int32_t)fmin(ep, 1e6),
                            .tokens = (int64_t)fmin(is_local ? tokens * ep : tokens, 1e9),
                            .is_exchanged = true,
                            .latency_ns = row->latency_ns * 1e3};
    memcpy(moe->kernels, row->kernels, sizeof moe->kernels);
    memcpy(moe->dtype, row->dtype, sizeof moe->dtype);
    memcpy(moe->model_shape, row->shape, sizeof moe->model_shape);
    (void)snprintf(moe->distribution, sizeof moe->distribution, "%.63s",
                   table->cell[KERNEL_COLUMN_DISTRIBUTION]);
    if (strstr(moe->distribution, "sampled") != NULL) {
        row->skip = "the sampler of this distribution is not known";
        return STATUS_OK;
    }
    spread_evenly(moe, slots);
    bool is_uniform = strcmp(moe->distribution, "uniform") == 0;
    moe->filled = is_uniform && is_prefill ? FILLED_TOKENS : 0;
    if (moe->class == MOE_SKEWED_EP && moe_power_law(moe->distribution) < 0.0) {
        row->skip = moe_skip_reason(MOE_SKIP_DISTRIBUTION);
    } else if (!fits_experts(moe, slots)) {
        row->skip = moe_skip_reason(MOE_SKIP_EXPERTS);
        return error_add(error, STATUS_INVALID,
                         "%s: %g experts, %g slots, top-k %g, EP %g and %g tokens do not go "
                         "together",
                         table->place, experts, slots, top_k, ep, tokens);
    }
    return STATUS_OK;
}

/* Without the commit, date or remark behind it. */
static void copy_library(char library[NAME_BYTES], const char *text)
{
    size_t length = strcspn(text, "@(");
    while (length > 0 && text[length - 1] == ' ') {
        length--;
    }
    length = length < NAME_BYTES ? length : NAME_BYTES - 1;
    memcpy(library, text, length);
    library[length] = '\0';
}

enum status kernel_row_parse(struct kernel_row *row, struct moe_row *moe,
                             const struct csv_stream *table, struct error *error)
{
    const char *kernel = table->cell[KERNEL_COLUMN_KERNEL];
    const char *library = table->cell[KERNEL_COLUMN_LIBRARY];
    enum status status = STATUS_OK;
    row->line = table->line_number;
    (void)snprintf(row->label, sizeof row->label, "%.63s", kernel);
    copy_library(row->library, library);
    (void)snprintf(row->dtype, sizeof row->dtype, "%.63s", table->cell[KERNEL_COLUMN_DTYPE]);
    if (begins_with(kernel, "dense GEMM")) {
        status = parse_dense(row, table, error);
    } else if (begins_with(kernel, "grouped GEMM")) {
        status = parse_grouped(row, table, error);
    } else if (begins_with(kernel, "mha attention") || begins_with(kernel, "mla attention")) {
        status = parse_attention(row, table, error);
    } else if (begins_with(kernel, "MLA module (")) {
        status = parse_module(row, table, error);
    } else if (begins_with(kernel, "EP MoE") || begins_with(kernel, "WideEP MoE") ||
               begins_with(kernel, "fused Mega-MoE")) {
        status = parse_moe(row, moe, table, error);
    } else {
        row->class = KERNEL_OTHER;
        row->skip = "no model: sparse or linear attention, backward, or a rate without its shape";
    }
    if (status != STATUS_OK && row->skip == NULL) {
        row->skip = odd_cell_reason;
    }
    row->latency_ns *= 1e3;
    return status;
}
