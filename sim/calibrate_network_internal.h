/*
 * calibrate_network_internal.h -- what the files of calibrate_network share.
 */
#ifndef MOESIM_CALIBRATE_NETWORK_INTERNAL_H
#define MOESIM_CALIBRATE_NETWORK_INTERNAL_H

#include "calibrate_network.h"

/* In the order of struct exchange_constants. */
enum {
    NETWORK_STARTUP,
    NETWORK_FAR_STARTUP,
    NETWORK_NODE,
    NETWORK_DOUBLING,
    NETWORK_EXPERT,
    NETWORK_FAR_EXPERT,
    NETWORK_FILL,
    NETWORK_FILL_HALF,
    NETWORK_TOKEN,
    NETWORK_TOKEN_BYTE,
    NETWORK_UP,
    NETWORK_OUT,
    NETWORK_COPY,
    NETWORK_OWN,
    NETWORK_EXTRA,
    NETWORK_BLOCKS,
    NETWORK_BLEND,
};

/* What is known beforehand of a kind of kernels: its most likely constants and how far they may be
 * from that, in widths of logarithms; 0: they are not fitted. */
struct network_kind {
    const char *collective;
    enum exchange exchange; /* EXCHANGE_COUNT: any */
    bool one_startup;       /* far_startup_ns is startup_ns */
    bool in_node;           /* only of sets inside one node */
    struct {
        double prior;
        double width;
    } constant[NETWORK_CONSTANTS];
};

/* The first kind that is the set's. */
const struct network_kind *network_kind_of(const struct network_set *set);

/* Fits one set, holds rows out of it, and appends their errors to calibration's. */
MUST_CHECK enum status calibrate_network_set(struct network_set *set,
                                             const struct alltoall_rows *rows,
                                             const struct network_options *options,
                                             struct network_calibration *calibration,
                                             struct error *error);

#endif
