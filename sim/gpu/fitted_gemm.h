/*
 * fitted_gemm.h -- a dense or grouped GEMM in numbers that a fit can turn.
 */
#ifndef MOESIM_FITTED_GEMM_H
#define MOESIM_FITTED_GEMM_H

#include <stdbool.h>
#include <stdint.h>

#include "cluster.h"

/* rows x depth times depth x columns, groups times. */
struct gemm_shape {
    double rows;    /* tokens, of one group */
    double columns; /* output features */
    double depth;
    double groups;
    double row_tiles;    /* of all groups, where they differ; 0: as rows and groups make */
    bool is_ragged;      /* groups lie behind each other, cut into tiles of 128 rows */
    double weight_bytes; /* a weight, scales included */
    double rounds;       /* sets of weights that a measurement goes round; 0: none comes again */
    double num_sms;      /* left for compute */
    double gpu_sms;      /* all of them: what the constants' rates are of */
    double hbm_taken;    /* share of the HBM's bandwidth that is not left for compute */
};

/* Duration in ns; 0 without rows. */
double fitted_gemm_ns(const struct gemm_constants *constants, const struct gemm_shape *shape);

#endif
