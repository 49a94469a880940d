/*
 * loads.h -- formats of loads: tokens by step, layer and expert instead of routed rows.
 */
#ifndef MOESIM_LOADS_H
#define MOESIM_LOADS_H

#include "import/sink.h"

#define IMPORT_LOADS_LAYERS 4096

/* What a pass over loads knows. */
struct import_loads {
    bool is_present[IMPORT_LOADS_LAYERS]; /* by number in the file */
    int32_t row[IMPORT_LOADS_LAYERS];     /* of the result; -1: not wanted */
    int32_t num_rows;
    int32_t num_experts;
    int64_t num_steps;
    int64_t num_dense;    /* counts left out, of layers without experts */
    int64_t *sum;         /* [num_rows][num_experts]; NULL in the first pass */
    int32_t *step_tokens; /* [num_steps][num_rows][num_experts], or NULL */
};

/* Reads all loads of sink->format and writes them to sink->path, whose name says as what:
 *   .csv   sums over steps, a row a layer, tokens by expert } both as moesim place --load and
 *   .npy   int32 [steps][layers][experts]                   } moesim compare read them
 *   .yaml  a preset of the generator that gives each expert its share, with its table beside it
 * STATUS_INVALID for other names; nothing half-written stays. */
MUST_CHECK enum status import_loads_run(struct import_sink *sink);

/* Writes the preset. STATUS_INVALID without a model's name and top_k, or for shares that no top_k
 * can give. */
MUST_CHECK enum status import_loads_preset(const struct import_sink *sink,
                                           const struct import_loads *loads);

#endif
