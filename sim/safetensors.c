/* safetensors.c -- the header by cJSON; every offset against the file. */
#include "safetensors.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LENGTH_BYTES 8
#define NUMBER_MAX   9007199254740992.0 /* 2^53: up to here a JSON number is exact */

static const char *const dtypes[TENSOR_TYPE_COUNT] = {
    [TENSOR_BOOL] = "BOOL",   [TENSOR_INT8] = "I8",       [TENSOR_INT16] = "I16",
    [TENSOR_INT32] = "I32",   [TENSOR_INT64] = "I64",     [TENSOR_UINT8] = "U8",
    [TENSOR_UINT16] = "U16",  [TENSOR_UINT32] = "U32",    [TENSOR_UINT64] = "U64",
    [TENSOR_FLOAT16] = "F16", [TENSOR_BFLOAT16] = "BF16", [TENSOR_FLOAT32] = "F32",
    [TENSOR_FLOAT64] = "F64",
};

static enum status refuse(const struct safetensors *file, const char *name, const char *what,
                          struct error *error)
{
    return error_add(error, STATUS_INVALID, "%s: tensor %.80s: %s", file->file.path, name, what);
}

/* A whole number from 0; -1: it is none. */
static int64_t whole_number(const cJSON *item)
{
    double value = cJSON_IsNumber(item) ? item->valuedouble : -1.0;
    return value >= 0.0 && value <= NUMBER_MAX && floor(value) >= value ? (int64_t)value : -1;
}

static enum status read_entry(struct safetensors_entry *entry, const struct safetensors *file,
                              const cJSON *item, const uint8_t *data, int64_t num_bytes,
                              struct error *error)
{
    const cJSON *dtype = cJSON_GetObjectItemCaseSensitive(item, "dtype");
    const cJSON *shape = cJSON_GetObjectItemCaseSensitive(item, "shape");
    const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(item, "data_offsets");
    entry->name = item->string;
    if (!cJSON_IsString(dtype) || !cJSON_IsArray(shape) || !cJSON_IsArray(offsets) ||
        cJSON_GetArraySize(offsets) != 2) {
        return refuse(file, entry->name, "needs dtype, shape and two data_offsets", error);
    }
    int32_t type = 0;
    while (type < TENSOR_TYPE_COUNT && strcmp(dtype->valuestring, dtypes[type]) != 0) {
        type++;
    }
    if (type == TENSOR_TYPE_COUNT) {
        return error_add(error, STATUS_INVALID, "%s: tensor %.80s: dtype %.20s is not read",
                         file->file.path, entry->name, dtype->valuestring);
    }
    int64_t dim[TENSOR_DIMS_MAX];
    int32_t num_dims = 0;
    for (const cJSON *size = shape->child; size != NULL; size = size->next) {
        if (num_dims == TENSOR_DIMS_MAX) {
            return refuse(file, entry->name, "has more than 8 dimensions", error);
        }
        dim[num_dims++] = whole_number(size); /* -1 is refused below */
    }
    int64_t begin = whole_number(offsets->child);
    int64_t end = whole_number(offsets->child->next);
    int64_t element_bytes = tensor_type_bytes((enum tensor_type)type);
    if (begin < 0 || end < begin || end > num_bytes) {
        return refuse(file, entry->name, "its data_offsets lie outside the file", error);
    }
    entry->tensor.type = (enum tensor_type)type;
    entry->tensor.data = data + begin;
    if (!tensor_shape(&entry->tensor, num_dims, dim, NULL, (end - begin) / element_bytes) ||
        entry->tensor.num_elements * element_bytes != end - begin) {
        return refuse(file, entry->name, "its shape does not fill its data_offsets", error);
    }
    return STATUS_OK;
}

static int by_data(const void *a, const void *b)
{
    const struct safetensors_entry *left = a;
    const struct safetensors_entry *right = b;
    if (left->tensor.data != right->tensor.data) {
        return left->tensor.data < right->tensor.data ? -1 : 1;
    }
    return (left->tensor.num_elements > right->tensor.num_elements) - /* empty ones first */
           (left->tensor.num_elements < right->tensor.num_elements);
}

