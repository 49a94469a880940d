/* trace_against.c -- measures two traces and draws of the second one's requests. */
#include "trace_against.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rng.h"
#include "trace_internal.h"

#define TOLERANCE  0.1                /* of the other's figure */
#define SPREADS    2.0                /* that a figure may be off */
#define IDS_MAX    (INT64_C(1) << 28) /* of a draw, which is held in memory */
#define READ_ROWS  1024
#define LAYERS_MAX 4096

/* All figures of all layers of a trace: [num_layers][TRACE_FIGURES]. */
static void figures_take(double *figure, const struct trace_stats *stats)
{
    for (int32_t layer = 0; layer < stats->num_layers; layer++) {
        const struct trace_stats_layer *from = &stats->layer[layer];
        double *to = figure + (int64_t)layer * TRACE_FIGURES;
        *to++ = from->skew.max_over_mean;
        *to++ = from->skew.cv;
        *to++ = from->skew.gini;
        *to++ = from->ep_max_over_mean;
        for (int32_t i = 0; i < TRACE_BATCH_SIZES; i++) {
            *to++ = from->batch_max_over_mean[i];
        }
        for (int32_t i = 0; i < TRACE_BATCH_SIZES; i++) {
            *to++ = from->batch_active[i];
        }
        for (int32_t i = 0; i < TRACE_LAGS; i++) {
            *to++ = from->overlap[i];
        }
        *to++ = from->next_information;
        *to++ = from->lift_median;
        *to++ = from->lift_p95;
        for (int32_t i = 0; i < TRACE_DROP_FACTORS; i++) {
            *to++ = from->drop_mixed[i];
        }
        for (int32_t i = 0; i < TRACE_DROP_FACTORS; i++) {
            *to++ = from->drop_consecutive[i];
        }
    }
}

static void names_write(struct trace_figure *figure, int32_t ep_ranks)
{
    const size_t bytes = TRACE_FIGURE_NAME_BYTES;
    (void)snprintf((figure++)->name, bytes, "max/mean");
    (void)snprintf((figure++)->name, bytes, "cv");
    (void)snprintf((figure++)->name, bytes, "gini");
    (void)snprintf((figure++)->name, bytes, "ep%d max/mean", ep_ranks);
    for (int32_t i = 0; i < TRACE_BATCH_SIZES; i++) {
        (void)snprintf((figure++)->name, bytes, "max/mean of %d tokens", trace_batch_tokens[i]);
    }
    for (int32_t i = 0; i < TRACE_BATCH_SIZES; i++) {
        (void)snprintf((figure++)->name, bytes, "active experts of %d tokens",
                       trace_batch_tokens[i]);
    }
    for (int32_t i = 0; i < TRACE_LAGS; i++) {
        (void)snprintf((figure++)->name, bytes, "overlap at lag %d", trace_lag_rows[i]);
    }
    (void)snprintf((figure++)->name, bytes, "information on the next layer");
    (void)snprintf((figure++)->name, bytes, "co-activation lift, median");
    (void)snprintf((figure++)->name, bytes, "co-activation lift, 95 %%");
    for (int32_t i = 0; i < TRACE_DROP_FACTORS; i++) {
        (void)snprintf((figure++)->name, bytes, "dropped at %g, mixed", trace_drop_factor[i]);
    }
    for (int32_t i = 0; i < TRACE_DROP_FACTORS; i++) {
        (void)snprintf((figure++)->name, bytes, "dropped at %g, consecutive", trace_drop_factor[i]);
    }
}

/* The other trace's requests, in the order in which a draw has them: first[count] out. */
static int64_t draw_order(int64_t *order, int32_t *copies, const struct trace *other, gsl_rng *rng)
{
    const int64_t count = other->num_requests;
    int32_t most = 0;
    int64_t placed = 0;
    memset(copies, 0, (size_t)count * sizeof *copies);
    for (int64_t i = 0; i < count; i++) {
        int64_t chosen = (int64_t)(gsl_rng_uniform(rng) * (double)count);
        copies[chosen]++;
        most = copies[chosen] > most ? copies[chosen] : most;
    }
    for (int32_t round = 0; round < most; round++) {
        for (int64_t i = 0; i < count; i++) {
            if (copies[i] > round) {
                order[placed++] = i;
            }
        }
    }
    return placed;
}

