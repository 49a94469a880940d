/*
 * calibrate_network.h -- fits the constants of collectives to measured exchanges.
 *
 * One fit for each cluster kind, collective, format and exchange that the rows hold (a set), by
 * robust_fit on the form of collective/exchange.h. A row's plan is run through alpha_beta once with
 * and once without overhead; in between, time is linear in it, as every wire is. What is known
 * beforehand pulls the constants: a NIC reaches 0.93 of its rate (40 to 47 of 50 GB/s, DeepEP), an
 * NVLink 0.75, and another node costs one crossing of the fabric (3.7 us); the rest is wide. A set
 * of fewer than NETWORK_ROWS_MIN rows is not fitted.
 */
#ifndef MOESIM_CALIBRATE_NETWORK_H
#define MOESIM_CALIBRATE_NETWORK_H

#include <stdint.h>
#include <stdio.h>

#include "alltoall_rows.h"
#include "error_report.h"

#define NETWORK_ROWS_MIN  12
#define NETWORK_CONSTANTS 17
#define NETWORK_SETS_MAX  128
#define NETWORK_FOLDS_MAX 16

enum network_holdout {
    NETWORK_BY_EP,     /* a degree at a time; a set of one degree as by size */
    NETWORK_BY_SIZE,   /* every eighth size, in eight turns */
    NETWORK_BY_CHANCE, /* a share of the rows, once */
};

struct network_options {
    enum network_holdout holdout;
    double random_share;
    int32_t num_bootstrap; /* resampled fits for the intervals; 0: none */
    const char *gpu;       /* only clusters of this preset; NULL: all */
    const char *table;     /* file name, for the provenance */
};

struct network_fold {
    int32_t ep; /* that was held out; 0: sizes or chance */
    struct error_summary error;
};

struct network_set {
    char cluster[NAME_BYTES];
    char dtype[NAME_BYTES];
    const struct collective *collective;
    enum exchange exchange;
    const char *library;
    int32_t gpus_per_node; /* the most of its rows */
    const struct gpu_spec *gpu;
    int32_t num_rows;
    bool spans_nodes; /* some of its rows do */
    int32_t num_sms;  /* of which copy_bytes_per_s is; 0: the rows do not say */
    struct exchange_constants constants;
    double low[NETWORK_CONSTANTS]; /* 90 % bootstrap interval; 0: not asked for */
    double high[NETWORK_CONSTANTS];
    int32_t num_folds;
    struct network_fold fold[NETWORK_FOLDS_MAX];
    struct error_summary held_out;
    int64_t first_error; /* into network_calibration.error */
    int32_t num_errors;
};

/* Zero-initialise; it is large. */
struct network_calibration {
    int32_t num_sets;
    struct network_set set[NETWORK_SETS_MAX];
    int64_t num_errors;
    double *error;  /* [num_errors] held-out, relative, one set after the other; owned */
    double *sorted; /* [num_errors] scratch; owned */
    int32_t *ep;    /* [num_errors] degree of each; owned */
    struct error_summary held_out;         /* of all sets */
    struct error_summary held_out_largest; /* of DeepEP at EP 32, from lower degrees */
};

/* Fits all sets. Release with network_calibration_free, also after a failure. */
MUST_CHECK enum status calibrate_network(struct network_calibration *calibration,
                                         const struct alltoall_rows *rows,
                                         const struct network_options *options,
                                         struct error *error);
void network_calibration_free(struct network_calibration *calibration);

/* Writes DIRECTORY/CLUSTER.yaml, a preset, for each cluster. */
MUST_CHECK enum status calibrate_network_write(const struct network_calibration *calibration,
                                               const struct network_options *options,
                                               const char *directory, struct error *error);

/* Names of the constants in the order of struct exchange_constants, and one of them. */
const char *network_constant_name(int32_t index);

const char *network_exchange_name(enum exchange exchange);

#endif
