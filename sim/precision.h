/*
 * precision.h -- number formats of weights, activations and KV cache, and what an element weighs.
 */
#ifndef MOESIM_PRECISION_H
#define MOESIM_PRECISION_H

#include <stdbool.h>

enum precision {
    PRECISION_FP32,
    PRECISION_BF16,
    PRECISION_FP8,   /* e4m3; scales: weights 128x128 blocks, activations 1x128 (DeepSeek-V3) */
    PRECISION_INT8,  /* one scale a row: too little to count */
    PRECISION_MXFP4, /* 32 values share an 8-bit scale (OCP MX v1.0) */
    PRECISION_NVFP4, /* 16 values share an fp8 scale */
    PRECISION_COUNT,
};

/* Names as written in YAML: fp32, bf16, fp8, int8, mxfp4, nvfp4. */
const char *precision_name(enum precision precision);
bool precision_parse(enum precision *precision, const char *name);

/* Bytes a weight, block scales included. */
double precision_weight_bytes(enum precision precision);

/* Bytes an activation element on the wire, scales included (fp8: 4 bytes per 128 elements). */
double precision_activation_bytes(enum precision precision);

#endif
