/*
 * fitted_gqa.h -- grouped-query attention as serving engines run it, in numbers that a fit can
 * turn: constants of `splits: even` and `splits: xqa`.
 */
#ifndef MOESIM_FITTED_GQA_H
#define MOESIM_FITTED_GQA_H

#include "gpu/fitted_attention.h"

/* Duration in ns; the shape has sequences and tokens. */
double fitted_gqa_decode_ns(const struct attention_constants *constants,
                            const struct attention_shape *shape);
double fitted_gqa_prefill_ns(const struct attention_constants *constants,
                             const struct attention_shape *shape);

#endif
