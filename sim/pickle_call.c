/*
 * pickle_call.c -- the names of a pickle and its calls: storages and tensors, checked, never
 * called.
 *
 * torch/_utils.py: _rebuild_tensor_v2(storage, storage_offset, size, stride, requires_grad,
 * backward_hooks[, metadata]), _v3 with the dtype before metadata. A storage is the persistent id
 * ("storage", type, key, location, number of elements).
 */
#include <stdlib.h>
#include <string.h>

#include "pickle_internal.h"

#define NAME_BYTES_MAX 128

static const struct {
    const char *module;
    const char *name;
} names[PICKLE_NAME_COUNT] = {
    [PICKLE_NAME_REBUILD_V2] = {"torch._utils", "_rebuild_tensor_v2"},
    [PICKLE_NAME_REBUILD_V3] = {"torch._utils", "_rebuild_tensor_v3"},
    [PICKLE_NAME_DICT] = {"collections", "OrderedDict"},
    [PICKLE_NAME_SIZE] = {"torch", "Size"},
    [PICKLE_NAME_BYTES] = {"torch.storage", "UntypedStorage"},
    [PICKLE_NAME_STORAGE + TENSOR_BOOL] = {"torch", "BoolStorage"},
    [PICKLE_NAME_STORAGE + TENSOR_INT8] = {"torch", "CharStorage"},
    [PICKLE_NAME_STORAGE + TENSOR_INT16] = {"torch", "ShortStorage"},
    [PICKLE_NAME_STORAGE + TENSOR_INT32] = {"torch", "IntStorage"},
    [PICKLE_NAME_STORAGE + TENSOR_INT64] = {"torch", "LongStorage"},
    [PICKLE_NAME_STORAGE + TENSOR_UINT8] = {"torch", "ByteStorage"},
    [PICKLE_NAME_STORAGE + TENSOR_FLOAT16] = {"torch", "HalfStorage"},
    [PICKLE_NAME_STORAGE + TENSOR_BFLOAT16] = {"torch", "BFloat16Storage"},
    [PICKLE_NAME_STORAGE + TENSOR_FLOAT32] = {"torch", "FloatStorage"},
    [PICKLE_NAME_STORAGE + TENSOR_FLOAT64] = {"torch", "DoubleStorage"},
    [PICKLE_NAME_TYPE + TENSOR_BOOL] = {"torch", "bool"},
    [PICKLE_NAME_TYPE + TENSOR_INT8] = {"torch", "int8"},
    [PICKLE_NAME_TYPE + TENSOR_INT16] = {"torch", "int16"},
    [PICKLE_NAME_TYPE + TENSOR_INT32] = {"torch", "int32"},
    [PICKLE_NAME_TYPE + TENSOR_INT64] = {"torch", "int64"},
    [PICKLE_NAME_TYPE + TENSOR_UINT8] = {"torch", "uint8"},
    [PICKLE_NAME_TYPE + TENSOR_UINT16] = {"torch", "uint16"},
    [PICKLE_NAME_TYPE + TENSOR_UINT32] = {"torch", "uint32"},
    [PICKLE_NAME_TYPE + TENSOR_UINT64] = {"torch", "uint64"},
    [PICKLE_NAME_TYPE + TENSOR_FLOAT16] = {"torch", "float16"},
    [PICKLE_NAME_TYPE + TENSOR_BFLOAT16] = {"torch", "bfloat16"},
    [PICKLE_NAME_TYPE + TENSOR_FLOAT32] = {"torch", "float32"},
    [PICKLE_NAME_TYPE + TENSOR_FLOAT64] = {"torch", "float64"},
};

static bool is_text(const char *text, size_t length, const char *wanted)
{
    return strlen(wanted) == length && memcmp(text, wanted, length) == 0;
}

static int32_t find_name(const char *module, size_t module_length, const char *name,
                         size_t name_length)
{
    for (int32_t i = 0; i < PICKLE_NAME_COUNT; i++) {
        if (names[i].name != NULL && is_text(module, module_length, names[i].module) &&
            is_text(name, name_length, names[i].name)) {
            return i;
        }
    }
    return -1;
}

