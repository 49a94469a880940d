/*
 * trace_diff.h -- two traces' statistics side by side, and whether their hot experts are the same.
 */
#ifndef MOESIM_TRACE_DIFF_H
#define MOESIM_TRACE_DIFF_H

#include <stdbool.h>
#include <stdint.h>

#include "status.h"
#include "trace.h"
#include "trace_stats.h"

#define TRACE_DIFF_FIGURES 64

/* A figure of trace_stats_layer: medians over the layers that have it, NaN where none has. */
struct trace_diff_figure {
    char name[40];
    double a;
    double b;
    double most;        /* B - A of the layer where they differ most, of layers both have; or NaN */
    int32_t most_layer; /* of the model */
};

/* A layer that both traces have, of the same number of experts. */
struct trace_diff_layer {
    int32_t model_layer;
    double moved; /* share of assignments that would have to go to another expert, 0 to 1: half
                     the sum of differences of shares (total variation) */
    double correlation; /* of the experts' loads (Pearson); NaN where one is even */
};

struct trace_diff {
    struct trace_stats stats[2];
    int32_t num_figures;
    struct trace_diff_figure figure[TRACE_DIFF_FIGURES];
    int32_t num_layers;
    struct trace_diff_layer *layer; /* [num_layers] */
};

/* Reads both traces whole. STATUS_INVALID as trace_stats_read. Release with trace_diff_free, also
 * after a failure. */
MUST_CHECK enum status trace_diff_read(struct trace_diff *diff, const struct trace *a,
                                       const struct trace *b,
                                       const struct trace_stats_options *options,
                                       struct error *error);
void trace_diff_free(struct trace_diff *diff); /* safe on a zeroed struct, and twice */

#endif
