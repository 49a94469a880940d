/* random_run.c -- draws everything from one named stream, so a failing round can be run again. */
#include "random_run.h"

#include <criterion/criterion.h>
#include <gsl/gsl_rng.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "rng.h"
#include "trace_internal.h"

static int32_t draw(gsl_rng *rng, int32_t low, int32_t high)
{
    return low + (int32_t)gsl_rng_uniform_int(rng, (unsigned long)(high - low) + 1);
}

struct gpu_spec simple_gpu(void)
{
    struct gpu_spec gpu = {.name = "simple",
                           .flops_fraction = 0.5,
                           .hbm_bytes = INT64_C(80000000000),
                           .hbm_bytes_per_s = 1e12,
                           .hbm_fraction = 1.0,
                           .kernel_ns = 1000.0,
                           .num_sms = 100};
    gpu.flops_per_s[PRECISION_BF16] = 1e14;
    gpu.flops_per_s[PRECISION_FP8] = 2e14;
    gpu.port[TIER_SCALE_UP] = (struct port_spec){100e9, 0.8, 1000.0};
    gpu.port[TIER_SCALE_OUT] = (struct port_spec){10e9, 0.9, 5000.0};
    return gpu;
}

/* Distinct experts; skewed draws favour low ids. */
static void draw_token(gsl_rng *rng, uint8_t *expert, const struct moe_model *model, bool skewed)
{
    for (int32_t k = 0; k < model->top_k; k++) {
        bool taken = true;
        while (taken) {
            expert[k] = (uint8_t)draw(rng, 0, model->num_experts - 1);
            if (skewed && draw(rng, 0, 1) == 0) {
                expert[k] = (uint8_t)(expert[k] / 2);
            }
            taken = false;
            for (int32_t other = 0; other < k; other++) {
                taken |= expert[other] == expert[k];
            }
        }
    }
}

void random_trace(struct trace *trace, const struct moe_model *model, int64_t num_tokens,
                  uint64_t round)
{
    gsl_rng *rng = rng_stream(round, "random trace", 0);
    int32_t num_layers = model_num_moe_layers(model);
    int32_t *model_layer = calloc((size_t)model->num_layers, sizeof *model_layer);
    for (int32_t layer = 0, recorded = 0; layer < model->num_layers; layer++) {
        if (model_layer_is_moe(model, layer)) {
            model_layer[recorded++] = layer;
        }
    }
    size_t ids = (size_t)num_layers * (size_t)num_tokens * (size_t)model->top_k;
    uint8_t *expert = malloc(ids + 1);
    bool skewed = draw(rng, 0, 1) == 1;
    for (size_t first = 0; first < ids; first += (size_t)model->top_k) {
        draw_token(rng, &expert[first], model, skewed);
        if (draw(rng, 0, 50) == 0) {
            memset(&expert[first], 0xff, (size_t)model->top_k);
        }
    }
    struct trace_request *requests = calloc((size_t)num_tokens, sizeof *requests);
    int64_t num_requests = 0;
    for (int64_t row = 0; row < num_tokens; num_requests++) {
        int64_t rows = draw(rng, 1, 40);
        rows = rows < num_tokens - row ? rows : num_tokens - row;
        requests[num_requests] = (struct trace_request){
            .row_offset = row, .num_rows = rows, .prompt_tokens = draw(rng, 0, 100)};
        row += rows;
    }
    struct trace_description description = {.model = "random",
                                            .num_experts = model->num_experts,
                                            .top_k = model->top_k,
                                            .num_layers = num_layers,
                                            .model_layer = model_layer,
                                            .origin = "mock",
                                            .source = "tests",
                                            .licence = "none"};
    struct error error = {0};
    cr_assert_eq(trace_from_memory(trace, &description, expert, NULL, requests, num_requests,
                                   num_tokens, &error),
                 STATUS_OK, "%s", error.text);
    free(model_layer);
    gsl_rng_free(rng);
}

static void draw_model(gsl_rng *rng, struct moe_model *model)
{
    *model = (struct moe_model){.name = "random",
                                .hidden_dim = 64 * draw(rng, 1, 8),
                                .num_layers = draw(rng, 1, 3),
                                .vocab_size = 1000,
                                .attention = draw(rng, 0, 1) == 1 ? ATTENTION_MLA : ATTENTION_GQA,
                                .num_q_heads = 12,
                                .num_kv_heads = 4,
                                .head_dim = 16,
                                .kv_lora_rank = 32,
                                .qk_nope_dim = 16,
                                .qk_rope_dim = 8,
                                .v_head_dim = 16,
                                .moe_layer_step = 1,
                                .dense_ffn_dim = 256,
                                .top_k = draw(rng, 1, 4),
                                .expert_ffn_dim = 64,
                                .num_expert_groups = 1,
                                .topk_groups = 1,
                                .precision_dense = PRECISION_BF16,
                                .precision_expert = PRECISION_FP8,
                                .precision_kv = PRECISION_BF16};
    model->first_dense_layers = draw(rng, 0, model->num_layers - 1);
    model->shared_ffn_dim = 128 * draw(rng, 0, 1);
    model->num_shared_experts = model->shared_ffn_dim > 0;
}

/* Any entry of a registry. */
#define DRAW_ENTRY(rng, all, count) (all)[draw((rng), 0, (count)-1)]

