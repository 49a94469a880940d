/*
 * fixed_time -- every kernel takes the GPU's kernel_ns, whatever it computes.
 *
 *     T = num_kernels * kernel_ns
 *
 * Left out: all arithmetic and all memory traffic; so this is the least time the launches alone can
 * take, where decoding a few tokens ends up when weights and batches shrink.
 */
#include "gpu/gpu.h"

static double fixed_time_ns(const struct gpu_spec *gpu, const struct gpu_work *work)
{
    struct gpu_cost cost = gpu_work_cost(work);
    bool idle = cost.weight_bytes + cost.activation_bytes <= 0.0;
    return idle ? 0.0 : (double)cost.num_kernels * gpu->kernel_ns;
}

const struct gpu_model gpu_fixed_time = {
    .name = "fixed_time",
    .summary = "kernel launches alone; arithmetic and memory are free",
    .source = "",
    .kernels = "any",
    .fitted_on = "",
    .error_median = -1.0,
    .duration_ns = fixed_time_ns,
};