static enum status new_storage(struct pickle *pickle, struct pickle_value *value,
                               const struct pickle_value *id, const char **what)
{
    *what = "a persistent id that is no tensor's storage";
    if (id->kind != PICKLE_TUPLE || pickle->container[id->as.index].count != 5) {
        return STATUS_INVALID;
    }
    const struct pickle_value *part = pickle->container[id->as.index].item;
    bool is_storage = part[0].kind == PICKLE_TEXT &&
                      is_text(pickle->text + part[0].as.offset, part[0].length, "storage") &&
                      part[1].kind == PICKLE_GLOBAL && part[2].kind == PICKLE_TEXT &&
                      part[3].kind == PICKLE_TEXT && part[4].kind == PICKLE_INT &&
                      part[1].as.index >= PICKLE_NAME_BYTES && part[1].as.index < PICKLE_NAME_TYPE;
    if (!is_storage) {
        return STATUS_INVALID;
    }
    int32_t type = (int32_t)part[1].as.index - PICKLE_NAME_STORAGE; /* -1 of UntypedStorage */
    int64_t element_bytes = type >= 0 ? tensor_type_bytes((enum tensor_type)type) : 1;
    *what = "a storage whose size no file can have";
    if (part[4].as.integer < 0 || part[4].as.integer > PICKLE_STORAGE_MAX / element_bytes ||
        pickle->num_storages >= PICKLE_TENSORS_MAX) {
        return STATUS_INVALID;
    }
    void *larger = pickle_grow(pickle->storage, pickle->num_storages, sizeof *pickle->storage);
    if (larger == NULL) {
        return STATUS_NO_MEMORY;
    }
    pickle->storage = larger;
    pickle->storage[pickle->num_storages] =
        (struct pickle_storage){.key = part[2], .type = type, .num_elements = part[4].as.integer};
    *value = (struct pickle_value){.kind = PICKLE_STORAGE, .as.index = pickle->num_storages};
    pickle->num_storages++;
    return STATUS_OK;
}

/* A tuple of at most TENSOR_DIMS_MAX whole numbers; -1: it is not that. */
static int32_t read_numbers(int64_t number[TENSOR_DIMS_MAX], const struct pickle *pickle,
                            const struct pickle_value *tuple)
{
    int64_t count = pickle_count(pickle, tuple);
    if (tuple->kind != PICKLE_TUPLE || count > TENSOR_DIMS_MAX) {
        return -1;
    }
    for (int64_t i = 0; i < count; i++) {
        const struct pickle_value *item = pickle_item(pickle, tuple, i);
        if (item->kind != PICKLE_INT) {
            return -1;
        }
        number[i] = item->as.integer;
    }
    return (int32_t)count;
}

static enum status new_tensor(struct pickle *pickle, struct pickle_value *value,
                              enum pickle_name rebuild, const struct pickle_value *arguments,
                              const char **what)
{
    int64_t dim[TENSOR_DIMS_MAX];
    int64_t stride[TENSOR_DIMS_MAX];
    int64_t least = rebuild == PICKLE_NAME_REBUILD_V2 ? 6 : 7;
    int64_t count = pickle_count(pickle, arguments);
    *what = "a tensor with arguments that torch.save does not write";
    if (arguments->kind != PICKLE_TUPLE || count < least || count > least + 1) {
        return STATUS_INVALID;
    }
    const struct pickle_value *part = pickle->container[arguments->as.index].item;
    if (part[0].kind != PICKLE_STORAGE || part[1].kind != PICKLE_INT) {
        return STATUS_INVALID;
    }
    const struct pickle_storage *storage = &pickle->storage[part[0].as.index];
    int32_t type = storage->type;
    int64_t elements = storage->num_elements;
    if (rebuild == PICKLE_NAME_REBUILD_V3) {
        if (part[6].kind != PICKLE_GLOBAL || part[6].as.index < PICKLE_NAME_TYPE) {
            return STATUS_INVALID;
        }
        int32_t stored_bytes = type >= 0 ? tensor_type_bytes((enum tensor_type)type) : 1;
        type = (int32_t)part[6].as.index - PICKLE_NAME_TYPE;
        elements = elements * stored_bytes / tensor_type_bytes((enum tensor_type)type);
    }
    int32_t num_dims = read_numbers(dim, pickle, &part[2]);
    if (type < 0 || num_dims < 0 || read_numbers(stride, pickle, &part[3]) != num_dims) {
        return STATUS_INVALID;
    }
    int64_t offset = part[1].as.integer;
    struct pickle_tensor tensor = {.storage = part[0].as.index, .offset = offset};
    *what = "a tensor that reaches beyond its storage, or shows an element twice (save a .clone())";
    if (offset < 0 || offset > elements || pickle->num_tensors >= PICKLE_TENSORS_MAX ||
        !tensor_shape(&tensor.view, num_dims, dim, stride, elements - offset)) {
        return STATUS_INVALID;
    }
    void *larger = pickle_grow(pickle->tensor, pickle->num_tensors, sizeof *pickle->tensor);
    if (larger == NULL) {
        return STATUS_NO_MEMORY;
    }
    pickle->tensor = larger;
    tensor.view.type = (enum tensor_type)type;
    pickle->tensor[pickle->num_tensors] = tensor;
    *value = (struct pickle_value){.kind = PICKLE_TENSOR, .as.index = pickle->num_tensors};
    pickle->num_tensors++;
    return STATUS_OK;
}

