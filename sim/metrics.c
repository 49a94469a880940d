/* metrics.c -- arrays and totals. */
#include "metrics.h"

#include "net/net.h"
#include "scenario.h"

const double drop_factors[DROP_FACTORS] = {1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0};

const char *step_phase_name(enum step_phase phase)
{
    static const char *const names[STEP_PHASE_COUNT] = {
        [STEP_ATTENTION] = "attention", [STEP_DENSE] = "dense",     [STEP_GATE] = "gate",
        [STEP_DISPATCH] = "dispatch",   [STEP_EXPERT] = "expert",   [STEP_COMBINE] = "combine",
        [STEP_EXCHANGE] = "exchange",   [STEP_WAITING] = "waiting", [STEP_REBALANCE] = "rebalance",
        [STEP_FETCH] = "fetch",
    };
    return names[phase];
}

static void size_windows(struct run_metrics *metrics, int64_t num_steps)
{
    metrics->num_steps = num_steps;
    metrics->window_steps = (num_steps + WINDOWS_MAX - 1) / WINDOWS_MAX;
    metrics->num_windows =
        (int32_t)((num_steps + metrics->window_steps - 1) / metrics->window_steps);
}

static void size_cells(struct run_metrics *metrics, const struct scenario *scenario)
{
    int32_t per_cell = scenario->ep <= TRAFFIC_CELLS_MAX ? 1 : scenario->cluster.gpus_per_node;
    while ((scenario->ep + per_cell - 1) / per_cell > TRAFFIC_CELLS_MAX) {
        per_cell *= 2;
    }
    metrics->ranks_per_cell = per_cell;
    metrics->num_cells = (scenario->ep + per_cell - 1) / per_cell;
}

enum status metrics_init(struct run_metrics *metrics, const struct scenario *scenario,
                         int64_t num_steps, struct arena *arena)
{
    *metrics = (struct run_metrics){.num_layers = model_num_moe_layers(&scenario->model),
                                    .num_experts = scenario->model.num_experts,
                                    .num_ranks = scenario->ep};
    size_windows(metrics, num_steps);
    size_cells(metrics, scenario);
    int32_t interval = scenario->rebalance_interval_steps;
    metrics->num_rebalances_max = interval > 0 ? (int32_t)(num_steps / interval) + 1 : 0;

    size_t layers = (size_t)metrics->num_layers;
    size_t experts = (size_t)metrics->num_experts;
    size_t ranks = (size_t)metrics->num_ranks;
    size_t windows = (size_t)metrics->num_windows;
    size_t cells = (size_t)metrics->num_cells;
    metrics->window = arena_alloc(arena, windows, sizeof *metrics->window);
    metrics->layer = arena_alloc(arena, layers, sizeof *metrics->layer);
    metrics->route = arena_alloc(arena, layers, sizeof *metrics->route);
    metrics->expert_tokens = arena_alloc(arena, layers * experts, sizeof(int64_t));
    metrics->expert_dropped = arena_alloc(arena, layers * experts, sizeof(int64_t));
    metrics->rank_tokens = arena_alloc(arena, layers * ranks, sizeof(int64_t));
    metrics->window_rank_tokens = arena_alloc(arena, windows * ranks, sizeof(int64_t));
    metrics->rank_busy_ns = arena_alloc(arena, ranks, sizeof(double));
    metrics->traffic_bytes = arena_alloc(arena, cells * cells, sizeof(int64_t));
    metrics->dropped_at = arena_alloc(arena, 2 * DROP_FACTORS, sizeof(int64_t));
    metrics->rebalance =
        arena_alloc(arena, (size_t)metrics->num_rebalances_max, sizeof *metrics->rebalance);
    if (scenario->offload.home != OFFLOAD_NOTHING) {
        metrics->offload_layer = arena_alloc(arena, layers, sizeof *metrics->offload_layer);
        metrics->offload_window = arena_alloc(arena, windows, sizeof *metrics->offload_window);
        if (metrics->offload_layer == NULL || metrics->offload_window == NULL) {
            return STATUS_NO_MEMORY;
        }
    }
    bool complete = metrics->window != NULL && metrics->layer != NULL && metrics->route != NULL &&
                    metrics->expert_tokens != NULL && metrics->expert_dropped != NULL &&
                    metrics->rank_tokens != NULL && metrics->window_rank_tokens != NULL &&
                    metrics->rank_busy_ns != NULL && metrics->traffic_bytes != NULL &&
                    metrics->dropped_at != NULL && metrics->rebalance != NULL;
    return complete ? STATUS_OK : STATUS_NO_MEMORY;
}

