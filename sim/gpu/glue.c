/*
 * glue.c -- the table of small kernels, and what they cost.
 *
 * Counted as engines for DeepSeek-V3 launched them in spring 2025, little fused: SGLang
 * (sgl-project/sglang @ 00114aef, models/deepseek_v2.py: forward_normal_prepare,
 * forward_absorb_prepare, op_output; layers/moe/ep_moe: forward_deepgemm_contiguous, ep_scatter,
 * ep_gather) and DeepSeek's own kernels by name in deepseek-ai/profile-data @ ae7fc078, train.json.
 * Engines that fuse more are faster than this.
 *
 * Shares of the copy rate are those that DeepSeek's kernels reach on an H800 in that trace of a
 * training step, 4,096 tokens a layer, where no transfer runs beside them; bytes over duration over
 * 3.02 TB/s: add and norm 235 MB in 105 us, quantisation 201 MB in 94 us and 89 MB in 44 us, join
 * of keys 268 MB in 94 us, rotary 134 MB in 109 us, spread of the rotary key 67 MB in 73 us,
 * SwiGLU with quantisation 319 MB in 117 us, weighted sum 861 MB in 294 us, add 176 MB in 54 us;
 * permutation 431 MB in 176 us, beside a transfer. Of what the trace has none, the copy rate.
 * Beside a transfer that takes 20 of 132 SMs the same kernels take 1.06 to 1.65 times as long, in
 * the median 1.18, which is 132 / 112.
 *
 * SGLang's of that time differ where its sources do. Its prefill has SwiGLU and quantisation apart
 * (fused later: pull request 6394 of May 2025), brings scales into DeepGEMM's layout
 * (tma_align_input_scale), and draws a replica for each choice in four kernels of PyTorch
 * (_topk_ids_logical_to_physical_random). Its quantisation reaches 1.38 TB/s: what 1,024 more
 * tokens of 7,168 take, less the copy that is timed with them, says 1.30 (its pull request 4396 of
 * March 2025: 59.2 - 32.5 us) and 1.38 (5045 of April: 58.7 - 33.0 us), and the same kernel in vLLM
 * 1.45 (vllm-project/vllm issue 25094: 909.8 us of 65,536 tokens of 4,096, a copy included, on what
 * of the GPUs compared there can only be an H100; the others' memory or times do not fit). Its keys
 * are joined, rotary key and all, by two strided copies of PyTorch: 383 us of 8,192 tokens (its
 * pull request 10156), on a GPU that is not named but moves 6.4 TB/s, so an H100 takes no less.
 *
 * Left out: Python between launches, which long kernels of prefill hide; L2 hits; quantised queries
 * of absorbed attention; and the low-latency kernels' quantisation and sum, which are in their own
 * time.
 */
#include "gpu/glue.h"

#include <math.h>
#include <stddef.h>

/* DeepSeek's, SGLang's. */
#define EACH(deepseek, sglang)                                                                     \
    {                                                                                              \
        deepseek, sglang                                                                           \
    }
#define NORM       EACH(0.74, 0.74)
#define QUANTISE   EACH(0.68, 0.46)
#define JOIN       EACH(0.95, 0.58)
#define ROTARY     EACH(0.41, 0.41)
#define SPREAD     EACH(0.30, 0.58)
#define SWIGLU     EACH(0.90, 0.90)
#define PERMUTE    EACH(0.81, 0.81)
#define SUM        EACH(0.97, 0.97)
#define COPY       EACH(1.00, 1.00)
#define FUSED      EACH(0.90, 0.00)
#define SWIGLU_OWN EACH(0.00, 0.90) /* a kernel of its own */
#define QUANT_OWN  EACH(0.00, 0.46)
#define COPY_OWN   EACH(0.00, 1.00)

#define TOKENS(width, bytes)                                                                       \
    {                                                                                              \
        GLUE_TOKENS, width, bytes                                                                  \
    }
#define COPIES(width, bytes)                                                                       \
    {                                                                                              \
        GLUE_COPIES, width, bytes                                                                  \
    }
#define ROWS(width, bytes)                                                                         \
    {                                                                                              \
        GLUE_ROWS, width, bytes                                                                    \
    }
#define NOTHING   TOKENS(GLUE_NOTHING, 1.0)
#define SCALE     (4.0 / 128.0) /* of an element: one in fp32 a group of 128 */

