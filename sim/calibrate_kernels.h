/*
 * calibrate_kernels.h -- fits the constants of GEMMs and attention to measured kernels.
 *
 * One fit a GPU, library, format and kind of kernel, as calibrate.h does for whole MoE operations.
 */
#ifndef MOESIM_CALIBRATE_KERNELS_H
#define MOESIM_CALIBRATE_KERNELS_H

#include <stdint.h>
#include <stdio.h>

#include "calibrate.h"
#include "kernel_rows.h"
#include "status.h"

#define KERNEL_CALIBRATIONS_MAX 128
#define KERNEL_CONSTANTS_MAX    24

struct kernel_calibration {
    enum kernel_class class;  /* KERNEL_GEMM or KERNEL_ATTENTION: which constants count */
    int32_t gpu;              /* index into kernel_rows.moe.gpu */
    char label[NAME_BYTES];   /* what the kernels are */
    char library[NAME_BYTES]; /* as the table has it */
    char dtype[NAME_BYTES];
    struct gemm_constants gemm;
    struct attention_constants attention;
    int32_t num_shapes;
    struct error_summary held_out;
    double low[KERNEL_CONSTANTS_MAX]; /* 90 % bootstrap intervals; 0: not asked for */
    double high[KERNEL_CONSTANTS_MAX];
};

/* Fits all that the rows hold enough of: four rows of two shapes. calibration
 * [KERNEL_CALIBRATIONS_MAX] and *count out, by GPU, least held-out error first. STATUS_INVALID when
 * nothing can be fitted. */
MUST_CHECK enum status calibrate_kernels(struct kernel_calibration *calibration, int32_t *count,
                                         const struct kernel_rows *rows,
                                         const struct calibrate_options *options,
                                         struct error *error);

/* Writes the entry of a preset's list `gemm:` or `attention:`. */
void calibrate_kernel_write_yaml(const struct kernel_calibration *calibration, FILE *file);

#endif
