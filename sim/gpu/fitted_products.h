/*
 * fitted_products.h -- GEMMs of a phase by fitted constants.
 */
#ifndef MOESIM_FITTED_PRODUCTS_H
#define MOESIM_FITTED_PRODUCTS_H

#include "gpu/gpu.h"

/* One GEMM of a phase: columns x depth weights. */
struct product {
    double columns;
    double depth;
};

/* Durations in ns of the work's tokens by so many GEMMs in turn; what of it comes out of the GPU's
 * table of measurements is added to table_ns. */
double fitted_products_ns(const struct gpu_spec *gpu, const struct gpu_work *work,
                          const struct gemm_constants *constants, const struct product *product,
                          int32_t count, double *table_ns);

/* Likewise, all projections of attention. */
double fitted_projections_ns(const struct gpu_spec *gpu, const struct gpu_work *work,
                             const struct gemm_constants *gemm, double *table_ns);

/* As gemms_ns of gpu.h. */
double fitted_gemms_ns(const struct gpu_spec *gpu, const struct gpu_work *work);

#endif
