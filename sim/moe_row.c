/* moe_row.c -- one row of the MoE table: what it measured, and in whose words. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "moe_rows_internal.h"

/* The table's kernel sources by what they are called in scenarios. fp8 in blocks of 128 is what
 * moesim calls fp8 (sim/precision.h); one scale a tensor is a variant. Weights in mxfp4 meet
 * activations in bf16, but for the variants in mxfp8. SGLang's Triton layer has turned them into
 * bf16 when they were loaded: constants of other models' bf16 experts are 3.1 % off on gpt-oss with
 * balanced tokens on one H100, in the median of 54 rows (aiconfigurator @ 095f58a51c4c). */
static const struct kernel_name {
    const char *part; /* of kernel_source */
    const char *dtype;
    const char *kernels;
    enum precision precision;
    enum tile_height tile_rows;
    bool drops_choices; /* TensorRT-LLM's layer in blocks of fp8, in FlashInfer as well */
} kernel_names[] = {
    {"moe_torch_flow_cutlass", "bfloat16", "trtllm", PRECISION_BF16, TILE_ROWS_EVEN, false},
    {"moe_torch_flow_cutlass", "fp8_block", "trtllm", PRECISION_FP8, TILE_ROWS_DEEPGEMM, true},
    {"deepgemm", "fp8_block", "trtllm", PRECISION_FP8, TILE_ROWS_TUNED, false},
    {"moe_torch_flow_cutlass", "fp8", "trtllm_fp8_tensor", PRECISION_FP8, TILE_ROWS_EVEN, false},
    {"moe_torch_flow_cutlass", "nvfp4", "trtllm", PRECISION_NVFP4, TILE_ROWS_TUNED, false},
    {"moe_torch_flow_min_latency", "nvfp4", "trtllm_min_latency", PRECISION_NVFP4, TILE_ROWS_TUNED,
     false},
    {"vllm_unquantizedfusedmoe_triton", "bfloat16", "vllm", PRECISION_BF16, TILE_ROWS_VLLM, false},
    {"vllm_fp8moe_flashinfer_cutlass", "fp8_block", "vllm", PRECISION_FP8, TILE_ROWS_TUNED, true},
    {"vllm_fp8moe_triton", "fp8_block", "vllm_triton", PRECISION_FP8, TILE_ROWS_VLLM, false},
    {"vllm_fused_moe", "fp8_block", "vllm_triton", PRECISION_FP8, TILE_ROWS_VLLM, false},
    {"vllm_fp8moe_flashinfer_trtllm", "fp8_block", "vllm", PRECISION_FP8, TILE_ROWS_TUNED, false},
    {"w4a4nvfp4moe_flashinfer_trtllm", "nvfp4", "vllm", PRECISION_NVFP4, TILE_ROWS_TUNED, false},
    {"vllm_flashinfer_trtllm_moe_fp4", "nvfp4", "vllm", PRECISION_NVFP4, TILE_ROWS_TUNED, false},
    {"vllm_modeloptfp8moe_flashinfer", "fp8", "vllm_fp8_tensor", PRECISION_FP8, TILE_ROWS_TUNED,
     false},
    {"sglang_fused_moe_triton", "bfloat16", "sglang", PRECISION_BF16, TILE_ROWS_SGLANG, false},
    {"sglang_fused_moe_triton", "fp8_block", "sglang", PRECISION_FP8, TILE_ROWS_64, false},
    {"triton_oaitritonmxfp4experts", "w4a16_mxfp4", "vllm", PRECISION_MXFP4, TILE_ROWS_CHOICES,
     false},
    {"moe_torch_flow", "w4a16_mxfp4", "trtllm", PRECISION_MXFP4, TILE_ROWS_CHOICES, false},
    {"moe_torch_flow", "w4a8_mxfp4_mxfp8", "trtllm_mxfp8", PRECISION_MXFP4, TILE_ROWS_CHOICES,
     false},
    {"flashinfer_trtllm_mxfp4_bf16", "w4a16_mxfp4", "vllm", PRECISION_MXFP4, TILE_ROWS_TUNED,
     false},
    {"sglang_flashinfer_trtllm_moe", "w4a16_mxfp4", "sglang", PRECISION_MXFP4, TILE_ROWS_TUNED,
     false},
    {"sglang_flashinfer_trtllm_moe", "w4a8_mxfp4_mxfp8", "sglang_mxfp8", PRECISION_MXFP4,
     TILE_ROWS_CHOICES, false},
    {"sglang_fused_moe_triton", "w4a16_mxfp4", "sglang", PRECISION_BF16, TILE_ROWS_TUNED, false},
};

