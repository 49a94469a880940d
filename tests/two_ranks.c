/* two_ranks.c -- round numbers only, so that every time can be added up on paper. */
#include "two_ranks.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "random_run.h"
#include "trace_internal.h"

/* A GPU on which every phase takes a fixed time, experts only if they have tokens. */
static double fixed_ns(const struct gpu_spec *gpu, const struct gpu_work *work)
{
    (void)gpu;
    static const double duration_ns[GPU_PHASE_COUNT] = {
        [GPU_ATTENTION] = 1000.0, [GPU_DENSE_FFN] = 300.0, [GPU_GATE] = 100.0,
        [GPU_SHARED] = 200.0,     [GPU_EXPERT] = 500.0,    [GPU_HEAD] = 10.0,
    };
    int64_t tokens = work->phase == GPU_EXPERT ? 0 : 1;
    for (int32_t slot = 0; work->phase == GPU_EXPERT && slot < work->num_slots; slot++) {
        tokens += work->slot_tokens[slot];
    }
    return tokens > 0 ? duration_ns[work->phase] : 0.0;
}

static const struct gpu_model fixed_gpu = {
    .name = "fixed", .kernels = "any", .fitted_on = "", .duration_ns = fixed_ns};

struct scenario two_ranks(void)
{
    struct scenario scenario = {
        .model = {.name = "tiny",
                  .hidden_dim = 100,
                  .num_layers = 1,
                  .vocab_size = 10,
                  .num_q_heads = 1,
                  .num_kv_heads = 1,
                  .head_dim = 10,
                  .moe_layer_step = 1,
                  .num_experts = 2,
                  .top_k = 1,
                  .expert_ffn_dim = 10,
                  .num_expert_groups = 1,
                  .precision_dense = PRECISION_BF16,
                  .precision_expert = PRECISION_BF16,
                  .precision_kv = PRECISION_BF16},
        .cluster = {.gpu = simple_gpu(), .num_nodes = 1, .gpus_per_node = 2},
        .ep = 2,
        .expert_tp = 1,
        .tp = 1,
        .context_tokens = 10,
        .tokens_per_rank = 1,
        .batching = BATCHING_CONSECUTIVE,
        .router = route_find("trace"),
        .drop = drop_find("position"),
        .strategy = balance_find("static"),
        .replica = dispatch_find("round_robin"),
        .collective = collective_find("flat"),
        .dispatch_precision = PRECISION_BF16,
        .combine_precision = PRECISION_BF16,
        .micro_batches = 1,
        .chunks = 1,
        .net = net_find("alpha_beta"),
        .gpu_model = &fixed_gpu,
        .memory_fraction = 0.9,
        .price = {.usd_per_gpu_hour = 3.6},
    };
    scenario.cluster.gpu.port[TIER_SCALE_UP] = (struct port_spec){1e9, 1.0, 50.0};
    return scenario;
}

void two_ranks_trace(struct trace *trace, const struct scenario *scenario, const char *experts)
{
    int64_t num_tokens = (int64_t)strlen(experts);
    uint8_t *expert = malloc((size_t)num_tokens);
    for (int64_t token = 0; token < num_tokens; token++) {
        expert[token] = (uint8_t)(experts[token] - '0');
    }
    int32_t layer = 0;
    struct trace_description description = {.model = "tiny",
                                            .num_experts = scenario->model.num_experts,
                                            .top_k = 1,
                                            .num_layers = 1,
                                            .model_layer = &layer,
                                            .origin = "mock",
                                            .source = "tests",
                                            .licence = "none"};
    struct error error = {0};
    cr_assert_eq(trace_from_memory(trace, &description, expert, NULL, NULL, 0, num_tokens, &error),
                 STATUS_OK);
}

struct engine *two_ranks_run(const struct scenario *scenario, const struct trace *trace)
{
    struct engine *engine = NULL;
    struct error error = {0};
    cr_assert_eq(engine_open(&engine, scenario, trace, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(engine_run(engine, NULL, &error), STATUS_OK, "%s", error.text);
    return engine;
}
