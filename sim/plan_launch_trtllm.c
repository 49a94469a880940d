/* plan_launch_trtllm.c -- configuration of TensorRT-LLM. */
#include "plan_launch_internal.h"

#include <string.h>

/* "Prerequisites" of examples/wide_ep/README.md. */
static bool has_wide_ep(const char *gpu)
{
    return strcmp(gpu, "gb200-nvl72") == 0 || strcmp(gpu, "h20") == 0;
}

/* Of those that one may name since WIDEEP is gone (NVIDIA/TensorRT-LLM, pull requests 17797 and
 * 18626): fp8 in blocks is CUTLASS's on Hopper and DeepGEMM's on Blackwell, and kernels of Triton,
 * mxfp4's on Hopper, take no load balancer. */
static const char *trtllm_backend(const struct launch *launch)
{
    const struct gpu_spec *gpu = &launch->plan->gpu[launch->point->gpu].cluster.gpu;
    bool is_blackwell = gpu->flops_per_s[PRECISION_NVFP4] > 0.0;
    switch (launch->point->expert_precision) {
    case PRECISION_MXFP4:
        return is_blackwell ? "TRTLLM" : "TRITON";
    case PRECISION_NVFP4:
        return "CUTEDSL";
    case PRECISION_FP8:
        return is_blackwell ? "DEEPGEMM" : "CUTLASS";
    case PRECISION_FP32:
    case PRECISION_BF16:
    case PRECISION_INT8:
    case PRECISION_COUNT:
        break;
    }
    return "CUTLASS";
}

static void add_moe_config(struct command *command, const struct launch *launch, bool can_balance)
{
    const struct plan_point *point = launch->point;
    launch_add(command, "moe_config:\n  backend: %s\n", trtllm_backend(launch));
    if (can_balance) {
        launch_add(command,
                   "  load_balancer:\n    num_slots: %lld\n    layer_updates_per_iter: 1\n",
                   (long long)launch->plan->model.num_experts + point->redundant_experts);
    }
}

void launch_write_trtllm(struct command *command, const struct launch *launch)
{
    const struct plan_point *point = launch->point;
    bool may_balance = launch_spreads_experts(launch) && launch_balances(launch);
    bool can_balance = may_balance && strcmp(trtllm_backend(launch), "TRITON") != 0;
    launch_add(command, "cat > config.yaml <<EOF\ntensor_parallel_size: %d\n", (int)point->ep);
    if (point->expert_tp > 1) {
        launch_add(command, "moe_tensor_parallel_size: %d\n", (int)point->expert_tp);
    }
    if (launch_spreads_experts(launch)) {
        launch_add(command, "moe_expert_parallel_size: %d\n", (int)launch_expert_groups(launch));
    }
    launch_add(command,
               "enable_attention_dp: %s\nmax_batch_size: %d\nmax_num_tokens: %d\nmax_seq_len: %d\n",
               launch->replicas > 1 ? "true" : "false", (int)launch->sequences,
               (int)(launch->prefill_tokens > 0 ? launch->prefill_tokens : launch->sequences),
               (int)launch->max_tokens);
    if (launch->prefill && !launch->shared) {
        launch_add(command, "disable_overlap_scheduler: true\n");
    }
    launch_add(command, "kv_cache_config:\n  free_gpu_memory_fraction: %.2f\n",
               launch->plan->memory_fraction);
    if (launch_spreads_experts(launch)) {
        add_moe_config(command, launch, can_balance);
    }
    if (!launch->shared) {
        launch_add(command, "cache_transceiver_config:\n  backend: DEFAULT\n");
    }
    launch_add(command, "EOF\ntrtllm-serve \"$MODEL\" --config config.yaml");
    if (point->ep > 1) {
        launch_add(command, " # under MPI, %d ranks", (int)point->ep);
    }
    if (point->micro_batches > 1) {
        launch_add(command, "\n# two-batch overlap is not among its options");
    }
    if (may_balance && !can_balance) {
        launch_add_unbalanced(command, launch, "kernels of Triton have no load balancer");
    }
    const char *gpu = launch->plan->gpu[point->gpu].cluster.gpu.name;
    if (can_balance && !has_wide_ep(gpu)) {
        launch_add(command,
                   "\n# wide EP is documented for GB200 NVL72, H20 and RTX 6000D, not for %s", gpu);
    }
}
