/*
 * moesim.c -- the library's own few functions over the modules that the program is made of.
 *
 * Numbers in files are written with a point, whatever the caller's locale has: every call that
 * reads or writes text does so in the C locale of its own thread.
 */
#include "moesim.h"

#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "run_json.h"
#include "scenario.h"
#include "simulate.h"
#include "store.h"
#include "utf8.h"

struct moesim_simulation {
    struct scenario scenario;
    bool is_loaded;
    struct trace trace; /* zeroed for a dense model */
    struct engine *engine;
    const struct run_metrics *metrics; /* the engine's; NULL until a run has finished */
    char *json;                        /* NULL until somebody asks */
    struct error error;
};

struct call {
    struct moesim_simulation *simulation;
    locale_t c_locale;
    locale_t callers_locale;
};

static enum status begin_call(struct call *call, struct moesim_simulation *simulation)
{
    simulation->error = (struct error){0};
    call->simulation = simulation;
    call->c_locale = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0);
    if (call->c_locale == (locale_t)0) {
        return STATUS_NO_MEMORY;
    }
    call->callers_locale = uselocale(call->c_locale);
    return STATUS_OK;
}

/* Every failure has words. */
static enum moesim_status end_call(struct call *call, enum status status)
{
    struct error *error = &call->simulation->error;
    if (call->c_locale != (locale_t)0) {
        (void)uselocale(call->callers_locale);
        freelocale(call->c_locale);
    }
    switch (status) {
    case STATUS_OK:
        return MOESIM_OK;
    case STATUS_INVALID:
        return MOESIM_INVALID;
    case STATUS_IO:
        return MOESIM_IO;
    case STATUS_NO_MEMORY:
    case STATUS_CUDA:
        break; /* nothing here runs on a GPU */
    }
    if (error->num_problems == 0) {
        (void)error_add(error, status, "out of memory");
    }
    return MOESIM_NO_MEMORY;
}

static void forget_results(struct moesim_simulation *simulation)
{
    engine_close(simulation->engine);
    trace_close(&simulation->trace);
    cJSON_free(simulation->json);
    simulation->engine = NULL;
    simulation->trace = (struct trace){0};
    simulation->metrics = NULL;
    simulation->json = NULL;
}

static void forget_scenario(struct moesim_simulation *simulation)
{
    forget_results(simulation);
    scenario_free(&simulation->scenario);
    simulation->scenario = (struct scenario){0};
    simulation->is_loaded = false;
}

/* NULL stands for a dense model. */
static const struct trace *trace_or_null(const struct moesim_simulation *simulation)
{
    bool is_dense = model_num_moe_layers(&simulation->scenario.model) == 0;
    return is_dense ? NULL : &simulation->trace;
}

static enum status need_results(struct moesim_simulation *simulation)
{
    return simulation->metrics != NULL
               ? STATUS_OK
               : error_add(&simulation->error, STATUS_INVALID,
                           "there are no results: moesim_run has to finish first");
}

int32_t moesim_api_version(void)
{
    return MOESIM_API_VERSION;
}

const char *moesim_version(void)
{
    return MOESIM_VERSION;
}

const char *moesim_commit(void)
{
    return MOESIM_COMMIT;
}

struct moesim_simulation *moesim_new(void)
{
    return calloc(1, sizeof(struct moesim_simulation));
}

void moesim_free(struct moesim_simulation *simulation)
{
    if (simulation != NULL) {
        forget_scenario(simulation);
        free(simulation);
    }
}

const char *moesim_error(const struct moesim_simulation *simulation)
{
    return simulation != NULL ? simulation->error.text : "out of memory\n";
}

enum moesim_status moesim_load(struct moesim_simulation *simulation, const char *path,
                               const char *const *overrides, int32_t num_overrides)
{
    struct call call;
    enum status status = begin_call(&call, simulation);
    forget_scenario(simulation);
    if (status == STATUS_OK) {
        status = scenario_load(&simulation->scenario, path, overrides, num_overrides,
                               &simulation->error);
    }
    simulation->is_loaded = status == STATUS_OK;
    return end_call(&call, status);
}

const char *moesim_scenario_text(const struct moesim_simulation *simulation)
{
    return simulation->is_loaded ? simulation->scenario.text : NULL;
}

static enum status run(struct moesim_simulation *simulation,
                       const struct moesim_run_options *options)
{
    struct engine_observer observer = {.context = options->context,
                                       .step_done = options->step_done};
    int32_t num_threads = options->num_threads > 0 ? options->num_threads : 1;
    struct error *error = &simulation->error;
    if (!simulation->is_loaded) {
        return error_add(error, STATUS_INVALID, "there is no scenario: moesim_load comes first");
    }
    enum status status =
        simulate_open_trace(&simulation->trace, &simulation->scenario, num_threads, error);
    if (status == STATUS_OK) {
        status = engine_open(&simulation->engine, &simulation->scenario, trace_or_null(simulation),
                             error);
    }
    if (status == STATUS_OK) {
        status = engine_run(simulation->engine, &observer, error);
    }
    if (status == STATUS_OK) {
        simulation->metrics = engine_metrics(simulation->engine);
    }
    return status;
}

