/*
 * validate_engines.c -- benchmarks of whole engines, predicted by serving the same load.
 *
 * A row says which engine served which model on how many GPUs, how many requests were outstanding,
 * how long prompts and answers were, and what time to the first token (TTFT) and time per token
 * (TPOT) came of it. Its deployment is built as a scenario's is (validate_engines_row.c), served by
 * moesim serve's simulator, and both means are compared. Nothing of steps is fitted to these rows;
 * what engines' hosts take is, and no model is predicted by what was fitted to it (engine_host.h).
 *
 * Where no routing of a model is known, its tokens choose at random, all experts alike. Taken for
 * granted: prompts are read in chunks beside answers, unless the row says that other GPUs read them
 * (validate_engines_pools.c). Left out: host work that GPUs wait for, sampling. The sample lists
 * some measurements more than once; each counts once.
 */
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "data.h"
#include "progress.h"
#include "serve/deployment.h"
#include "validate.h"
#include "validate_engines.h"
#include "validate_serving.h"

#define NUM_KEYS 4
#define REQUESTS 10                      /* for each that is outstanding */
#define LEAST    0.8                     /* benchmark_serving.py --random-range-ratio */
#define OWN_RUNS "aic-auto-gap-analysis" /* in the source of what NVIDIA itself ran */

static const char *const keys[NUM_KEYS] = {"engine", "model", "gpu", "measure"};
static enum status open_trace(struct trace *trace, struct scenario *scenario, struct error *error)
{
    char path[PATH_BYTES];
    struct error unknown = {0};
    const struct serving_traffic traffic = {
        .is_random = true,
        .is_skewed =
            data_find(path, sizeof path, "traces", scenario->model.name, &unknown) == STATUS_OK};
    enum status status = model_num_moe_layers(&scenario->model) > 0
                             ? serving_trace(trace, scenario, &traffic, error)
                             : STATUS_OK;
    scenario->num_steps = 0;
    return status;
}

/* InferenceMAX draws lengths evenly from LEAST of the stated to it; NVIDIA's own runs do not. */
static struct arrivals_law find_law(const struct sample *sample, const struct sample_row *row)
{
    const bool is_drawn = strstr(sample_cell(sample, row, SAMPLE_SOURCE), OWN_RUNS) == NULL;
    const double mean = is_drawn ? (1.0 + LEAST) / 2.0 : 1.0;
    const double spread = is_drawn ? (1.0 - LEAST) / (1.0 + LEAST) : 0.0;
    return (struct arrivals_law){.num_requests = (int64_t)REQUESTS * row->batch,
                                 .prompt_tokens = mean * row->isl,
                                 .prompt_spread = spread,
                                 .decode_tokens = mean * row->osl,
                                 .decode_spread = spread,
                                 .seed = SAMPLE_SEED};
}

static enum status serve_row(struct sample_row *row, const struct sample *sample,
                             const struct deployment *deployment, struct error *error)
{
    struct serve_result result = {0};
    struct arrivals arrivals = {0};
    struct serve_options options = deployment->options;
    options.concurrency = row->batch;
    const struct arrivals_law law = find_law(sample, row);
    enum status status = arrivals_generate(&arrivals, &law, error);
    if (status == STATUS_OK) {
        status = serve_run(&result, &arrivals, &options, error);
    }
    if (status == STATUS_OK && result.totals.num_refused > 0) {
        row->reason = "its requests do not fit into the KV cache";
    } else if (status == STATUS_OK) {
        row->predicted_ttft_ms = result.latency[SERVE_TTFT].mean_s * 1e3;
        row->predicted_tpot_ms = result.latency[SERVE_TPOT].mean_s * 1e3;
    }
    serve_result_free(&result);
    arrivals_free(&arrivals);
    return status;
}

/* As many sequences a replica as the deployment's largest load has; who only answers reads nothing.
 */
static void set_batch(struct serving_config *serving, const struct sample *sample,
                      const struct sample_row *first)
{
    for (const struct sample_row *row = first; row < sample->row + sample->table.num_rows; row++) {
        if (row->reason == NULL && sample_same_deployment(sample, row, first)) {
            int32_t replicas = row->main.workers * row->main.dp;
            int32_t sequences = (row->batch + replicas - 1) / replicas;
            serving->batch.sequences =
                sequences > serving->batch.sequences ? sequences : serving->batch.sequences;
        }
    }
    if (first->prefill.workers > 0) {
        serving->batch.tokens = serving->batch.sequences;
    }
}

static bool is_listed_before(const struct sample *sample, const struct sample_row *row)
{
    for (const struct sample_row *other = sample->row; other < row; other++) {
        if (other->is_done && other->reason == NULL && sample_same_measurement(other, row) &&
            sample_same_deployment(sample, other, row)) {
            return true;
        }
    }
    return false;
}

/* Serves the rows of a deployment from first on; where it cannot be, reason and words say why. */
static enum status serve_rows(struct sample *sample, struct sample_row *first,
                              const struct deployment *deployment, const char *reason,
                              const char *words, struct error *error)
{
    enum status status = STATUS_OK;
    for (struct sample_row *row = first;
         row < sample->row + sample->table.num_rows && status == STATUS_OK; row++) {
        if (row->reason != NULL || !sample_same_deployment(sample, row, first)) {
            continue;
        }
        row->is_done = true;
        row->words = words;
        row->reason = reason != NULL ? reason
                      : is_listed_before(sample, row)
                          ? "the same measurement stands in an earlier row"
                          : NULL;
        status = row->reason == NULL ? serve_row(row, sample, deployment, error) : STATUS_OK;
    }
    return status;
}

