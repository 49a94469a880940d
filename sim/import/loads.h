/*
 * loads.h -- formats of loads: tokens by step, layer and expert instead of routed rows.
 */
#ifndef MOESIM_LOADS_H
#define MOESIM_LOADS_H

#include "import/sink.h"

/* Reads all loads of sink->format and writes them to sink->path, whose name says as what:
 *   .csv   sums over steps, a row a layer, tokens by expert } both as moesim place --load and
 *   .npy   int32 [steps][layers][experts]                   } moesim compare read them
 * STATUS_INVALID for other names; nothing half-written stays. */
MUST_CHECK enum status import_loads_run(struct import_sink *sink);

#endif
