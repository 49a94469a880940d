/*
 * npy_writer.c -- writes .npy files (version 1.0) of a shape known at the start.
 *
 * Every write carries its position, so rows may come in any order; close syncs, so that a full
 * disk is noticed here and not by the reader.
 */
#include "npy.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define HEADER_BYTES    128 /* one header of any shape fits; a multiple of 64, as NumPy pads */
#define PREAMBLE_BYTES  10
#define WRITE_BYTES_MAX ((size_t)1 << 30) /* Linux writes at most 2 GiB less a page at a time */
#define PERMISSIONS     0666              /* less the user's umask */

static enum status write_at(const struct npy_writer *writer, int64_t offset, const void *data,
                            size_t bytes, struct error *error)
{
    const unsigned char *from = data;
    while (bytes > 0) {
        size_t wanted = bytes < WRITE_BYTES_MAX ? bytes : WRITE_BYTES_MAX;
        ssize_t written = pwrite(writer->descriptor, from, wanted, (off_t)offset);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return error_add(error, STATUS_IO, "%s: cannot be written: %s", writer->path,
                             strerror(written < 0 ? errno : ENOSPC));
        }
        from += written;
        offset += written;
        bytes -= (size_t)written;
    }
    return STATUS_OK;
}

/* Code of a type as NumPy writes it: '|u1', '<f2'. */
static void type_descriptor(char text[8], enum npy_type type)
{
    const char *name = npy_type_name(type);
    int32_t bytes = npy_type_bytes(type);
    (void)snprintf(text, 8, "%c%c%d", bytes == 1 ? '|' : '<', name[0], (int)bytes);
}

static void header_text(unsigned char header[HEADER_BYTES], enum npy_type type, int32_t num_dims,
                        const int64_t *dim)
{
    char shape[NPY_DIMS_MAX * 21 + 2] = "";
    char descriptor[8];
    char text[HEADER_BYTES];
    size_t used = 0;
    for (int32_t i = 0; i < num_dims; i++) {
        int length = snprintf(shape + used, sizeof shape - used, "%s%lld", i == 0 ? "" : ", ",
                              (long long)dim[i]);
        assert(length > 0 && (size_t)length < sizeof shape - used);
        used += (size_t)length;
    }
    type_descriptor(descriptor, type);
    int length =
        snprintf(text, sizeof text, "{'descr': '%s', 'fortran_order': False, 'shape': (%s%s), }",
                 descriptor, shape, num_dims == 1 ? "," : "");
    assert(length > 0 && length < HEADER_BYTES - PREAMBLE_BYTES);
    memset(header, ' ', HEADER_BYTES);
    memcpy(header, "\x93NUMPY\x01\x00", 8);
    header[8] = HEADER_BYTES - PREAMBLE_BYTES;
    header[9] = 0;
    memcpy(header + PREAMBLE_BYTES, text, (size_t)length);
    header[HEADER_BYTES - 1] = '\n';
}

enum status npy_writer_open(struct npy_writer *writer, const char *path, enum npy_type type,
                            int32_t num_dims, const int64_t *dim, struct error *error)
{
    unsigned char header[HEADER_BYTES];
    assert(num_dims >= 0 && num_dims <= NPY_DIMS_MAX);
    *writer = (struct npy_writer){.descriptor = -1, .header_bytes = HEADER_BYTES};
    if (strlen(path) >= sizeof writer->path) {
        return error_add(error, STATUS_INVALID, "%s: the path is too long", path);
    }
    memcpy(writer->path, path, strlen(path) + 1);
    writer->bytes_expected = npy_type_bytes(type);
    for (int32_t i = 0; i < num_dims; i++) {
        assert(dim[i] >= 0);
        if (dim[i] != 0 && writer->bytes_expected > (INT64_MAX - HEADER_BYTES) / dim[i]) {
            return error_add(error, STATUS_INVALID, "%s: the array is too large for any file",
                             path);
        }
        writer->bytes_expected *= dim[i];
    }
    header_text(header, type, num_dims, dim);
    writer->descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, PERMISSIONS);
    if (writer->descriptor < 0) {
        return error_add(error, STATUS_IO, "%s: cannot be created: %s", path, strerror(errno));
    }
    enum status status = write_at(writer, 0, header, HEADER_BYTES, error);
    if (status != STATUS_OK) {
        npy_writer_abandon(writer);
    }
    return status;
}

enum status npy_writer_append(struct npy_writer *writer, const void *data, size_t bytes,
                              struct error *error)
{
    return npy_writer_put(writer, writer->bytes_written, data, bytes, error);
}

enum status npy_writer_put(struct npy_writer *writer, int64_t offset_bytes, const void *data,
                           size_t bytes, struct error *error)
{
    assert(writer->descriptor >= 0);
    assert(offset_bytes >= 0 && offset_bytes <= writer->bytes_expected);
    assert(bytes <= (size_t)(writer->bytes_expected - offset_bytes));
    enum status status = write_at(writer, writer->header_bytes + offset_bytes, data, bytes, error);
    if (status == STATUS_OK) {
        writer->bytes_written += (int64_t)bytes;
    }
    return status;
}

enum status npy_writer_close(struct npy_writer *writer, struct error *error)
{
    enum status status = STATUS_OK;
    assert(writer->descriptor >= 0);
    if (fsync(writer->descriptor) != 0) {
        status =
            error_add(error, STATUS_IO, "%s: cannot be written: %s", writer->path, strerror(errno));
    }
    if (close(writer->descriptor) != 0 && status == STATUS_OK) {
        status =
            error_add(error, STATUS_IO, "%s: cannot be written: %s", writer->path, strerror(errno));
    }
    writer->descriptor = -1;
    if (status == STATUS_OK && writer->bytes_written != writer->bytes_expected) {
        status =
            error_add(error, STATUS_INVALID, "%s: %lld of %lld bytes were written", writer->path,
                      (long long)writer->bytes_written, (long long)writer->bytes_expected);
    }
    return status;
}

void npy_writer_abandon(struct npy_writer *writer)
{
    if (writer->descriptor >= 0) {
        close(writer->descriptor);
    }
    writer->descriptor = -1;
}
