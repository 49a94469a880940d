/*
 * fitted_phases.h -- all phases but the experts, from fitted GEMMs and attention where there are
 * any.
 */
#ifndef MOESIM_FITTED_PHASES_H
#define MOESIM_FITTED_PHASES_H

#include <stddef.h>

#include "gpu/gpu.h"

/* Duration in ns: the roofline's where the GPU has no constants for the phase's GEMMs. */
double fitted_phase_ns(const struct gpu_spec *gpu, const struct gpu_work *work);

/* What predicts GEMMs and attention of this model on this GPU, with held-out errors, in words. */
void fitted_coverage(char *text, size_t bytes, const struct gpu_spec *gpu,
                     const struct moe_model *model, bool prefill);

/* Median held-out error of what predicts a phase but the experts; < 0: a roofline, unknown. */
double fitted_phase_error(const struct gpu_spec *gpu, const struct moe_model *model,
                          enum gpu_phase phase, bool prefill);

#endif