static int by_name(const void *a, const void *b)
{
    const struct safetensors_entry *left = a;
    const struct safetensors_entry *right = b;
    return strcmp(left->name, right->name);
}

/* A name twice, bytes twice, bytes of nobody. Leaves the entries in the order of their bytes. */
static enum status check_entries(const struct safetensors *file, const uint8_t *data,
                                 int64_t num_bytes, struct error *error)
{
    size_t count = (size_t)file->num_entries;
    qsort(file->entry, count, sizeof *file->entry, by_name);
    for (size_t i = 1; i < count; i++) {
        if (strcmp(file->entry[i - 1].name, file->entry[i].name) == 0) {
            return refuse(file, file->entry[i].name, "is there twice", error);
        }
    }
    qsort(file->entry, count, sizeof *file->entry, by_data);
    const uint8_t *end = data;
    for (size_t i = 0; i < count; i++) {
        const struct tensor *tensor = &file->entry[i].tensor;
        if (tensor->data != end) {
            return refuse(file, file->entry[i].name,
                          tensor->data < end ? "shares bytes with another tensor"
                                             : "leaves a gap behind the tensor before",
                          error);
        }
        end += tensor->num_elements * tensor_type_bytes(tensor->type);
    }
    return end == data + num_bytes ? STATUS_OK
                                   : error_add(error, STATUS_INVALID,
                                               "%s: ends with bytes of no tensor", file->file.path);
}

static enum status read_header(struct safetensors *file, const cJSON *root, const uint8_t *data,
                               int64_t num_bytes, struct error *error)
{
    size_t capacity = 0;
    for (const cJSON *item = root->child; item != NULL; item = item->next) {
        capacity++;
    }
    file->entry = calloc(capacity + 1, sizeof *file->entry);
    if (file->entry == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "%s: no memory for %zu tensors", file->file.path,
                         capacity);
    }
    enum status status = STATUS_OK;
    for (const cJSON *item = root->child; status == STATUS_OK && item != NULL; item = item->next) {
        if (strcmp(item->string, "__metadata__") != 0) {
            status =
                read_entry(&file->entry[file->num_entries++], file, item, data, num_bytes, error);
        }
    }
    return status == STATUS_OK ? check_entries(file, data, num_bytes, error) : status;
}

enum status safetensors_open(struct safetensors *file, const char *path, struct error *error)
{
    *file = (struct safetensors){.num_entries = 0};
    enum status status = import_file_open(&file->file, path, error);
    if (status != STATUS_OK) {
        return status;
    }
    const unsigned char *bytes = file->file.data;
    uint64_t length = 0;
    if (file->file.num_bytes < LENGTH_BYTES) {
        return error_add(error, STATUS_INVALID, "%s: is too short for a safetensors file", path);
    }
    memcpy(&length, bytes, LENGTH_BYTES);
    if (length > (uint64_t)(file->file.num_bytes - LENGTH_BYTES) ||
        length > SAFETENSORS_HEADER_MAX) {
        return error_add(error, STATUS_INVALID,
                         "%s: claims a header of %llu bytes: no safetensors file, or truncated",
                         path, (unsigned long long)length);
    }
    const char *text = (const char *)bytes + LENGTH_BYTES;
    cJSON *root = memchr(text, '\0', length) == NULL ? cJSON_ParseWithLength(text, length) : NULL;
    file->header = root;
    if (!cJSON_IsObject(root)) {
        return error_add(error, STATUS_INVALID, "%s: its header is no JSON object", path);
    }
    return read_header(file, root, (const uint8_t *)text + length,
                       file->file.num_bytes - LENGTH_BYTES - (int64_t)length, error);
}

void safetensors_close(struct safetensors *file)
{
    cJSON_Delete(file->header);
    free(file->entry);
    import_file_close(&file->file);
    *file = (struct safetensors){.num_entries = 0};
}
