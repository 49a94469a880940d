/*
 * validate_serving.c -- published throughput of engines, predicted by simulating their step.
 *
 * A row is predicted when it says all that a step depends on: a mixture-of-experts model, GPU, EP
 * degree, phase, tokens or sequences a GPU, and prompt length or KV length. Its step is run as a
 * scenario is: DeepEP's kernels with the constants of the cluster's preset where there is one, the
 * compute model `fitted` where the GPU has constants for the format and `roofline` else, two
 * micro-batches where the row says so. Nothing is fitted to these rows.
 *
 * Kernels are those of the row's time (validate_serving_kernels.c); what tokens choose is in
 * validate_serving_trace.c. The network is flow, because a hot rank is where alpha_beta and it
 * differ. Left out: queueing, sampling on the host, and what an engine does between steps; so a
 * prediction is a bound that overlaps of the kernels reach.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "csv_table.h"
#include "data.h"
#include "engine.h"
#include "odd_rows.h"
#include "validate.h"
#include "validate_serving.h"

#define NUM_KEYS    4
#define RANKS_MAX   4096
#define FAST_DEEPEP "2025-06"          /* the month of its faster kernels */
#define TOKENS_MAX  (INT64_C(1) << 21) /* of a step: their choices are held in memory */
#define BATCH_MAX   (1 << 20)
#define SLOTS_MAX   65536

static const char *const keys[NUM_KEYS] = {"engine", "model", "gpu", "phase"};
static const char *const columns[] = {"date",
                                      "engine",
                                      "model",
                                      "precision",
                                      "gpu",
                                      "n_gpus",
                                      "phase",
                                      "ep",
                                      "redundant_experts",
                                      "tp",
                                      "isl",
                                      "kv_len",
                                      "batch_per_gpu",
                                      "overlap",
                                      "mtp",
                                      "eplb",
                                      "tok_s_per_gpu"};

enum column {
    DATE,
    ENGINE,
    MODEL,
    PRECISION,
    GPU,
    NUM_GPUS,
    PHASE,
    EP,
    REDUNDANT,
    TP,
    ISL,
    KV_LEN,
    BATCH,
    OVERLAP,
    MTP,
    EPLB,
    THROUGHPUT,
    NUM_COLUMNS,
};

static bool has(const char *text, const char *part)
{
    return strstr(text, part) != NULL;
}

/* Choices as skewed as measured: placed by EPLB from the loads of what is served, or not at all. */
static bool is_placed_by_loads(const char *eplb)
{
    return has(eplb, "in-distribution");
}

static bool is_skewed_row(const char *eplb)
{
    return is_placed_by_loads(eplb) || strcmp(eplb, "none") == 0;
}

static void lower(char *to, size_t bytes, const char *from, const char *ends)
{
    size_t length = strcspn(from, ends);
    length = length < bytes ? length : bytes - 1;
    for (size_t i = 0; i < length; i++) {
        to[i] = (char)tolower((unsigned char)from[i]);
    }
    to[length] = '\0';
}

/* The GPU alone, or the cluster preset that has it with NICs or as one domain. */
static bool find_cluster(struct cluster *cluster, const char *gpu)
{
    char preset[NAME_BYTES + 8];
    struct error unknown = {0};
    if (gpu_load(&cluster->gpu, gpu, &unknown) != STATUS_OK) {
        return false;
    }
    const char *kinds[] = {"cx7", "nvl72"};
    int family = (int)strcspn(cluster->gpu.name, "-");
    for (int i = 0; i < 2; i++) {
        struct error none = {0};
        (void)snprintf(preset, sizeof preset, "%.*s-%s", family, cluster->gpu.name, kinds[i]);
        if (cluster_load(cluster, preset, &none) == STATUS_OK) {
            return true;
        }
    }
    cluster->gpus_per_node = 8;
    cluster->num_fitted = 0;
    return true;
}

/* Numbers of a row; 0: not stated. */
struct row {
    int32_t num_gpus, ep, redundant, tp, isl, kv_len, batch;
    double throughput;
    const char *date; /* begins with year and month; "": not stated */
};

