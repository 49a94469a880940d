/*
 * diff.c -- finds two runs, asks the store for the same numbers of both, and sets them side by
 * side.
 */
#include "diff.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "diff_internal.h"
#include "rows.h"
#include "store.h"

static const char runs_sql[] = "SELECT run_id, label FROM run WHERE complete = 1 ORDER BY rowid";

/* A phase's time a step, mean over ranks; all phases sum to step_ns_mean. */
static const char metrics_sql[] =
    "SELECT " STORE_DIGEST_SQL ", run.*, " STORE_CURRENCY_SQL ","
    " CASE WHEN assignments > 0 THEN dropped_assignments * 1.0 / assignments ELSE 0 END"
    "  AS dropped_share,"
    " phase.attention / num_steps AS attention_ns_mean, phase.dense / num_steps AS dense_ns_mean,"
    " phase.gate / num_steps AS gate_ns_mean, phase.dispatch / num_steps AS dispatch_ns_mean,"
    " phase.expert / num_steps AS expert_ns_mean, phase.combine / num_steps AS combine_ns_mean,"
    " phase.exchange / num_steps AS exchange_ns_mean,"
    " phase.waiting / num_steps AS waiting_ns_mean,"
    " phase.rebalance / num_steps AS rebalance_ns_mean, phase.fetch / num_steps AS fetch_ns_mean,"
    " offloaded.expert_hit_rate, offloaded.fetched_bytes,"
    " moved.rebalances, moved.rebalance_moves, moved.rebalance_bytes "
    "FROM run, (SELECT"
    "  sum(phase_ns_sum) FILTER (WHERE phase = 'attention') AS attention,"
    "  sum(phase_ns_sum) FILTER (WHERE phase = 'dense') AS dense,"
    "  sum(phase_ns_sum) FILTER (WHERE phase = 'gate') AS gate,"
    "  sum(phase_ns_sum) FILTER (WHERE phase = 'dispatch') AS dispatch,"
    "  sum(phase_ns_sum) FILTER (WHERE phase = 'expert') AS expert,"
    "  sum(phase_ns_sum) FILTER (WHERE phase = 'combine') AS combine,"
    "  sum(phase_ns_sum) FILTER (WHERE phase = 'exchange') AS exchange,"
    "  sum(phase_ns_sum) FILTER (WHERE phase = 'waiting') AS waiting,"
    "  sum(phase_ns_sum) FILTER (WHERE phase = 'rebalance') AS rebalance,"
    "  sum(phase_ns_sum) FILTER (WHERE phase = 'fetch') AS fetch"
    "  FROM step_phase WHERE run_id = ?1) AS phase,"
    " (SELECT count(*) AS rebalances, coalesce(sum(moves), 0) AS rebalance_moves,"
    "  coalesce(sum(bytes), 0) AS rebalance_bytes FROM rebalance WHERE run_id = ?1) AS moved,"
    " (SELECT coalesce(sum(hits) * 1.0 / sum(touches), 0) AS expert_hit_rate,"
    "  coalesce(sum(transfers) * max(expert_bytes), 0) AS fetched_bytes"
    "  FROM offload_layer JOIN offload USING (run_id) WHERE run_id = ?1) AS offloaded "
    "WHERE run_id = ?1";

/* Columns are NULL where nothing was served. */
static const char served_sql[] =
    "SELECT first.p50_s * 1e9 AS ttft_ns_p50, first.p99_s * 1e9 AS ttft_ns_p99,"
    " further.p50_s * 1e9 AS tpot_ns_p50, further.p99_s * 1e9 AS tpot_ns_p99,"
    " answer.p99_s * 1e9 AS answer_ns_p99, total.* "
    "FROM (SELECT max(value) FILTER (WHERE name = 'goodput_per_s') AS goodput_per_s,"
    "  max(value) FILTER (WHERE name = 'preemptions') AS preemptions,"
    "  1e6 * max(value) FILTER (WHERE name = 'usd')"
    "   / nullif(max(value) FILTER (WHERE name = 'new_tokens'), 0) AS usd_per_million_new"
    "  FROM serving_total WHERE run_id = ?1) AS total "
    "LEFT JOIN serving_latency AS first ON first.run_id = ?1 AND first.measure = 'ttft' "
    "LEFT JOIN serving_latency AS further ON further.run_id = ?1 AND further.measure = 'tpot' "
    "LEFT JOIN serving_latency AS answer ON answer.run_id = ?1 AND answer.measure = 'e2e'";

