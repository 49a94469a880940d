/*
 * measured_read.h -- fills the table of the compute model `measured` from files of measurements.
 */
#ifndef MOESIM_MEASURED_READ_H
#define MOESIM_MEASURED_READ_H

#include <stdint.h>

#include "gpu/measured.h"
#include "status.h"

/* One file a layout; NULL: none. At least one is there, and not both of moe and bench. */
struct measured_files {
    const char *kernels; /* GEMMs and attention (kernel_rows.h) */
    const char *moe;     /* experts, whole MoE operations (moe_rows.h) */
    const char *bench;   /* experts, what moe-bench forward measured (bench_rows.h) */
};

/* Takes the rows of the GPU that were measured with the kernels and formats whose constants it uses
 * (of moe-bench: in the experts' format); of experts, those of even routing. Of a file that has
 * none: STATUS_INVALID, saying what was looked for. Release with measured_free, also after a
 * failure. */
MUST_CHECK enum status measured_read(struct measured_table *table,
                                     const struct measured_files *files, const struct gpu_spec *gpu,
                                     struct error *error);

/* A fingerprint of what the files hold. STATUS_IO: one cannot be read. */
MUST_CHECK enum status measured_digest(uint64_t *digest, const struct measured_files *files,
                                       struct error *error);

/* Median error of points as their neighbours along a curve predict them; < 0: none can be. */
MUST_CHECK enum status measured_error(double *median, const struct measured_table *table,
                                      struct error *error);

#endif
