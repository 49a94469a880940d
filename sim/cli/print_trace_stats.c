/* print_trace_stats.c -- the figures of moesim trace stats, for people and as JSON. */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/print.h"
#include "cli/trace_cli.h"
#include "trace_stats.h"

/* Columns of the table, in order; what a layer has for each. */
enum column {
    COLUMN_MAX_OVER_MEAN,
    COLUMN_CV,
    COLUMN_GINI,
    COLUMN_DEAD,
    COLUMN_EP,
    COLUMN_TOP1,
    COLUMN_LAG, /* TRACE_LAGS columns */
    COLUMN_CHANCE = COLUMN_LAG + TRACE_LAGS,
    COLUMN_DRIFT,
    COLUMN_LIFT_P5,
    COLUMN_LIFT_MEDIAN,
    COLUMN_LIFT_P95,
    COLUMN_NEXT,
    COLUMN_COUNT,
};

#define HOTTEST_SHOWN 8 /* layers */

static void layer_figures(double figure[COLUMN_COUNT], const struct trace_stats_layer *layer)
{
    figure[COLUMN_MAX_OVER_MEAN] = layer->skew.max_over_mean;
    figure[COLUMN_CV] = layer->skew.cv;
    figure[COLUMN_GINI] = layer->skew.gini;
    figure[COLUMN_DEAD] = layer->skew.dead_experts;
    figure[COLUMN_EP] = layer->ep_max_over_mean;
    figure[COLUMN_TOP1] = layer->top1_repeat;
    for (int32_t lag = 0; lag < TRACE_LAGS; lag++) {
        figure[COLUMN_LAG + lag] = layer->overlap[lag];
    }
    figure[COLUMN_CHANCE] = layer->overlap_by_chance;
    figure[COLUMN_DRIFT] = layer->drift;
    figure[COLUMN_LIFT_P5] = layer->lift_p5;
    figure[COLUMN_LIFT_MEDIAN] = layer->lift_median;
    figure[COLUMN_LIFT_P95] = layer->lift_p95;
    figure[COLUMN_NEXT] = layer->next_information;
}

static void print_header(const struct trace_stats *stats)
{
    char ep[16] = "ep";
    if (stats->ep_ranks > 0) {
        (void)snprintf(ep, sizeof ep, "ep%d", stats->ep_ranks);
    }
    printf("%6s  %8s %6s %6s %5s %6s %6s", "layer", "max/mean", "cv", "gini", "dead", ep, "top-1");
    for (int32_t lag = 0; lag < TRACE_LAGS; lag++) {
        char text[16];
        (void)snprintf(text, sizeof text, "lag%d", trace_lag_rows[lag]);
        printf(" %6s", text);
    }
    printf(" %6s %6s %6s %6s %6s %6s\n", "chance", "drift", "lift5", "lift50", "lift95", "next");
}

static void print_row(const char *label, const double figure[COLUMN_COUNT])
{
    static const int widths[COLUMN_COUNT] = {9, 6, 6, 5, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6};
    printf("%6s ", label);
    for (int column = 0; column < COLUMN_COUNT; column++) {
        const char *space = column > COLUMN_MAX_OVER_MEAN ? " " : "";
        if (isnan(figure[column])) {
            printf("%s%*s", space, widths[column], "-");
        } else {
            printf("%s%*.*f", space, widths[column], column == COLUMN_DEAD ? 0 : 2, figure[column]);
        }
    }
    putchar('\n');
}

static int compare_double(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;
    return (left > right) - (left < right);
}

/* Minimum, median (of an even number the mean of the middle two) and maximum over layers that have
 * the figure. */
static void spread(double low_median_high[3], const struct trace_stats *stats, int column,
                   double *scratch)
{
    size_t count = 0;
    for (int32_t layer = 0; layer < stats->num_layers; layer++) {
        double figure[COLUMN_COUNT];
        layer_figures(figure, &stats->layer[layer]);
        if (!isnan(figure[column])) {
            scratch[count++] = figure[column];
        }
    }
    for (int i = 0; i < 3; i++) {
        low_median_high[i] = (double)NAN;
    }
    if (count > 0) {
        qsort(scratch, count, sizeof *scratch, compare_double);
        low_median_high[0] = scratch[0];
        low_median_high[1] = (scratch[(count - 1) / 2] + scratch[count / 2]) / 2.0;
        low_median_high[2] = scratch[count - 1];
    }
}

static void print_table(const struct trace_stats *stats, double *scratch)
{
    static const char *const labels[3] = {"min", "median", "max"};
    double summary[3][COLUMN_COUNT];
    print_header(stats);
    for (int32_t layer = 0; layer < stats->num_layers; layer++) {
        char label[16];
        double figure[COLUMN_COUNT];
        (void)snprintf(label, sizeof label, "%d", stats->layer[layer].model_layer);
        layer_figures(figure, &stats->layer[layer]);
        print_row(label, figure);
    }
    for (int column = 0; column < COLUMN_COUNT; column++) {
        double low_median_high[3];
        spread(low_median_high, stats, column, scratch);
        for (int i = 0; i < 3; i++) {
            summary[i][column] = low_median_high[i];
        }
    }
    putchar('\n');
    for (int i = 0; i < 3; i++) {
        print_row(labels[i], summary[i]);
    }
}

