/*
 * small_attention.h -- an attention small enough to be worked out by hand, for tests of its forms.
 */
#ifndef MOESIM_SMALL_ATTENTION_H
#define MOESIM_SMALL_ATTENTION_H

#include "gpu/fitted_attention.h"

#define NOTHING 1e30 /* a rate at which bytes and flops cost nothing */
#define LARGER  50.0 /* of a norm that takes the larger of two */

/* Decode that costs its launch alone. */
#define FREE_DECODE                                                                                \
    .phase = PHASE_GQA_DECODE, .t0_ns = 1000.0, .kv_bytes_per_s = NOTHING,                         \
    .sm_bytes_per_s = NOTHING, .single_sm_bytes_per_s = NOTHING, .row_bytes_per_s = NOTHING,       \
    .cache_bytes = NOTHING, .blend = LARGER, .wave_blend = LARGER

/* 2 KV heads of 128 elements in bf16, groups of 4, on 8 SMs. */
static const struct attention_shape shape = {.sequences = 1.0,
                                             .tokens = 256.0,
                                             .q_heads = 8.0,
                                             .kv_heads = 2.0,
                                             .qk_dim = 128.0,
                                             .v_dim = 128.0,
                                             .kv_bytes = 1024.0,
                                             .num_sms = 8.0,
                                             .gpu_sms = 8.0};

#endif
