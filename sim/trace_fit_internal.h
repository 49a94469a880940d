/* trace_fit_internal.h -- the steps of a fit: for trace_fit*.c only. */
#ifndef MOESIM_TRACE_FIT_INTERNAL_H
#define MOESIM_TRACE_FIT_INTERNAL_H

#include <stdint.h>

#include "arena.h"
#include "generate_coupled.h"
#include "trace_fit.h"

#define FIT_FACTORS 16 /* of a request; fewer where there are few requests */
#define FIT_EPOCHS  3  /* passes over the rows */
#define FIT_ROUNDS  32 /* of generating and correcting */
#define FIT_DOMAINS 24 /* at most, of a trace whose neighbours are alike */

/* The rows that a fit learns from. Arrays are the arena's. */
struct fit_rows {
    int32_t num_layers;
    int32_t num_experts;
    int32_t top_k;
    int32_t num_factors;
    int32_t num_requests;
    int32_t every; /* one request of so many was taken */
    int64_t num_tokens;
    int64_t *begin;     /* [num_requests + 1] first row of each request, here */
    int64_t *request;   /* [num_requests] which of the trace's */
    uint16_t *expert;   /* [num_layers][num_tokens][top_k] */
    float *factor;      /* [num_requests][num_factors] mean 0, covariance 1 over the requests */
    int32_t *domain;    /* [num_requests] of the law's domains, from fit_domains on */
    struct arena arena; /* holds the arrays */
};

/* Takes requests and their rows. Errors as trace_fit. */
MUST_CHECK enum status fit_rows_take(struct fit_rows *rows, const struct trace *trace,
                                     struct error *error);

/* Fills rows->factor: the directions in which requests differ most in what they choose. */
MUST_CHECK enum status fit_factors(struct fit_rows *rows, uint64_t seed, struct error *error);

/* Fills the law's domains, groups of requests that follow each other or share a tag, and
 * rows->domain. */
MUST_CHECK enum status fit_domains(struct coupled_law *law, struct fit_rows *rows,
                                   const struct trace *trace, struct error *error);

/* A table before it is rounded, in natural logarithms: [num_layers][rows][num_experts]. */
struct fit_table {
    float *value;
    float *square; /* sums of squared gradients, the same shape */
};

/* One pass over the rows of a layer in the given order [num_requests]. step: of the descent. */
MUST_CHECK enum status fit_learn(float *value, float *square, const struct fit_rows *rows,
                                 const struct coupled_law *law, int32_t layer, const int32_t *order,
                                 float step);

/* Rounds value into law->table. */
void fit_round(struct coupled_law *law, const float *value);

/* What each domain chose and shall choose; cells = num_layers * num_experts. */
struct fit_loads {
    int64_t cells;
    double noise;              /* in squares of means */
    double sigma[FIT_FACTORS]; /* of requests within a domain */
    double *mean;              /* [num_domains][num_factors] in units of sigma */
    double *wanted;            /* [num_domains][cells] choices in the trace */
    double *got;               /* [num_domains][cells] in the trace generated last */
    double *excess;            /* [num_domains][num_experts] of a layer */
    int64_t *count;            /* [num_experts] scratch */
    struct generate_normal *normal;
    struct arena arena; /* holds the arrays */
};

/* Release with fit_loads_close, also after a failure. */
MUST_CHECK enum status fit_loads_open(struct fit_loads *loads, const struct coupled_law *law,
                                      const struct fit_rows *rows, struct error *error);
void fit_loads_close(struct fit_loads *loads); /* safe on a zeroed struct, and twice */

/* Corrects the request rows of value by a trace that was generated from preset with options. */
MUST_CHECK enum status fit_loads_correct(struct fit_loads *loads, float *value,
                                         const struct generate_preset *preset,
                                         const struct generate_options *options,
                                         const struct trace *trace, double step,
                                         struct error *error);

/* Corrects value and the law's drifts by generating FIT_ROUNDS traces. preset->coupled is the law.
 * progress is called with done + the rounds done, of total. */
MUST_CHECK enum status fit_tune(struct generate_preset *preset, float *value,
                                const struct trace *trace, const struct fit_rows *rows,
                                const struct trace_fit_options *options, int64_t done,
                                int64_t total, struct error *error);

/* Sets law->gate_scale by the gate weights of a trace; leaves it where the trace has none. */
MUST_CHECK enum status fit_gate(struct coupled_law *law, const struct trace *trace, uint64_t seed,
                                struct error *error);

#endif
