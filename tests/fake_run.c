/*
 * fake_run.c -- invents numbers of plausible size: DeepSeek-V3's shape on four nodes of H100s.
 *
 * Loads are log-normal by expert, the busiest rank decides each layer's time, and bytes follow
 * tokens, so the figures look like those of a real run without one.
 */
#include "fake_run.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct router fake_router = {.name = "trace"};
static const struct drop_policy fake_drop = {.name = "position"};
static const struct balance_strategy fake_strategy = {.name = "eplb"};
static const struct replica_dispatch fake_replica = {.name = "locality"};
static const struct collective fake_collective = {.name = "deepep_low_latency",
                                                  .summary = "one message a token and rank",
                                                  .dispatch_startup_ns = 4000,
                                                  .combine_startup_ns = 4000};
static const struct net_model fake_net = {.name = "alpha_beta",
                                          .summary = "latency plus bytes over bandwidth"};
static const struct gpu_model fake_gpu_model = {.name = "roofline",
                                                .summary = "flops or bytes, whichever is slower",
                                                .source = "Williams et al. 2009",
                                                .kernels = "any",
                                                .fitted_on = "",
                                                .error_median = -1};

static const struct moe_model fake_model = {.name = "deepseek-v3",
                                            .source = "config.json",
                                            .hidden_dim = 7168,

                                            .vocab_size = 129280,
                                            .attention = ATTENTION_MLA,
                                            .num_q_heads = 128,
                                            .q_lora_rank = 1536,
                                            .kv_lora_rank = 512,
                                            .qk_nope_dim = 128,
                                            .qk_rope_dim = 64,
                                            .v_head_dim = 128,
                                            .first_dense_layers = 3,
                                            .moe_layer_step = 1,
                                            .dense_ffn_dim = 18432,

                                            .top_k = 8,
                                            .expert_ffn_dim = 2048,
                                            .num_expert_groups = 1,
                                            .topk_groups = 1,
                                            .precision_dense = PRECISION_FP8,
                                            .precision_expert = PRECISION_FP8,
                                            .precision_kv = PRECISION_BF16};

/* A uniform number in [0, 1) that depends on its arguments alone. */
static double noise(int64_t a, int64_t b, int64_t c)
{
    uint64_t x = (uint64_t)a * 0x9e3779b97f4a7c15u ^ (uint64_t)b * 0xbf58476d1ce4e5b9u ^
                 (uint64_t)c * 0x94d049bb133111ebu;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return (double)((x ^ (x >> 31)) >> 11) / 9007199254740992.0;
}

static double noise_normal(int64_t a, int64_t b, int64_t c)
{
    return sqrt(-2 * log(1 - noise(a, b, c))) * cos(6.283185307179586 * noise(c, a, b + 7));
}

static void fill_scenario(struct scenario *scenario, const struct fake_size *size)
{
    static char text[] = "version: 1\nmodel: deepseek-v3\ncluster: {gpu: h100-sxm, nodes: 4}\n";
    *scenario = (struct scenario){
        .name = "fake",
        .question = "How hot do experts get when DeepSeek-V3 decodes on four nodes of H100s, and "
                    "what does a token cost?",
        .model = fake_model,
        .cluster = {.gpu = {.name = "h100-sxm",
                            .source = "NVIDIA H100 data sheet",
                            .flops_fraction = 0.7,
                            .hbm_bytes = INT64_C(80) << 30,
                            .hbm_bytes_per_s = 3.35e12,
                            .hbm_fraction = 0.85,
                            .kernel_ns = 2000,
                            .num_sms = 132,
                            .port = {{450e9, 0.8, 800}, {50e9, 0.9, 3000}}},
                    .num_nodes = (size->num_ranks + 7) / 8,
                    .gpus_per_node = size->num_ranks < 8 ? size->num_ranks : 8},
        .ep = size->num_ranks,
        .expert_tp = 1,
        .tp = 1,
        .phase = PHASE_DECODE,
        .context_tokens = 4096,
        .tokens_per_rank = 128,
        .router = &fake_router,
        .capacity_factor = 2.0,
        .capacity_scope = CAPACITY_RANK,
        .drop = &fake_drop,
        .strategy = &fake_strategy,
        .redundant_experts = 32,
        .rebalance_interval_steps = 100,
        .replica = &fake_replica,
        .collective = &fake_collective,
        .dispatch_precision = PRECISION_FP8,
        .combine_precision = PRECISION_BF16,
        .micro_batches = 1,
        .chunks = 1,
        .net = &fake_net,
        .gpu_model = &fake_gpu_model,
        .kernels = "ours",
        .memory_fraction = 0.9,
        .price = {.name = "h100-neocloud",
                  .source = "a price list",
                  .date = "2026-11-01",
                  .gpu = "h100-sxm",
                  .usd_per_gpu_hour = 2.49},
        .seed = UINT64_C(18446744073709551615),
        .text = text,
    };
    scenario->model.num_layers = size->num_layers + 3;
    scenario->model.num_experts = size->num_experts;
    scenario->cluster.gpu.flops_per_s[PRECISION_FP8] = 1.979e15;
    scenario->cluster.gpu.flops_per_s[PRECISION_BF16] = 0.989e15;
}

