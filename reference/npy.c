/*
 * npy.c -- maps .npy files after checking every number in their headers.
 *
 * Layout: "\x93NUMPY", version (2 bytes), header length (2 bytes in version 1, else 4), then a
 * Python dictionary as text and the payload. Source: numpy/lib/format.py, "Format Version 1.0".
 */
#include "npy.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "npy_header.h"

#define MAGIC          "\x93NUMPY"
#define MAGIC_BYTES    ((size_t)6)
#define PREAMBLE_BYTES ((size_t)10) /* of version 1; two more in versions 2 and 3 */

static const struct {
    const char *name;
    int32_t bytes;
} types[NPY_TYPE_COUNT] = {
    [NPY_INT8] = {"int8", 1},       [NPY_INT16] = {"int16", 2},     [NPY_INT32] = {"int32", 4},
    [NPY_INT64] = {"int64", 8},     [NPY_UINT8] = {"uint8", 1},     [NPY_UINT16] = {"uint16", 2},
    [NPY_UINT32] = {"uint32", 4},   [NPY_UINT64] = {"uint64", 8},   [NPY_FLOAT16] = {"float16", 2},
    [NPY_FLOAT32] = {"float32", 4}, [NPY_FLOAT64] = {"float64", 8},
};

const char *npy_type_name(enum npy_type type)
{
    assert(type < NPY_TYPE_COUNT);
    return types[type].name;
}

int32_t npy_type_bytes(enum npy_type type)
{
    assert(type < NPY_TYPE_COUNT);
    return types[type].bytes;
}

/* Compares the shape with the bytes that are there. */
static enum status check_size(struct npy *npy, size_t payload_bytes, const char *path,
                              struct error *error)
{
    bool empty = false;
    for (int32_t i = 0; i < npy->num_dims; i++) {
        empty = empty || npy->dim[i] == 0;
    }
    int64_t elements = empty ? 0 : 1;
    for (int32_t i = 0; i < npy->num_dims && !empty; i++) {
        if (elements > INT64_MAX / types[npy->type].bytes / npy->dim[i]) {
            return error_add(error, STATUS_INVALID, "%s: its shape is too large for any file",
                             path);
        }
        elements *= npy->dim[i];
    }
    int64_t expected = elements * types[npy->type].bytes;
    int64_t found = (int64_t)payload_bytes;
    if (found != expected) {
        return error_add(error, STATUS_INVALID,
                         "%s: its shape asks for %lld bytes but %lld follow the header%s", path,
                         (long long)expected, (long long)found,
                         found < expected ? "; the file is truncated, write it again" : "");
    }
    npy->num_elements = elements;
    return STATUS_OK;
}

enum status npy_header_read(struct npy *npy, size_t *header_bytes, const void *prefix,
                            size_t prefix_bytes, size_t num_bytes, const char *path,
                            struct error *error)
{
    const unsigned char *bytes = prefix;
    *header_bytes = 0;
    if (prefix_bytes < MAGIC_BYTES || memcmp(bytes, MAGIC, MAGIC_BYTES) != 0) {
        return error_add(error, STATUS_INVALID,
                         "%s: is no .npy file (wrong magic); write it with numpy.save()", path);
    }
    if (prefix_bytes < PREAMBLE_BYTES + 2) {
        return error_add(error, STATUS_INVALID,
                         "%s: ends within its header; the file is truncated, write it again", path);
    }
    if (bytes[6] < 1 || bytes[6] > 3 || bytes[7] != 0) {
        return error_add(error, STATUS_INVALID,
                         "%s: has .npy version %d.%d; 1.0, 2.0 and 3.0 are understood", path,
                         bytes[6], bytes[7]);
    }
    size_t start = bytes[6] == 1 ? PREAMBLE_BYTES : PREAMBLE_BYTES + 2;
    size_t length = (size_t)bytes[8] | (size_t)bytes[9] << 8;
    if (bytes[6] != 1) {
        length |= (size_t)bytes[10] << 16 | (size_t)bytes[11] << 24;
    }
    if (length > prefix_bytes - start) {
        return error_add(error, STATUS_INVALID,
                         "%s: its header of %zu bytes goes beyond the end of the file; the file is "
                         "truncated, write it again",
                         path, length);
    }
    enum status status = npy_header_scan(npy, (const char *)bytes + start, length, path, error);
    if (status == STATUS_OK) {
        status = check_size(npy, num_bytes - start - length, path, error);
    }
    *header_bytes = start + length;
    return status;
}

