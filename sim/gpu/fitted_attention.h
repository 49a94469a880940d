/*
 * fitted_attention.h -- attention over equal sequences, in numbers that a fit can turn.
 */
#ifndef MOESIM_FITTED_ATTENTION_H
#define MOESIM_FITTED_ATTENTION_H

#include "cluster.h"

struct attention_shape {
    double sequences;
    double tokens;           /* of a sequence: those it looks back on, or in prefill its own */
    double q_heads;          /* on this GPU, as are kv_heads */
    double kv_heads;         /* MLA decode: 1, the latent */
    double qk_dim;           /* of a head: what a score sums over */
    double v_dim;            /* of a head: what a weighted sum has */
    double kv_bytes;         /* a position, all KV heads of this GPU */
    double hidden_dim;       /* a module's, as is the next */
    double projection_bytes; /* weights */
    double projection_params;
    double num_sms;   /* left for compute */
    double gemm_sms;  /* a module's projections: those they run on; 0: num_sms */
    double gpu_sms;   /* all of them: what the constants' rates are of */
    double hbm_taken; /* share of the HBM's bandwidth that is not left for compute */
};

/* Duration in ns; 0 without sequences. */
double fitted_attention_ns(const struct attention_constants *constants,
                           const struct attention_shape *shape);

#endif
