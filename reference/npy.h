/*
 * npy.h -- NumPy's .npy files (format 1.0 to 3.0), mapped read-only or written as a stream.
 *
 * Format: numpy/lib/format.py. Only what arrays of numbers need is accepted: little-endian (or
 * single-byte) numbers, C order, up to NPY_DIMS_MAX dimensions. The header is parsed by hand and
 * every size is checked against the file before a payload byte is touched.
 */
#ifndef MOESIM_NPY_H
#define MOESIM_NPY_H

#include <stddef.h>
#include <stdint.h>

#include "status.h"

#define NPY_DIMS_MAX 4

enum npy_type {
    NPY_INT8,
    NPY_INT16,
    NPY_INT32,
    NPY_INT64,
    NPY_UINT8,
    NPY_UINT16,
    NPY_UINT32,
    NPY_UINT64,
    NPY_FLOAT16,
    NPY_FLOAT32,
    NPY_FLOAT64,
    NPY_TYPE_COUNT,
};

const char *npy_type_name(enum npy_type type); /* "uint8", ... */
int32_t npy_type_bytes(enum npy_type type);

struct npy {
    enum npy_type type;
    int32_t num_dims;
    int64_t dim[NPY_DIMS_MAX];
    int64_t num_elements;
    const void *data; /* [num_elements], little-endian as on every host we support */
    void *mapping;    /* private */
    size_t mapping_bytes;
};

/* Maps a file. STATUS_IO: cannot be opened or read; STATUS_INVALID: no .npy, truncated, big-endian,
 * Fortran order, an element type that is no plain number, more dimensions than NPY_DIMS_MAX, or a
 * header whose shape does not match the file's size. Release with npy_close. */
MUST_CHECK enum status npy_open(struct npy *npy, const char *path, struct error *error);
void npy_close(struct npy *npy); /* safe on a zeroed struct, and twice */

/* Reads the header of a .npy file of num_bytes that is not in a file of its own, such as a member
 * of a .npz, from its first prefix_bytes (64 KiB hold any header NumPy writes, and no more than all
 * of it can be given). Sets type, num_dims, dim and num_elements; the payload begins behind
 * header_bytes, aligned or not. Fails as npy_open does, path being the name in messages. */
MUST_CHECK enum status npy_header_read(struct npy *npy, size_t *header_bytes, const void *prefix,
                                       size_t prefix_bytes, size_t num_bytes, const char *path,
                                       struct error *error);

/* Reads element index of an integer array as int64 (uint64 above INT64_MAX: INT64_MAX). */
int64_t npy_int(const struct npy *npy, int64_t index);

/* The same of an array that is not in a file of its own. */
int64_t npy_int_of(enum npy_type type, const void *data, int64_t index);

/* IEEE half to float, exact; and float to half, round to nearest even, overflow to infinity. */
float npy_half_to_float(uint16_t half);
void npy_halves_to_floats(float *value, const uint16_t *half, int64_t count); /* the same */
uint16_t npy_float_to_half(float value);

/* A file under construction. The shape is fixed at the start; rows come in C order. */
struct npy_writer {
    int descriptor; /* -1: closed */
    int64_t header_bytes;
    int64_t bytes_expected; /* of payload */
    int64_t bytes_written;  /* of payload, by append and put together */
    char path[4096];
};

/* Creates or empties the file and writes the header. STATUS_IO when it cannot; nothing needs to be
 * closed then. More bytes than the shape holds, in the calls below, are a bug of the caller. */
MUST_CHECK enum status npy_writer_open(struct npy_writer *writer, const char *path,
                                       enum npy_type type, int32_t num_dims, const int64_t *dim,
                                       struct error *error);
MUST_CHECK enum status npy_writer_append(struct npy_writer *writer, const void *data, size_t bytes,
                                         struct error *error);
/* Writes at a byte offset of the payload, in any order: for arrays filled layer by layer. */
MUST_CHECK enum status npy_writer_put(struct npy_writer *writer, int64_t offset_bytes,
                                      const void *data, size_t bytes, struct error *error);
/* Syncs and closes. STATUS_IO when the disk is full, STATUS_INVALID when bytes are missing. */
MUST_CHECK enum status npy_writer_close(struct npy_writer *writer, struct error *error);
void npy_writer_abandon(struct npy_writer *writer); /* closes; the caller removes the file */

#endif
