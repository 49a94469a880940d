/*
 * bench_routing.h -- which experts each token of a benchmark goes to: made, or replayed from a
 * file.
 *
 *   balanced   token t, choice k: expert (t top_k + k) mod E of a shuffled order: loads differ by
 *              at most one
 *   uniform    top_k different experts, each as likely
 *   lognormal  the same with popularity exp(sigma z_e), z_e standard normal: drawn by Gumbel top-k
 *   one        all tokens to the same top_k experts: the worst case
 *   FILE.npy   uint8 or uint16 [layers][tokens][top_k] or [tokens][top_k], best expert first, all
 *              ones where a token is not routed; layer 0 or FILE.npy:layer; tokens from a place
 * that depends on the seed, the end joined to the beginning
 */
#ifndef MOESIM_BENCH_ROUTING_H
#define MOESIM_BENCH_ROUTING_H

#include <stdint.h>

#include "status.h"

struct bench_routing_request {
    const char *name; /* one of the above */
    int32_t num_tokens;
    int32_t num_experts;
    int32_t top_k;
    double sigma;
    uint64_t seed;
};

/*   expert  [num_tokens][top_k] out, EXPERT_NONE where not routed
 * STATUS_INVALID: an unknown name; a file of another shape, type or top_k, or with an expert that
 * is not there. STATUS_IO, STATUS_NO_MEMORY. */
MUST_CHECK enum status bench_routing(struct bench_routing_request request, int32_t *expert,
                                     struct error *error);

/* Gate weights for a given routing: [num_tokens][top_k], positive, each token's sum 1. */
void bench_gate_weights(int32_t num_tokens, int32_t top_k, uint64_t seed, float *gate_weight);

/* The last part of a path, for CSV rows: "experts.npy:3" of "traces/x/experts.npy:3". */
const char *bench_routing_label(const char *name);

#endif
