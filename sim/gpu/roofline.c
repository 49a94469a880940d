/*
 * roofline -- the slower of arithmetic and memory, plus a launch a kernel (Williams, Waterman and
 * Patterson 2009).
 *
 *     T = max(flops / (peak * flops_fraction * SMs left),
 *             bytes / (bandwidth * hbm_fraction * HBM left)) + num_kernels * kernel_ns
 *
 * The fractions stand in the GPU's YAML with their source. Not fitted to measurements of whole MoE
 * layers: it knows nothing of tiles and waves, so it is optimistic where experts get few tokens
 * each, and its error is not known.
 */
#include "gpu/gpu.h"

#include <math.h>

/* A format without tensor cores of its own is widened to bf16 (mxfp4 on Hopper). */
static double peak_flops(const struct gpu_spec *gpu, enum precision precision)
{
    double peak = gpu->flops_per_s[precision];
    return (peak > 0.0 ? peak : gpu->flops_per_s[PRECISION_BF16]) * gpu->flops_fraction;
}

double gpu_busy_ns(const struct gpu_spec *gpu, const struct gpu_work *work)
{
    const struct gpu_cost cost = gpu_work_cost(work);
    double bytes = cost.weight_bytes + cost.activation_bytes;
    if (bytes <= 0.0) {
        return 0.0;
    }
    double sms_left = 1.0 - (double)work->sms_taken / (double)gpu->num_sms;
    double compute_s = cost.flops / (peak_flops(gpu, cost.precision) * sms_left) +
                       cost.attention_flops / (peak_flops(gpu, PRECISION_BF16) * sms_left);
    double memory_s =
        bytes / (gpu->hbm_bytes_per_s * gpu->hbm_fraction * (1.0 - gpu_hbm_taken(gpu, work)));
    return fmax(compute_s, memory_s) * 1e9;
}

static double roofline_ns(const struct gpu_spec *gpu, const struct gpu_work *work)
{
    const double busy_ns = gpu_busy_ns(gpu, work);
    return busy_ns > 0.0 ? busy_ns + (double)gpu_work_cost(work).num_kernels * gpu->kernel_ns : 0.0;
}

const struct gpu_model gpu_roofline = {
    .name = "roofline",
    .summary = "the slower of arithmetic and memory, plus kernel launches",
    .source = "Williams, Waterman and Patterson, CACM 52(4), 2009",
    .kernels = "any",
    .fitted_on = "",
    .error_median = -1.0,
    .duration_ns = roofline_ns,
};
