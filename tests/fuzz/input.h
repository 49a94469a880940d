/*
 * input.h -- files for functions under fuzz that take a path.
 */
#ifndef MOESIM_INPUT_H
#define MOESIM_INPUT_H

#include <stddef.h>
#include <stdint.h>

/* The path of a file name of this process's own, in memory where the host has /dev/shm; whatever
 * is there is removed at exit. Valid for the life of the process; ends the process without memory.
 */
const char *input_path(const char *name);

/* Writes data to input_path(name) and returns the path. */
const char *input_write(const char *name, const uint8_t *data, size_t bytes);

/* Cuts data at each line "----": writes the pieces to names in turn, an empty piece meaning that
 * there is no such file. */
void input_write_pieces(const char *const *names, int32_t num_names, const uint8_t *data,
                        size_t bytes);

#endif