/* "128" sequences or "16384 tokens"; empty: not stated. */
static enum status read_batch(struct row *row, const struct csv_table *table, int64_t index,
                              struct error *odd)
{
    const char *text = csv_cell(table, index, BATCH);
    char *end = NULL;
    long batch = strtol(text, &end, 10);
    if (*text == '\0') {
        return STATUS_OK;
    }
    bool is_count = end != text && (*end == '\0' || strcmp(end, " tokens") == 0);
    if (!is_count || batch < 1 || batch > BATCH_MAX) {
        return error_add(odd, STATUS_INVALID,
                         "%s:%lld: batch_per_gpu is '%.40s', not 'N' or 'N tokens' up to %d",
                         table->path, (long long)table->line[index], text, BATCH_MAX);
    }
    row->batch = (int32_t)batch;
    return STATUS_OK;
}

/* odd: every cell that is not the number that is due there. */
static enum status read_numbers(struct row *row, const struct csv_table *table, int64_t index,
                                struct error *odd)
{
    const struct {
        int32_t *value;
        enum column column;
    } counts[] = {{&row->num_gpus, NUM_GPUS},
                  {&row->ep, EP},
                  {&row->redundant, REDUNDANT},
                  {&row->tp, TP},
                  {&row->isl, ISL},
                  {&row->kv_len, KV_LEN}};
    enum status status = csv_number(&row->throughput, table, index, THROUGHPUT, 1e-6, 1e9, odd);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        if (csv_count(counts[i].value, table, index, (int32_t)counts[i].column, 0, 1 << 24, odd) !=
            STATUS_OK) {
            status = STATUS_INVALID;
        }
    }
    row->date = csv_cell(table, index, DATE);
    return read_batch(row, table, index, odd) == STATUS_OK ? status : STATUS_INVALID;
}

/* Why a row cannot be predicted; NULL: it can, and scenario is filled but for its cluster's shape.
 */
static const char *read_model(struct scenario *scenario, const struct row *row,
                              const struct csv_table *table, int64_t index)
{
    char model[NAME_BYTES];
    char path[PATH_BYTES];
    struct error unknown = {0};
    const char *phase = csv_cell(table, index, PHASE);
    bool is_prefill = strcmp(phase, "prefill") == 0;
    lower(model, sizeof model, csv_cell(table, index, MODEL), "/ ");
    if (row->throughput <= 0.0) {
        return "it states no throughput of a GPU";
    }
    if (!is_prefill && strcmp(phase, "decode") != 0) {
        return "requests come and go: its batch is not stated, so neither is its step";
    }
    if (model_load(&scenario->model, model, &unknown) != STATUS_OK) {
        return "there is no preset of its model";
    }
    if (model_num_moe_layers(&scenario->model) == 0) {
        return "its model is dense";
    }
    if (row->ep < 1 || row->batch < 1 || (is_prefill ? row->isl : row->kv_len) < 1) {
        return "EP degree, batch or context is not stated";
    }
    if (row->ep > RANKS_MAX || (int64_t)row->ep * row->batch > TOKENS_MAX ||
        scenario->model.num_experts + row->redundant > SLOTS_MAX) {
        return "its step is too large to be simulated here";
    }
    if (is_skewed_row(csv_cell(table, index, EPLB)) &&
        data_find(path, sizeof path, "traces", model, &unknown) != STATUS_OK) {
        return "there is no trace preset of its model";
    }
    if (row->tp > 1 || has(csv_cell(table, index, MTP), "yes")) {
        return "tensor parallelism or drafted tokens are not predicted";
    }
    if (has(csv_cell(table, index, PRECISION), "fp8")) {
        scenario->model.precision_dense = PRECISION_FP8;
        scenario->model.precision_expert = PRECISION_FP8;
    } else {
        return "its number format is not one that is predicted here";
    }
    if (!find_cluster(&scenario->cluster, csv_cell(table, index, GPU))) {
        return "no GPU preset has this GPU's name as an alias";
    }
    scenario->phase = is_prefill ? PHASE_PREFILL : PHASE_DECODE;
    scenario->context_tokens = is_prefill ? row->isl : row->kv_len;
    scenario->ep = row->ep;
    scenario->tokens_per_rank = row->batch;
    scenario->redundant_experts = row->redundant;
    const char *overlap = csv_cell(table, index, OVERLAP);
    scenario->micro_batches = has(overlap, "two micro-batch") || has(overlap, "TBO on") ? 2 : 1;
    return NULL;
}

