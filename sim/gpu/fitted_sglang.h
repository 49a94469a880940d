/*
 * fitted_sglang.h -- grouped GEMMs of SGLang's Triton kernels in bf16.
 */
#ifndef MOESIM_FITTED_SGLANG_H
#define MOESIM_FITTED_SGLANG_H

#include "gpu/fitted.h"

/* As fitted_gemm_s, for constants of tile_rows: sglang. */
double fitted_sglang_gemm_s(const struct fitted_kernels *fitted, const struct expert_shape *shape,
                            const struct expert_load *load, double columns, double depth);

#endif
