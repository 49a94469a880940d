/*
 * step_time_internal.h -- what the step_time*.c files share and nobody else includes.
 */
#ifndef MOESIM_STEP_TIME_INTERNAL_H
#define MOESIM_STEP_TIME_INTERNAL_H

#include <stdatomic.h>

#include "arena.h"
#include "serve/step_time.h"

/* Attention layers that look back equally far. */
struct attention_span {
    int32_t layer;      /* one of them */
    int32_t num_layers; /* of the kind */
    int64_t window;     /* most positions a token looks back on */
};

struct step_time {
    struct step_time *reading; /* of steps that read prompts beside answers, owned; NULL: as others.
                                  Its placement is ours */
    struct scenario scenario;  /* a copy: placement set, no rebalancing; owns nothing */
    struct trace trace;        /* a view without recorded steps; owns nothing */
    bool has_trace;
    bool is_reading; /* it is another's table of steps that read */
    int32_t num_contexts;
    double slowdown; /* of the slowest rank's compute */
    struct attention_span kind[2];
    int32_t num_kinds;
    _Atomic double *gemms_ns; /* [gemms_max + 1] of attention, by tokens of a replica, kept when
                                 they are first asked for; in the arena; 0: not yet */
    int32_t gemms_max;        /* 0: none is kept */
    struct step_point *point; /* [num_points] by tokens, owned */
    int32_t num_points;
    int32_t capacity;
    struct step_time_error error;
    double *tested; /* [error.num_tests] relative errors, owned */
    struct arena arena;
};

enum step_column { STEP_COLUMN_REST, STEP_COLUMN_OWN };

/* A column between its points, with this much attention over the cache. */
double step_look_up(const struct step_time *step_time, enum step_column column, double tokens,
                    double extra_ns);

/* The point at or before this many tokens that has another behind it; the only one. */
int32_t step_interval(const struct step_time *step_time, double tokens);

/* Attention of a replica in a step, all layers. */
double step_attention_ns(const struct step_time *step_time, const struct step_load *load);

/* Keeps GEMMs of so many tokens from now on, where the GPU model tells them apart: for a batch that
 * is asked for again and again only contexts change. */
MUST_CHECK enum status step_keep_gemms(struct step_time *step_time, int64_t tokens_max);

/* The output head of one of its ranks. */
double step_head_ns(const struct step_time *step_time, const struct step_load *load);

/* Simulates steps of the point's tokens and fills the rest of it. */
MUST_CHECK enum status step_point_run(struct step_point *point, const struct step_time *step_time,
                                      struct error *error);

/* Places experts as the scenario's strategy answers to the loads of warm-up steps. */
MUST_CHECK enum status step_place(struct step_time *step_time, struct error *error);

#endif