static bool is_before(const struct row *row, const char *month)
{
    return row->date[0] != '\0' && strncmp(row->date, month, strlen(month)) < 0;
}

/* DeepEP's low-latency kernels took RDMA inside a node as well until June 2025. */
static const char *find_collective(const struct scenario *scenario, const struct row *row)
{
    if (scenario->phase == PHASE_PREFILL) {
        return "deepep_normal";
    }
    return is_before(row, FAST_DEEPEP) ? "deepep_low_latency_rdma" : "deepep_low_latency";
}

/* DeepEP's normal kernels between nodes, on H800s and four nodes, in GB/s: the first release
 * (README @ ebfe47e46f, February 2025) and since June 2025 (docs/legacy.md). The presets are fitted
 * to later releases. */
static void take_first_release(struct cluster *cluster)
{
    if (cluster->fitted_used > 0) {
        struct fitted_collective *fitted = &cluster->fitted[cluster->fitted_used - 1];
        fitted->exchange[EXCHANGE_DISPATCH].scale_out_share *= 44.0 / 58.0;
        fitted->exchange[EXCHANGE_COMBINE].scale_out_share *= 47.0 / 57.0;
    }
}

/* The rest, by which engines differ least. */
static const char *complete(struct scenario *scenario, const struct row *row)
{
    struct cluster *cluster = &scenario->cluster;
    int32_t slots = scenario->model.num_experts + scenario->redundant_experts;
    if (slots % scenario->ep != 0) {
        return "ranks do not divide slots";
    }
    cluster->gpus_per_node =
        cluster->gpus_per_node < scenario->ep ? cluster->gpus_per_node : scenario->ep;
    cluster->num_nodes = (scenario->ep + cluster->gpus_per_node - 1) / cluster->gpus_per_node;
    cluster->spine_oversubscription = 1.0;
    scenario->expert_tp = 1;
    scenario->tp = 1;
    scenario->batching = BATCHING_CONSECUTIVE;
    scenario->router = route_find("trace");
    scenario->drop = drop_find("position");
    scenario->strategy = balance_find("static");
    scenario->replica = dispatch_find("round_robin");
    scenario->collective = collective_find(find_collective(scenario, row));
    scenario->dispatch_precision = PRECISION_FP8;
    scenario->combine_precision = PRECISION_BF16;
    scenario->chunks = 1;
    scenario->net = net_find("flow");
    scenario->memory_fraction = 1.0;
    scenario->price.usd_per_gpu_hour = 1.0;
    cluster_use_constants(cluster, scenario->collective->name, "fp8");
    if (scenario->phase == PHASE_PREFILL && is_before(row, FAST_DEEPEP)) {
        take_first_release(cluster);
    }
    return NULL;
}

/* SGLang's benchmark makes prompts of a wanted length by repeating a text of ShareGPT
 * (sgl-project/sglang, bench_serving.py, sample_random_requests; bench_one_batch_server since pull
 * request 5573 of April 2025, which says that experts are then chosen more naturally). */
static struct serving_traffic find_traffic(const struct scenario *scenario, const char *engine,
                                           const char *eplb)
{
    bool is_skewed = is_skewed_row(eplb);
    return (struct serving_traffic){.is_skewed = is_skewed,
                                    .is_placed = is_skewed ? is_placed_by_loads(eplb)
                                                           : scenario->redundant_experts > 0,
                                    .is_repeated = strcmp(engine, "SGLang") == 0};
}

