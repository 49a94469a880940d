/*
 * network_cli.h -- moesim calibrate for exchanges between GPUs.
 */
#ifndef MOESIM_NETWORK_CLI_H
#define MOESIM_NETWORK_CLI_H

#include <stdint.h>

/* Fits the exchanges of a table, prints what the fits are worth and, unless out is NULL, writes a
 * preset a cluster there. gpu: only its clusters, NULL: all. holdout: ep (NULL: that), size or
 * random:F. Returns the exit code. */
int network_calibrate(const char *path, const char *gpu, const char *holdout, int32_t num_bootstrap,
                      const char *out);

#endif