/* Copies a request's rows, all layers, to row at of ids [num_layers][num_tokens][top_k]. */
static enum status rows_copy(void *ids, int64_t num_tokens, int64_t at, const struct trace *other,
                             const struct trace_request *request, struct error *error)
{
    int64_t row[READ_ROWS];
    int32_t *expert = malloc(READ_ROWS * (size_t)other->top_k * sizeof *expert);
    const bool is_byte = trace_id_bytes(other->num_experts, true) == 1;
    enum status status = expert == NULL ? error_add(error, STATUS_NO_MEMORY,
                                                    "no memory for the statistics of a trace")
                                        : STATUS_OK;
    for (int64_t done = 0; status == STATUS_OK && done < request->num_rows; done += READ_ROWS) {
        int64_t left = request->num_rows - done;
        int32_t count = left < READ_ROWS ? (int32_t)left : READ_ROWS;
        for (int32_t i = 0; i < count; i++) {
            row[i] = request->row_offset + done + i;
        }
        for (int32_t layer = 0; status == STATUS_OK && layer < other->num_layers; layer++) {
            status = trace_read(other, expert, NULL, layer, row, count, error);
            int64_t to = (layer * num_tokens + at + done) * other->top_k;
            for (int64_t i = 0; status == STATUS_OK && i < (int64_t)count * other->top_k; i++) {
                if (is_byte) {
                    ((uint8_t *)ids)[to + i] = (uint8_t)expert[i]; /* -1: not routed, as 0xFF */
                } else {
                    ((uint16_t *)ids)[to + i] = (uint16_t)expert[i];
                }
            }
        }
    }
    free(expert);
    return status;
}

/* A trace of requests drawn from other's. Release with trace_close, also after a failure. */
static enum status draw(struct trace *drawn, const struct trace *other, gsl_rng *rng,
                        struct error *error)
{
    size_t count = (size_t)other->num_requests;
    int64_t *order = malloc(count * sizeof *order);
    int32_t *copies = malloc(count * sizeof *copies);
    struct trace_request *requests = malloc(count * sizeof *requests);
    void *ids = NULL;
    int64_t num_tokens = 0;
    enum status status = STATUS_OK;
    *drawn = (struct trace){0};
    if (order == NULL || copies == NULL || requests == NULL) {
        status = error_add(error, STATUS_NO_MEMORY, "no memory for the statistics of a trace");
        goto done;
    }
    int64_t placed = draw_order(order, copies, other, rng);
    for (int64_t i = 0; i < placed; i++) {
        requests[i] = other->requests[order[i]];
        requests[i].row_offset = num_tokens;
        num_tokens += requests[i].num_rows;
    }
    size_t num_ids = (size_t)num_tokens * (size_t)other->num_layers * (size_t)other->top_k;
    ids = malloc(num_ids * (size_t)trace_id_bytes(other->num_experts, true));
    if (ids == NULL) {
        status = error_add(error, STATUS_NO_MEMORY, "no memory for the statistics of a trace");
        goto done;
    }
    for (int64_t i = 0; status == STATUS_OK && i < placed; i++) {
        status = rows_copy(ids, num_tokens, requests[i].row_offset, other,
                           &other->requests[order[i]], error);
    }
    struct trace_description description = {.model = other->model,
                                            .num_experts = other->num_experts,
                                            .top_k = other->top_k,
                                            .num_layers = other->num_layers,
                                            .model_layer = other->model_layer,
                                            .has_gaps = true,
                                            .origin = other->origin};
    if (status == STATUS_OK) {
        status =
            trace_from_memory(drawn, &description, ids, NULL, requests, placed, num_tokens, error);
        ids = NULL; /* the trace owns both */
        requests = NULL;
    }
done:
    free(ids);
    free(requests);
    free(copies);
    free(order);
    return status;
}

/* Sums of a figure and its square over draws; NaN figures are left out. */
struct moments {
    double sum;
    double square;
    int32_t count;
};

static void moments_add(struct moments *moments, double value)
{
    if (isfinite(value)) {
        moments->sum += value;
        moments->square += value * value;
        moments->count++;
    }
}

static double deviation(const struct moments *moments)
{
    if (moments->count < 2) {
        return (double)NAN;
    }
    double mean = moments->sum / moments->count;
    double variance = (moments->square - mean * moments->sum) / (moments->count - 1);
    return sqrt(fmax(0, variance));
}

/* Mean over layers that have the figure. */
static double layers_mean(const double *figure, int32_t num_layers, int32_t index)
{
    struct moments moments = {0};
    for (int32_t layer = 0; layer < num_layers; layer++) {
        moments_add(&moments, figure[(int64_t)layer * TRACE_FIGURES + index]);
    }
    return moments.count > 0 ? moments.sum / moments.count : (double)NAN;
}

static bool is_inside(double value, double other, double spread)
{
    double allowed = TOLERANCE * fabs(other);
    if (isfinite(spread) && SPREADS * spread > allowed) {
        allowed = SPREADS * spread;
    }
    return fabs(value - other) <= allowed;
}

/* What is measured: [num_layers][TRACE_FIGURES] each, and [TRACE_FIGURES] of their means. */
struct against {
    int32_t num_layers;
    double *value;
    double *other;
    double *drawn;
    struct moments *layer_moments;
    struct moments *mean_moments;
};

