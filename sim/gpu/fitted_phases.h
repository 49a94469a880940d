/*
 * fitted_phases.h -- all phases but the experts, from fitted GEMMs and attention where there are
 * any.
 */
#ifndef MOESIM_FITTED_PHASES_H
#define MOESIM_FITTED_PHASES_H

#include <stddef.h>

#include "gpu/gpu.h"
#include "gpu/measured.h"

/* Duration in ns: the roofline's where the GPU has no constants for the phase's GEMMs. What of it
 * comes out of the GPU's table of measurements is added to table_ns. */
double fitted_phase_ns(const struct gpu_spec *gpu, const struct gpu_work *work, double *table_ns);

/* The same for every phase, experts as well. */
double fitted_work_ns(const struct gpu_spec *gpu, const struct gpu_work *work, double *table_ns);

/* A kernel's time by its fit, put right by the GPU's table where that covers the place. */
double fitted_or_measured_ns(const struct gpu_spec *gpu, const struct measured_place *place,
                             double fitted_ns, double *table_ns);

/* What predicts a part of the layers of a model on a GPU. */
enum fitted_part_kind {
    FITTED_ATTENTION,
    FITTED_DENSE,
    FITTED_BF16,    /* router and head */
    FITTED_EXPERTS, /* last: it has an evidence of its own beside fitted_coverage */
    FITTED_PARTS,
};

struct fitted_part {
    const char *name;
    const char *kernels; /* or "roofline" */
    enum precision precision;
    const struct fit_evidence *fit; /* NULL: a roofline */
};

/* Texts are constants of the program and the GPU's. */
void fitted_parts(struct fitted_part part[FITTED_PARTS], const struct gpu_spec *gpu,
                  const struct moe_model *model, bool prefill);

/* All parts but the experts in words, with held-out errors. */
void fitted_coverage(char *text, size_t bytes, const struct gpu_spec *gpu,
                     const struct moe_model *model, bool prefill);

/* Median held-out error of what predicts a phase but the experts; < 0: a roofline, unknown. */
double fitted_phase_error(const struct gpu_spec *gpu, const struct moe_model *model,
                          enum gpu_phase phase, bool prefill);

/* Experts' kernels that are looked for. */
struct kernels_wanted {
    const char *kernels; /* by name; "any": whichever suits the rest best, of several the first */
    enum precision precision; /* of the experts' weights */
    const char *collective;   /* that brings them their tokens; NULL: none does */
    bool prefill;
};

/* Takes the experts' constants that are wanted, but none that hold dispatch and combine, too; else
 * GEMMs of that name that were measured alone. False: the GPU has neither. */
bool fitted_choose(struct gpu_spec *gpu, const struct kernels_wanted *wanted);

/* Whether these kernels dispatch and combine as well. */
bool fitted_holds_exchange(const char *kernels);

/* The constants in use of dense GEMMs, of grouped ones (prompts' tokens lie behind each other,
 * those of decode in a block a slot), or of attention, in a format; NULL: there are none. Of
 * several engines', those of the engine whose experts are in use come first; of fp8 GEMMs before
 * that, those that scale weights as its experts do; q_heads on this GPU. */
const struct gemm_constants *fitted_find_gemm(const struct gpu_spec *gpu, enum precision precision);
const struct gemm_constants *fitted_find_grouped(const struct gpu_spec *gpu,
                                                 enum precision precision, bool prefill);
const struct attention_constants *fitted_find_attention(const struct gpu_spec *gpu,
                                                        enum attention_phase phase,
                                                        enum precision precision, double q_heads);

#endif
