/* engine_record.c -- metrics of layers, steps and the run. */
#include "engine_internal.h"

#include <math.h>
#include <string.h>

#include "net/net.h"

static struct step_window *window_now(struct engine *engine)
{
    return &engine->metrics.window[engine->step / engine->metrics.window_steps];
}

static void count_dropped(struct engine *engine, const struct layer_run *run)
{
    const struct route *route = &run->route;
    int64_t *dropped =
        &engine->metrics.expert_dropped[(int64_t)run->moe_layer * route->num_experts];
    for (int64_t wish = 0; wish < (int64_t)route->num_tokens * route->top_k; wish++) {
        if (route->dropped[wish]) {
            dropped[route->expert[wish]]++;
        }
    }
}

static void note_balance(struct engine *engine, struct layer_metrics *layer, double mean,
                         double max, double square_sum)
{
    struct step_balance *step = &engine->step_balance;
    double num_ranks = (double)engine->scenario->ep;
    double lanes = (double)engine->num_lanes; /* each is a batch of its own to the experts */
    double variance = square_sum / num_ranks - mean * mean;
    double over_mean = mean > 0.0 ? max / mean : 1.0;
    double balancedness = (mean + 1e-5) / (max + 1e-5);
    layer->rank_tokens_max_over_mean_sum += over_mean / lanes;
    layer->balancedness_sum += balancedness / lanes;
    step->sum.balancedness += balancedness;
    step->sum.imbalance += over_mean - 1.0;
    step->sum.variation += mean > 0.0 && variance > 0.0 ? sqrt(variance) / mean : 0.0;
    step->mean_sum += mean;
    step->max_sum += max;
    step->count++;
}

static void count_ranks(struct engine *engine, const struct layer_run *run)
{
    const struct placement *placement = run->placement;
    int32_t num_ranks = engine->scenario->ep;
    int64_t window = engine->step / engine->metrics.window_steps;
    int64_t *by_layer = &engine->metrics.rank_tokens[(int64_t)run->moe_layer * num_ranks];
    int64_t *by_window = &engine->metrics.window_rank_tokens[window * num_ranks];
    int64_t *by_interval = &engine->interval_tokens[(int64_t)run->moe_layer * num_ranks];
    int64_t sum = 0;
    int64_t max = 0;
    double square_sum = 0.0;
    for (int32_t rank = 0; rank < num_ranks; rank++) {
        const int32_t *begin = &placement->rank_begin[rank / engine->scenario->expert_tp];
        int64_t tokens = 0;
        for (int32_t slot = begin[0]; slot < begin[1]; slot++) {
            tokens += run->slot_tokens[slot];
        }
        by_layer[rank] += tokens;
        by_window[rank] += tokens;
        by_interval[rank] += tokens;
        sum += tokens;
        max = tokens > max ? tokens : max;
        square_sum += (double)tokens * (double)tokens;
    }
    note_balance(engine, &engine->metrics.layer[run->moe_layer], (double)sum / (double)num_ranks,
                 (double)max, square_sum);
}

void record_interval(struct engine *engine)
{
    struct run_metrics *metrics = &engine->metrics;
    double balancedness = 0.0;
    for (int32_t layer = 0; layer < metrics->num_layers; layer++) {
        int64_t *tokens = &engine->interval_tokens[(int64_t)layer * metrics->num_ranks];
        int64_t sum = 0;
        int64_t max = 0;
        for (int32_t rank = 0; rank < metrics->num_ranks; rank++) {
            sum += tokens[rank];
            max = tokens[rank] > max ? tokens[rank] : max;
            tokens[rank] = 0;
        }
        double mean = (double)sum / (double)metrics->num_ranks;
        balancedness += (mean + 1e-5) / ((double)max + 1e-5) / (double)metrics->num_layers;
    }
    if (metrics->num_rebalances == 1 && metrics->settled_balance_steps == 0) {
        metrics->interval_balancedness_sum = 0.0; /* the first interval knew no strategy */
        metrics->num_intervals = 0;
        return;
    }
    metrics->interval_balancedness_sum += balancedness;
    metrics->num_intervals++;
}

