/* deployment.c -- from a scenario to the options of serve_run. */
#include "serve/deployment.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "memory.h"
#include "simulate.h"

#define KV_TOKENS_MAX (INT64_C(1) << 40)

static int32_t per_rank(int32_t count, int32_t tp)
{
    return (count + tp - 1) / tp;
}

/* Weights and buffers of the largest batch: logits of as many tokens as there are sequences. */
static int64_t bytes_without_kv(const struct scenario *scenario, const struct serving_batch *batch)
{
    struct scenario fullest = *scenario;
    fullest.phase = PHASE_PREFILL;
    fullest.tokens_per_rank = per_rank(batch->tokens, scenario->tp);
    fullest.context_tokens = per_rank(batch->tokens, batch->sequences);
    return scenario_memory(&fullest, 0).total_bytes;
}

static int64_t kv_bytes(const struct scenario *scenario, const struct serving_batch *batch,
                        int64_t kv_tokens_per_rank)
{
    struct scenario fullest = *scenario;
    fullest.phase = PHASE_DECODE;
    fullest.tokens_per_rank = per_rank(batch->sequences, scenario->tp);
    return scenario_memory(&fullest, kv_tokens_per_rank).kv_bytes;
}

enum status deployment_kv_tokens(int64_t *kv_tokens, const struct scenario *scenario,
                                 const struct serving_batch *batch, struct error *error)
{
    int64_t taken = bytes_without_kv(scenario, batch);
    int64_t limit = scenario_memory(scenario, 0).limit_bytes;
    int64_t fits = 0;
    int64_t too_many = KV_TOKENS_MAX;
    while (too_many - fits > 1) {
        int64_t middle = fits + (too_many - fits) / 2;
        if (taken + kv_bytes(scenario, batch, middle) <= limit) {
            fits = middle;
        } else {
            too_many = middle;
        }
    }
    *kv_tokens = fits * scenario->tp;
    if (fits > 0) {
        return STATUS_OK;
    }
    return error_add(error, STATUS_INVALID,
                     "%s: no KV cache fits: weights and the buffers of batches of %d tokens take "
                     "%.1f of %.1f GB of a GPU; use smaller batches, more GPUs or less precision",
                     scenario->name, (int)batch->tokens, (double)taken / 1e9, (double)limit / 1e9);
}

