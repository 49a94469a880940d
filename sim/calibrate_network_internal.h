/*
 * calibrate_network_internal.h -- what the files of calibrate_network share.
 */
#ifndef MOESIM_CALIBRATE_NETWORK_INTERNAL_H
#define MOESIM_CALIBRATE_NETWORK_INTERNAL_H

#include "calibrate_network.h"

/* Fits one set, holds rows out of it, and appends their errors to calibration's. */
MUST_CHECK enum status calibrate_network_set(struct network_set *set,
                                             const struct alltoall_rows *rows,
                                             const struct network_options *options,
                                             struct network_calibration *calibration,
                                             struct error *error);

#endif