enum moesim_status moesim_run(struct moesim_simulation *simulation,
                              const struct moesim_run_options *options)
{
    static const struct moesim_run_options defaults = {0};
    struct call call;
    enum status status = begin_call(&call, simulation);
    forget_results(simulation);
    if (status == STATUS_OK) {
        status = run(simulation, options != NULL ? options : &defaults);
    }
    if (status != STATUS_OK) {
        forget_results(simulation);
    }
    return end_call(&call, status);
}

enum moesim_status moesim_get_totals(struct moesim_simulation *simulation,
                                     struct moesim_totals *totals)
{
    struct call call;
    enum status status = begin_call(&call, simulation);
    *totals = (struct moesim_totals){0};
    status = status == STATUS_OK ? need_results(simulation) : status;
    if (status == STATUS_OK) {
        const struct run_metrics *metrics = simulation->metrics;
        struct run_totals sums = run_totals(metrics, &simulation->scenario);
        *totals = (struct moesim_totals){
            .digest = metrics->digest,
            .num_steps = metrics->num_steps,
            .tokens = sums.tokens,
            .assignments = sums.assignments,
            .dropped_assignments = sums.dropped_assignments,
            .step_ns_mean = sums.step_ns_mean,
            .tokens_per_s_per_gpu = sums.tokens_per_s_per_gpu,
            .usd_per_million_tokens = sums.usd_per_million_tokens,
            .rank_tokens_max_over_mean = sums.rank_tokens_max_over_mean,
            .balancedness = sums.balancedness,
            .num_rebalances = metrics->num_rebalances,
            .rebalance_ns = sums.rebalance_ns,
            .messages = metrics->messages,
            .bytes_sent = metrics->bytes_sent,
            .num_ranks = metrics->num_ranks,
            .num_layers = metrics->num_layers,
            .num_experts = metrics->num_experts,
        };
    }
    return end_call(&call, status);
}

enum moesim_status moesim_get_layer(struct moesim_simulation *simulation, int32_t index,
                                    struct moesim_layer *layer)
{
    struct call call;
    enum status status = begin_call(&call, simulation);
    const struct run_metrics *metrics = simulation->metrics;
    *layer = (struct moesim_layer){0};
    status = status == STATUS_OK ? need_results(simulation) : status;
    if (status == STATUS_OK && (index < 0 || index >= metrics->num_layers)) {
        status = error_add(&simulation->error, STATUS_INVALID,
                           "layer %d: the model has %d MoE layers, counted from 0", (int)index,
                           (int)metrics->num_layers);
    }
    if (status == STATUS_OK) {
        const struct layer_metrics *source = &metrics->layer[index];
        double steps = (double)metrics->num_steps;
        *layer = (struct moesim_layer){
            .model_layer = source->model_layer,
            .assignments = source->assignments,
            .dropped_assignments = source->dropped_assignments,
            .rank_tokens_max_over_mean = source->rank_tokens_max_over_mean_sum / steps,
            .expert_ns_max = source->expert_ns_max_sum / steps,
            .expert_ns_mean = source->expert_ns_mean_sum / steps,
            .layer_ns = source->layer_ns_sum / steps,
            .rank_tokens = &metrics->rank_tokens[(int64_t)index * metrics->num_ranks],
            .expert_tokens = &metrics->expert_tokens[(int64_t)index * metrics->num_experts],
        };
    }
    return end_call(&call, status);
}

static enum status make_json(struct moesim_simulation *simulation)
{
    char run_id[RUN_ID_BYTES];
    enum status status = need_results(simulation);
    if (status != STATUS_OK || simulation->json != NULL) {
        return status;
    }
    store_run_id(run_id, &simulation->scenario, trace_or_null(simulation), "");
    cJSON *json = run_json(run_id, "", &simulation->scenario, simulation->metrics);
    simulation->json = cJSON_Print(json);
    cJSON_Delete(json);
    if (simulation->json != NULL) {
        utf8_mend(simulation->json);
    }
    return simulation->json != NULL ? STATUS_OK : STATUS_NO_MEMORY;
}

const char *moesim_json(struct moesim_simulation *simulation)
{
    struct call call;
    enum status status = begin_call(&call, simulation);
    status = status == STATUS_OK ? make_json(simulation) : status;
    return end_call(&call, status) == MOESIM_OK ? simulation->json : NULL;
}

static enum status store_run(struct moesim_simulation *simulation, const char *path,
                             const char *label)
{
    char run_id[RUN_ID_BYTES];
    struct error *error = &simulation->error;
    struct store *store = NULL;
    enum status status = need_results(simulation);
    if (status == STATUS_OK) {
        status = store_open(&store, path, true, error);
    }
    if (status == STATUS_OK) {
        const struct trace *trace = trace_or_null(simulation);
        struct run_totals totals = run_totals(simulation->metrics, &simulation->scenario);
        store_run_id(run_id, &simulation->scenario, trace, label);
        status = store_begin(store, run_id, label, &simulation->scenario, trace, error);
        if (status == STATUS_OK) {
            status = store_finish(store, simulation->metrics, &totals, error);
        }
    }
    store_close(store);
    return status;
}

enum moesim_status moesim_store(struct moesim_simulation *simulation, const char *path,
                                const char *label)
{
    struct call call;
    enum status status = begin_call(&call, simulation);
    status = status == STATUS_OK ? store_run(simulation, path, label != NULL ? label : "") : status;
    return end_call(&call, status);
}
