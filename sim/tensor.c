/* tensor.c -- elements by type, and shapes that cannot reach beyond their bytes. */
#include "tensor.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int32_t bytes;
} types[TENSOR_TYPE_COUNT] = {
    [TENSOR_BOOL] = {"bool", 1},         [TENSOR_INT8] = {"int8", 1},
    [TENSOR_INT16] = {"int16", 2},       [TENSOR_INT32] = {"int32", 4},
    [TENSOR_INT64] = {"int64", 8},       [TENSOR_UINT8] = {"uint8", 1},
    [TENSOR_UINT16] = {"uint16", 2},     [TENSOR_UINT32] = {"uint32", 4},
    [TENSOR_UINT64] = {"uint64", 8},     [TENSOR_FLOAT16] = {"float16", 2},
    [TENSOR_BFLOAT16] = {"bfloat16", 2}, [TENSOR_FLOAT32] = {"float32", 4},
    [TENSOR_FLOAT64] = {"float64", 8},
};

const char *tensor_type_name(enum tensor_type type)
{
    assert(type < TENSOR_TYPE_COUNT);
    return types[type].name;
}

int32_t tensor_type_bytes(enum tensor_type type)
{
    assert(type < TENSOR_TYPE_COUNT);
    return types[type].bytes;
}

bool tensor_type_is_integer(enum tensor_type type)
{
    return type <= TENSOR_UINT64;
}

bool tensor_type_to_npy(enum npy_type *npy_type, enum tensor_type type)
{
    static const enum npy_type of[TENSOR_TYPE_COUNT] = {
        [TENSOR_BOOL] = NPY_TYPE_COUNT,     [TENSOR_INT8] = NPY_INT8,
        [TENSOR_INT16] = NPY_INT16,         [TENSOR_INT32] = NPY_INT32,
        [TENSOR_INT64] = NPY_INT64,         [TENSOR_UINT8] = NPY_UINT8,
        [TENSOR_UINT16] = NPY_UINT16,       [TENSOR_UINT32] = NPY_UINT32,
        [TENSOR_UINT64] = NPY_UINT64,       [TENSOR_FLOAT16] = NPY_FLOAT16,
        [TENSOR_BFLOAT16] = NPY_TYPE_COUNT, [TENSOR_FLOAT32] = NPY_FLOAT32,
        [TENSOR_FLOAT64] = NPY_FLOAT64,
    };
    assert(type < TENSOR_TYPE_COUNT);
    *npy_type = of[type];
    return of[type] != NPY_TYPE_COUNT;
}

bool tensor_shape(struct tensor *tensor, int32_t num_dims, const int64_t *dim,
                  const int64_t *stride, int64_t storage_elements)
{
    if (num_dims < 0 || num_dims > TENSOR_DIMS_MAX) {
        return false;
    }
    tensor->num_dims = num_dims;
    tensor->num_elements = 1;
    bool empty = false;
    for (int32_t i = 0; i < num_dims; i++) {
        if (dim[i] < 0 || (stride != NULL && stride[i] < 0)) {
            return false;
        }
        tensor->dim[i] = dim[i];
        empty = empty || dim[i] == 0;
    }
    int64_t last = 0; /* offset of the last element */
    for (int32_t i = num_dims - 1; i >= 0; i--) {
        tensor->stride[i] = stride != NULL ? stride[i] : tensor->num_elements;
        if (empty) {
            tensor->num_elements = 0;
            continue;
        }
        int64_t most = storage_elements - 1 - last;
        if (dim[i] > storage_elements / tensor->num_elements ||
            (dim[i] > 1 && tensor->stride[i] > most / (dim[i] - 1))) {
            return false;
        }
        last += (dim[i] - 1) * tensor->stride[i];
        tensor->num_elements *= dim[i];
    }
    return empty || storage_elements >= 1;
}

bool tensor_is_contiguous(const struct tensor *tensor)
{
    int64_t elements = 1;
    for (int32_t i = tensor->num_dims - 1; i >= 0; i--) {
        if (tensor->dim[i] > 1 && tensor->stride[i] != elements) {
            return false;
        }
        elements *= tensor->dim[i];
    }
    return true;
}

char *tensor_shape_text(char text[TENSOR_TEXT_BYTES], const struct tensor *tensor)
{
    size_t used = 1;
    text[0] = '[';
    for (int32_t i = 0; i < tensor->num_dims; i++) {
        used += (size_t)snprintf(text + used, TENSOR_TEXT_BYTES - used, "%s%lld", i > 0 ? ", " : "",
                                 (long long)tensor->dim[i]);
    }
    memcpy(text + used, "]", 2);
    return text;
}

/* The bytes of an element, wherever they are aligned to; every host we support is little-endian. */
static uint64_t element_bits(const struct tensor *tensor, int64_t offset)
{
    uint64_t bits = 0;
    int64_t bytes = types[tensor->type].bytes;
    memcpy(&bits, tensor->data + offset * bytes, (size_t)bytes);
    return bits;
}

int64_t tensor_int(const struct tensor *tensor, int64_t offset)
{
    uint64_t bits = element_bits(tensor, offset);
    switch (tensor->type) {
    case TENSOR_INT8:
        return (int8_t)bits;
    case TENSOR_INT16:
        return (int16_t)bits;
    case TENSOR_INT32:
        return (int32_t)bits;
    case TENSOR_INT64:
        return (int64_t)bits;
    case TENSOR_BOOL:
    case TENSOR_UINT8:
    case TENSOR_UINT16:
    case TENSOR_UINT32:
    case TENSOR_UINT64:
        return bits > INT64_MAX ? INT64_MAX : (int64_t)bits;
    case TENSOR_FLOAT16:
    case TENSOR_BFLOAT16:
    case TENSOR_FLOAT32:
    case TENSOR_FLOAT64:
    case TENSOR_TYPE_COUNT:
        break;
    }
    assert(false && "tensor_int reads integer tensors");
    return 0;
}

static double float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return (double)value;
}

double tensor_double(const struct tensor *tensor, int64_t offset)
{
    uint64_t bits = element_bits(tensor, offset);
    double value;
    switch (tensor->type) {
    case TENSOR_FLOAT16:
        return (double)npy_half_to_float((uint16_t)bits);
    case TENSOR_BFLOAT16: /* the upper half of a float32 */
        return float_of_bits((uint32_t)bits << 16);
    case TENSOR_FLOAT32:
        return float_of_bits((uint32_t)bits);
    case TENSOR_FLOAT64:
        memcpy(&value, &bits, sizeof value);
        return value;
    case TENSOR_BOOL:
    case TENSOR_INT8:
    case TENSOR_INT16:
    case TENSOR_INT32:
    case TENSOR_INT64:
    case TENSOR_UINT8:
    case TENSOR_UINT16:
    case TENSOR_UINT32:
    case TENSOR_UINT64:
    case TENSOR_TYPE_COUNT:
        break;
    }
    return (double)tensor_int(tensor, offset);
}