static void draw_plugins(gsl_rng *rng, struct scenario *scenario)
{
    int32_t count = 0;
    const struct drop_policy *const *drops = drop_all(&count);
    const struct drop_policy *fitting[32];
    int32_t num_fitting = 0;
    for (int32_t i = 0; i < count && i < 32; i++) { /* the trace has no scores */
        bool fits = drops[i]->top_k == 0 || drops[i]->top_k == scenario->model.top_k;
        if (fits && !drops[i]->needs_scores) {
            fitting[num_fitting++] = drops[i];
        }
    }
    scenario->drop = DRAW_ENTRY(rng, fitting, num_fitting);
    const struct balance_strategy *const *strategies = balance_all(&count);
    scenario->strategy = DRAW_ENTRY(rng, strategies, count);
    const struct replica_dispatch *const *replicas = dispatch_all(&count);
    scenario->replica = DRAW_ENTRY(rng, replicas, count);
    const struct collective *const *collectives = collective_all(&count);
    scenario->collective = DRAW_ENTRY(rng, collectives, count);
    const struct net_model *const *nets = net_all(&count);
    scenario->net = DRAW_ENTRY(rng, nets, count);
    const struct gpu_model *const *gpus = gpu_all(&count);
    const struct gpu_model *applying[16];
    int32_t num_applying = 0;
    const struct gpu_spec gpu = simple_gpu();
    for (int32_t i = 0; i < count && i < 16; i++) {
        if (gpu_model_applies(gpus[i], &gpu)) {
            applying[num_applying++] = gpus[i];
        }
    }
    scenario->gpu_model = DRAW_ENTRY(rng, applying, num_applying);
    scenario->router = route_find(draw(rng, 0, 3) == 0 ? "hash" : "trace");
}

void random_run_make(struct random_run *run, uint64_t round)
{
    static const int32_t tps[] = {1, 1, 2, 4};
    gsl_rng *rng = rng_stream(round, "random run", 0);
    struct scenario *scenario = &run->scenario;
    *run = (struct random_run){0};
    strcpy(scenario->name, "random");
    draw_model(rng, &scenario->model);
    draw_plugins(rng, scenario);
    scenario->expert_tp = 1;
    scenario->tp = tps[draw(rng, 0, 3)];
    scenario->ep = scenario->tp * draw(rng, 1, 12 / scenario->tp);
    scenario->cluster = (struct cluster){.gpu = simple_gpu(), .gpus_per_node = draw(rng, 1, 4)};
    scenario->cluster.num_nodes =
        (scenario->ep + scenario->cluster.gpus_per_node - 1) / scenario->cluster.gpus_per_node;
    int32_t slots = scenario->ep * draw(rng, 1, 3);
    while (slots < scenario->model.top_k) {
        slots += scenario->ep;
    }
    int32_t spare = slots - scenario->model.top_k;
    scenario->redundant_experts = draw(rng, 0, spare < slots / 2 ? spare : slots / 2);
    scenario->model.num_experts = slots - scenario->redundant_experts;
    scenario->phase = draw(rng, 0, 3) == 0 ? PHASE_PREFILL : PHASE_DECODE;
    scenario->context_tokens =
        scenario->phase == PHASE_PREFILL ? draw(rng, 1, 64) : draw(rng, 0, 1) * 1000;
    scenario->tokens_per_rank = draw(rng, 1, 24);
    scenario->batching = (enum batching)draw(rng, BATCHING_INTERLEAVED, BATCHING_SHUFFLED);
    scenario->capacity_factor = 0.5 * draw(rng, 0, 4);
    scenario->routing = (struct route_settings){.min_capacity = draw(rng, -1, 2),
                                                .capacity_multiple = draw(rng, 0, 3),
                                                .exempt_share = 0.25 * draw(rng, 0, 1)};
    scenario->capacity_scope = draw(rng, 0, 1) == 1 ? CAPACITY_RANK : CAPACITY_GLOBAL;
    scenario->rebalance_interval_steps = draw(rng, 0, 3);
    scenario->window_steps = draw(rng, 0, 2);
    scenario->dispatch_precision = draw(rng, 0, 1) == 1 ? PRECISION_FP8 : PRECISION_BF16;
    scenario->combine_precision = PRECISION_BF16;
    scenario->memory_fraction = 0.9;
    scenario->price.usd_per_gpu_hour = 2.0;
    scenario->seed = round;
    int64_t tokens_per_step = (int64_t)scenario->tokens_per_rank * scenario->ep;
    random_trace(&run->trace, &scenario->model,
                 tokens_per_step * draw(rng, 1, 4) + draw(rng, 0, (int32_t)tokens_per_step - 1),
                 round);
    scenario->cluster.node_uplink_bytes_per_s = 8e9 * draw(rng, 0, 2); /* NICs have 9e9 */
    scenario->cluster.fabric = (enum fabric)draw(rng, FABRIC_FLAT, FABRIC_RAILS);
    scenario->cluster.nodes_per_leaf = draw(rng, 1, 3);
    scenario->cluster.spine_oversubscription = draw(rng, 1, 4);
    bool overlaps = draw(rng, 0, 1) == 1;
    scenario->micro_batches = overlaps ? draw(rng, 1, 3) : 1;
    scenario->chunks = overlaps ? draw(rng, 1, 3) : 1;
    run->fault = (struct fault){.rank = draw(rng, 0, scenario->ep - 1),
                                .from_step = draw(rng, 0, 2),
                                .until_step = draw(rng, 3, 4),
                                .compute = 0.25 * draw(rng, 1, 4),
                                .scale_up = 0.25 * draw(rng, 1, 4),
                                .scale_out = 0.25 * draw(rng, 1, 4)};
    scenario->fault = &run->fault;
    scenario->num_faults = draw(rng, 0, 1);
    gsl_rng_free(rng);
}

void random_run_free(struct random_run *run)
{
    trace_close(&run->trace);
}