static enum status open_arrivals(struct deployment *deployment, const struct scenario *scenario,
                                 struct error *error)
{
    const struct serving_arrivals *said = &scenario->serving->arrivals;
    struct arrivals *arrivals = &deployment->arrivals;
    if (said->path[0] == '\0') {
        const struct arrivals_law law = {.rate_per_s = said->rate_per_s,
                                         .cv = said->cv,
                                         .day_swing = said->day_swing,
                                         .duration_s = said->duration_s,
                                         .num_requests =
                                             said->concurrency > 0 ? said->requests_max : 0,
                                         .prompt_tokens = said->prompt_tokens,
                                         .prompt_cv = said->prompt_cv,
                                         .prompt_spread = said->prompt_spread,
                                         .decode_tokens = said->decode_tokens,
                                         .decode_cv = said->decode_cv,
                                         .decode_spread = said->decode_spread,
                                         .seed = scenario->seed};
        enum status status = arrivals_generate(arrivals, &law, error);
        if (status != STATUS_OK) {
            return status;
        }
    } else {
        enum status status = arrivals_read(arrivals, said->path, ARRIVALS_UNKNOWN, error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    if (said->requests_max > 0 && said->requests_max < arrivals->count) {
        arrivals->count = said->requests_max;
    }
    if (arrivals->count > INT32_MAX) {
        return error_add(error, STATUS_INVALID,
                         "%s: more than %d requests; set "
                         "serving.arrivals.requests",
                         said->path, INT32_MAX);
    }
    for (int64_t i = 0; i < arrivals->count; i++) {
        arrivals->arrival[i].arrival_s /= said->speed;
    }
    if (arrivals->arrival[arrivals->count - 1].arrival_s > ARRIVALS_SPAN_MAX_S) {
        return error_add(error, STATUS_INVALID,
                         "%s: serving.arrivals.speed %g makes the last request arrive after more "
                         "than ten years",
                         said->path, said->speed);
    }
    if (arrivals->num_hashes == 0 && scenario->serving->prefix_cache == PREFIX_CACHE_HASHES) {
        return error_add(error, STATUS_INVALID,
                         "%s: has no hashes of prompts for serving.prefix_cache; use kind: rate",
                         said->path);
    }
    return STATUS_OK;
}

static enum status check_scenarios(const struct deployment *deployment, struct error *error)
{
    const struct scenario *main = deployment->scenario[SERVE_MAIN];
    const struct scenario *prefill = deployment->scenario[SERVE_PREFILL];
    enum status status = STATUS_OK;
    if (main->phase != PHASE_DECODE) {
        status = error_add(error, STATUS_INVALID,
                           "%s: phase: answers are made here, so it must be decode", main->name);
    }
    if (prefill != NULL && prefill->phase != PHASE_PREFILL) {
        status =
            error_add(error, STATUS_INVALID,
                      "%s: phase: prompts are read here, so it must be prefill", prefill->name);
    }
    if (prefill != NULL && (strcmp(prefill->model.name, main->model.name) != 0 ||
                            prefill->model.precision_kv != main->model.precision_kv)) {
        status = error_add(error, STATUS_INVALID,
                           "%s: reads prompts for %s with KV entries in %s, but %s answers with "
                           "%s in %s",
                           prefill->name, prefill->model.name,
                           precision_name(prefill->model.precision_kv), main->name,
                           main->model.name, precision_name(main->model.precision_kv));
    }
    return status;
}

static double step_ns(const void *context, const struct step_load *load, int32_t num_replicas)
{
    return step_time_ns(context, load, num_replicas);
}

/* Takes them from the store, or measures and keeps them. */
static enum status find_stalls(struct rebalance_stalls *stalls, const struct scenario *scenario,
                               const struct trace *trace, const struct step_store *store,
                               struct error *error)
{
    bool found = false;
    enum status status =
        store != NULL ? store->find_stalls(store->context, stalls, &found, error) : STATUS_OK;
    if (status != STATUS_OK || found) {
        return status;
    }
    status = rebalance_stalls_measure(stalls, scenario, trace, error);
    return status == STATUS_OK && store != NULL && stalls->interval_steps > 0
               ? store->keep_stalls(store->context, stalls, error)
               : status;
}

static enum status open_pool(struct deployment *deployment, enum serve_pool_kind kind,
                             const struct deployment_progress *progress, struct error *error)
{
    const struct scenario *scenario = deployment->scenario[kind];
    const struct serving_config *serving = deployment->scenario[SERVE_MAIN]->serving;
    struct serve_pool *pool = &deployment->options.pool[kind];
    pool->batch = kind == SERVE_MAIN ? serving->batch : serving->prefill_batch;
    pool->num_groups = cluster_num_gpus(&scenario->cluster) / scenario->ep;
    pool->replicas_per_group = scenario->ep / scenario->tp;
    deployment->kv_tokens[kind] = kind == SERVE_MAIN ? serving->kv_tokens : 0;
    enum status status = STATUS_OK;
    if (deployment->kv_tokens[kind] == 0) {
        status = deployment_kv_tokens(&deployment->kv_tokens[kind], scenario, &pool->batch, error);
    }
    pool->kv_blocks = deployment->kv_tokens[kind] / serving->block_tokens;
    if (status == STATUS_OK && pool->kv_blocks == 0) {
        status = error_add(error, STATUS_INVALID,
                           "%s: a KV cache of %lld tokens holds not one block of %d; use a smaller "
                           "serving.kv.block_tokens",
                           scenario->name, (long long)deployment->kv_tokens[kind],
                           (int)serving->block_tokens);
    }
    if (status != STATUS_OK) {
        return status;
    }
    status =
        find_stalls(&pool->stalls, scenario, deployment->trace[kind], progress->store[kind], error);
    if (status != STATUS_OK) {
        return status;
    }
    bool is_shared = kind == SERVE_MAIN && deployment->scenario[SERVE_PREFILL] == NULL;
    int32_t decode_tokens = pool->batch.sequences * (1 + serving->draft_tokens);
    const struct step_time_options options = {
        .tokens_per_rank_max = per_rank(pool->batch.tokens, scenario->tp),
        .decode_per_rank_max = is_shared ? per_rank(decode_tokens, scenario->tp) : 0,
        .num_threads = progress->num_threads,
        .point_done = progress->point_done,
        .context = progress->context,
        .store = progress->store[kind]};
    status = step_time_open(&deployment->step_time[kind], scenario, deployment->trace[kind],
                            &options, error);
    pool->model = (struct serve_model){step_ns, deployment->step_time[kind]};
    return status;
}

/* A rank's share of a token's KV entries, over the slower of both ports. */
static void set_transfer(struct deployment *deployment)
{
    for (int32_t kind = 0; kind < SERVE_POOLS; kind++) {
        const struct scenario *scenario = deployment->scenario[kind];
        const struct moe_model *model = &scenario->model;
        const struct port_spec *port = &scenario->cluster.gpu.port[TIER_SCALE_OUT];
        int32_t parts = scenario->tp < model->num_kv_heads ? scenario->tp : model->num_kv_heads;
        double bytes = memory_kv_bytes_per_token(model);
        bytes = model->attention == ATTENTION_MLA ? bytes : bytes / (double)parts;
        if (port->bytes_per_s <= 0.0) {
            port = &scenario->cluster.gpu.port[TIER_SCALE_UP]; /* it has no other */
        }
        struct serve_options *options = &deployment->options;
        options->transfer_ns = fmax(options->transfer_ns, port->latency_ns);
        options->transfer_ns_per_token = fmax(options->transfer_ns_per_token,
                                              bytes / (port->bytes_per_s * port->fraction) * 1e9);
    }
}

/* Fills deployment->prefill and the trace of its pool. */
static enum status load_prefill(struct deployment *deployment, const struct scenario *main,
                                int32_t num_threads, struct error *error)
{
    struct scenario *prefill = &deployment->prefill;
    enum status status = scenario_load(prefill, main->serving->prefill, NULL, 0, error);
    if (status != STATUS_OK) {
        return status;
    }
    deployment->scenario[SERVE_PREFILL] = prefill;
    if (simulate_same_trace(main, prefill)) {
        deployment->trace[SERVE_PREFILL] = deployment->trace[SERVE_MAIN];
    } else if (model_num_moe_layers(&prefill->model) > 0) {
        status = simulate_open_trace(&deployment->prefill_trace, prefill, num_threads, error);
        deployment->trace[SERVE_PREFILL] = &deployment->prefill_trace;
    }
    return status;
}

static enum status open_pools(struct deployment *deployment,
                              const struct deployment_progress *progress, struct error *error)
{
    const struct scenario *main = deployment->scenario[SERVE_MAIN];
    deployment->options = (struct serve_options){.config = main->serving,
                                                 .concurrency = main->serving->arrivals.concurrency,
                                                 .host_ns = main->serving->host_request_ms * 1e6,
                                                 .seed = main->seed};
    enum status status = check_scenarios(deployment, error);
    if (status == STATUS_OK) {
        status = open_arrivals(deployment, main, error);
    }
    for (int32_t kind = 0; kind < SERVE_POOLS && status == STATUS_OK; kind++) {
        if (deployment->scenario[kind] != NULL) {
            status = open_pool(deployment, (enum serve_pool_kind)kind, progress, error);
        }
    }
    if (status == STATUS_OK && deployment->scenario[SERVE_PREFILL] != NULL) {
        set_transfer(deployment);
    }
    return status;
}

enum status deployment_open(struct deployment *deployment, const struct scenario *scenario,
                            const struct trace *trace, const struct deployment_progress *progress,
                            struct error *error)
{
    *deployment = (struct deployment){.scenario[SERVE_MAIN] = scenario, .trace[SERVE_MAIN] = trace};
    enum status status = STATUS_OK;
    assert(scenario->serving != NULL);
    if (scenario->serving->prefill[0] != '\0') {
        status = load_prefill(deployment, scenario, progress->num_threads, error);
    }
    return status == STATUS_OK ? open_pools(deployment, progress, error) : status;
}

enum status deployment_open_pools(struct deployment *deployment,
                                  const struct scenario *const scenario[SERVE_POOLS],
                                  const struct trace *const trace[SERVE_POOLS],
                                  const struct deployment_progress *progress, struct error *error)
{
    *deployment = (struct deployment){0};
    for (int32_t kind = 0; kind < SERVE_POOLS; kind++) {
        deployment->scenario[kind] = scenario[kind];
        deployment->trace[kind] = trace[kind];
    }
    return open_pools(deployment, progress, error);
}

void deployment_close(struct deployment *deployment)
{
    for (int32_t kind = 0; kind < SERVE_POOLS; kind++) {
        step_time_close(deployment->step_time[kind]);
    }
    trace_close(&deployment->prefill_trace);
    scenario_free(&deployment->prefill);
    arrivals_free(&deployment->arrivals);
    *deployment = (struct deployment){0};
}

int32_t deployment_num_gpus(const struct deployment *deployment)
{
    int32_t gpus = 0;
    for (int32_t kind = 0; kind < SERVE_POOLS; kind++) {
        if (deployment->scenario[kind] != NULL) {
            gpus += cluster_num_gpus(&deployment->scenario[kind]->cluster);
        }
    }
    return gpus;
}

const struct collective *deployment_prefill_collective(const struct deployment *deployment)
{
    const struct scenario *main = deployment->scenario[SERVE_MAIN];
    return deployment->scenario[SERVE_PREFILL] == NULL ? main->prefill_collective : NULL;
}

struct money deployment_money(const struct deployment *deployment)
{
    struct money money = {0};
    for (int32_t kind = 0; kind < SERVE_POOLS; kind++) {
        if (deployment->scenario[kind] != NULL) {
            money_add(&money, &deployment->scenario[kind]->price.currency);
        }
    }
    return money;
}

double deployment_usd_per_hour(const struct deployment *deployment)
{
    double usd = 0.0;
    for (int32_t kind = 0; kind < SERVE_POOLS; kind++) {
        const struct scenario *scenario = deployment->scenario[kind];
        if (scenario != NULL) {
            usd += cluster_num_gpus(&scenario->cluster) * scenario->price.usd_per_gpu_hour;
        }
    }
    return usd;
}
