/*
 * alltoall_internal.h -- what the files of alltoall_rows share.
 */
#ifndef MOESIM_ALLTOALL_INTERNAL_H
#define MOESIM_ALLTOALL_INTERNAL_H

#include "alltoall_rows.h"

#define ALLTOALL_EP_MAX 256

/* Makes the plans of a row's legs and measures them. */
MUST_CHECK enum status alltoall_plan(struct alltoall_row *row, const struct gpu_spec *gpu,
                                     struct arena *arena);

#endif