struct rebalance_worth rebalance_worth(const struct run_metrics *metrics)
{
    struct rebalance_worth worth = {0};
    double steps = 0.0;
    for (int32_t index = 0; index < metrics->num_rebalances; index++) {
        const struct rebalance_record *rebalance = &metrics->rebalance[index];
        if (rebalance->settled_steps == 0 || metrics->first_steps == 0) {
            continue;
        }
        double settled_steps = (double)rebalance->settled_steps;
        worth.changes++;
        worth.settled_ns += (double)rebalance->settled_ns;
        worth.cost_ns +=
            (double)rebalance->landing_ns - (double)rebalance->settled_ns / settled_steps;
        steps += settled_steps;
    }
    if (worth.changes == 0) {
        return worth;
    }
    worth.before_ns = (double)metrics->first_ns / (double)metrics->first_steps;
    worth.settled_ns /= steps;
    worth.cost_ns /= (double)worth.changes;
    worth.steps_between = steps / (double)worth.changes;
    double gain_ns = worth.before_ns - worth.settled_ns;
    worth.payback_steps = gain_ns > 0.0 ? worth.cost_ns / gain_ns : -1.0;
    return worth;
}

static void add_balance(struct balance_sums *sum, const struct balance_sums *other)
{
    sum->balancedness += other->balancedness;
    sum->balancedness_vllm += other->balancedness_vllm;
    sum->imbalance += other->imbalance;
    sum->variation += other->variation;
}

static void average_balance(struct run_totals *totals, const struct run_metrics *metrics)
{
    struct balance_sums *mean = &totals->balance;
    int64_t steps = metrics->settled_balance_steps;
    add_balance(mean, &metrics->settled_balance);
    for (int32_t index = 0; index < metrics->num_windows && steps == 0; index++) {
        add_balance(mean, &metrics->window[index].balance);
    }
    double share = 1.0 / (double)(steps > 0 ? steps : metrics->num_steps);
    mean->balancedness *= share;
    mean->balancedness_vllm *= share;
    mean->imbalance *= share;
    mean->variation *= share;
    totals->interval_balancedness =
        metrics->num_intervals > 0
            ? metrics->interval_balancedness_sum / (double)metrics->num_intervals
            : 1.0;
    totals->cross_node_share =
        metrics->dispatch_bytes > 0
            ? (double)metrics->dispatch_cross_node_bytes / (double)metrics->dispatch_bytes
            : 0.0;
}

static void average_layers(struct run_totals *totals, const struct run_metrics *metrics)
{
    if (metrics->num_layers == 0) {
        totals->rank_tokens_max_over_mean = 1.0;
        totals->balancedness = 1.0;
        return;
    }
    for (int32_t layer = 0; layer < metrics->num_layers; layer++) {
        totals->rank_tokens_max_over_mean += metrics->layer[layer].rank_tokens_max_over_mean_sum;
        totals->balancedness += metrics->layer[layer].balancedness_sum;
    }
    double samples = (double)metrics->num_layers * (double)metrics->num_steps;
    totals->rank_tokens_max_over_mean /= samples;
    totals->balancedness /= samples;
}

static double table_share(const struct run_metrics *metrics)
{
    double busy_ns = 0.0;
    for (int32_t rank = 0; rank < metrics->num_ranks; rank++) {
        busy_ns += metrics->rank_busy_ns[rank];
    }
    return busy_ns > 0.0 ? metrics->table_busy_ns / busy_ns : 0.0;
}

struct run_totals run_totals(const struct run_metrics *metrics, const struct scenario *scenario)
{
    struct run_totals totals = {0};
    totals.table_share = table_share(metrics);
    int64_t time_ns = 0;
    for (int32_t index = 0; index < metrics->num_windows; index++) {
        const struct step_window *window = &metrics->window[index];
        totals.tokens += window->tokens;
        totals.assignments += window->assignments;
        totals.dropped_assignments += window->dropped_assignments;
        time_ns += window->step_ns_sum;
    }
    for (int32_t index = 0; index < metrics->num_rebalances; index++) {
        totals.rebalance_ns += metrics->rebalance[index].duration_ns;
    }
    double seconds = (double)time_ns * 1e-9;
    totals.step_ns_mean = (double)time_ns / (double)metrics->num_steps;
    totals.tokens_per_s_per_gpu = (double)totals.tokens / seconds / (double)metrics->num_ranks;
    totals.usd_per_million_tokens =
        scenario->price.usd_per_gpu_hour / 3600.0 / totals.tokens_per_s_per_gpu * 1e6;
    average_layers(&totals, metrics);
    average_balance(&totals, metrics);
    return totals;
}