static const char layers_sql[] =
    "SELECT layer, layer_ns_sum / num_steps AS layer_ns,"
    " expert_ns_max_sum / num_steps AS expert_ns_max,"
    " rank_tokens_max_over_mean_sum / num_steps AS rank_tokens_max_over_mean,"
    " CASE WHEN layer.assignments > 0"
    "  THEN layer.dropped_assignments * 1.0 / layer.assignments ELSE 0 END AS dropped_share "
    "FROM layer JOIN run USING (run_id) WHERE run_id = ?1 ORDER BY layer";

static const struct {
    const char *name;
    enum diff_unit unit;
} metrics[] = {
    {"ttft_ns_p50", DIFF_NS},
    {"ttft_ns_p99", DIFF_NS},
    {"tpot_ns_p50", DIFF_NS},
    {"tpot_ns_p99", DIFF_NS},
    {"answer_ns_p99", DIFF_NS},
    {"goodput_per_s", DIFF_PLAIN},
    {"preemptions", DIFF_COUNT},
    {"usd_per_million_new", DIFF_USD},
    {"step_ns_mean", DIFF_NS},
    {"tokens_per_s_per_gpu", DIFF_COUNT},
    {"usd_per_million_tokens", DIFF_USD},
    {"rank_tokens_max_over_mean", DIFF_PLAIN},
    {"balancedness", DIFF_PLAIN},
    {"dropped_share", DIFF_PLAIN},
    {"attention_ns_mean", DIFF_NS},
    {"dense_ns_mean", DIFF_NS},
    {"gate_ns_mean", DIFF_NS},
    {"dispatch_ns_mean", DIFF_NS},
    {"expert_ns_mean", DIFF_NS},
    {"combine_ns_mean", DIFF_NS},
    {"exchange_ns_mean", DIFF_NS},
    {"waiting_ns_mean", DIFF_NS},
    {"rebalance_ns_mean", DIFF_NS},
    {"fetch_ns_mean", DIFF_NS},
    {"expert_hit_rate", DIFF_PLAIN},
    {"fetched_bytes", DIFF_BYTES},
    {"rebalances", DIFF_COUNT},
    {"rebalance_moves", DIFF_COUNT},
    {"rebalance_bytes", DIFF_BYTES},
    {"rebalance_ns", DIFF_NS},
    {"messages", DIFF_COUNT},
    {"bytes_sent", DIFF_BYTES},
    {"num_steps", DIFF_COUNT},
    {"tokens", DIFF_COUNT},
};

#define NUM_METRICS ((int32_t)(sizeof metrics / sizeof metrics[0]))

const char *diff_metric_name(int32_t index)
{
    return index < NUM_METRICS ? metrics[index].name : NULL;
}

bool diff_has(const struct diff_metric *metric)
{
    return !isnan(metric->value[0]) && !isnan(metric->value[1]);
}

double diff_change(const struct diff_metric *metric)
{
    return metric->value[1] - metric->value[0];
}

double diff_relative(const struct diff_metric *metric)
{
    double change = diff_change(metric);
    if (change == 0.0) {
        return 0.0;
    }
    return metric->value[0] != 0.0 ? change / fabs(metric->value[0])
                                   : copysign((double)INFINITY, change);
}

/* What one run has to say; rows are its own until both are compared. */
struct side {
    struct rows runs;
    struct rows run;    /* one row */
    struct rows served; /* one row */
    struct rows layers;
};

static bool is_wanted(const struct rows *runs, int64_t row, const char *wanted)
{
    if (strcmp(wanted, "first") == 0 || strcmp(wanted, "last") == 0) {
        return row == (wanted[0] == 'f' ? 0 : runs->num_rows - 1);
    }
    return strcmp(rows_text(runs, row, "run_id"), wanted) == 0 ||
           strcmp(rows_text(runs, row, "label"), wanted) == 0;
}

