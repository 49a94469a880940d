/*
 * gate_math.h -- exp and sigmoid out of + - * / alone, equal on every CPU and GPU.
 *
 * What a gate computes decides where tokens go, and a libm picks its code by CPU. These take only
 * operations that IEEE 754 rounds once, so choices agree bit for bit wherever no multiply-add is
 * fused (-ffp-contract=off, --fmad=false).
 *
 *     exp(x) = 2^n exp(r),  n = round(x / ln 2),  |r| <= ln 2 / 2
 *
 * exp(r) by its Taylor series to r^13: truncated at 4e-18 relative, so the error is rounding, under
 * 1e-15; rounded to float32 the result is the nearest or, once in 10^8, its neighbour.
 */
#ifndef MOESIM_GATE_MATH_H
#define MOESIM_GATE_MATH_H

#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define GATE_MATH static __host__ __device__ inline
#else
#define GATE_MATH static inline
#endif

/* 0 below -708, where doubles become subnormal; above 709, the value there. */
GATE_MATH double gate_exp(double x)
{
    if (!(x >= -708.0)) { /* NaN too */
        return 0.0;
    }
    x = x > 709.0 ? 709.0 : x;
    double scaled = x * 1.4426950408889634; /* 1 / ln 2 */
    int64_t n = (int64_t)(scaled + (scaled < 0.0 ? -0.5 : 0.5));
    /* ln 2 in two parts; the upper has 20 trailing zero bits, so that n times it is exact. */
    double r = x - (double)n * 0x1.62e42fefp-1 - (double)n * 0x1.473de6af278edp-34;
    const double inverse_factorial[] = {1.0 / 6227020800.0,
                                        1.0 / 479001600.0,
                                        1.0 / 39916800.0,
                                        1.0 / 3628800.0,
                                        1.0 / 362880.0,
                                        1.0 / 40320.0,
                                        1.0 / 5040.0,
                                        1.0 / 720.0,
                                        1.0 / 120.0,
                                        1.0 / 24.0,
                                        1.0 / 6.0,
                                        0.5,
                                        1.0,
                                        1.0};
    double sum = inverse_factorial[0];
    for (int k = 1; k < 14; k++) {
        sum = sum * r + inverse_factorial[k];
    }
    uint64_t bits = (uint64_t)(n + 1023) << 52; /* 2^n; n is in [-1022, 1023] */
    double power;
    memcpy(&power, &bits, sizeof power);
    return sum * power;
}

GATE_MATH float gate_sigmoid(float x)
{
    return (float)(1.0 / (1.0 + gate_exp(-(double)x)));
}

#endif
