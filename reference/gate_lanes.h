/*
 * gate_lanes.h -- gate_exp and gate_sigmoid of many numbers, two at a time.
 *
 * The operations of gate_math.h in their order, so results are equal bit for bit; only the integer
 * next to x / ln 2 is found without leaving floating point: y + 3/2 2^52 has no room for a
 * fraction.
 */
#ifndef MOESIM_GATE_LANES_H
#define MOESIM_GATE_LANES_H

#include <stdint.h>

typedef double exp_pair __attribute__((vector_size(16)));
typedef int64_t exp_mask __attribute__((vector_size(16)));

static inline exp_pair exp_select(exp_mask mask, exp_pair yes, exp_pair no)
{
    return (exp_pair)(((exp_mask)yes & mask) | ((exp_mask)no & ~mask));
}

/* gate_exp of both. */
static inline exp_pair gate_exp_pair(exp_pair x)
{
    const exp_pair round = {0x1.8p52, 0x1.8p52};
    const exp_pair zero = {0.0, 0.0};
    const exp_pair half = {0.5, 0.5};
    const exp_pair one = {1.0, 1.0};
    const exp_mask in_range = x >= -708.0; /* a NaN is not */
    x = exp_select(in_range, x, zero);
    x = exp_select(x > 709.0, zero + 709.0, x);
    const exp_pair scaled = x * 1.4426950408889634;
    const exp_pair y = scaled + exp_select(scaled < zero, -half, half);
    exp_pair n = y + round - round; /* to nearest; below: towards zero */
    n = exp_select(y < zero, n + exp_select(n < y, one, zero), n - exp_select(n > y, one, zero));
    const exp_pair r = x - n * 0x1.62e42fefp-1 - n * 0x1.473de6af278edp-34;
    static const double inverse_factorial[] = {1.0 / 6227020800.0,
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
    exp_pair sum = zero + inverse_factorial[0];
    for (int k = 1; k < 14; k++) {
        sum = sum * r + inverse_factorial[k];
    }
    const exp_mask power = (exp_mask)(n + (round + 1023.0)) << 52; /* 2^n */
    return exp_select(in_range, sum * (exp_pair)power, zero);
}

/* below[i] = exp(logit[i] - largest), 1 where they are equal, infinite or not. logit and below have
 * room for count rounded up to a multiple of two. */
static inline void gate_exp_below(double *below, const float *logit, int32_t count, float largest)
{
    const exp_pair one = {1.0, 1.0};
    const exp_pair top = {(double)largest, (double)largest};
    for (int32_t i = 0; i < count; i += 2) {
        const exp_pair x = {(double)logit[i], (double)logit[i + 1]};
        const exp_pair power = exp_select(x == top, one, gate_exp_pair(x - top));
        below[i] = power[0];
        below[i + 1] = power[1];
    }
}

/* sigmoid[i] = gate_sigmoid(logit[i]). The same room. */
static inline void gate_sigmoids(float *sigmoid, const float *logit, int32_t count)
{
    const exp_pair one = {1.0, 1.0};
    for (int32_t i = 0; i < count; i += 2) {
        const exp_pair x = {-(double)logit[i], -(double)logit[i + 1]};
        const exp_pair result = one / (one + gate_exp_pair(x));
        sigmoid[i] = (float)result[0];
        sigmoid[i + 1] = (float)result[1];
    }
}

#endif
