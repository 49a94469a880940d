/*
 * npy_header.h -- the dictionary in the header of a .npy file; for npy.c only.
 */
#ifndef MOESIM_NPY_HEADER_H
#define MOESIM_NPY_HEADER_H

#include <stddef.h>

#include "npy.h"

/* Sets type, num_dims and dim from text[length], which need not be NUL-ended. STATUS_INVALID with
 * one message that names path. */
MUST_CHECK enum status npy_header_scan(struct npy *npy, const char *text, size_t length,
                                       const char *path, struct error *error);

#endif