static void fill_experts(struct run_metrics *metrics, const struct fake_size *size)
{
    for (int32_t layer = 0; layer < size->num_layers; layer++) {
        metrics->layer[layer].model_layer = layer + 3;
        for (int32_t expert = 0; expert < size->num_experts; expert++) {
            int64_t index = (int64_t)layer * size->num_experts + expert;
            double skew = size->skew * (0.6 + 0.4 * noise(layer, 3, 1));
            double tokens = 9000 * exp(skew * noise_normal(layer, expert, 5));
            metrics->expert_tokens[index] = (int64_t)tokens;
            metrics->expert_dropped[index] = tokens > 18000 ? (int64_t)tokens - 18000 : 0;
            metrics->layer[layer].assignments += metrics->expert_tokens[index];
            metrics->layer[layer].dropped_assignments += metrics->expert_dropped[index];
        }
    }
}

static void fill_ranks(struct run_metrics *metrics, const struct fake_size *size)
{
    for (int32_t layer = 0; layer < size->num_layers; layer++) {
        struct layer_metrics *row = &metrics->layer[layer];
        double max = 0, sum = 0;
        for (int32_t expert = 0; expert < size->num_experts; expert++) {
            int64_t index = (int64_t)layer * size->num_experts + expert;
            int64_t rank = (int64_t)expert * size->num_ranks / size->num_experts;
            metrics->rank_tokens[layer * size->num_ranks + rank] +=
                metrics->expert_tokens[index] - metrics->expert_dropped[index];
        }
        for (int32_t rank = 0; rank < size->num_ranks; rank++) {
            double tokens = (double)metrics->rank_tokens[layer * size->num_ranks + rank];
            max = tokens > max ? tokens : max;
            sum += tokens;
        }
        double steps = (double)metrics->num_steps;
        double over_mean = max * size->num_ranks / sum;
        row->rank_tokens_max_over_mean_sum = over_mean * steps;
        row->balancedness_sum = steps / over_mean;
        row->expert_ns_mean_sum = 210e3 * steps;
        row->expert_ns_max_sum = 210e3 * steps * (0.4 + 0.6 * over_mean);
        row->layer_ns_sum = 700e3 * steps;
    }
}

static void fill_windows(struct run_metrics *metrics, const struct fake_size *size)
{
    static const double phase_ms[STEP_PHASE_COUNT] = {
        [STEP_ATTENTION] = 11.0, [STEP_DENSE] = 1.5,   [STEP_GATE] = 0.9,
        [STEP_DISPATCH] = 6.0,   [STEP_EXPERT] = 14.0, [STEP_COMBINE] = 8.0,
        [STEP_EXCHANGE] = 0.0,   [STEP_WAITING] = 7.0, [STEP_REBALANCE] = 0.3};
    for (int32_t i = 0; i < metrics->num_windows; i++) {
        struct step_window *window = &metrics->window[i];
        int64_t steps = metrics->window_steps;
        window->first_step = i * steps;
        window->num_steps = steps;
        window->tokens = steps * size->num_ranks * 128;
        for (int32_t phase = 0; phase < STEP_PHASE_COUNT; phase++) {
            bool moe = phase == STEP_ATTENTION || phase == STEP_DENSE || size->num_layers > 0;
            double ms = moe ? phase_ms[phase] * (0.9 + 0.2 * noise(i, phase, 9)) : 0;
            ms *= phase == STEP_WAITING ? 2 * size->skew : 1;
            window->phase_ns[phase] = ms * 1e6 * (double)steps;
            window->step_ns_sum += (int64_t)window->phase_ns[phase];
        }
        window->step_ns_min = window->step_ns_sum / steps * 95 / 100;
        window->step_ns_max = window->step_ns_sum / steps * 108 / 100;
        for (int32_t layer = 0; layer < size->num_layers; layer++) {
            window->assignments += metrics->layer[layer].assignments / metrics->num_windows;
            window->dropped_assignments +=
                metrics->layer[layer].dropped_assignments / metrics->num_windows;
        }
        for (int32_t rank = 0; rank < size->num_ranks; rank++) {
            double drift = sin(i * 0.15 + rank * 0.9) * 0.25 + noise(i, rank, 2) * 0.2;
            metrics->window_rank_tokens[i * size->num_ranks + rank] =
                (int64_t)(4e6 * (1 + size->skew * drift));
        }
    }
}

