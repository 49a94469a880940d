/*
 * trace_against.h -- a trace beside the one it shall be like, figure by figure.
 *
 * How far a figure may be off is what the other trace itself leaves open: its requests are drawn
 * anew, with replacement, and measured again; the standard deviation over such draws is the
 * figure's spread (Efron 1979, Ann. Stat. 7). Copies of a request are put far apart, and else the
 * order is kept, so that neighbours stay neighbours.
 */
#ifndef MOESIM_TRACE_AGAINST_H
#define MOESIM_TRACE_AGAINST_H

#include <stdbool.h>
#include <stdint.h>

#include "status.h"
#include "trace.h"
#include "trace_stats.h"

#define TRACE_FIGURES           (7 + TRACE_LAGS + 2 * TRACE_BATCH_SIZES + 2 * TRACE_DROP_FACTORS)
#define TRACE_FIGURE_NAME_BYTES 48

struct trace_figure {
    char name[TRACE_FIGURE_NAME_BYTES];
    double value;          /* of the trace: mean over layers that have the figure; NaN: none has */
    double other;          /* of the other */
    double spread;         /* of the other; NaN: not known */
    bool inside;           /* |value - other| at most 10 % of other or twice its spread */
    int32_t num_layers;    /* that have the figure in both traces */
    int32_t layers_inside; /* by each layer's own value and spread */
};

struct trace_against_options {
    struct trace_stats_options stats; /* progress is called with measurements done */
    int32_t num_draws;                /* of the other's requests; 0: no spread */
};

/* figure[TRACE_FIGURES] out, in the order of trace_figure_name. No spread (NaN) without requests or
 * above 2^28 ids. STATUS_INVALID: other layers, experts or top_k than the other; errors as
 * trace_stats_read. */
MUST_CHECK enum status trace_against(struct trace_figure *figure, const struct trace *trace,
                                     const struct trace *other,
                                     const struct trace_against_options *options,
                                     struct error *error);

#endif