#define ATTENTION GLUE_HELD_BY_ATTENTION
#define CORE      GLUE_HELD_BY_CORE
#define TURNING   GLUE_HELD_BY_TURNING
#define LINEAR    GLUE_HELD_BY_LINEAR
#define EXPERTS   GLUE_HELD_BY_EXPERTS
#define NONE      GLUE_HELD_BY_NONE

/* name, phase, when, attention, quantises, read, write, share, launches, held by */
/* clang-format off */
static const struct glue_kernel kernels[] = {
    {"add and norm before attention", GPU_ATTENTION, GLUE_ALWAYS, GLUE_ANY, false,
     TOKENS(GLUE_HIDDEN, 4.0), TOKENS(GLUE_HIDDEN, 4.0), NORM, 1, NONE},
    {"quantise attention input", GPU_ATTENTION, GLUE_ALWAYS, GLUE_ANY, true,
     TOKENS(GLUE_HIDDEN, 2.0), TOKENS(GLUE_HIDDEN, 1.0), QUANTISE, 1, LINEAR},
    {"norm of query latent", GPU_ATTENTION, GLUE_ALWAYS, GLUE_MLA, false,
     TOKENS(GLUE_Q_LATENT, 2.0), TOKENS(GLUE_Q_LATENT, 2.0), NORM, 1, ATTENTION},
    {"quantise query latent", GPU_ATTENTION, GLUE_ALWAYS, GLUE_MLA, true,
     TOKENS(GLUE_Q_LATENT, 2.0), TOKENS(GLUE_Q_LATENT, 1.0), QUANTISE, 1, LINEAR},
    {"norm of KV latent", GPU_ATTENTION, GLUE_ALWAYS, GLUE_MLA, false,
     TOKENS(GLUE_KV_LATENT, 2.0), TOKENS(GLUE_KV_LATENT, 2.0), NORM, 1, ATTENTION},
    {"quantise KV latent", GPU_ATTENTION, GLUE_IN_PREFILL, GLUE_MLA, true,
     TOKENS(GLUE_KV_LATENT, 2.0), TOKENS(GLUE_KV_LATENT, 1.0), QUANTISE, 1, LINEAR},
    {"copy KV latent out and back", GPU_ATTENTION, GLUE_IN_PREFILL, GLUE_MLA, false,
     TOKENS(GLUE_KV_LATENT, 4.0), TOKENS(GLUE_KV_LATENT, 4.0), COPY, 2, ATTENTION},
    {"rotary embedding", GPU_ATTENTION, GLUE_ALWAYS, GLUE_ANY, false,
     TOKENS(GLUE_ROTARY, 2.0), TOKENS(GLUE_ROTARY, 2.0), ROTARY, 1, TURNING},
    {"put rotated queries back", GPU_ATTENTION, GLUE_IN_PREFILL, GLUE_MLA, false,
     TOKENS(GLUE_ROTARY, 2.0), TOKENS(GLUE_ROTARY, 2.0), ROTARY, 1, ATTENTION},
    {"join keys", GPU_ATTENTION, GLUE_IN_PREFILL, GLUE_MLA, false,
     TOKENS(GLUE_KEYS, 2.0), TOKENS(GLUE_KEYS, 2.0), JOIN, 1, ATTENTION},
    {"spread rotary key over heads", GPU_ATTENTION, GLUE_IN_PREFILL, GLUE_MLA, false,
     NOTHING, TOKENS(GLUE_ROTARY, 2.0), SPREAD, 1, ATTENTION},
    {"write KV cache", GPU_ATTENTION, GLUE_ALWAYS, GLUE_ANY, false,
     TOKENS(GLUE_KV_ENTRY, 1.0), TOKENS(GLUE_KV_ENTRY, 1.0), COPY, 1, CORE},
    {"quantise attention output", GPU_ATTENTION, GLUE_ALWAYS, GLUE_ANY, true,
     TOKENS(GLUE_QUERIES_OUT, 2.0), TOKENS(GLUE_QUERIES_OUT, 1.0), QUANTISE, 1, LINEAR},

    {"add and norm before dense FFN", GPU_DENSE_FFN, GLUE_ALWAYS, GLUE_ANY, false,
     TOKENS(GLUE_HIDDEN, 4.0), TOKENS(GLUE_HIDDEN, 4.0), NORM, 1, NONE},
    {"quantise dense FFN input", GPU_DENSE_FFN, GLUE_ALWAYS, GLUE_ANY, true,
     TOKENS(GLUE_HIDDEN, 2.0), TOKENS(GLUE_HIDDEN, 1.0), QUANTISE, 1, LINEAR},
    {"SwiGLU of dense FFN", GPU_DENSE_FFN, GLUE_ALWAYS, GLUE_ANY, false,
     TOKENS(GLUE_GATE_UP, 2.0), TOKENS(GLUE_FFN, 2.0), SWIGLU, 1, NONE},
    {"quantise dense FFN activation", GPU_DENSE_FFN, GLUE_ALWAYS, GLUE_ANY, true,
     TOKENS(GLUE_FFN, 2.0), TOKENS(GLUE_FFN, 1.0), QUANTISE, 1, LINEAR},

    {"add and norm before router", GPU_GATE, GLUE_ALWAYS, GLUE_ANY, false,
     TOKENS(GLUE_HIDDEN, 4.0), TOKENS(GLUE_HIDDEN, 4.0), NORM, 1, NONE},
    {"top-k", GPU_GATE, GLUE_ALWAYS, GLUE_ANY, false,
     TOKENS(GLUE_EXPERTS, 4.0), TOKENS(GLUE_TOP_K, 8.0), COPY, 1, NONE},
    {"count tokens of ranks", GPU_GATE, GLUE_IN_PREFILL, GLUE_ANY, false,
     TOKENS(GLUE_TOP_K, 8.0), NOTHING, COPY, 1, NONE},
    {"choose replicas", GPU_GATE, GLUE_IN_PREFILL, GLUE_ANY, false,
     TOKENS(GLUE_TOP_K, 24.0), TOKENS(GLUE_TOP_K, 16.0), COPY_OWN, 4, NONE},
    {"quantise for dispatch", GPU_GATE, GLUE_IN_PREFILL, GLUE_ANY, true,
     TOKENS(GLUE_HIDDEN, 2.0), TOKENS(GLUE_HIDDEN, 1.0), QUANTISE, 1, NONE},

    {"quantise shared expert input", GPU_SHARED, GLUE_ALWAYS, GLUE_ANY, true,
     TOKENS(GLUE_HIDDEN, 2.0), TOKENS(GLUE_HIDDEN, 1.0), QUANTISE, 1, LINEAR},
    {"SwiGLU of shared expert", GPU_SHARED, GLUE_ALWAYS, GLUE_ANY, false,
     TOKENS(GLUE_GATE_UP, 2.0), TOKENS(GLUE_FFN, 2.0), SWIGLU, 1, NONE},
    {"quantise shared expert activation", GPU_SHARED, GLUE_ALWAYS, GLUE_ANY, true,
     TOKENS(GLUE_FFN, 2.0), TOKENS(GLUE_FFN, 1.0), QUANTISE, 1, LINEAR},
    {"add shared to routed", GPU_SHARED, GLUE_ALWAYS, GLUE_ANY, false,
     TOKENS(GLUE_HIDDEN, 4.0), TOKENS(GLUE_HIDDEN, 2.0), COPY, 1, NONE},

    {"permute tokens", GPU_EXPERT, GLUE_IN_PREFILL, GLUE_ANY, false,
     ROWS(GLUE_HIDDEN, 0.0), COPIES(GLUE_HIDDEN, 0.0), PERMUTE, 1, EXPERTS},
    {"align scales of tokens", GPU_EXPERT, GLUE_IN_PREFILL, GLUE_ANY, true,
     COPIES(GLUE_HIDDEN, SCALE), COPIES(GLUE_HIDDEN, SCALE), COPY_OWN, 1, EXPERTS},
    {"SwiGLU and quantise", GPU_EXPERT, GLUE_IN_PREFILL, GLUE_ANY, false,
     COPIES(GLUE_GATE_UP, 2.0), COPIES(GLUE_FFN, 0.0), FUSED, 1, EXPERTS},
    {"SwiGLU and quantise masked rows", GPU_EXPERT, GLUE_IN_DECODE, GLUE_ANY, false,
     COPIES(GLUE_GATE_UP, 2.0), COPIES(GLUE_FFN, 0.0), SWIGLU, 1, EXPERTS},
    {"SwiGLU of experts", GPU_EXPERT, GLUE_IN_PREFILL, GLUE_ANY, false,
     COPIES(GLUE_GATE_UP, 2.0), COPIES(GLUE_FFN, 2.0), SWIGLU_OWN, 1, EXPERTS},
    {"quantise activation of experts", GPU_EXPERT, GLUE_IN_PREFILL, GLUE_ANY, true,
     COPIES(GLUE_FFN, 2.0), COPIES(GLUE_FFN, 0.0), QUANT_OWN, 1, EXPERTS},
    {"align scales of activation", GPU_EXPERT, GLUE_IN_PREFILL, GLUE_ANY, true,
     COPIES(GLUE_FFN, SCALE), COPIES(GLUE_FFN, SCALE), COPY_OWN, 1, EXPERTS},
    {"weighted sum of copies", GPU_EXPERT, GLUE_IN_PREFILL, GLUE_ANY, false,
     COPIES(GLUE_HIDDEN, 2.0), ROWS(GLUE_HIDDEN, 2.0), SUM, 1, EXPERTS},

    {"look up embeddings", GPU_HEAD, GLUE_ALWAYS, GLUE_ANY, false,
     TOKENS(GLUE_HIDDEN, 2.0), TOKENS(GLUE_HIDDEN, 2.0), COPY, 1, NONE},
    {"add and norm before head", GPU_HEAD, GLUE_ALWAYS, GLUE_ANY, false,
     TOKENS(GLUE_HIDDEN, 4.0), TOKENS(GLUE_HIDDEN, 4.0), NORM, 1, NONE},
    {"sample", GPU_HEAD, GLUE_ALWAYS, GLUE_ANY, false,
     TOKENS(GLUE_VOCABULARY, 4.0), TOKENS(GLUE_NOTHING, 1.0), COPY, 1, NONE},
};
/* clang-format on */