/* "  hottest experts in layers  60 (13.40), 59 (13.38), ...": those with most of a column; of
 * equals the first. */
static void print_hottest(const char *title, const struct trace_stats *stats, int column)
{
    double last =
        (double)INFINITY; /* named before: more than this, or as much in an earlier layer */
    int32_t last_layer = -1;
    for (int32_t shown = 0; shown < HOTTEST_SHOWN; shown++) {
        int32_t best = -1;
        double most = 0.0;
        for (int32_t layer = 0; layer < stats->num_layers; layer++) {
            double figure[COLUMN_COUNT];
            layer_figures(figure, &stats->layer[layer]);
            bool is_left = figure[column] < last || (figure[column] == last && layer > last_layer);
            if (is_left && figure[column] > most) { /* NaN is not */
                best = layer;
                most = figure[column];
            }
        }
        if (best >= 0) {
            printf("%s%d (%.2f)", shown == 0 ? title : ", ", stats->layer[best].model_layer, most);
            last = most;
            last_layer = best;
        }
    }
    puts("");
}

/* Means over layers of a batch size. */
static double batch_mean(const struct trace_stats *stats, int32_t size, bool active)
{
    double sum = 0.0;
    for (int32_t layer = 0; layer < stats->num_layers; layer++) {
        const struct trace_stats_layer *from = &stats->layer[layer];
        sum += active ? from->batch_active[size] : from->batch_max_over_mean[size];
    }
    return sum / stats->num_layers;
}

static void print_batches(const struct trace_stats *stats)
{
    printf("\nexperts of a batch of rows drawn from the whole trace, mean over layers\n"
           "%8s %9s %15s %7s\n",
           "tokens", "max/mean", "uniform router", "active");
    for (int32_t size = 0; size < TRACE_BATCH_SIZES; size++) {
        double max_over_mean = batch_mean(stats, size, false);
        if (isnan(max_over_mean)) {
            printf("%8d %9s %15.2f %7s\n", trace_batch_tokens[size], "-",
                   stats->uniform_max_over_mean[size], "-");
        } else {
            printf("%8d %9.2f %15.2f %5.0f %%\n", trace_batch_tokens[size], max_over_mean,
                   stats->uniform_max_over_mean[size], 100.0 * batch_mean(stats, size, true));
        }
    }
}

/* Means over layers, in percent. */
static void print_drops(const struct trace_stats *stats)
{
    printf("\nassignments dropped in steps of %d tokens, mean over layers\n%8s %16s %20s\n",
           TRACE_DROP_TOKENS, "capacity", "requests mixed", "consecutive rows");
    for (int32_t factor = 0; factor < TRACE_DROP_FACTORS; factor++) {
        double mixed = 0.0;
        double consecutive = 0.0;
        for (int32_t layer = 0; layer < stats->num_layers; layer++) {
            mixed += stats->layer[layer].drop_mixed[factor] / stats->num_layers;
            consecutive += stats->layer[layer].drop_consecutive[factor] / stats->num_layers;
        }
        if (isnan(mixed)) {
            printf("%8.2f %16s %20s\n", trace_drop_factor[factor], "-", "-");
        } else {
            printf("%8.2f %14.1f %% %18.1f %%\n", trace_drop_factor[factor], 100.0 * mixed,
                   100.0 * consecutive);
        }
    }
}

static int print_stats(const struct trace_stats *stats, const struct trace *trace)
{
    char tokens[32];
    char requests[32];
    double *scratch = malloc((size_t)stats->num_layers * sizeof *scratch);
    if (scratch == NULL) {
        fputs("moesim: out of memory\n", stderr);
        return 2;
    }
    printf("%s: %s tokens of %s requests, %d layers, %d experts, top-%d (%s)\n\n", trace->name,
           trace_cli_grouped(tokens, trace->num_tokens),
           trace->num_requests > 0 ? trace_cli_grouped(requests, trace->num_requests) : "unknown",
           trace->num_layers, trace->num_experts, trace->top_k, trace->origin);
    print_table(stats, scratch);
    /* Two different experts of a token are drawn without putting the first back. */
    double uniform_lift =
        (double)trace->num_experts * (trace->top_k - 1) /
        ((double)trace->top_k * (trace->num_experts > 1 ? trace->num_experts - 1 : 1));
    printf("uniform router: lag %.3f, lift %.2f\n", stats->uniform_overlap, uniform_lift);
    print_hottest("layers with the hottest experts, max/mean: ", stats, COLUMN_MAX_OVER_MEAN);
    if (stats->ep_ranks > 1) {
        char title[64];
        (void)snprintf(title, sizeof title,
                       "layers with the busiest ranks, ep%d: ", stats->ep_ranks);
        print_hottest(title, stats, COLUMN_EP);
    }
    print_batches(stats);
    print_drops(stats);
    free(scratch);
    return 0;
}

