/*
 * safetensors.h -- tensors in a .safetensors file, mapped read-only.
 *
 * Eight bytes say how long the header is, a JSON object {name: {dtype, shape, data_offsets}}; the
 * rest is the tensors' bytes, in C order, little-endian (huggingface/safetensors, README,
 * "Format"). As there, they fill the rest without overlap and without holes; that is checked before
 * one is looked at.
 */
#ifndef MOESIM_SAFETENSORS_H
#define MOESIM_SAFETENSORS_H

#include <stdint.h>

#include "import/import.h"
#include "status.h"
#include "tensor.h"

#define SAFETENSORS_HEADER_MAX (INT64_C(16) << 20) /* a hundred thousand tensors */

struct safetensors_entry {
    const char *name; /* valid until safetensors_close */
    struct tensor tensor;
};

struct safetensors {
    int64_t num_entries;
    struct safetensors_entry *entry; /* [num_entries] in the order of their bytes */
    struct import_file file;         /* private */
    void *header;                    /* private */
};

/* Release with safetensors_close, also after a failure. STATUS_IO, STATUS_NO_MEMORY or
 * STATUS_INVALID with one message. */
MUST_CHECK enum status safetensors_open(struct safetensors *file, const char *path,
                                        struct error *error);
void safetensors_close(struct safetensors *file); /* safe on a zeroed struct, and twice */

#endif
