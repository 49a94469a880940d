/*
 * tensor.h -- an array of numbers as PyTorch, safetensors and NumPy files hold it: a view of bytes.
 */
#ifndef MOESIM_TENSOR_H
#define MOESIM_TENSOR_H

#include <stdbool.h>
#include <stdint.h>

#include "npy.h"
#include "status.h"

#define TENSOR_DIMS_MAX 8

enum tensor_type {
    TENSOR_BOOL,
    TENSOR_INT8,
    TENSOR_INT16,
    TENSOR_INT32,
    TENSOR_INT64,
    TENSOR_UINT8,
    TENSOR_UINT16,
    TENSOR_UINT32,
    TENSOR_UINT64,
    TENSOR_FLOAT16,
    TENSOR_BFLOAT16,
    TENSOR_FLOAT32,
    TENSOR_FLOAT64,
    TENSOR_TYPE_COUNT,
};

const char *tensor_type_name(enum tensor_type type); /* "int64", ... */
int32_t tensor_type_bytes(enum tensor_type type);
bool tensor_type_is_integer(enum tensor_type type); /* truth values count as integers */
/* The same type of a .npy file. False: there is none (bool, bfloat16). */
bool tensor_type_to_npy(enum npy_type *npy_type, enum tensor_type type);

/* Strides are in elements and not negative. The bytes need not be aligned. */
struct tensor {
    enum tensor_type type;
    int32_t num_dims;
    int64_t dim[TENSOR_DIMS_MAX];
    int64_t stride[TENSOR_DIMS_MAX];
    int64_t num_elements; /* product of dim: 1 of a scalar */
    const uint8_t *data;  /* of element 0, 0, ... */
};

/* Sets num_elements, and C order when stride is NULL, from dims. False: more than TENSOR_DIMS_MAX,
 * a negative number, or more elements than storage_elements: a view that repeats what it shows is
 * refused, because a few bytes could then ask for any amount of work. The last element seen must
 * lie in storage_elements too. type and data are the caller's. */
MUST_CHECK bool tensor_shape(struct tensor *tensor, int32_t num_dims, const int64_t *dim,
                             const int64_t *stride, int64_t storage_elements);

bool tensor_is_contiguous(const struct tensor *tensor); /* in C order, without gaps */

/* "[24, 100, 4]" into text [TENSOR_TEXT_BYTES]; returns it. */
#define TENSOR_TEXT_BYTES 192
char *tensor_shape_text(char text[TENSOR_TEXT_BYTES], const struct tensor *tensor);

/* The element offset elements from the first: a sum of index * stride, within the shape. An
 * unsigned number above INT64_MAX reads as INT64_MAX. */
int64_t tensor_int(const struct tensor *tensor, int64_t offset); /* of integer tensors */
double tensor_double(const struct tensor *tensor, int64_t offset);

#endif
