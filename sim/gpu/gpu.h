/*
 * gpu.h -- how long a GPU works on one phase of one layer.
 *
 * The work is described once, in tokens and shapes; gpu_work_cost turns it into flops and bytes, on
 * which a roofline rests; a fitted or measured model may look at the tokens per slot instead.
 */
#ifndef MOESIM_GPU_H
#define MOESIM_GPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cluster.h"
#include "model.h"

enum gpu_phase {
    GPU_ATTENTION, /* norms, projections, attention over the KV cache, output projection */
    GPU_DENSE_FFN, /* the feed-forward part of a dense layer */
    GPU_GATE,      /* router GEMM and top-k */
    GPU_SHARED,    /* shared experts */
    GPU_EXPERT,    /* permute, both grouped GEMMs, un-permute */
    GPU_HEAD,      /* embedding and output head, once a step */
    GPU_PHASE_COUNT,
};

struct gpu_work {
    enum gpu_phase phase;
    const struct moe_model *model;
    int32_t layer;                /* of the model; no duration depends on it but through the rest */
    bool prefill;                 /* attention over the prompt itself, causal */
    int32_t tokens;               /* tokens of this rank, all but GPU_EXPERT */
    int64_t attended_tokens;      /* sum over tokens of the positions each looks back on */
    int64_t context_tokens;       /* KV entries read once a sequence (decode: the same sum) */
    int32_t shards;               /* GPUs that the phase's weights are cut over, but for the gate's;
                                     of FFNs by the intermediate size; 1: none */
    int32_t num_slots;            /* GPU_EXPERT: slots on this rank */
    const int32_t *slot_tokens;   /* [num_slots] */
    int32_t token_rows;           /* GPU_EXPERT: distinct tokens among the copies; 0: not known */
    int32_t group_tokens;         /* GPU_EXPERT: of all ranks; 0: not known */
    int32_t sms_taken;            /* by communication at the same time */
    int32_t sms_kept;             /* that GEMMs leave free for it at all times */
    double hbm_bytes_per_s_taken; /* likewise, of the HBM's bandwidth */
    double gemms_ns;              /* GPU_ATTENTION: what the model's gemms_ns says; 0: not known */
};

struct gpu_cost {
    double flops;            /* of GEMMs, in precision */
    double attention_flops;  /* of attention scores and sums, in bf16 */
    double weight_bytes;     /* each weight once, only of experts that have tokens */
    double activation_bytes; /* read and written, KV cache included */
    int32_t num_kernels;
    enum precision precision; /* in which the GEMMs run */
};

struct gpu_cost gpu_work_cost(const struct gpu_work *work);

/* How long arithmetic or memory, whichever is slower, is busy with the work: the roofline without
 * launches, in ns. */
double gpu_busy_ns(const struct gpu_spec *gpu, const struct gpu_work *work);

/* The share of the HBM's bandwidth that communication takes from the work: at most a half. */
double gpu_hbm_taken(const struct gpu_spec *gpu, const struct gpu_work *work);

/* SMs that GEMMs run on. */
double gpu_gemm_sms(const struct gpu_spec *gpu, const struct gpu_work *work);

/* What a model's predictions rest on. */
struct gpu_evidence {
    const char *kernels;   /* whose times experts take; NULL: no library's */
    const char *fitted_on; /* the measurements it was fitted on; "" : none */
    double error_median;   /* held-out, as a fraction; < 0: not measured */
};

struct gpu_model {
    const char *name;
    const char *summary;
    const char *source;
    const char *kernels;   /* whose kernels it predicts: "any", or a list as "ours trtllm" */
    const char *fitted_on; /* the measurements it was fitted on; "" : none */
    double error_median;   /* held-out, as a fraction; < 0: not measured */
    /* Duration in ns, a pure function of its arguments; the caller rounds. */
    double (*duration_ns)(const struct gpu_spec *gpu, const struct gpu_work *work);
    /* The GEMMs within duration_ns of GPU_ATTENTION, whatever is attended, so that who asks for the
     * same tokens again and again may keep them; 0: none. NULL: none ever. */
    double (*gemms_ns)(const struct gpu_spec *gpu, const struct gpu_work *work);
    /* For models whose constants are a GPU's: what those in use rest on, and false when the GPU has
     * none. NULL: fitted_on and error_median hold for every GPU. */
    bool (*evidence)(struct gpu_evidence *evidence, const struct gpu_spec *gpu);
    /* What predicts GEMMs and attention of a model, with held-out errors, in words. NULL: nothing
     * but what the summary says. */
    void (*coverage)(char *text, size_t bytes, const struct gpu_spec *gpu,
                     const struct moe_model *model, bool prefill);
    /* Median held-out error of what predicts a phase, as a fraction; < 0: not measured. NULL:
     * error_median holds for every phase. */
    double (*phase_error)(const struct gpu_spec *gpu, const struct moe_model *model,
                          enum gpu_phase phase, bool prefill);
    /* The share of duration_ns that comes out of a table of measurements. NULL: none ever. */
    double (*table_share)(const struct gpu_spec *gpu, const struct gpu_work *work);
};

/* The evidence of a model on this GPU with the constants in use; unknown where there is none. */
struct gpu_evidence gpu_model_evidence(const struct gpu_model *model, const struct gpu_spec *gpu);

/* Whether the model can predict this GPU at all. */
bool gpu_model_applies(const struct gpu_model *model, const struct gpu_spec *gpu);

extern const struct gpu_model gpu_roofline; /* where a model knows a phase no better */
extern const struct gpu_model gpu_fitted;   /* where a table has no shape */

const struct gpu_model *const *gpu_all(int32_t *count);
const struct gpu_model *gpu_find(const char *name); /* NULL: no such */

#endif
