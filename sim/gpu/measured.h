/*
 * measured.h -- a table of measured kernels as the compute model `measured` reads it.
 *
 * A point is one measurement: where it lies, and the logarithm of measured over predicted by the
 * constants that the model would use without it. Points of one shape make a curve over how much is
 * done; curves of one shape may lie side by side (attention: batches). Between points the logarithm
 * is interpolated linearly in the logarithm of how much is done, so a point is met exactly, and
 * between two of them tiles and waves are still the fit's. Nothing is said beyond the outermost
 * points, nor of shapes that were not measured.
 */
#ifndef MOESIM_MEASURED_H
#define MOESIM_MEASURED_H

#include <stdbool.h>
#include <stdint.h>

#include "cluster.h"
#include "gpu/fitted.h"
#include "gpu/fitted_attention.h"
#include "gpu/fitted_gemm.h"

#define MEASURED_SIDES 4

/* Where a kernel lies. Shapes are compared exactly. */
struct measured_place {
    int32_t kind;                /* constants of different kinds never mix */
    double side[MEASURED_SIDES]; /* the shape */
    double across;               /* logarithm of what tells curves of a shape apart, or 0 */
    double along;                /* logarithm of how much is done */
};

struct measured_point {
    struct measured_place place;
    double log_ratio; /* of measured over predicted */
    int64_t row;      /* of the table it was read from */
};

/* Zero-initialise; release with measured_free. */
struct measured_table {
    int64_t num_points;
    int64_t capacity;
    struct measured_point *point; /* [num_points] sorted by place once measured_sort was called */
    char fitted_on[SOURCE_BYTES]; /* what was read, in words */
    double error_median;          /* of points that are predicted by their neighbours */
};

struct measured_place measured_place_gemm(const struct gemm_shape *shape, enum precision precision);
struct measured_place measured_place_attention(const struct attention_shape *shape,
                                               enum attention_phase phase,
                                               enum precision precision);
struct measured_place measured_place_experts(const struct expert_shape *shape,
                                             const struct expert_load *load,
                                             enum precision precision);

/* Adds a point of positive times; a place that is not finite is left out. */
MUST_CHECK enum status measured_add(struct measured_table *table,
                                    const struct measured_place *place, double measured_ns,
                                    double predicted_ns, int64_t row, struct error *error);
void measured_sort(struct measured_table *table);
void measured_free(struct measured_table *table); /* safe on a zeroed table, and twice */

/* Measured over predicted at a place; table may be NULL. without: a point that is not looked at;
 * negative: none. false, and 1: the table does not cover the place. */
bool measured_ratio(double *ratio, const struct measured_table *table,
                    const struct measured_place *place, int64_t without);

#endif