/* The id of the one run that is wanted, or NULL with a list of those there are. */
static const char *choose_run(const struct rows *runs, const char *results, const char *wanted,
                              struct error *error)
{
    const char *chosen = NULL;
    int32_t num_found = 0;
    for (int64_t row = 0; row < runs->num_rows; row++) {
        if (is_wanted(runs, row, wanted)) {
            chosen = rows_text(runs, row, "run_id");
            num_found++;
        }
    }
    if (num_found == 1) {
        return chosen;
    }
    if (runs->num_rows == 0) {
        (void)error_add(error, STATUS_INVALID, "%s: holds no complete run", results);
        return NULL;
    }
    (void)error_add(error, STATUS_INVALID, "%s: %s '%s'; it holds:", results,
                    num_found == 0 ? "holds no complete run" : "several runs have the label",
                    wanted);
    for (int64_t row = 0; row < runs->num_rows; row++) {
        (void)error_add(error, STATUS_INVALID, "    %s %s", rows_text(runs, row, "run_id"),
                        rows_text(runs, row, "label"));
    }
    return NULL;
}

static enum status load_side(struct side *side, const char *results, const char *wanted,
                             struct error *error)
{
    struct store *store = NULL;
    const char *run_id = NULL;
    enum status status = store_open(&store, results, false, error);
    if (status == STATUS_OK) {
        status = rows_query(&side->runs, store, runs_sql, NULL, error);
    }
    if (status == STATUS_OK) {
        run_id = choose_run(&side->runs, results, wanted, error);
        status = run_id != NULL ? STATUS_OK : STATUS_INVALID;
    }
    if (status == STATUS_OK) {
        status = rows_query(&side->run, store, metrics_sql, run_id, error);
    }
    if (status == STATUS_OK && side->run.num_rows != 1) {
        status = error_add(error, STATUS_INVALID, "%s: run %s is not whole", results, run_id);
    }
    if (status == STATUS_OK) {
        status = rows_query(&side->served, store, served_sql, run_id, error);
    }
    if (status == STATUS_OK) {
        status = rows_query(&side->layers, store, layers_sql, run_id, error);
    }
    store_close(store);
    return status;
}

static double metric_value(const struct side *side, int32_t index)
{
    const char *name = metrics[index].name;
    int32_t column = rows_column(&side->served, name);
    if (column < 0) {
        return rows_number(&side->run, 0, name);
    }
    const char *value = rows_value(&side->served, 0, column);
    return value == NULL ? (double)NAN : strtod(value, NULL);
}

static enum status fill_runs(struct diff *diff, const struct side side[2],
                             const struct diff_options *options)
{
    bool complete = true;
    for (int i = 0; i < 2; i++) {
        const struct rows *run = &side[i].run;
        diff->run[i] = (struct diff_run){
            .results = options->results[i],
            .run_id = arena_strdup(&diff->arena, rows_text(run, 0, "run_id")),
            .label = arena_strdup(&diff->arena, rows_text(run, 0, "label")),
            .scenario = arena_strdup(&diff->arena, rows_text(run, 0, "scenario")),
            .digest = arena_strdup(&diff->arena, rows_text(run, 0, "digest")),
        };
        rows_add_money(&diff->money, run, 0);
        complete = complete && diff->run[i].run_id != NULL && diff->run[i].label != NULL &&
                   diff->run[i].scenario != NULL && diff->run[i].digest != NULL;
    }
    if (!complete) {
        return STATUS_NO_MEMORY;
    }
    diff->equal = strcmp(diff->run[0].digest, diff->run[1].digest) == 0;
    assert(NUM_METRICS <= DIFF_METRICS_MAX);
    diff->num_metrics = NUM_METRICS;
    for (int32_t index = 0; index < NUM_METRICS; index++) {
        struct diff_metric *metric = &diff->metric[index];
        *metric = (struct diff_metric){.name = metrics[index].name, .unit = metrics[index].unit};
        for (int i = 0; i < 2; i++) {
            metric->value[i] = metric_value(&side[i], index);
        }
    }
    return STATUS_OK;
}

static bool layer_differs(const struct diff_layer *layer)
{
    return layer->layer_ns[0] != layer->layer_ns[1] ||
           layer->rank_tokens_max_over_mean[0] != layer->rank_tokens_max_over_mean[1] ||
           layer->dropped_share[0] != layer->dropped_share[1];
}