/* What a pickle may write into an error: a name in plain letters, cut. */
static void plain_name(char *to, size_t bytes, const unsigned char *from, size_t length)
{
    length = length < bytes ? length : bytes - 1;
    for (size_t i = 0; i < length; i++) {
        to[i] = from[i] > ' ' && from[i] < 127 ? (char)from[i] : '?';
    }
    to[length] = '\0';
}

/* MODULE '\n' NAME '\n' */
enum status pickle_push_global(struct pickle_machine *machine)
{
    const unsigned char *part[2];
    size_t length[2];
    for (int32_t i = 0; i < 2; i++) {
        const char *text = machine->pickle->text + machine->at;
        size_t left = (size_t)(machine->pickle->num_bytes - machine->at);
        const char *end = memchr(text, '\n', left);
        if (end == NULL) {
            return pickle_refuse(machine, "a name that does not end");
        }
        part[i] = (const unsigned char *)text;
        length[i] = (size_t)(end - text);
        machine->at += (int64_t)length[i] + 1;
    }
    int32_t name = find_name((const char *)part[0], length[0], (const char *)part[1], length[1]);
    if (name < 0) {
        char module[NAME_BYTES_MAX];
        char function[NAME_BYTES_MAX];
        plain_name(module, sizeof module, part[0], length[0]);
        plain_name(function, sizeof function, part[1], length[1]);
        return error_add(machine->error, STATUS_INVALID,
                         "%s: byte %lld of the pickle: names %s.%s; only tensors, lists, dicts, "
                         "numbers and texts are read, and nothing is run",
                         machine->pickle->path, (long long)machine->begin, module, function);
    }
    return pickle_push(machine, (struct pickle_value){.kind = PICKLE_GLOBAL, .as.index = name});
}

/* Calls, that is: builds a tensor, an empty OrderedDict, or a tuple. */
enum status pickle_reduce(struct pickle_machine *machine)
{
    static const char odd[] = "a call that torch.save does not write";
    if (pickle_num_above_mark(machine) < 2) {
        return pickle_refuse(machine, "a call without a name and its arguments");
    }
    machine->stack.count -= 2;
    struct pickle_value name = machine->stack.item[machine->stack.count];
    struct pickle_value arguments = machine->stack.item[machine->stack.count + 1];
    struct pickle_value value;
    const char *what = odd;
    if (name.kind != PICKLE_GLOBAL || arguments.kind != PICKLE_TUPLE) {
        return pickle_refuse(machine, odd);
    }
    enum status status = STATUS_INVALID;
    int64_t count = pickle_count(machine->pickle, &arguments);
    if (name.as.index == PICKLE_NAME_REBUILD_V2 || name.as.index == PICKLE_NAME_REBUILD_V3) {
        status =
            new_tensor(machine->pickle, &value, (enum pickle_name)name.as.index, &arguments, &what);
    } else if (name.as.index == PICKLE_NAME_DICT && count == 0) {
        status = pickle_container_new(machine->pickle, &value, PICKLE_DICT);
    } else if (name.as.index == PICKLE_NAME_SIZE && count == 1) {
        value = *pickle_item(machine->pickle, &arguments, 0);
        status = value.kind == PICKLE_TUPLE ? STATUS_OK : STATUS_INVALID;
    }
    status = pickle_checked(machine, status, what);
    return status == STATUS_OK ? pickle_push(machine, value) : status;
}

enum status pickle_push_storage(struct pickle_machine *machine)
{
    struct pickle_value value;
    const char *what = "";
    if (pickle_num_above_mark(machine) < 1) {
        return pickle_refuse(machine, "a persistent id that is not there");
    }
    struct pickle_value *id = &machine->stack.item[machine->stack.count - 1];
    enum status status = new_storage(machine->pickle, &value, id, &what);
    status = pickle_checked(machine, status, what);
    if (status == STATUS_OK) {
        *id = value;
    }
    return status;
}
