/*
 * load_file.h -- expert loads and placements from files.
 *
 * CSV has one row a layer, without a header: whole tokens by expert, or experts by slot. A .npy
 * array of integers is [layers][experts] or [steps][layers][experts]. What is wrong is reported
 * with file and line (or index).
 */
#ifndef MOESIM_LOAD_FILE_H
#define MOESIM_LOAD_FILE_H

#include <stdint.h>

#include "arena.h"
#include "status.h"

/* Arrays are the arena's. */
struct load_file {
    int32_t num_steps; /* 1 without steps */
    int32_t num_layers;
    int32_t num_experts;
    int64_t *load_tokens; /* [num_layers][num_experts] sums over steps */
    int32_t *step_tokens; /* [num_steps][num_layers][num_experts] */
};

/* STATUS_IO, STATUS_INVALID (negative, not a number, no token at all, wrong shape, ragged) or
 * STATUS_NO_MEMORY. */
MUST_CHECK enum status load_file_read(struct load_file *load, const char *path, struct arena *arena,
                                      struct error *error);

/* Reads a placement, [num_layers][num_slots], that must fit these loads: as many layers, slots in
 * each, ids in range, every expert somewhere. */
MUST_CHECK enum status placement_file_read(int32_t **expert_of_slot, const char *path,
                                           const struct load_file *load, int32_t num_slots,
                                           struct arena *arena, struct error *error);

#endif