static cJSON *batches_json(const struct trace_stats_layer *layer)
{
    cJSON *batches = cJSON_CreateArray();
    for (int32_t size = 0; size < TRACE_BATCH_SIZES; size++) {
        cJSON *batch = cJSON_CreateObject();
        cJSON_AddNumberToObject(batch, "tokens", trace_batch_tokens[size]);
        cJSON_AddNumberToObject(batch, "max_over_mean", layer->batch_max_over_mean[size]);
        cJSON_AddNumberToObject(batch, "active_fraction", layer->batch_active[size]);
        cJSON_AddItemToArray(batches, batch);
    }
    return batches;
}

/* A figure that the trace cannot tell is NaN, which cJSON prints as null. */
static cJSON *layer_json(const struct trace_stats *stats, const struct trace_stats_layer *layer)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddNumberToObject(object, "layer", layer->model_layer);
    cJSON_AddNumberToObject(object, "assignments", (double)layer->assignments);
    cJSON *expert_tokens = cJSON_AddArrayToObject(object, "expert_tokens");
    for (int32_t expert = 0; expert < stats->num_experts; expert++) {
        cJSON_AddItemToArray(expert_tokens,
                             cJSON_CreateNumber((double)layer->expert_tokens[expert]));
    }
    cJSON_AddNumberToObject(object, "max_over_mean", layer->skew.max_over_mean);
    cJSON_AddNumberToObject(object, "cv", layer->skew.cv);
    cJSON_AddNumberToObject(object, "gini", layer->skew.gini);
    cJSON_AddNumberToObject(object, "active_experts",
                            stats->num_experts - layer->skew.dead_experts);
    cJSON_AddNumberToObject(object, "dead_experts", layer->skew.dead_experts);
    cJSON_AddNumberToObject(object, "ep_max_over_mean", layer->ep_max_over_mean);
    cJSON_AddNumberToObject(object, "top1_repeat", layer->top1_repeat);
    cJSON *overlap = cJSON_AddArrayToObject(object, "overlap");
    for (int32_t lag = 0; lag < TRACE_LAGS; lag++) {
        cJSON_AddItemToArray(overlap, cJSON_CreateNumber(layer->overlap[lag]));
    }
    cJSON_AddNumberToObject(object, "overlap_by_chance", layer->overlap_by_chance);
    cJSON_AddNumberToObject(object, "drift", layer->drift);
    cJSON_AddNumberToObject(object, "lift_p5", layer->lift_p5);
    cJSON_AddNumberToObject(object, "lift_median", layer->lift_median);
    cJSON_AddNumberToObject(object, "lift_p95", layer->lift_p95);
    cJSON_AddNumberToObject(object, "next_information", layer->next_information);
    cJSON_AddItemToObject(object, "batches", batches_json(layer));
    cJSON_AddItemToObject(object, "drop_mixed",
                          cJSON_CreateDoubleArray(layer->drop_mixed, TRACE_DROP_FACTORS));
    cJSON_AddItemToObject(object, "drop_consecutive",
                          cJSON_CreateDoubleArray(layer->drop_consecutive, TRACE_DROP_FACTORS));
    return object;
}

static cJSON *stats_json(const struct trace_stats *stats, const struct trace *trace)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "name", trace->name);
    cJSON_AddStringToObject(object, "model", trace->model);
    cJSON_AddStringToObject(object, "origin", trace->origin);
    cJSON_AddNumberToObject(object, "num_experts", trace->num_experts);
    cJSON_AddNumberToObject(object, "top_k", trace->top_k);
    cJSON_AddNumberToObject(object, "num_tokens", (double)trace->num_tokens);
    cJSON_AddNumberToObject(object, "num_requests", (double)trace->num_requests);
    cJSON_AddItemToObject(object, "ep",
                          stats->ep_ranks > 0 ? cJSON_CreateNumber(stats->ep_ranks)
                                              : cJSON_CreateNull());
    cJSON_AddItemToObject(object, "overlap_lags", cJSON_CreateIntArray(trace_lag_rows, TRACE_LAGS));
    cJSON_AddNumberToObject(object, "uniform_overlap", stats->uniform_overlap);
    cJSON_AddItemToObject(object, "batch_tokens",
                          cJSON_CreateIntArray(trace_batch_tokens, TRACE_BATCH_SIZES));
    cJSON_AddItemToObject(object, "uniform_max_over_mean",
                          cJSON_CreateDoubleArray(stats->uniform_max_over_mean, TRACE_BATCH_SIZES));
    cJSON_AddNumberToObject(object, "drop_tokens", TRACE_DROP_TOKENS);
    cJSON_AddItemToObject(object, "drop_capacity_factors",
                          cJSON_CreateDoubleArray(trace_drop_factor, TRACE_DROP_FACTORS));
    cJSON *layers = cJSON_AddArrayToObject(object, "layers");
    for (int32_t layer = 0; layer < stats->num_layers; layer++) {
        cJSON_AddItemToArray(layers, layer_json(stats, &stats->layer[layer]));
    }
    return object;
}

int trace_cli_stats(const struct trace_stats *stats, const struct trace *trace, bool json)
{
    return json ? print_json(stats_json(stats, trace)) : print_stats(stats, trace);
}