void record_dispatch(struct engine *engine, const struct message_group *group,
                     const struct message *message)
{
    struct run_metrics *metrics = &engine->metrics;
    const struct cluster *cluster = &engine->scenario->cluster;
    const int32_t source = group->owner_rank;
    const int32_t node_begin = cluster_node(cluster, source) * cluster->gpus_per_node;
    const int32_t *restrict cell_of_rank = engine->cell_of_rank; /* a division a message is dear */
    int64_t *restrict traffic_bytes =
        &metrics->traffic_bytes[(int64_t)cell_of_rank[source] * metrics->num_cells];
    int64_t near = 0;
    for (int32_t i = 0; i < group->count; i++) {
        traffic_bytes[cell_of_rank[message[i].dst_rank]] += message[i].bytes;
        near += cluster_on_node(cluster, node_begin, message[i].dst_rank) ? message[i].bytes : 0;
    }
    metrics->dispatch_bytes += group->bytes;
    metrics->dispatch_cross_node_bytes += group->bytes - near;
}

enum status record_layer_begin(struct engine *engine, const struct layer_run *run)
{
    if (run->route.dropped_assignments > 0) {
        count_dropped(engine, run);
    }
    record_route(engine, run);
    count_ranks(engine, run);
    struct layer_metrics *layer = &engine->metrics.layer[run->moe_layer];
    engine->metrics.experts_lent += run->loans.num_moves;
    layer->model_layer = run->layer;
    layer->assignments += run->route.assignments;
    layer->dropped_assignments += run->route.dropped_assignments;
    window_now(engine)->assignments += run->route.assignments;
    window_now(engine)->dropped_assignments += run->route.dropped_assignments;
    const struct engine_observer *observer = engine->observer;
    if (observer->layer_placed != NULL) {
        enum status status =
            observer->layer_placed(observer->context, engine->step, engine->layer_tokens,
                                   &engine->placement[run->moe_layer], engine->error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    if (observer->layer_load == NULL) {
        return STATUS_OK;
    }
    return observer->layer_load(observer->context, engine->step, run->layer, engine->layer_tokens,
                                run->route.num_experts, engine->error);
}

void record_layer_end(struct engine *engine, const struct layer_run *run)
{
    struct layer_metrics *layer = &engine->metrics.layer[run->moe_layer];
    double num_ranks = (double)engine->scenario->ep;
    layer->expert_ns_max_sum += run->expert_ns_max;
    layer->expert_ns_mean_sum += run->expert_ns_sum / num_ranks;
    layer->layer_ns_sum += run->layer_ns_sum / num_ranks / (double)engine->scenario->micro_batches;
}

/* Books what a placement can change of the step to the rebalance it lands in, or to the last one
 * before it. phase_ns are sums over ranks. */
static void record_rebalance(struct engine *engine, const int64_t phase_ns[STEP_PHASE_COUNT])
{
    struct run_metrics *metrics = &engine->metrics;
    int64_t step_ns = (phase_ns[STEP_DISPATCH] + phase_ns[STEP_EXPERT] + phase_ns[STEP_COMBINE] +
                       phase_ns[STEP_WAITING] + phase_ns[STEP_REBALANCE]) /
                      engine->scenario->ep;
    if (metrics->num_rebalances == 0) {
        metrics->first_steps++;
        metrics->first_ns += step_ns;
        return;
    }
    struct rebalance_record *last = &metrics->rebalance[metrics->num_rebalances - 1];
    if (last->step != engine->step) {
        last->settled_steps++;
        last->settled_ns += step_ns;
        return;
    }
    last->landing_ns = step_ns;
    for (int32_t rank = 0; rank < engine->scenario->ep; rank++) {
        int64_t waited_ns = engine->rank[rank].phase_ns[STEP_REBALANCE];
        last->duration_ns = waited_ns > last->duration_ns ? waited_ns : last->duration_ns;
    }
}

void record_time(const struct engine *engine, int32_t rank, int32_t layer, enum step_phase phase,
                 int64_t begin_ns, int64_t end_ns)
{
    const struct engine_observer *observer = engine->observer;
    if (observer->time_booked == NULL || begin_ns == end_ns) {
        return;
    }
    struct booked_time booked = {.step = engine->step,
                                 .begin_ns = begin_ns,
                                 .end_ns = end_ns,
                                 .rank = rank,
                                 .layer = layer,
                                 .phase = phase};
    observer->time_booked(observer->context, &booked);
}

static void add_step_balance(struct balance_sums *sum, const struct step_balance *step)
{
    double count = (double)step->count;
    if (step->count == 0) { /* a dense model's ranks are alike */
        sum->balancedness += 1.0;
        sum->balancedness_vllm += 1.0;
        return;
    }
    sum->balancedness += step->sum.balancedness / count;
    sum->balancedness_vllm += (step->mean_sum + 1e-5) / (step->max_sum + 1e-5);
    sum->imbalance += step->sum.imbalance / count;
    sum->variation += step->sum.variation / count;
}

static void record_balance(struct engine *engine, struct step_window *window)
{
    struct run_metrics *metrics = &engine->metrics;
    add_step_balance(&window->balance, &engine->step_balance);
    if (metrics->num_rebalances > 0) {
        add_step_balance(&metrics->settled_balance, &engine->step_balance);
        metrics->settled_balance_steps++;
    }
    engine->step_balance = (struct step_balance){0};
}

void record_step(struct engine *engine, int64_t end_ns)
{
    struct step_window *window = window_now(engine);
    int64_t step_ns = end_ns - engine->step_begin_ns;
    if (window->num_steps == 0) {
        window->first_step = engine->step;
        window->step_ns_min = step_ns;
    }
    window->num_steps++;
    window->tokens += engine->batch->num_tokens;
    window->step_ns_sum += step_ns;
    window->step_ns_min = step_ns < window->step_ns_min ? step_ns : window->step_ns_min;
    window->step_ns_max = step_ns > window->step_ns_max ? step_ns : window->step_ns_max;

    int64_t phase_ns[STEP_PHASE_COUNT] = {0};
    for (int32_t rank = 0; rank < engine->scenario->ep; rank++) {
        const struct rank_state *state = &engine->rank[rank];
        for (int32_t phase = 0; phase < STEP_PHASE_COUNT; phase++) {
            phase_ns[phase] += state->phase_ns[phase];
        }
        phase_ns[STEP_WAITING] += end_ns - state->mark_ns; /* for the slowest rank */
        record_time(engine, rank, -1, STEP_WAITING, state->mark_ns, end_ns);
    }
    for (int32_t phase = 0; phase < STEP_PHASE_COUNT; phase++) {
        window->phase_ns[phase] += (double)phase_ns[phase] / (double)engine->scenario->ep;
    }
    record_rebalance(engine, phase_ns);
    record_balance(engine, window);
}

enum status record_run(struct engine *engine)
{
    struct run_metrics *metrics = &engine->metrics;
    const struct net_model *net = engine->scenario->net;
    if (engine->num_moe_layers > 0) {
        record_interval(engine);
    }
    metrics->rows_left_out = batcher_rows_left_out(engine->batcher);
    metrics->num_links = net->num_links(engine->net);
    metrics->link =
        arena_alloc(&engine->run_arena, (size_t)metrics->num_links, sizeof *metrics->link);
    if (metrics->link == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t link = 0; link < metrics->num_links; link++) {
        net->link(engine->net, link, &metrics->link[link]);
    }
    return STATUS_OK;
}