static void fill_network(struct run_metrics *metrics, const struct fake_size *size)
{
    static struct net_link link[4096];
    assert(size->num_ranks * 4 <= 4096);
    for (int32_t src = 0; src < metrics->num_cells; src++) {
        for (int32_t dst = 0; dst < metrics->num_cells; dst++) {
            double heat = exp(size->skew * noise_normal(dst, 4, 4) * 0.5);
            metrics->traffic_bytes[src * metrics->num_cells + dst] =
                src == dst ? 0 : (int64_t)(3e9 * heat * (0.9 + 0.2 * noise(src, dst, 8)));
        }
    }
    for (int32_t i = 0; i < size->num_ranks * 4; i++) {
        enum tier tier = i % 4 < 2 ? TIER_SCALE_UP : TIER_SCALE_OUT;
        link[i] = (struct net_link){.tier = tier,
                                    .bytes_per_s = tier == TIER_SCALE_UP ? 360e9 : 45e9,
                                    .bytes = (int64_t)(6e10 * (0.5 + noise(i, 1, 6)))};
        link[i].busy_ns = (double)link[i].bytes / link[i].bytes_per_s * 1e9;
        snprintf(link[i].name, sizeof link[i].name, "rank %d %s %s", (int)(i / 4),
                 tier == TIER_SCALE_UP ? "scale-up" : "scale-out", i % 2 == 0 ? "out" : "in");
    }
    metrics->num_links = size->num_ranks > 1 ? size->num_ranks * 4 : 0;
    metrics->link = link;
}

static void fill_rest(struct run_metrics *metrics, const struct fake_size *size)
{
    double assignments = 0;
    for (int32_t window = 0; window < metrics->num_windows; window++) {
        assignments += (double)metrics->window[window].assignments;
    }
    for (int32_t factor = 0; factor < DROP_FACTORS; factor++) {
        double share = 0.35 * exp(-1.4 * (drop_factors[factor] - 1)) * (size->skew > 0);
        metrics->dropped_at[CAPACITY_RANK * DROP_FACTORS + factor] = (int64_t)(share * assignments);
        metrics->dropped_at[CAPACITY_GLOBAL * DROP_FACTORS + factor] =
            (int64_t)(share * 0.7 * assignments);
    }
    for (int32_t rank = 0; rank < size->num_ranks; rank++) {
        metrics->rank_busy_ns[rank] = 30e6 * (double)metrics->num_steps;
    }
    for (int32_t i = 0; i < metrics->num_rebalances_max && size->num_layers > 0; i++) {
        metrics->rebalance[i] =
            (struct rebalance_record){.step = (i + 1) * 100,
                                      .moves = 900 - 40 * i,
                                      .bytes = (900 - 40 * i) * INT64_C(44040192),
                                      .duration_ns = 21000000 - i * 500000,
                                      .landing_ns = 71000000,
                                      .layers_changed = 58,
                                      .settled_steps = 99,
                                      .settled_ns = 99 * INT64_C(50000000)};
        metrics->num_rebalances = i + 1;
    }
    metrics->first_steps = 100;
    metrics->first_ns = INT64_C(5400000000);
    metrics->messages = 123456789;
    metrics->bytes_sent = metrics->bytes_received = INT64_C(9876543210123);
    metrics->events = 424242;
    metrics->digest = UINT64_C(0x0123456789abcdef);
}

void fake_run_make(struct fake_run *run, const struct fake_size *size, struct arena *arena)
{
    *run = (struct fake_run){0};
    fill_scenario(&run->scenario, size);
    run->trace = (struct trace){.name = "fake",
                                .origin = "mock",
                                .source = "tests/fake_run.c",
                                .digest = UINT64_C(0xfedcba9876543210)};
    int64_t num_steps = (int64_t)size->num_windows * 12;
    enum status status = metrics_init(&run->metrics, &run->scenario, num_steps, arena);
    assert(status == STATUS_OK);
    run->metrics.window_steps = 12;
    run->metrics.num_windows = size->num_windows;
    fill_experts(&run->metrics, size);
    fill_ranks(&run->metrics, size);
    fill_windows(&run->metrics, size);
    fill_network(&run->metrics, size);
    fill_rest(&run->metrics, size);
    run->totals = run_totals(&run->metrics, &run->scenario);
}

enum status fake_run_store(char run_id[RUN_ID_BYTES], const char *path, const struct fake_run *run,
                           const char *label, struct error *error)
{
    struct store *store = NULL;
    const struct trace *trace = run->metrics.num_layers > 0 ? &run->trace : NULL;
    store_run_id(run_id, &run->scenario, trace, label);
    enum status status = store_open(&store, path, true, error);
    if (status == STATUS_OK) {
        status = store_begin(store, run_id, label, &run->scenario, trace, error);
    }
    if (status == STATUS_OK) {
        status = store_finish(store, &run->metrics, &run->totals, error);
    }
    store_close(store);
    return status;
}