/* Reads the header of the mapped bytes and points data at the payload. */
static enum status parse(struct npy *npy, const char *path, struct error *error)
{
    size_t start = 0;
    enum status status = npy_header_read(npy, &start, npy->mapping, npy->mapping_bytes,
                                         npy->mapping_bytes, path, error);
    if (status == STATUS_OK && start % (size_t)types[npy->type].bytes != 0) {
        status = error_add(error, STATUS_INVALID,
                           "%s: its payload starts at byte %zu, unaligned for %s; write it with "
                           "numpy.save()",
                           path, start, types[npy->type].name);
    }
    npy->data = (const unsigned char *)npy->mapping + start;
    return status;
}

enum status npy_open(struct npy *npy, const char *path, struct error *error)
{
    enum status status = STATUS_OK;
    struct stat info;
    *npy = (struct npy){.mapping = NULL};
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not block us */
    if (descriptor < 0 || fstat(descriptor, &info) != 0) {
        status = error_add(error, STATUS_IO, "%s: %s", path, strerror(errno));
        goto done;
    }
    if (!S_ISREG(info.st_mode)) {
        status = error_add(error, STATUS_INVALID, "%s: is no regular file", path);
        goto done;
    }
    if (info.st_size == 0) { /* mmap refuses it */
        status = error_add(error, STATUS_INVALID, "%s: is empty; write it again", path);
        goto done;
    }
    void *mapping = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED, descriptor, 0);
    if (mapping == MAP_FAILED) {
        status = error_add(error, STATUS_IO, "%s: cannot be mapped: %s", path, strerror(errno));
        goto done;
    }
    npy->mapping = mapping;
    npy->mapping_bytes = (size_t)info.st_size;
    status = parse(npy, path, error);

done:
    if (descriptor >= 0) {
        close(descriptor);
    }
    if (status != STATUS_OK) {
        npy_close(npy);
    }
    return status;
}

void npy_close(struct npy *npy)
{
    if (npy->mapping != NULL) {
        munmap(npy->mapping, npy->mapping_bytes);
    }
    *npy = (struct npy){.mapping = NULL};
}

int64_t npy_int_of(enum npy_type type, const void *data, int64_t index)
{
    switch (type) {
    case NPY_INT8:
        return ((const int8_t *)data)[index];
    case NPY_INT16:
        return ((const int16_t *)data)[index];
    case NPY_INT32:
        return ((const int32_t *)data)[index];
    case NPY_INT64:
        return ((const int64_t *)data)[index];
    case NPY_UINT8:
        return ((const uint8_t *)data)[index];
    case NPY_UINT16:
        return ((const uint16_t *)data)[index];
    case NPY_UINT32:
        return ((const uint32_t *)data)[index];
    case NPY_UINT64: {
        uint64_t value = ((const uint64_t *)data)[index];
        return value > INT64_MAX ? INT64_MAX : (int64_t)value;
    }
    case NPY_FLOAT16:
    case NPY_FLOAT32:
    case NPY_FLOAT64:
    case NPY_TYPE_COUNT:
        break;
    }
    assert(false && "npy_int reads integer arrays");
    return 0;
}

int64_t npy_int(const struct npy *npy, int64_t index)
{
    assert(index >= 0 && index < npy->num_elements);
    return npy_int_of(npy->type, npy->data, index);
}
