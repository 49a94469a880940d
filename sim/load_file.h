/*
 * load_file.h -- expert loads from files.
 *
 * CSV has one row a layer, without a header: whole tokens by expert. A .npy array of integers is
 * [layers][experts] or [steps][layers][experts]. A trace's directory is counted, in 64 steps of as
 * many tokens. What is wrong is reported with file and line (or
 * index).
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

/* Whole numbers from CSV without a header, row by row; row r stands in line r + 1. */
struct load_matrix {
    int64_t num_rows;
    int64_t num_columns;
    int32_t *value; /* [num_rows][num_columns] */
};

MUST_CHECK enum status load_matrix_read(struct load_matrix *matrix, const char *path,
                                        struct arena *arena, struct error *error);

#endif