static enum status simulate(double *tokens_per_s, struct scenario *scenario,
                            const struct serving_traffic *traffic, struct error *error)
{
    struct trace trace = {0};
    struct engine *engine = NULL;
    enum status status = serving_trace(&trace, scenario, traffic, error);
    if (status == STATUS_OK) {
        status = engine_open(&engine, scenario, &trace, error);
    }
    if (status == STATUS_OK) {
        status = engine_run(engine, NULL, error);
    }
    if (status == STATUS_OK) {
        *tokens_per_s = run_totals(engine_metrics(engine), scenario).tokens_per_s_per_gpu;
    }
    engine_close(engine);
    trace_close(&trace);
    return status;
}

/* Predicts a row, or says why it cannot be: *reason, and odd where a cell or the step is why. */
static enum status predict(double *tokens_per_s, const char **reason, const struct row *row,
                           struct scenario *scenario, const struct csv_table *table, int64_t index,
                           struct error *odd, struct error *error)
{
    struct error step = {0};
    *reason = read_model(scenario, row, table, index);
    *reason = *reason == NULL ? complete(scenario, row) : *reason;
    if (*reason != NULL) {
        return STATUS_OK;
    }
    const char *engine = csv_cell(table, index, ENGINE);
    enum status status = serving_kernels(scenario, engine, is_before(row, "2025-07"), error);
    if (status != STATUS_OK) {
        return status;
    }
    const char *eplb = csv_cell(table, index, EPLB);
    const struct serving_traffic traffic = find_traffic(scenario, engine, eplb);
    status = simulate(tokens_per_s, scenario, &traffic, &step);
    if (status == STATUS_INVALID) { /* as of a deployment that its GPUs' memory does not hold */
        *reason = "its step cannot be simulated";
        (void)error_add(odd, STATUS_INVALID, "%s:%lld: %.*s", table->path,
                        (long long)table->line[index], (int)strcspn(step.text, "\n"), step.text);
        return STATUS_OK;
    }
    return status == STATUS_OK
               ? status
               : error_add(error, status, "%s:%lld: %.*s", table->path,
                           (long long)table->line[index], (int)strcspn(step.text, "\n"), step.text);
}

static enum status add_row(struct error_report *report, struct odd_rows *odd,
                           const struct csv_table *table, int64_t index, struct error *error)
{
    const char *const values[NUM_KEYS] = {
        csv_cell(table, index, ENGINE), csv_cell(table, index, MODEL), csv_cell(table, index, GPU),
        csv_cell(table, index, PHASE)};
    struct row row = {0};
    struct error problems = {0};
    struct scenario *scenario = calloc(1, sizeof *scenario);
    const char *reason = odd_cell_reason;
    const char *words = NULL;
    double tokens_per_s = 0.0;
    enum status status =
        scenario != NULL ? STATUS_OK : error_add(error, STATUS_NO_MEMORY, "out of memory");
    if (status == STATUS_OK && read_numbers(&row, table, index, &problems) == STATUS_OK) {
        status = predict(&tokens_per_s, &reason, &row, scenario, table, index, &problems, error);
    }
    if (status == STATUS_OK && problems.num_problems > 0) {
        words = odd_rows_add(odd, &problems);
        status = words != NULL ? STATUS_OK : error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    if (status == STATUS_OK) {
        int64_t line = table->line[index];
        status = reason != NULL ? error_report_skip_odd(report, line, values, reason, words, error)
                                : error_report_add(report, line, values, tokens_per_s,
                                                   row.throughput, false, error);
    }
    if (scenario != NULL) {
        scenario_free(scenario);
    }
    free(scenario);
    return status;
}

enum status validate_serving(struct error_report *report, const char *path, struct error *error)
{
    struct csv_table table = {0};
    struct arena arena = {0};
    struct odd_rows odd = {0};
    error_report_keys(report, keys, NUM_KEYS);
    enum status status = csv_table_read(&table, path, columns, NUM_COLUMNS, &arena, error);
    for (int64_t i = 0; i < table.num_rows && status == STATUS_OK; i++) {
        status = add_row(report, &odd, &table, i, error);
    }
    odd_rows_free(&odd);
    arena_free(&arena);
    return status;
}
