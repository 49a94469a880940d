/* plan_launch.c -- flags of vLLM, SGLang and TensorRT-LLM. */
#include "plan_launch.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct command {
    char *text;
    size_t used;
};

/* What the flags are made of. */
struct launch {
    const struct plan *plan;
    const struct plan_point *point;
    bool shared;
    bool prefill;
    int32_t replicas;       /* that compute attention alone */
    int32_t nodes;          /* of a group */
    int32_t prefill_tokens; /* of a replica and step; 0: none */
    int32_t sequences;      /* of a replica */
    int32_t max_tokens;     /* of a request */
};

static void __attribute__((format(printf, 2, 3)))
add(struct command *command, const char *format, ...)
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
    static const char *const names[LAUNCH_ENGINES] = {"vLLM", "SGLang", "TensorRT-LLM"};
    assert(engine < LAUNCH_ENGINES);
    return names[engine];
}

/* On one GPU there is nobody to exchange tokens with, and nothing to balance. */
static bool spreads_experts(const struct launch *launch)
{
    return launch->plan->model.num_experts > 0 && launch->point->ep > 1;
}

static bool balances(const struct launch *launch)
{
    return launch->point->strategy->needs != 0 || launch->point->redundant_experts > 0;
}

static void write_vllm(struct command *command, const struct launch *launch)
{
    const struct plan_point *point = launch->point;
    int32_t local = launch->replicas / launch->nodes;
    add(command, "vllm serve \"$MODEL\" --tensor-parallel-size %d", (int)point->tp);
    if (launch->replicas > 1) {
        add(command, " \\\n  --data-parallel-size %d", (int)launch->replicas);
    }
    if (launch->nodes > 1 && local >= 1) {
        add(command,
            " --data-parallel-size-local %d \\\n  --data-parallel-start-rank $((NODE * %d)) "
            "--data-parallel-address $MAIN --data-parallel-rpc-port 13345",
            (int)local, (int)local);
    }
    if (spreads_experts(launch)) {
        add(command, " \\\n  --enable-expert-parallel --all2all-backend %s",
            launch->prefill && !launch->shared ? "deepep_high_throughput" : "deepep_low_latency");
    }
    if (spreads_experts(launch) && balances(launch)) {
        add(command, " \\\n  --enable-eplb --eplb-config '{\"num_redundant_experts\":%d}'",
            (int)point->redundant_experts);
    }
    if (point->micro_batches > 1) {
        add(command, " \\\n  --enable-dbo");
    }
    add(command, " \\\n  --max-num-seqs %d --max-model-len %d --gpu-memory-utilization %.2f",
        (int)launch->sequences, (int)launch->max_tokens, launch->plan->memory_fraction);
    if (launch->prefill_tokens > 0) {
        add(command, " --max-num-batched-tokens %d", (int)launch->prefill_tokens);
    }
    if (!launch->shared) {
        add(command, " \\\n  --kv-transfer-config "
                     "'{\"kv_connector\":\"NixlConnector\",\"kv_role\":\"kv_both\"}'");
    }
    if (launch->nodes > 1) {
        add(command, "\n# and --headless on nodes other than the first");
    }
}

static void write_sglang(struct command *command, const struct launch *launch)
{
    const struct plan_point *point = launch->point;
    add(command, "python3 -m sglang.launch_server --model-path \"$MODEL\" \\\n  --tp-size %d",
        (int)point->ep);
    if (launch->replicas > 1) {
        add(command, " --dp-size %d --enable-dp-attention", (int)launch->replicas);
    }
    if (launch->nodes > 1) {
        add(command, " \\\n  --nnodes %d --node-rank $NODE --dist-init-addr $MAIN:5000",
            (int)launch->nodes);
    }
    if (spreads_experts(launch)) {
        add(command, " \\\n  --ep-size %d --moe-a2a-backend deepep --deepep-mode %s",
            (int)point->ep,
            launch->shared    ? "auto"
            : launch->prefill ? "normal"
                              : "low_latency");
    }
    if (spreads_experts(launch) && balances(launch)) {
        add(command, " \\\n  --ep-num-redundant-experts %d --enable-eplb",
            (int)point->redundant_experts);
    }
    if (point->micro_batches > 1) {
        add(command, " \\\n  --enable-two-batch-overlap");
    }
    add(command, " \\\n  --max-running-requests %d --context-length %d --mem-fraction-static %.2f",
        (int)(launch->sequences * launch->replicas), (int)launch->max_tokens,
        launch->plan->memory_fraction);
    if (launch->prefill_tokens > 0) { /* for all replicas together */
        add(command, " --chunked-prefill-size %lld",
            (long long)launch->prefill_tokens * launch->replicas);
    }
    if (!launch->shared) {
        add(command, " \\\n  --disaggregation-mode %s", launch->prefill ? "prefill" : "decode");
    }
}

