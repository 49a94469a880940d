/* plan_launch.c -- flags of vLLM, SGLang, TensorRT-LLM, llama.cpp and KTransformers. */
#include "plan_launch.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "plan_internal.h"
#include "plan_launch_internal.h"

#define MIB           1048576.0
#define GIB           1073741824.0

#define LENGTHS_MAX   4   /* times a request of mean length: 99.4 % of log-normal ones */
#define NODE_GPUS_MAX 16  /* larger scale-up domains are racks of trays, */
#define TRAY_GPUS     4   /* as of GB200 and GB300 NVL72 */
#define SGLANG_TOKENS 128 /* a rank, without SGLANG_DEEPEP_NUM_MAX_DISPATCH_TOKENS_PER_RANK */

void launch_add(struct command *command, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length =
        vsnprintf(command->text + command->used, LAUNCH_BYTES - command->used, format, arguments);
    va_end(arguments);
    assert(length >= 0 && command->used + (size_t)length < LAUNCH_BYTES);
    command->used += (size_t)length;
}

const char *launch_engine_name(enum launch_engine engine)
{
    static const char *const names[LAUNCH_ENGINES] = {"vLLM", "SGLang", "TensorRT-LLM", "llama.cpp",
                                                      "KTransformers"};
    assert(engine < LAUNCH_ENGINES);
    return names[engine];
}

/* Whether an engine can do with experts that are not on the GPU what the point does. */
static bool can_offload(const struct launch *launch, enum launch_engine engine)
{
    const struct plan_offload *offload = &launch->point->offload;
    bool on_cpu = offload->misses != OFFLOAD_FETCH;
    switch (engine) {
    case LAUNCH_VLLM: /* its GPU reads them over the link */
        return offload->home == OFFLOAD_NOTHING || (offload->home == OFFLOAD_HOST && !on_cpu);
    case LAUNCH_SGLANG:
    case LAUNCH_TRTLLM:
        return offload->home == OFFLOAD_NOTHING;
    case LAUNCH_LLAMA: /* several GPUs would have layers, not experts, of their own */
        return offload->home == OFFLOAD_HOST && launch->point->ep == 1 && launch->shared;
    case LAUNCH_KTRANSFORMERS:
        return offload->home == OFFLOAD_HOST && on_cpu;
    case LAUNCH_ENGINES:
        break;
    }
    return false;
}

int32_t launch_expert_groups(const struct launch *launch)
{
    int32_t expert_tp = launch->point->expert_tp;
    return expert_tp > 1 ? launch->point->ep / expert_tp : launch->point->ep;
}

bool launch_spreads_experts(const struct launch *launch)
{
    return launch->plan->model.num_experts > 0 && launch_expert_groups(launch) > 1;
}

bool launch_balances(const struct launch *launch)
{
    return launch->point->strategy->needs != 0 || launch->point->redundant_experts > 0;
}

/* vLLM raises "EPLB is not supported for mxfp4", SGLang's gpt-oss has no branch for DeepEP. */
static bool has_mxfp4(const struct launch *launch)
{
    return launch->point->expert_precision == PRECISION_MXFP4;
}

void launch_add_unbalanced(struct command *command, const struct launch *launch, const char *why)
{
    launch_add(command,
               "\n# %s, so experts stay where they are; the plan has %s, %d redundant experts", why,
               launch->point->strategy->name, (int)launch->point->redundant_experts);
}

/* AMD's Instinct cards, for which neither DeepEP nor TensorRT-LLM is. */
static bool is_amd(const struct launch *launch)
{
    return strncmp(launch->plan->gpu[launch->point->gpu].cluster.gpu.name, "mi3", strlen("mi3")) ==
           0;
}

/* As the point is simulated. */
static bool has_deepep(const struct launch *launch)
{
    struct scenario scenario;
    plan_point_scenario(&scenario, launch->plan, launch->point);
    return !is_amd(launch) && strncmp(scenario.collective->name, "deepep", strlen("deepep")) == 0;
}