const struct glue_kernel *glue_all(int32_t *count)
{
    *count = (int32_t)(sizeof kernels / sizeof kernels[0]);
    return kernels;
}

/* The format of the GEMMs of a phase. */
static enum precision gemm_precision(const struct moe_model *model, enum gpu_phase phase)
{
    return phase == GPU_EXPERT || phase == GPU_GATE ? model->precision_expert
                                                    : model->precision_dense;
}

/* A dense model has no gate, one of experts alone no dense layer. */
static bool has_phase(const struct moe_model *model, enum gpu_phase phase)
{
    switch (phase) {
    case GPU_DENSE_FFN:
        return model->dense_ffn_dim > 0;
    case GPU_SHARED:
        return model->shared_ffn_dim > 0;
    case GPU_GATE:
    case GPU_EXPERT:
        return model->num_experts > 0;
    case GPU_ATTENTION:
    case GPU_HEAD:
    case GPU_PHASE_COUNT:
        break;
    }
    return true;
}

bool glue_applies(const struct glue_kernel *kernel, enum glue_set set,
                  const struct moe_model *model, bool prefill)
{
    bool is_mla = model->attention == ATTENTION_MLA;
    if (!has_phase(model, kernel->phase) || kernel->share[set] <= 0.0 ||
        (kernel->when == GLUE_IN_PREFILL && !prefill) ||
        (kernel->when == GLUE_IN_DECODE && prefill) || (kernel->attention == GLUE_MLA && !is_mla) ||
        (kernel->attention == GLUE_GQA && is_mla)) {
        return false;
    }
    if (kernel->read.width == GLUE_Q_LATENT && model->q_lora_rank == 0) {
        return false;
    }
    return !kernel->quantises || gemm_precision(model, kernel->phase) == PRECISION_FP8;
}

