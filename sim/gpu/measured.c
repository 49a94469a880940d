/*
 * measured -- measured kernels where a table has the shape, the fit where it has not.
 *
 *     T = T_fitted R,   log R interpolated between the table's points (gpu/measured.h)
 *
 * Each GEMM, attention and the experts' phase are looked up by themselves; passes over activations
 * stay the fit's. Experts are looked up by slots, dimensions and token copies, as measured under
 * even routing; what skew costs beyond that is the fit's. Left out: what one kernel leaves in the
 * caches for the next, and that a table's kernels may be another version's.
 */
#include "gpu/measured.h"

#include <math.h>

#include "gpu/fitted_phases.h"
#include "gpu/fitted_products.h"
#include "gpu/gpu.h"

static double measured_ns(const struct gpu_spec *gpu, const struct gpu_work *work)
{
    return gpu_fitted.duration_ns(gpu, work);
}

static double table_share(const struct gpu_spec *gpu, const struct gpu_work *work)
{
    double table_ns = 0.0;
    double ns = fitted_work_ns(gpu, work, &table_ns);
    return ns > 0.0 ? table_ns / ns : 0.0;
}

/* No better than the worse of both, for what a run asks for may lie in the table or beside it. */
static bool measured_evidence(struct gpu_evidence *evidence, const struct gpu_spec *gpu)
{
    if (!gpu_fitted.evidence(evidence, gpu)) {
        return false;
    }
    if (gpu->measured != NULL) {
        evidence->fitted_on = gpu->measured->fitted_on;
        evidence->error_median = fmax(evidence->error_median, gpu->measured->error_median);
    }
    return true;
}

static double phase_error(const struct gpu_spec *gpu, const struct moe_model *model,
                          enum gpu_phase phase, bool prefill)
{
    return gpu_fitted.phase_error(gpu, model, phase, prefill);
}

static void coverage(char *text, size_t bytes, const struct gpu_spec *gpu,
                     const struct moe_model *model, bool prefill)
{
    gpu_fitted.coverage(text, bytes, gpu, model, prefill);
}

const struct gpu_model gpu_measured = {
    .name = "measured",
    .summary = "interpolates in a table of measured kernels; beside it: fitted",
    .source = "the table that the scenario names (compute.measured)",
    .kernels = "any",
    .fitted_on = "",
    .error_median = -1.0,
    .duration_ns = measured_ns,
    .gemms_ns = fitted_gemms_ns,
    .evidence = measured_evidence,
    .coverage = coverage,
    .phase_error = phase_error,
    .table_share = table_share,
};