/* Of a group. */
static int32_t gpus_on_node(const struct launch *launch)
{
    int32_t gpus = launch->plan->gpu[launch->point->gpu].cluster.gpus_per_node;
    return launch->point->ep < gpus ? launch->point->ep : gpus;
}

/* Machines that a group takes. */
static int32_t count_nodes(const struct plan *plan, const struct plan_point *point)
{
    int32_t gpus = plan->gpu[point->gpu].cluster.gpus_per_node;
    gpus = gpus > NODE_GPUS_MAX ? TRAY_GPUS : gpus;
    return (point->ep + gpus - 1) / gpus;
}

/* Of a layer's experts, those that GPUs keep. */
static double kept_share(const struct launch *launch)
{
    const struct plan_point *point = launch->point;
    return (double)point->offload.num_slots * (double)point->ep /
           (double)launch->plan->model.num_experts;
}

static void write_vllm(struct command *command, const struct launch *launch)
{
    const struct plan_point *point = launch->point;
    int32_t local = launch->replicas / launch->nodes;
    launch_add(command, "vllm serve \"$MODEL\" --tensor-parallel-size %d", (int)point->tp);
    if (launch->replicas > 1) {
        launch_add(command, " \\\n  --data-parallel-size %d", (int)launch->replicas);
    }
    if (launch->nodes > 1 && local >= 1) {
        launch_add(command,
                   " --data-parallel-size-local %d \\\n  --data-parallel-start-rank $((NODE * %d)) "
                   "--data-parallel-address $MAIN --data-parallel-rpc-port 13345",
                   (int)local, (int)local);
    }
    if (launch_spreads_experts(launch)) {
        launch_add(command, " \\\n  --enable-expert-parallel --all2all-backend %s",
                   !has_deepep(launch)                  ? "allgather_reducescatter"
                   : launch->prefill && !launch->shared ? "deepep_high_throughput"
                                                        : "deepep_low_latency");
    }
    if (point->offload.home != OFFLOAD_NOTHING) {
        launch_add(command, " \\\n  --cpu-offload-gb %.1f --cpu-offload-params experts",
                   (1.0 - kept_share(launch)) * plan_offload_bytes(launch->plan, point) /
                       (double)gpus_on_node(launch) / GIB);
    }
    bool may_balance = launch_spreads_experts(launch) && launch_balances(launch);
    if (may_balance && !has_mxfp4(launch)) {
        launch_add(command, " \\\n  --enable-eplb --eplb-config '{\"num_redundant_experts\":%d}'",
                   (int)point->redundant_experts);
    }
    bool can_overlap = launch_spreads_experts(launch) && has_deepep(launch) && launch->replicas > 1;
    if (point->micro_batches > 1 && can_overlap) {
        launch_add(command, " \\\n  --enable-dbo");
    }
    launch_add(command, " \\\n  --max-num-seqs %d --max-model-len %d --gpu-memory-utilization %.2f",
               (int)launch->sequences, (int)launch->max_tokens, launch->plan->memory_fraction);
    if (launch->prefill_tokens > 0) {
        launch_add(command, " --max-num-batched-tokens %d", (int)launch->prefill_tokens);
    }
    if (!launch->shared) {
        launch_add(command, " \\\n  --kv-transfer-config "
                            "'{\"kv_connector\":\"NixlConnector\",\"kv_role\":\"kv_both\"}'");
    }
    if (launch->nodes > 1) {
        launch_add(command, "\n# and --headless on nodes other than the first");
    }
    if (may_balance && has_mxfp4(launch)) {
        launch_add_unbalanced(command, launch, "it has no EPLB for mxfp4");
    }
    if (launch->shared && launch_spreads_experts(launch) && has_deepep(launch)) {
        launch_add(command,
                   "\n# one all-to-all serves prompts and answers; the plan's prompts take "
                   "DeepEP's normal kernels");
    }
    if (point->micro_batches > 1 && !can_overlap) {
        launch_add(command, "\n# its dual-batch overlap wants data parallelism and DeepEP");
    }
}