static double ffn_width(const struct moe_model *model, enum gpu_phase phase, double shards)
{
    int32_t width = phase == GPU_DENSE_FFN ? model->dense_ffn_dim
                    : phase == GPU_SHARED  ? model->shared_ffn_dim
                                           : model->expert_ffn_dim;
    return (double)width / shards;
}

static double rotary_width(const struct moe_model *model)
{
    return model->attention == ATTENTION_MLA
               ? (double)(model->num_q_heads * model->qk_rope_dim)
               : (double)((model->num_q_heads + model->num_kv_heads) * model->head_dim);
}

double glue_side_bytes(const struct glue_kernel *kernel, const struct glue_side *side,
                       const struct moe_model *model, int32_t num_shards)
{
    double shards = (double)num_shards;
    bool is_mla = model->attention == ATTENTION_MLA;
    double out_dim = (double)(is_mla ? model->v_head_dim : model->head_dim);
    double bytes =
        side->bytes > 0.0 ? side->bytes : precision_activation_bytes(model->precision_expert);
    switch (side->width) {
    case GLUE_NOTHING:
        return 0.0;
    case GLUE_HIDDEN:
        return bytes * (double)model->hidden_dim;
    case GLUE_Q_LATENT:
        return bytes * (double)model->q_lora_rank;
    case GLUE_KV_LATENT:
        return bytes * (double)model->kv_lora_rank;
    case GLUE_KV_ENTRY:
        return model_kv_bytes_per_token_layer(model) / (is_mla ? 1.0 : shards);
    case GLUE_ROTARY:
        return bytes * rotary_width(model) / shards;
    case GLUE_KEYS:
        return bytes * (double)(model->num_q_heads * model->qk_nope_dim) / shards;
    case GLUE_QUERIES_OUT:
        return bytes * (double)model->num_q_heads * out_dim / shards;
    case GLUE_FFN:
        return bytes * ffn_width(model, kernel->phase, shards);
    case GLUE_GATE_UP:
        return bytes * 2.0 * ffn_width(model, kernel->phase, shards);
    case GLUE_EXPERTS:
        return bytes * (double)model->num_experts;
    case GLUE_TOP_K:
        return bytes * (double)model->top_k;
    case GLUE_VOCABULARY:
        return bytes * (double)model->vocab_size; /* logits are gathered before one is drawn */
    }
    return 0.0;
}

