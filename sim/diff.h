/*
 * diff.h -- two stored runs side by side: what was asked differently, what came out differently.
 *
 * Reads complete runs of one or two results files through the store. Every difference is B - A and
 * relative to A, so A is the run to compare with and B the one in question.
 */
#ifndef MOESIM_DIFF_H
#define MOESIM_DIFF_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "money.h"
#include "status.h"

#define DIFF_METRICS_MAX 40

enum diff_unit {
    DIFF_PLAIN, /* ratios and shares */
    DIFF_NS,
    DIFF_BYTES,
    DIFF_COUNT,
    DIFF_USD,
};

struct diff_metric {
    const char *name; /* as in the results file, "step_ns_mean" */
    enum diff_unit unit;
    double value[2]; /* of A and B; NAN: the run has no such metric */
};

/* Means over steps of one MoE layer, both runs. */
struct diff_layer {
    int32_t layer; /* the model's number of it */
    double layer_ns[2];
    double expert_ns_max[2];
    double rank_tokens_max_over_mean[2];
    double dropped_share[2];
};

/* A key of the scenario, dotted as for --set, or "trace digest", "commit". */
struct diff_key {
    const char *key;
    const char *value[2]; /* as in the scenario's canonical text; NULL: the run has no such key */
};

struct diff_run {
    const char *results; /* file, as the caller named it */
    const char *run_id;
    const char *label;
    const char *scenario;
    const char *digest;
};

/* Zero-initialise; release with diff_free. Everything is the arena's. */
struct diff {
    struct diff_run run[2];
    bool equal;         /* digests are: every message and every phase at the same nanosecond */
    struct money money; /* of both runs */
    int32_t num_metrics;
    struct diff_metric metric[DIFF_METRICS_MAX];
    int32_t num_layers;
    struct diff_layer *layer; /* [num_layers] those that both runs have and whose mean time, busiest
                               * rank or drops differ; the largest change of time first */
    int32_t num_keys;
    struct diff_key
        *key; /* [num_keys] those that differ: the scenario's in alphabetical order, then others */
    struct arena arena;
};

struct diff_options {
    const char *results[2]; /* files; may be one */
    const char *run[2];     /* run_id, label, "first" or "last" */
};

/* STATUS_INVALID: a run is not there, or a label names several. */
MUST_CHECK enum status diff_load(struct diff *diff, const struct diff_options *options,
                                 struct error *error);
void diff_free(struct diff *diff); /* safe on a zeroed struct, and twice */

/* Names of all metrics, in order; NULL past the last. */
const char *diff_metric_name(int32_t index);

bool diff_has(const struct diff_metric *metric);      /* both runs have it */
double diff_change(const struct diff_metric *metric); /* B - A */

/* (B - A) / |A|; infinite where only A is 0, 0 where both are. */
double diff_relative(const struct diff_metric *metric);

/* "step_ns_mean>+3%": fails when the metric's relative change is above 3 %. Without the percent
 * sign the change itself is meant, in the metric's unit: "rebalances>0". < fails below. */
struct diff_gate {
    const char *expression; /* the caller's */
    int32_t metric;         /* index */
    bool above;
    bool relative;
    double limit; /* a fraction if relative */
};

/* STATUS_INVALID with one problem when the expression cannot be understood. */
MUST_CHECK enum status diff_gate_parse(struct diff_gate *gate, const char *expression,
                                       struct error *error);
bool diff_gate_fails(const struct diff_gate *gate, const struct diff *diff);

/* STATUS_INVALID if a run lacks the gate's metric: a limit on nothing would always hold. */
MUST_CHECK enum status diff_gate_check(const struct diff_gate *gate, const struct diff *diff,
                                       struct error *error);

#endif
