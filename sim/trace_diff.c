/* trace_diff.c -- a table of figures, their medians, and distances between loads. */
#include "trace_diff.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Where a figure stands in trace_stats_layer; the names are those of trace stats --json. */
struct field {
    const char *name;
    size_t offset;
    const double *factors; /* of several in a row: what each is at; NULL: counts in lags */
    const int32_t *counts;
    int32_t count; /* 0: one */
};

#define AT(member) offsetof(struct trace_stats_layer, member)

static const struct field fields[] = {
    {"max_over_mean", AT(skew.max_over_mean), NULL, NULL, 0},
    {"cv", AT(skew.cv), NULL, NULL, 0},
    {"gini", AT(skew.gini), NULL, NULL, 0},
    {"ep_max_over_mean", AT(ep_max_over_mean), NULL, NULL, 0},
    {"top1_repeat", AT(top1_repeat), NULL, NULL, 0},
    {"overlap", AT(overlap), NULL, trace_lag_rows, TRACE_LAGS},
    {"overlap_by_chance", AT(overlap_by_chance), NULL, NULL, 0},
    {"drift", AT(drift), NULL, NULL, 0},
    {"lift_p5", AT(lift_p5), NULL, NULL, 0},
    {"lift_median", AT(lift_median), NULL, NULL, 0},
    {"lift_p95", AT(lift_p95), NULL, NULL, 0},
    {"next_information", AT(next_information), NULL, NULL, 0},
    {"batch_max_over_mean", AT(batch_max_over_mean), NULL, trace_batch_tokens, TRACE_BATCH_SIZES},
    {"batch_active", AT(batch_active), NULL, trace_batch_tokens, TRACE_BATCH_SIZES},
    {"drop_mixed", AT(drop_mixed), trace_drop_factor, NULL, TRACE_DROP_FACTORS},
    {"drop_consecutive", AT(drop_consecutive), trace_drop_factor, NULL, TRACE_DROP_FACTORS},
};

static double value_of(const struct trace_stats_layer *layer, size_t offset)
{
    double value;
    memcpy(&value, (const char *)layer + offset, sizeof value);
    return value;
}

static int ascending(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;
    return (left > right) - (left < right);
}

static double median(const struct trace_stats *stats, size_t offset, double *scratch)
{
    size_t count = 0;
    for (int32_t layer = 0; layer < stats->num_layers; layer++) {
        double value = value_of(&stats->layer[layer], offset);
        if (!isnan(value)) {
            scratch[count++] = value;
        }
    }
    if (count == 0) {
        return (double)NAN;
    }
    qsort(scratch, count, sizeof *scratch, ascending);
    return (scratch[(count - 1) / 2] + scratch[count / 2]) / 2.0;
}

/* The layer of that number; NULL: not recorded. */
static const struct trace_stats_layer *find_layer(const struct trace_stats *stats, int32_t number)
{
    for (int32_t layer = 0; layer < stats->num_layers; layer++) {
        if (stats->layer[layer].model_layer == number) {
            return &stats->layer[layer];
        }
    }
    return NULL;
}

static void compare_figure(struct trace_diff *diff, const char *name, size_t offset,
                           double *scratch)
{
    const struct trace_stats *a = &diff->stats[0];
    struct trace_diff_figure *figure = &diff->figure[diff->num_figures++];
    *figure = (struct trace_diff_figure){.most = (double)NAN, .most_layer = -1};
    (void)snprintf(figure->name, sizeof figure->name, "%s", name);
    figure->a = median(a, offset, scratch);
    figure->b = median(&diff->stats[1], offset, scratch);
    for (int32_t i = 0; i < a->num_layers; i++) {
        const struct trace_stats_layer *other =
            find_layer(&diff->stats[1], a->layer[i].model_layer);
        double change =
            other != NULL ? value_of(other, offset) - value_of(&a->layer[i], offset) : (double)NAN;
        if (!isnan(change) && !(fabs(change) <= fabs(figure->most))) {
            figure->most = change;
            figure->most_layer = a->layer[i].model_layer;
        }
    }
}

/* Distances of two layers' loads; both have num_experts. */
static void compare_loads(struct trace_diff_layer *out, const struct trace_stats_layer *a,
                          const struct trace_stats_layer *b, int32_t num_experts)
{
    double mean = 1.0 / num_experts;
    double moved = 0.0;
    double product = 0.0;
    double square[2] = {0.0, 0.0};
    for (int32_t expert = 0; expert < num_experts; expert++) {
        double left = (double)a->expert_tokens[expert] / (double)a->assignments;
        double right = (double)b->expert_tokens[expert] / (double)b->assignments;
        moved += fabs(left - right) / 2.0;
        product += (left - mean) * (right - mean);
        square[0] += (left - mean) * (left - mean);
        square[1] += (right - mean) * (right - mean);
    }
    double scale = sqrt(square[0]) * sqrt(square[1]);
    out->model_layer = a->model_layer;
    out->moved = moved;
    out->correlation = scale > 1e-12 ? product / scale : (double)NAN;
}

static void compare_layers(struct trace_diff *diff)
{
    const struct trace_stats *a = &diff->stats[0];
    const struct trace_stats *b = &diff->stats[1];
    for (int32_t i = 0; a->num_experts == b->num_experts && i < a->num_layers; i++) {
        const struct trace_stats_layer *other = find_layer(b, a->layer[i].model_layer);
        if (other != NULL && other->assignments > 0 && a->layer[i].assignments > 0) {
            compare_loads(&diff->layer[diff->num_layers++], &a->layer[i], other, a->num_experts);
        }
    }
}

static void compare_figures(struct trace_diff *diff, double *scratch)
{
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        const struct field *field = &fields[i];
        if (field->count == 0) {
            compare_figure(diff, field->name, field->offset, scratch);
        }
        for (int32_t k = 0; k < field->count; k++) {
            char name[40];
            double at = field->factors != NULL ? field->factors[k] : field->counts[k];
            (void)snprintf(name, sizeof name, "%s@%g", field->name, at);
            compare_figure(diff, name, field->offset + (size_t)k * sizeof(double), scratch);
        }
    }
}

enum status trace_diff_read(struct trace_diff *diff, const struct trace *a, const struct trace *b,
                            const struct trace_stats_options *options, struct error *error)
{
    *diff = (struct trace_diff){.num_figures = 0};
    enum status status = trace_stats_read(&diff->stats[0], a, options, error);
    if (status == STATUS_OK) {
        status = trace_stats_read(&diff->stats[1], b, options, error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    int32_t layers = a->num_layers > b->num_layers ? a->num_layers : b->num_layers;
    double *scratch = calloc((size_t)layers, sizeof *scratch);
    diff->layer = calloc((size_t)layers, sizeof *diff->layer);
    if (scratch == NULL || diff->layer == NULL) {
        status = error_add(error, STATUS_NO_MEMORY, "no memory to compare %d layers", layers);
    } else {
        compare_figures(diff, scratch);
        compare_layers(diff);
    }
    free(scratch);
    return status;
}

void trace_diff_free(struct trace_diff *diff)
{
    trace_stats_free(&diff->stats[0]);
    trace_stats_free(&diff->stats[1]);
    free(diff->layer);
    *diff = (struct trace_diff){.num_figures = 0};
}