static enum status measure(double *figure, const struct trace *trace,
                           const struct trace_stats_options *options, struct error *error)
{
    struct trace_stats stats = {0};
    struct trace_stats_options quiet = *options;
    quiet.progress = NULL; /* of layers; ours is of measurements */
    quiet.no_uniform = true;
    enum status status = trace_stats_read(&stats, trace, &quiet, error);
    if (status == STATUS_OK) {
        figures_take(figure, &stats);
    }
    trace_stats_free(&stats);
    return status;
}

static enum status draws_measure(struct against *against, const struct trace *other,
                                 const struct trace_against_options *options, int32_t num_draws,
                                 struct error *error)
{
    enum status status = STATUS_OK;
    const int64_t total = (int64_t)num_draws + 2;
    gsl_rng *rng = rng_stream(options->stats.seed, "trace_against", 0);
    if (rng == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "no memory for the statistics of a trace");
    }
    for (int32_t i = 0; status == STATUS_OK && i < num_draws; i++) {
        struct trace drawn;
        status = draw(&drawn, other, rng, error);
        if (status == STATUS_OK) {
            status = measure(against->drawn, &drawn, &options->stats, error);
        }
        trace_close(&drawn);
        for (int64_t j = 0; status == STATUS_OK && j < against->num_layers * TRACE_FIGURES; j++) {
            moments_add(&against->layer_moments[j], against->drawn[j]);
        }
        for (int32_t f = 0; status == STATUS_OK && f < TRACE_FIGURES; f++) {
            moments_add(&against->mean_moments[f],
                        layers_mean(against->drawn, against->num_layers, f));
        }
        if (options->stats.progress != NULL) {
            options->stats.progress(options->stats.context, i + 3, total);
        }
    }
    gsl_rng_free(rng);
    return status;
}

static void judge(struct trace_figure *figure, const struct against *against)
{
    for (int32_t f = 0; f < TRACE_FIGURES; f++) {
        figure[f].value = layers_mean(against->value, against->num_layers, f);
        figure[f].other = layers_mean(against->other, against->num_layers, f);
        figure[f].spread = deviation(&against->mean_moments[f]);
        figure[f].inside = is_inside(figure[f].value, figure[f].other, figure[f].spread);
        figure[f].num_layers = 0;
        figure[f].layers_inside = 0;
        for (int64_t layer = 0; layer < against->num_layers; layer++) {
            int64_t at = layer * TRACE_FIGURES + f;
            if (isfinite(against->value[at]) && isfinite(against->other[at])) {
                figure[f].num_layers++;
                figure[f].layers_inside += is_inside(against->value[at], against->other[at],
                                                     deviation(&against->layer_moments[at]));
            }
        }
    }
}

static enum status shapes_check(const struct trace *trace, const struct trace *other,
                                struct error *error)
{
    if (trace->num_layers != other->num_layers || trace->num_experts != other->num_experts ||
        trace->top_k != other->top_k) {
        return error_add(error, STATUS_INVALID,
                         "%s has %d layers, %d experts, top-%d; %s has %d layers, %d experts, "
                         "top-%d: only like can be compared",
                         trace->name, trace->num_layers, trace->num_experts, trace->top_k,
                         other->name, other->num_layers, other->num_experts, other->top_k);
    }
    return STATUS_OK;
}

enum status trace_against(struct trace_figure *figure, const struct trace *trace,
                          const struct trace *other, const struct trace_against_options *options,
                          struct error *error)
{
    enum status status = shapes_check(trace, other, error);
    if (status != STATUS_OK) {
        return status;
    }
    struct arena arena = {0};
    struct against against = {.num_layers = trace->num_layers};
    size_t cells = (size_t)trace->num_layers * TRACE_FIGURES;
    against.value = arena_alloc(&arena, cells, sizeof *against.value);
    against.other = arena_alloc(&arena, cells, sizeof *against.other);
    against.drawn = arena_alloc(&arena, cells, sizeof *against.drawn);
    against.layer_moments = arena_alloc(&arena, cells, sizeof *against.layer_moments);
    against.mean_moments = arena_alloc(&arena, TRACE_FIGURES, sizeof *against.mean_moments);
    if (against.value == NULL || against.other == NULL || against.drawn == NULL ||
        against.layer_moments == NULL || against.mean_moments == NULL) {
        arena_free(&arena);
        return error_add(error, STATUS_NO_MEMORY, "no memory for the statistics of a trace");
    }
    int64_t ids = other->num_tokens * other->num_layers * other->top_k;
    int32_t num_draws = other->num_requests > 1 && ids <= IDS_MAX ? options->num_draws : 0;
    status = measure(against.value, trace, &options->stats, error);
    if (status == STATUS_OK) {
        status = measure(against.other, other, &options->stats, error);
    }
    if (status == STATUS_OK) {
        status = draws_measure(&against, other, options, num_draws, error);
    }
    if (status == STATUS_OK) {
        int32_t ranks = options->stats.ep_ranks > 0 ? options->stats.ep_ranks : 8;
        names_write(figure, ranks);
        judge(figure, &against);
    }
    arena_free(&arena);
    return status;
}