static void write_trtllm(struct command *command, const struct launch *launch)
{
    const struct plan_point *point = launch->point;
    int64_t slots = (int64_t)launch->plan->model.num_experts + point->redundant_experts;
    add(command, "cat > config.yaml <<EOF\ntensor_parallel_size: %d\n", (int)point->ep);
    if (spreads_experts(launch)) {
        add(command, "moe_expert_parallel_size: %d\n", (int)point->ep);
    }
    add(command,
        "enable_attention_dp: %s\nmax_batch_size: %d\nmax_num_tokens: %d\nmax_seq_len: %d\n",
        launch->replicas > 1 ? "true" : "false", (int)launch->sequences,
        (int)(launch->prefill_tokens > 0 ? launch->prefill_tokens : launch->sequences),
        (int)launch->max_tokens);
    if (launch->prefill && !launch->shared) {
        add(command, "disable_overlap_scheduler: true\n");
    }
    add(command, "kv_cache_config:\n  free_gpu_memory_fraction: %.2f\n",
        launch->plan->memory_fraction);
    if (spreads_experts(launch) && balances(launch)) {
        add(command,
            "moe_config:\n  backend: WIDEEP\n  load_balancer:\n    num_slots: %lld\n"
            "    layer_updates_per_iter: 1\n",
            (long long)slots);
    }
    if (!launch->shared) {
        add(command, "cache_transceiver_config:\n  backend: DEFAULT\n");
    }
    add(command, "EOF\ntrtllm-serve \"$MODEL\" --config config.yaml");
    if (point->ep > 1) {
        add(command, " # under MPI, %d ranks", (int)point->ep);
    }
    if (point->micro_batches > 1) {
        add(command, "\n# two-batch overlap is not among its options");
    }
}

bool plan_launch(char text[LAUNCH_BYTES], const struct plan *plan, const struct plan_answer *answer,
                 enum launch_engine engine, enum cost_pool pool)
{
    const struct plan_deployment *winner = &answer->deployment[answer->winner];
    const struct plan_point *prefill = &answer->point[winner->point[COST_PREFILL]];
    const struct plan_point *decode = &answer->point[winner->point[COST_DECODE]];
    const struct plan_point *point = pool == COST_PREFILL ? prefill : decode;
    const struct plan_gpu *gpu = &plan->gpu[point->gpu];
    bool reads = pool == COST_PREFILL || winner->shared;
    struct command command = {.text = text};
    struct launch launch = {
        .plan = plan,
        .point = point,
        .shared = winner->shared,
        .prefill = pool == COST_PREFILL,
        .replicas = point->ep / point->tp,
        .nodes = (point->ep + gpu->cluster.gpus_per_node - 1) / gpu->cluster.gpus_per_node,
        .prefill_tokens = reads ? prefill->tokens_per_rank * prefill->tp : 0,
        .max_tokens = (int32_t)(plan->traffic.input_tokens + plan->traffic.output_tokens),
    };
    double computed = plan->traffic.input_tokens * (1.0 - plan->traffic.cached_share);
    int32_t prompts = (int32_t)((double)launch.prefill_tokens / (computed > 1.0 ? computed : 1.0));
    launch.sequences =
        pool == COST_PREFILL ? (prompts > 1 ? prompts : 1) : decode->tokens_per_rank * decode->tp;
    text[0] = '\0';
    if ((winner->shared && pool == COST_PREFILL) ||
        (engine == LAUNCH_TRTLLM && point->tp > 1 && point->tp < point->ep)) {
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
        write_trtllm(&command, &launch);
        return true;
    case LAUNCH_ENGINES:
        break;
    }
    return false;
}