/* Scenarios and traces of a deployment's pools; scenario and trace of one that is not there stay
 * zeroed. */
struct pools {
    struct scenario scenario[SERVE_POOLS];
    struct trace trace[SERVE_POOLS];
    struct serving_config serving;
};

/* Why the pools cannot be made; NULL: they are. */
static const char *find_pools(struct pools *pools, const struct sample *sample,
                              const struct sample_row *first)
{
    struct scenario *main = &pools->scenario[SERVE_MAIN];
    const char *reason = sample_scenario(main, &pools->serving, sample, first);
    if (reason == NULL && first->prefill.workers > 0) {
        reason = sample_prefill_scenario(&pools->scenario[SERVE_PREFILL], main, sample, first);
    }
    return reason;
}

static enum status open_pools(struct deployment *deployment, struct pools *pools,
                              const struct deployment_progress *progress, struct error *error)
{
    const struct scenario *scenario[SERVE_POOLS] = {0};
    const struct trace *trace[SERVE_POOLS] = {0};
    enum status status = STATUS_OK;
    for (int32_t kind = 0; kind < SERVE_POOLS && status == STATUS_OK; kind++) {
        if (pools->scenario[kind].ep > 0) {
            scenario[kind] = &pools->scenario[kind];
            status = open_trace(&pools->trace[kind], &pools->scenario[kind], error);
            trace[kind] =
                model_num_moe_layers(&scenario[kind]->model) > 0 ? &pools->trace[kind] : NULL;
        }
    }
    return status == STATUS_OK ? deployment_open_pools(deployment, scenario, trace, progress, error)
                               : status;
}

static void close_pools(struct pools *pools)
{
    for (int32_t kind = 0; kind < SERVE_POOLS; kind++) {
        trace_close(&pools->trace[kind]);
        pools->scenario[kind].serving = NULL; /* it is ours */
        scenario_free(&pools->scenario[kind]);
    }
    free(pools);
}

/* Rows of the deployment that first is of, from it on. */
static enum status predict_deployment(struct sample *sample, struct sample_row *first,
                                      struct error *error)
{
    struct deployment deployment = {0};
    struct error problems = {0};
    const struct deployment_progress progress = {.num_threads = omp_get_max_threads()};
    const char *words = NULL;
    struct pools *pools = calloc(1, sizeof *pools);
    if (pools == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    const char *reason = find_pools(pools, sample, first);
    enum status status = STATUS_OK;
    if (reason == NULL) {
        set_batch(&pools->serving, sample, first);
        status = open_pools(&deployment, pools, &progress, &problems);
        if (status == STATUS_INVALID) { /* as of GPUs whose memory does not hold it */
            reason = "its deployment cannot be simulated";
            words = odd_rows_add(&sample->odd, &problems);
            status = words != NULL ? STATUS_OK : STATUS_NO_MEMORY;
        }
        if (status != STATUS_OK) {
            status = error_add(error, status, "%s", problems.text);
        }
    }
    if (status == STATUS_OK) {
        status = serve_rows(sample, first, &deployment, reason, words, error);
    }
    deployment_close(&deployment);
    close_pools(pools);
    return status;
}

static enum status add_row(struct error_report *report, const struct sample *sample,
                           const struct sample_row *row, struct error *error)
{
    const struct {
        const char *name;
        double predicted;
        double measured;
    } measures[] = {{"TPOT", row->predicted_tpot_ms, row->tpot_ms},
                    {"TTFT", row->predicted_ttft_ms, row->ttft_ms}};
    int64_t line = sample->table.line[row->index];
    enum status status = STATUS_OK;
    for (size_t i = 0; i < sizeof measures / sizeof measures[0] && status == STATUS_OK; i++) {
        const char *const values[NUM_KEYS] = {
            sample_cell(sample, row, SAMPLE_ENGINE), sample_cell(sample, row, SAMPLE_MODEL),
            sample_cell(sample, row, SAMPLE_GPU), measures[i].name};
        status = row->reason != NULL
                     ? error_report_skip_odd(report, line, values, row->reason, row->words, error)
                     : error_report_add(report, line, values, measures[i].predicted,
                                        measures[i].measured, false, error);
    }
    return status;
}

static int64_t count_done(const struct sample *sample)
{
    int64_t done = 0;
    for (int64_t i = 0; i < sample->table.num_rows; i++) {
        done += sample->row[i].is_done || sample->row[i].reason != NULL;
    }
    return done;
}

enum status validate_engines(struct error_report *report, const char *path, struct error *error)
{
    struct sample sample = {0};
    error_report_keys(report, keys, NUM_KEYS);
    enum status status = sample_read(&sample, path, error);
    struct progress bar;
    progress_begin(&bar, "predicting", "rows");
    for (int64_t i = 0; i < sample.table.num_rows && status == STATUS_OK; i++) {
        if (sample.row[i].reason == NULL && !sample.row[i].is_done) {
            status = predict_deployment(&sample, &sample.row[i], error);
            progress_update(&bar, count_done(&sample), sample.table.num_rows);
        }
    }
    progress_end(&bar);
    for (int64_t i = 0; i < sample.table.num_rows && status == STATUS_OK; i++) {
        status = add_row(report, &sample, &sample.row[i], error);
    }
    sample_free(&sample);
    return status;
}