const char *const moe_column_names[COLUMN_COUNT] = {
    "gpu",         "framework",   "version", "kernel_source", "dtype",
    "model_shape", "num_experts", "topk",    "hidden",        "inter",
    "moe_tp",      "moe_ep",      "tokens",  "distribution",  "latency_us"};

enum precision moe_row_arithmetic(const struct moe_row *row)
{
    return strncmp(row->dtype, "w4a16", 5) == 0  ? PRECISION_BF16
           : strncmp(row->dtype, "w4a8", 4) == 0 ? PRECISION_FP8
                                                 : row->precision;
}

const char *moe_class_name(enum moe_class class)
{
    static const char *const names[MOE_CLASS_COUNT] = {"balanced", "balanced EP > 1", "power law",
                                                       "power law EP > 1"};
    return names[class];
}

const char *moe_skip_reason(enum moe_skip skip)
{
    static const char *const reasons[MOE_SKIP_COUNT] = {
        "used",
        odd_cell_reason,
        "experts, top-k and EP do not go together",
        "experts are not gated",
        "experts are split by tensor parallelism",
        "no GPU preset has this GPU's name as an alias",
        "kernel source is not known",
        "number format is not known",
        "distribution is neither balanced nor a power law of an exponent up to 10",
        "the GPU's preset has no constants for these kernels"};
    return reasons[skip];
}

/* Whether the collector measured SGLang's whole layer at all: since its version for 0.5.14
 * (e23be5a79); that for 0.5.10 (cb4d907c7) called the kernel for every model. */
static bool has_layer(const char *version)
{
    int32_t number[3] = {0};
    for (int32_t i = 0; i < 3 && *version != '\0'; i++) {
        char *end = NULL;
        number[i] = (int32_t)strtol(version, &end, 10);
        version = *end == '.' ? end + 1 : end;
    }
    const int32_t first[3] = {0, 5, 14};
    for (int32_t i = 0; i < 3; i++) {
        if (number[i] != first[i]) {
            return number[i] > first[i];
        }
    }
    return true;
}

double moe_power_law(const char *distribution)
{
    static const char start[] = "power_law_";
    char *end = NULL;
    if (strncmp(distribution, start, sizeof start - 1) != 0) {
        return -1.0;
    }
    double alpha = strtod(distribution + sizeof start - 1, &end);
    bool is_whole = end > distribution + sizeof start - 1 && *end == '\0';
    return !is_whole || !(alpha >= 0.0 && alpha <= 10.0) ? -1.0
           : fabs(alpha - 1.0) < 1e-6                    ? 1.0 + 1e-6
                                                         : alpha;
}

/* Which gate read the collector's logits (moe_gate.c), and whose tokens rank 0 was handed: models
 * with a routing of their own went through SGLang's whole layer, others straight to its kernel; all
 * went straight to vLLM's of up to 0.22 (vllm_fused_moe and _flashinfer_trtllm_moe_fp4: DeepSeek-V3
 * on one GPU takes twice as long as on rank 0 of two, which a gate that keeps half of the groups
 * would not show). */
static struct moe_gate find_gate(const struct moe_row *row, char *const *cell)
{
    bool is_sglang = strcmp(row->kernels, "sglang") == 0;
    bool is_kernel = (is_sglang && !has_layer(cell[COLUMN_VERSION])) ||
                     strcmp(cell[COLUMN_KERNEL_SOURCE], "vllm_fused_moe") == 0 ||
                     strcmp(cell[COLUMN_KERNEL_SOURCE], "vllm_flashinfer_trtllm_moe_fp4") == 0;
    bool is_trtllm = strncmp(row->kernels, "trtllm", 6) == 0;
    bool is_deepseek = strncmp(row->model_shape, "DeepSeek-V3", 11) == 0 ||
                       strncmp(row->model_shape, "DeepSeek-R1", 11) == 0;
    bool is_min_latency = strcmp(row->kernels, "trtllm_min_latency") == 0;
    bool is_plain = strncmp(row->model_shape, "Mixtral", 7) == 0 ||
                    strncmp(row->model_shape, "Gemma", 5) == 0; /* softmax, then top-k, no more */
    bool is_bare = is_sglang && row->ep > 1 && (is_kernel || is_plain);
    bool is_grouped = is_min_latency || (is_deepseek && !is_trtllm && !is_kernel);
    return (struct moe_gate){.is_grouped = is_grouped,
                             .remote = is_bare ? MOE_REMOTE_TO_FIRST : MOE_REMOTE_SEEN};
}

