/*
 * skew.h -- how unevenly tokens fall on experts: the usual figures of one load vector.
 *
 * max / mean (Swift, LLEP), the coefficient of variation (NeMo) and the Gini coefficient are what
 * papers and engines print. All are NaN for a vector without a token, which has no shape.
 */
#ifndef MOESIM_SKEW_H
#define MOESIM_SKEW_H

#include <stdint.h>

struct load_skew {
    double max_over_mean; /* 1: even; num_experts: one expert takes all */
    double cv;            /* population standard deviation / mean */
    double gini;          /* 0: even; 1 - 1 / num_experts: one expert takes all */
    int32_t dead_experts; /* experts without a token */
};

/* Figures of load_tokens[num_experts] >= 0; scratch[num_experts] is overwritten. */
struct load_skew load_skew(const int64_t *load_tokens, int32_t num_experts, int64_t *scratch);

/* Busiest over mean rank when rank r holds experts r * n / num_ranks and following, as every engine
 * starts out. NaN unless num_ranks >= 1 divides num_experts. */
double load_contiguous_max_over_mean(const int64_t *load_tokens, int32_t num_experts,
                                     int32_t num_ranks);

#endif
