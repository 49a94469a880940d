/*
 * golden.h -- reads the vectors of tests/golden/, which make_reference.py wrote.
 */
#ifndef MOESIM_GOLDEN_H
#define MOESIM_GOLDEN_H

#include <stdint.h>

#include "npy.h"

/* Directory and array: golden("mixtral", "x"). Asserts that it can be read. Mapped until the test
 * program ends. golden_optional: NULL data where there is no such file. */
struct npy golden(const char *directory, const char *name);
struct npy golden_optional(const char *directory, const char *name);

/* max |a - b| over max |b|, count elements. */
double relative_max(const float *a, const float *b, int64_t count);

/* ||a - b|| over ||b||. */
double relative_frobenius(const float *a, const float *b, int64_t count);

#endif