static void write_sglang(struct command *command, const struct launch *launch)
{
    const struct plan_point *point = launch->point;
    const struct moe_model *model = &launch->plan->model;
    bool sends = launch_spreads_experts(launch) && has_deepep(launch) && !has_mxfp4(launch);
    bool may_balance = launch_spreads_experts(launch) && launch_balances(launch);
    if (!launch->prefill && sends && point->tokens_per_rank > SGLANG_TOKENS) {
        launch_add(command, "SGLANG_DEEPEP_NUM_MAX_DISPATCH_TOKENS_PER_RANK=%d ",
                   (int)point->tokens_per_rank);
    }
    launch_add(command,
               "python3 -m sglang.launch_server --model-path \"$MODEL\" \\\n  --tp-size %d",
               (int)point->ep);
    if (launch->replicas > 1) {
        launch_add(command, " --dp-size %d --enable-dp-attention --enable-dp-lm-head",
                   (int)launch->replicas);
        launch_add(command,
                   model->dense_ffn_dim > 0 && point->tp == 1 ? " --moe-dense-tp-size 1" : "");
    }
    if (launch->nodes > 1) {
        launch_add(command, " \\\n  --nnodes %d --node-rank $NODE --dist-init-addr $MAIN:5000",
                   (int)launch->nodes);
    }
    if (launch_spreads_experts(launch)) {
        launch_add(command, " \\\n  --ep-size %d", (int)launch_expert_groups(launch));
    }
    if (launch_spreads_experts(launch) && is_amd(launch) && point->expert_tp <= 1) {
        launch_add(command, " --moe-a2a-backend mori");
    }
    if (sends) {
        launch_add(command, " --moe-a2a-backend deepep --deepep-mode %s",
                   launch->shared    ? "auto"
                   : launch->prefill ? "normal"
                                     : "low_latency");
    }
    if (may_balance && !has_mxfp4(launch)) {
        launch_add(command, " \\\n  --ep-num-redundant-experts %d --enable-eplb",
                   (int)point->redundant_experts);
    }
    if (point->micro_batches > 1) {
        launch_add(command, " \\\n  --enable-two-batch-overlap");
    }
    launch_add(command,
               " \\\n  --max-running-requests %d --context-length %d --mem-fraction-static %.2f",
               (int)(launch->sequences * launch->replicas), (int)launch->max_tokens,
               launch->plan->memory_fraction);
    if (launch->prefill_tokens > 0) { /* for all replicas together */
        launch_add(command, " --chunked-prefill-size %lld",
                   (long long)launch->prefill_tokens * launch->replicas);
    }
    if (!launch->shared) {
        launch_add(command, " \\\n  --disaggregation-mode %s",
                   launch->prefill ? "prefill" : "decode");
    }
    if (may_balance && has_mxfp4(launch)) {
        launch_add_unbalanced(command, launch, "it has neither DeepEP nor EPLB for mxfp4");
    }
}

/* Whole layers stay on the GPU, or a cache of single experts. */
static void write_llama(struct command *command, const struct launch *launch)
{
    const struct plan_point *point = launch->point;
    const struct moe_model *model = &launch->plan->model;
    int32_t moe_layers = model_num_moe_layers(model);
    int32_t on_cpu = (int32_t)ceil((1.0 - kept_share(launch)) * (double)moe_layers);
    double cache_bytes = kept_share(launch) * plan_offload_bytes(launch->plan, point);
    bool has_cache = point->offload.misses == OFFLOAD_FETCH;
    launch_add(command, "llama-server --model \"$GGUF\" --n-gpu-layers all");
    if (has_cache) {
        launch_add(command, " --cpu-moe --moe-cache-mib %.0f", cache_bytes / MIB);
    } else if (point->offload.num_slots == 0) {
        launch_add(command, " --cpu-moe");
    } else {
        launch_add(command, " --n-cpu-moe %d", (int)(on_cpu + model->num_layers - moe_layers));
    }
    launch_add(command,
               " \\\n  --parallel %d --kv-unified --ctx-size %lld --batch-size %d --ubatch-size %d",
               (int)launch->sequences, (long long)launch->sequences * launch->mean_tokens,
               (int)launch->prefill_tokens, (int)launch->prefill_tokens);
    if (!has_cache && point->offload.num_slots > 0) {
        launch_add(
            command,
            "\n# keeps the experts of %d of %d layers on the GPU, where the plan keeps %d of %d in "
            "every layer",
            (int)(moe_layers - on_cpu), (int)moe_layers, (int)point->offload.num_slots,
            (int)model->num_experts);
    }
}