/* The largest change of time first; of equals, the lowest layer. */
static int compare_layers(const void *left, const void *right)
{
    const struct diff_layer *a = left;
    const struct diff_layer *b = right;
    double change_a = fabs(a->layer_ns[1] - a->layer_ns[0]);
    double change_b = fabs(b->layer_ns[1] - b->layer_ns[0]);
    if (change_a != change_b) {
        return change_a > change_b ? -1 : 1;
    }
    return a->layer < b->layer ? -1 : a->layer > b->layer;
}

static struct diff_layer read_layer(const struct side side[2], const int64_t row[2])
{
    struct diff_layer layer = {.layer = (int32_t)rows_number(&side[0].layers, row[0], "layer")};
    for (int i = 0; i < 2; i++) {
        const struct rows *layers = &side[i].layers;
        layer.layer_ns[i] = rows_number(layers, row[i], "layer_ns");
        layer.expert_ns_max[i] = rows_number(layers, row[i], "expert_ns_max");
        layer.rank_tokens_max_over_mean[i] =
            rows_number(layers, row[i], "rank_tokens_max_over_mean");
        layer.dropped_share[i] = rows_number(layers, row[i], "dropped_share");
    }
    return layer;
}

static enum status fill_layers(struct diff *diff, const struct side side[2])
{
    diff->layer = arena_alloc(&diff->arena, (size_t)side[0].layers.num_rows, sizeof *diff->layer);
    if (diff->layer == NULL) {
        return STATUS_NO_MEMORY;
    }
    int64_t row[2] = {0, 0};
    while (row[0] < side[0].layers.num_rows && row[1] < side[1].layers.num_rows) {
        double a = rows_number(&side[0].layers, row[0], "layer");
        double b = rows_number(&side[1].layers, row[1], "layer");
        if (a == b) {
            struct diff_layer layer = read_layer(side, row);
            if (layer_differs(&layer)) {
                diff->layer[diff->num_layers++] = layer;
            }
        }
        row[0] += a <= b;
        row[1] += b <= a;
    }
    qsort(diff->layer, (size_t)diff->num_layers, sizeof *diff->layer, compare_layers);
    return STATUS_OK;
}

/* What a scenario's text only names: the trace it means, and the program that read it. */
static enum status add_key(struct diff *diff, const struct side side[2], const char *key,
                           const char *column)
{
    const char *value[2];
    for (int i = 0; i < 2; i++) {
        value[i] = arena_strdup(&diff->arena, rows_text(&side[i].run, 0, column));
        if (value[i] == NULL) {
            return STATUS_NO_MEMORY;
        }
    }
    if (strcmp(value[0], value[1]) != 0) {
        diff->key[diff->num_keys++] = (struct diff_key){key, {value[0], value[1]}};
    }
    return STATUS_OK;
}

static enum status compare(struct diff *diff, const struct side side[2],
                           const struct diff_options *options)
{
    const char *const text[2] = {rows_text(&side[0].run, 0, "scenario_text"),
                                 rows_text(&side[1].run, 0, "scenario_text")};
    enum status status = fill_runs(diff, side, options);
    if (status == STATUS_OK) {
        status = fill_layers(diff, side);
    }
    if (status == STATUS_OK) {
        status = diff_scenarios(diff, text);
    }
    if (status == STATUS_OK) {
        status = add_key(diff, side, "trace digest", "trace_digest");
    }
    if (status == STATUS_OK) {
        status = add_key(diff, side, "commit", "commit_id");
    }
    return status;
}

enum status diff_load(struct diff *diff, const struct diff_options *options, struct error *error)
{
    struct side side[2] = {0};
    enum status status = STATUS_OK;
    for (int i = 0; i < 2 && status == STATUS_OK; i++) {
        status = load_side(&side[i], options->results[i], options->run[i], error);
    }
    if (status == STATUS_OK) {
        status = compare(diff, side, options);
        if (status == STATUS_NO_MEMORY) {
            error_add(error, status, "out of memory while comparing runs");
        }
    }
    for (int i = 0; i < 2; i++) {
        rows_free(&side[i].runs);
        rows_free(&side[i].run);
        rows_free(&side[i].served);
        rows_free(&side[i].layers);
    }
    return status;
}

void diff_free(struct diff *diff)
{
    arena_free(&diff->arena);
    *diff = (struct diff){0};
}
