/*
 * csv_cells.h -- a line of a CSV file, cut into its cells.
 */
#ifndef MOESIM_CSV_CELLS_H
#define MOESIM_CSV_CELLS_H

#include <stdint.h>

/* Cuts line in place, its end of line off; cell [max] out. Quotes hold commas together and come off
 * (RFC 4180); a cell does not go on in the next line. Returns how many cells there are, at most
 * max. */
int32_t csv_cells(char **cell, int32_t max, char *line);

#endif