static const char *kt_method(enum precision precision)
{
    return precision == PRECISION_BF16   ? "BF16"
           : precision == PRECISION_FP8  ? "FP8"
           : precision == PRECISION_INT8 ? "AMXINT8"
                                         : "LLAMAFILE"; /* GGUF, any x86 CPU */
}

/* SGLang, with KTransformers' kernels for the experts that CPUs compute. */
static void write_ktransformers(struct command *command, const struct launch *launch)
{
    const struct plan_point *point = launch->point;
    write_sglang(command, launch);
    launch_add(command,
               " \\\n  --kt-method %s --kt-weight-path \"$CPU_WEIGHTS\" --kt-cpuinfer $CORES "
               "--kt-threadpool-count $SOCKETS \\\n  --kt-num-gpu-experts %d",
               kt_method(point->expert_precision), (int)(point->offload.num_slots * point->ep));
    if (point->offload.num_slots > 0 && strcmp(point->offload.policy->name, "pinned") != 0) {
        launch_add(command, "\n# keeps the same experts all the time; the plan's policy is %s",
                   point->offload.policy->name);
    }
}

bool plan_launch(char text[LAUNCH_BYTES], const struct plan *plan, const struct plan_answer *answer,
                 enum launch_engine engine, enum cost_pool pool)
{
    const struct plan_deployment *winner = &answer->deployment[answer->winner];
    const struct plan_point *prefill = &answer->point[winner->point[COST_PREFILL]];
    const struct plan_point *decode = &answer->point[winner->point[COST_DECODE]];
    const struct plan_point *point = pool == COST_PREFILL ? prefill : decode;
    bool reads = pool == COST_PREFILL || winner->shared;
    struct command command = {.text = text};
    struct launch launch = {
        .plan = plan,
        .point = point,
        .shared = winner->shared,
        .prefill = pool == COST_PREFILL,
        .replicas = point->ep / point->tp,
        .nodes = count_nodes(plan, point),
        .prefill_tokens = reads ? prefill->tokens_per_rank * prefill->tp : 0,
        .mean_tokens = (int32_t)(plan->traffic.input_tokens + plan->traffic.output_tokens),
    };
    launch.max_tokens = plan->arrivals.file.count > 0
                            ? plan_arrivals_longest(&plan->arrivals, &plan->traffic)
                            : LENGTHS_MAX * launch.mean_tokens;
    launch.sequences =
        pool == COST_PREFILL ? plan_prompts(plan, prefill) : decode->tokens_per_rank * decode->tp;
    text[0] = '\0';
    bool is_cut = point->expert_tp > 1;
    if (!can_offload(&launch, engine) ||
        (engine == LAUNCH_VLLM && is_cut && point->expert_tp < point->ep)) {
        return false; /* vLLM's experts are whole, or cut over all GPUs */
    }
    if ((winner->shared && pool == COST_PREFILL) ||
        (engine == LAUNCH_TRTLLM &&
         (is_amd(&launch) || (point->tp > 1 && point->tp < point->ep)))) {
        return false; /* TensorRT-LLM's attention is parallel one way or the other */
    }
    switch (engine) {
    case LAUNCH_VLLM:
        write_vllm(&command, &launch);
        return true;
    case LAUNCH_SGLANG:
        write_sglang(&command, &launch);
        return true;
    case LAUNCH_TRTLLM:
        launch_write_trtllm(&command, &launch);
        return true;
    case LAUNCH_LLAMA:
        write_llama(&command, &launch);
        return true;
    case LAUNCH_KTRANSFORMERS:
        write_ktransformers(&command, &launch);
        return true;
    case LAUNCH_ENGINES:
        break;
    }
    return false;
}