double glue_kernel_ns(const struct glue_kernel *kernel, const struct gpu_spec *gpu,
                      const struct moe_model *model, double units)
{
    double bytes = glue_side_bytes(kernel, &kernel->read, model, 1) +
                   glue_side_bytes(kernel, &kernel->write, model, 1);
    double rate = gpu->hbm_bytes_per_s * gpu->hbm_fraction * kernel->share[gpu->glue_set];
    return units * bytes / rate * 1e9 + (double)kernel->launches * gpu->kernel_ns;
}

static double count_of(const struct gpu_work *work, enum glue_unit unit)
{
    if (work->phase != GPU_EXPERT || unit == GLUE_TOKENS) {
        return (double)work->tokens;
    }
    if (unit == GLUE_ROWS && work->token_rows > 0) {
        return (double)work->token_rows;
    }
    double copies = 0.0;
    for (int32_t slot = 0; slot < work->num_slots; slot++) {
        copies += (double)work->slot_tokens[slot];
    }
    return copies;
}

/* What is left of a small kernel's rate beside a transfer: its SMs' part or the HBM's, whichever is
 * less. */
static double rate_left(const struct gpu_spec *gpu, const struct gpu_work *work)
{
    double sms_left = 1.0 - (double)work->sms_taken / (double)gpu->num_sms;
    return fmin(sms_left, 1.0 - gpu_hbm_taken(gpu, work));
}

double glue_ns(const struct gpu_spec *gpu, const struct gpu_work *work, uint32_t held)
{
    double rate = gpu->hbm_bytes_per_s * gpu->hbm_fraction * rate_left(gpu, work);
    enum glue_set set = (enum glue_set)gpu->glue_set;
    double ns = 0.0;
    for (size_t i = 0; i < sizeof kernels / sizeof kernels[0]; i++) {
        const struct glue_kernel *kernel = &kernels[i];
        if (kernel->phase != work->phase || (held & GLUE_HELD(kernel->held_by)) != 0 ||
            !glue_applies(kernel, set, work->model, work->prefill)) {
            continue;
        }
        double bytes = count_of(work, kernel->read.unit) *
                           glue_side_bytes(kernel, &kernel->read, work->model, work->shards) +
                       count_of(work, kernel->write.unit) *
                           glue_side_bytes(kernel, &kernel->write, work->model, work->shards);
        ns += bytes / (rate * kernel->share[set]) * 1e9 + (double)kernel->launches * gpu->kernel_ns;
    }
    return ns;
}
