/* trace_fit.c -- the steps of a fit, in order. */
#include "trace_fit.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gsl/gsl_randist.h>

#include "rng.h"
#include "trace_fit_internal.h"

#define STEP             0.1f /* of the first pass over the rows; the second takes half of it ... */
#define TABLE_MAX        127.0 /* of a number of the table: far beyond any odds */
#define ARRIVALS_ASSUMED 10.0  /* a second, where the trace does not say */

void fit_round(struct coupled_law *law, const float *value)
{
    int64_t cells =
        (int64_t)law->num_layers * coupled_first_row(law, COUPLED_ROW_KINDS) * law->num_experts;
    for (int64_t i = 0; i < cells; i++) {
        double limited = fmax(-TABLE_MAX, fmin(TABLE_MAX, (double)value[i]));
        law->table[i] = (int16_t)lround(limited * COUPLED_UNIT);
    }
}

/* Starts the base rows at the logarithm of each expert's share of the choice. */
static void base_start(float *value, const struct fit_rows *rows, const struct coupled_law *law)
{
    const int64_t cells = (int64_t)coupled_first_row(law, COUPLED_ROW_KINDS) * law->num_experts;
    for (int64_t layer = 0; layer < rows->num_layers; layer++) {
        const uint16_t *expert = rows->expert + layer * rows->num_tokens * rows->top_k;
        float *base = value + layer * cells;
        for (int64_t i = 0; i < rows->num_tokens * rows->top_k; i++) {
            base[i % rows->top_k * rows->num_experts + expert[i]] += 1.0f;
        }
        for (int32_t i = 0; i < rows->top_k * rows->num_experts; i++) {
            double share = ((double)base[i] + 0.5) / ((double)rows->num_tokens + 0.5);
            base[i] = (float)log(share * rows->num_experts);
        }
    }
}

/* All passes over the rows, a thread a layer. */
static enum status learn(struct fit_table *table, const struct fit_rows *rows,
                         const struct coupled_law *law, const struct trace_fit_options *options,
                         int64_t total, struct error *error)
{
    int32_t *order = malloc((size_t)rows->num_requests * sizeof *order);
    gsl_rng *rng = rng_stream(options->seed, "trace_fit.order", 0);
    bool complete = order != NULL && rng != NULL;
    int64_t done = 0;
    for (int32_t i = 0; complete && i < rows->num_requests; i++) {
        order[i] = i;
    }
    for (int32_t epoch = 0; complete && epoch < FIT_EPOCHS; epoch++) {
        gsl_ran_shuffle(rng, order, (size_t)rows->num_requests, sizeof *order);
#pragma omp parallel for num_threads(options->num_threads) schedule(dynamic)
        for (int32_t layer = 0; layer < rows->num_layers; layer++) {
            enum status status = fit_learn(table->value, table->square, rows, law, layer, order,
                                           STEP / (float)(1 + epoch));
#pragma omp critical(trace_fit_done)
            {
                complete = complete && status == STATUS_OK;
                done++;
                if (options->progress != NULL) {
                    options->progress(options->context, done, total);
                }
            }
        }
    }
    gsl_rng_free(rng);
    free(order);
    return complete ? STATUS_OK : error_add(error, STATUS_NO_MEMORY, "no memory to fit a trace");
}

static void texts_take(struct generate_preset *preset, const struct trace *trace)
{
    const struct trace_request *last = &trace->requests[trace->num_requests - 1];
    double span_s = last->arrival_s - trace->requests[0].arrival_s;
    *preset = (struct generate_preset){
        .num_experts = trace->num_experts,
        .top_k = trace->top_k,
        .num_expert_groups = 1,
        .topk_groups = 1,
        .num_layers = trace->num_layers,
        .arrivals_per_s =
            span_s > 0 ? (double)(trace->num_requests - 1) / span_s : ARRIVALS_ASSUMED,
    };
    preset->arrivals_per_s = fmax(1e-6, fmin(1e6, preset->arrivals_per_s));
    memcpy(preset->model, trace->model, sizeof preset->model);
    memcpy(preset->source, trace->source, sizeof preset->source);
    memcpy(preset->licence, trace->licence, sizeof preset->licence);
    for (int32_t layer = 0; layer < trace->num_layers; layer++) {
        preset->layer[layer].model_layer = trace->model_layer[layer];
    }
}

static enum status law_allocate(struct generate_preset *preset, struct fit_table *table,
                                const struct fit_rows *rows, struct error *error)
{
    struct coupled_law *law = calloc(1, sizeof *law);
    preset->coupled = law;
    if (law != NULL) {
        law->num_layers = rows->num_layers;
        law->num_experts = rows->num_experts;
        law->top_k = rows->top_k;
        law->num_factors = rows->num_factors;
        law->gate_scale = 1;
        law->drift_tokens[0] = 6;
        law->drift_tokens[1] = 100;
        law->drift_sigma[0] = 0.4;
        law->drift_sigma[1] = 0.5;
        size_t cells = (size_t)law->num_layers * (size_t)coupled_first_row(law, COUPLED_ROW_KINDS) *
                       (size_t)law->num_experts;
        law->table = calloc(cells, sizeof *law->table);
        table->value = calloc(cells, sizeof *table->value);
        table->square = calloc(cells, sizeof *table->square);
    }
    if (law == NULL || law->table == NULL || table->value == NULL || table->square == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "no memory to fit a trace");
    }
    return STATUS_OK;
}

static enum status gates_check(const struct trace *gates, const struct trace *trace,
                               struct error *error)
{
    if (gates == NULL ||
        (gates->has_gate_weights && gates->num_layers == trace->num_layers &&
         gates->num_experts == trace->num_experts && gates->top_k == trace->top_k)) {
        return STATUS_OK;
    }
    return error_add(error, STATUS_INVALID,
                     "%s: expected gate weights and the layers, experts and top_k of %s",
                     gates->name, trace->name);
}

enum status trace_fit(struct generate_preset *preset, const struct trace *trace,
                      const struct trace_fit_options *options, struct error *error)
{
    struct fit_rows rows = {0};
    struct fit_table table = {0};
    *preset = (struct generate_preset){0};
    enum status status = gates_check(options->gates, trace, error);
    if (status == STATUS_OK) {
        status = fit_rows_take(&rows, trace, error);
    }
    int64_t learn_steps = (int64_t)FIT_EPOCHS * rows.num_layers;
    int64_t total = learn_steps + FIT_ROUNDS;
    if (status != STATUS_OK) {
        goto done;
    }
    texts_take(preset, trace);
    status = law_allocate(preset, &table, &rows, error);
    if (status == STATUS_OK) {
        status = fit_factors(&rows, options->seed, error);
    }
    if (status == STATUS_OK) {
        status = fit_domains(preset->coupled, &rows, trace, error);
    }
    if (status == STATUS_OK) {
        base_start(table.value, &rows, preset->coupled);
        status = learn(&table, &rows, preset->coupled, options, total, error);
    }
    if (status == STATUS_OK) {
        status = fit_tune(preset, table.value, trace, &rows, options, learn_steps, total, error);
    }
    const struct trace *gates = options->gates != NULL ? options->gates : trace;
    if (status == STATUS_OK && gates->has_gate_weights) {
        status = fit_gate(preset->coupled, gates, options->seed, error);
    }
done:
    free(table.value);
    free(table.square);
    arena_free(&rows.arena);
    return status;
}