static enum status parse_count(int32_t *value, const struct csv_stream *table, int32_t column,
                               struct error *error)
{
    double number = 0.0;
    enum status status = csv_stream_number(&number, table, column, error);
    if (status == STATUS_OK && (number != floor(number) || number > 1e8)) {
        status = error_add(error, STATUS_INVALID, "%s: %s is '%s', not a count", table->place,
                           table->name[column], table->cell[column]);
    }
    *value = status == STATUS_OK ? (int32_t)number : 0;
    return status;
}

static enum moe_skip find_kernels(struct moe_row *row, const char *kernel_source)
{
    for (size_t i = 0; i < sizeof kernel_names / sizeof kernel_names[0]; i++) {
        if (strstr(kernel_source, kernel_names[i].part) != NULL &&
            strcmp(row->dtype, kernel_names[i].dtype) == 0) {
            row->precision = kernel_names[i].precision;
            row->tile_rows = kernel_names[i].tile_rows;
            row->drops_choices = kernel_names[i].drops_choices;
            (void)snprintf(row->kernels, sizeof row->kernels, "%s", kernel_names[i].kernels);
            return MOE_USED;
        }
    }
    return MOE_SKIP_KERNELS;
}

static enum moe_skip classify(struct moe_row *row, char *const *cell)
{
    bool is_balanced = strcmp(row->distribution, "balanced") == 0;
    bool is_skewed = moe_power_law(row->distribution) >= 0.0;
    row->class = is_balanced ? (row->ep > 1 ? MOE_BALANCED_EP : MOE_BALANCED)
                             : (row->ep > 1 ? MOE_SKEWED_EP : MOE_SKEWED);
    if (strstr(row->model_shape, "emotron") != NULL ||
        strstr(cell[COLUMN_KERNEL_SOURCE], "nongated") != NULL) {
        return MOE_SKIP_NOT_GATED;
    }
    if (row->tp > 1) {
        return MOE_SKIP_TP;
    }
    if (!is_balanced && !is_skewed) {
        return MOE_SKIP_DISTRIBUTION;
    }
    return find_kernels(row, cell[COLUMN_KERNEL_SOURCE]);
}

enum status moe_row_parse(struct moe_row *row, const struct csv_stream *table, struct error *error)
{
    char *const *cell = table->cell;
    double number = 0.0;
    enum status status = STATUS_OK;
    int32_t tokens = 0;
    const struct {
        int32_t *value;
        int32_t column;
    } counts[] = {{&row->num_experts, COLUMN_NUM_EXPERTS},
                  {&row->top_k, COLUMN_TOPK},
                  {&row->hidden_dim, COLUMN_HIDDEN},
                  {&row->ffn_dim, COLUMN_INTER},
                  {&row->tp, COLUMN_MOE_TP},
                  {&row->ep, COLUMN_MOE_EP},
                  {&tokens, COLUMN_TOKENS}};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0] && status == STATUS_OK; i++) {
        status = parse_count(counts[i].value, table, counts[i].column, error);
    }
    if (status == STATUS_OK) {
        status = csv_stream_number(&number, table, COLUMN_LATENCY_US, error);
    }
    (void)snprintf(row->dtype, sizeof row->dtype, "%.63s", cell[COLUMN_DTYPE]);
    (void)snprintf(row->model_shape, sizeof row->model_shape, "%.63s", cell[COLUMN_MODEL_SHAPE]);
    (void)snprintf(row->distribution, sizeof row->distribution, "%.63s", cell[COLUMN_DISTRIBUTION]);
    if (status != STATUS_OK) {
        row->skip = MOE_SKIP_NUMBER;
        return status;
    }
    if (row->num_experts > DEAL_EXPERTS_MAX || row->num_experts % row->ep != 0 ||
        row->top_k > row->num_experts) {
        row->skip = MOE_SKIP_EXPERTS;
        return error_add(error, STATUS_INVALID,
                         "%s: %d experts, top-k %d and EP %d do not go together", table->place,
                         (int)row->num_experts, (int)row->top_k, (int)row->ep);
    }
    row->tokens = tokens;
    row->latency_ns = number * 1e3;
    row->skip = classify(row, cell);
    row->gate = find_gate(row, cell);
    if (strcmp(row->kernels, "sglang") == 0 && !has_layer(cell[COLUMN_VERSION])) {
        row->drops_choices = true; /* what rank 0 is handed is all its own */
    }
    return STATUS_OK;
}
