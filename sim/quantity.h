/*
 * quantity.h -- numbers with a unit as people write them: 1M, 600B, 4k, 50ms, 2s.
 */
#ifndef MOESIM_QUANTITY_H
#define MOESIM_QUANTITY_H

#include <stdbool.h>

/* "1.5M" is 1.5e6; k, M, G or B, T, letter case only for k. False: no number, or more behind it. */
bool quantity_count(double *count, const char *text);

/* "50ms" is 0.05; us, ms, s or min, never without: 50 is no time a token. */
bool quantity_seconds(double *seconds, const char *text);

#endif
