/*
 * gate_choose.h -- the k best of many scores; of equals, the smaller position.
 */
#ifndef MOESIM_GATE_CHOOSE_H
#define MOESIM_GATE_CHOOSE_H

#include <stdbool.h>
#include <stdint.h>

#define GATE_PAD                                                                                   \
    16 /* places behind the last score that hold minus infinity; GATE_TOP_K_MAX at least */

/*   chosen  [top_k] out: positions, best first; 1 <= top_k <= count, GATE_TOP_K_MAX
 *   score   [count], at most GATE_EXPERTS_MAX; a NaN counts as minus infinity */
void ref_top_k(int32_t *chosen, const float *score, int32_t count, int32_t top_k);

/* What it is made of, for callers that keep a clean copy of [count + GATE_PAD]. */
void gate_load(float *clean, const float *logits, int32_t count); /* NaN replaced, end filled up */
void gate_pad(float *score, int32_t count);                       /* fills the end up */
float gate_largest(const float *clean, int32_t count);

/* As ref_top_k, of a clean score; the sigmoids of its numbers are compared if of_logits. */
void gate_choose(int32_t *chosen, const float *clean, int32_t count, int32_t top_k, bool of_logits);

#endif
