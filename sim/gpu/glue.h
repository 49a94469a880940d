/*
 * glue.h -- the small kernels between matrix products and attention: norms, quantisation, rotary
 * embedding, cache write, top-k, permutation, activation, sums.
 *
 * One table names each with what it reads and writes and how often it is launched, counted from the
 * model's shapes. None does arithmetic that counts, so each takes its bytes at a share of the GPU's
 * copy rate and one launch:
 *
 *     T = sum over kernels of  bytes / (hbm_bytes_per_s hbm_fraction share) + launches kernel_ns
 */
#ifndef MOESIM_GLUE_H
#define MOESIM_GLUE_H

#include <stdbool.h>
#include <stdint.h>

#include "gpu/gpu.h"

/* Which measured whole already holds a kernel, so that it is not charged twice. */
enum glue_holder {
    GLUE_HELD_BY_NONE,
    GLUE_HELD_BY_LINEAR,    /* of a GEMM that was measured with the quantisation before it */
    GLUE_HELD_BY_ATTENTION, /* of a whole attention module */
    GLUE_HELD_BY_CORE,      /* of that, and of an engine's attention between projections */
    GLUE_HELD_BY_TURNING,   /* of a whole module, and of such an attention that turns queries and
                               keys by their positions itself */
    GLUE_HELD_BY_EXPERTS,   /* of a whole expert phase */
};

/* Whose kernels, of spring 2025. They differ in what is fused and in how fast they are. */
enum glue_set {
    GLUE_DEEPSEEK, /* its own; a GPU's, if nothing else is said */
    GLUE_SGLANG,
    GLUE_SET_COUNT,
};

/* What a kernel goes over. */
enum glue_unit {
    GLUE_TOKENS, /* of the rank */
    GLUE_COPIES, /* of tokens, one for each chosen expert of the rank */
    GLUE_ROWS,   /* distinct tokens that came to the rank's experts */
};

/* Elements of a unit. */
enum glue_width {
    GLUE_NOTHING,
    GLUE_HIDDEN,
    GLUE_Q_LATENT,
    GLUE_KV_LATENT,
    GLUE_KV_ENTRY,    /* what a token leaves in the cache of a layer */
    GLUE_ROTARY,      /* of all heads: what positions turn */
    GLUE_KEYS,        /* of all heads, without what positions turn */
    GLUE_QUERIES_OUT, /* of all heads: attention's output */
    GLUE_FFN,         /* intermediate of the phase's feed-forward block */
    GLUE_GATE_UP,     /* twice that */
    GLUE_EXPERTS,
    GLUE_TOP_K,
    GLUE_VOCABULARY,
};

struct glue_side {
    enum glue_unit unit;
    enum glue_width width;
    double bytes; /* an element; 0: in the format of the experts' inputs */
};

enum glue_when { GLUE_ALWAYS, GLUE_IN_PREFILL, GLUE_IN_DECODE };
enum glue_attention { GLUE_ANY, GLUE_MLA, GLUE_GQA };

struct glue_kernel {
    const char *name;
    enum gpu_phase phase;
    enum glue_when when;
    enum glue_attention attention;
    bool quantises; /* there where the GEMM behind it is in fp8 */
    struct glue_side read;
    struct glue_side write;
    double share[GLUE_SET_COUNT]; /* of the copy rate that it reaches; 0: not in that set */
    int32_t launches;
    enum glue_holder held_by;
};

const struct glue_kernel *glue_all(int32_t *count);

/* Whether a model has the kernel in this phase of serving, by that set. */
bool glue_applies(const struct glue_kernel *kernel, enum glue_set set,
                  const struct moe_model *model, bool prefill);

/* Bytes that one unit of a side has, on one of so many tensor-parallel shards. */
double glue_side_bytes(const struct glue_kernel *kernel, const struct glue_side *side,
                       const struct moe_model *model, int32_t shards);

/* Duration in ns on a GPU that does nothing else, of as many units on each side; the kernel is one
 * of the GPU's glue_set. */
double glue_kernel_ns(const struct glue_kernel *kernel, const struct gpu_spec *gpu,
                      const struct moe_model *model, double units);

/* Bit 1 << holder is set where the measured wholes in use hold a kernel already. */
#define GLUE_HELD(holder) (1u << (holder))

/* Duration in ns of the small kernels of the work's phase, but those that are held. */
double glue_ns(const struct gpu_spec *gpu, const struct gpu_work *work, uint32_t held);

#endif
