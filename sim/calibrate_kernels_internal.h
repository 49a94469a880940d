/*
 * calibrate_kernels_internal.h -- what a fit of GEMMs or attention turns, and where it starts.
 */
#ifndef MOESIM_CALIBRATE_KERNELS_INTERNAL_H
#define MOESIM_CALIBRATE_KERNELS_INTERNAL_H

#include "calibrate_internal.h"
#include "calibrate_kernels.h"

/* At most KERNEL_CONSTANTS_MAX constants. */
const struct fit_form *calibrate_kernels_form(const struct kernel_calibration *calibration);

/* Of many n x k, the start counts for less. */
const struct fit_form *calibrate_gemm_form(enum tile_choice tiles, int32_t num_shapes);

/* Peak flops of a format; bf16's where the GPU has none of it. */
double calibrate_peak(const struct gpu_spec *gpu, enum precision precision);

struct gemm_constants calibrate_start_gemm(const struct kernel_row *row,
                                           const struct gpu_spec *gpu);
struct attention_constants calibrate_start_attention(const struct kernel_row *row,
                                                     const struct gpu_spec *gpu);

#endif
