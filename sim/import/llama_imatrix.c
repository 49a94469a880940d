/*
 * llama_imatrix.c -- llama.cpp's importance matrix as GGUF: how many tokens each expert saw.
 *
 * blk.N.ffn_gate_exps.weight.counts (or ..._up_exps, ..._down_exps, ..._gate_up_exps) is F32 with
 * an element an expert. The three matrices of an expert see the same tokens, so the first of a
 * layer that the file has counts. The file is mapped; keys and values are passed over, only names,
 * shapes and places of tensors are read (ggml-org/ggml, docs/gguf.md).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "import/import.h"

#define TENSORS_MAX       (INT64_C(1) << 20)
#define EXPERTS_MAX       65535
#define ELEMENTS_MAX      (INT64_C(1) << 31) /* of a tensor; the product of two stays in 64 bits */
#define LAYERS_MAX        4096
#define ALIGNMENT         32 /* unless general.alignment says otherwise */
#define GGML_F32          0
#define TENSOR_NAME_BYTES 64 /* of a tensor */

enum gguf_type { GGUF_UINT32 = 4, GGUF_STRING = 8, GGUF_ARRAY = 9, GGUF_TYPE_COUNT = 13 };

struct gguf {
    const struct import_input *input;
    struct import_sink *sink;
    struct import_file file;
    int64_t at;
    bool is_short; /* something reached beyond the file */
    uint32_t alignment;
};

struct gguf_tensor {
    char name[TENSOR_NAME_BYTES];
    int64_t num_elements;
    uint32_t type;
    uint64_t offset; /* from the beginning of the data */
};

/* The next bytes, or NULL once the file is too short. */
static const unsigned char *take(struct gguf *gguf, uint64_t bytes)
{
    if (gguf->is_short || bytes > (uint64_t)(gguf->file.num_bytes - gguf->at)) {
        gguf->is_short = true;
        return NULL;
    }
    const unsigned char *data = gguf->file.data + gguf->at;
    gguf->at += (int64_t)bytes;
    return data;
}

/* A little-endian number of so many bytes; 0 once the file is too short. */
static uint64_t take_number(struct gguf *gguf, size_t bytes)
{
    uint64_t number = 0;
    const unsigned char *data = take(gguf, bytes);
    if (data != NULL) {
        memcpy(&number, data, bytes);
    }
    return number;
}

/* Passes over values of a type; false: a type that there is not. */
static bool skip_values(struct gguf *gguf, uint32_t type, uint64_t count)
{
    static const uint8_t bytes[GGUF_TYPE_COUNT] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    if (type == GGUF_STRING) {
        for (uint64_t i = 0; i < count && !gguf->is_short; i++) {
            (void)take(gguf, take_number(gguf, 8));
        }
        return true;
    }
    if (type >= GGUF_TYPE_COUNT || bytes[type] == 0) {
        return false;
    }
    (void)take(gguf, count <= (uint64_t)gguf->file.num_bytes ? count * bytes[type] : UINT64_MAX);
    return true;
}

/* Passes over keys and values; of interest is the alignment alone. */
static bool skip_keys(struct gguf *gguf, uint64_t count)
{
    static const char alignment[] = "general.alignment";
    for (uint64_t i = 0; i < count && !gguf->is_short; i++) {
        uint64_t length = take_number(gguf, 8);
        const unsigned char *key = take(gguf, length);
        uint32_t type = (uint32_t)take_number(gguf, 4);
        bool is_alignment = key != NULL && type == GGUF_UINT32 && length == sizeof alignment - 1 &&
                            memcmp(key, alignment, length) == 0;
        uint64_t num_values = 1;
        if (is_alignment) {
            gguf->alignment = (uint32_t)take_number(gguf, 4);
            continue;
        }
        if (type == GGUF_ARRAY) { /* arrays of arrays no writer makes */
            type = (uint32_t)take_number(gguf, 4);
            num_values = take_number(gguf, 8);
        }
        if (!gguf->is_short && !skip_values(gguf, type, num_values)) {
            return false;
        }
    }
    return gguf->alignment > 0 && (gguf->alignment & (gguf->alignment - 1)) == 0;
}

static void take_tensor(struct gguf *gguf, struct gguf_tensor *tensor)
{
    uint64_t length = take_number(gguf, 8);
    const unsigned char *name = take(gguf, length);
    uint32_t num_dims = (uint32_t)take_number(gguf, 4);
    *tensor = (struct gguf_tensor){.num_elements = 1};
    if (name != NULL && length < sizeof tensor->name) {
        memcpy(tensor->name, name, length);
    }
    gguf->is_short = gguf->is_short || num_dims > 8;
    for (uint32_t i = 0; i < num_dims && !gguf->is_short; i++) {
        uint64_t dim = take_number(gguf, 8);
        gguf->is_short = gguf->is_short || dim > ELEMENTS_MAX ||
                         tensor->num_elements * (int64_t)dim > ELEMENTS_MAX;
        tensor->num_elements *= gguf->is_short ? 0 : (int64_t)dim;
    }
    tensor->type = (uint32_t)take_number(gguf, 4);
    tensor->offset = take_number(gguf, 8);
}

/* The layer of "blk.N.ffn_..._exps.weight.counts"; -1: another name. */
static int32_t layer_of(const char *name)
{
    static const char *const parts[] = {
        ".ffn_gate_exps.weight.counts", ".ffn_up_exps.weight.counts",
        ".ffn_gate_up_exps.weight.counts", ".ffn_down_exps.weight.counts"};
    char *end = NULL;
    bool is_block = strncmp(name, "blk.", 4) == 0 && name[4] >= '0' && name[4] <= '9';
    long layer = is_block ? strtol(name + 4, &end, 10) : -1;
    bool is_counts = false;
    for (size_t i = 0; layer >= 0 && i < sizeof parts / sizeof parts[0]; i++) {
        is_counts = is_counts || strcmp(end, parts[i]) == 0;
    }
    return is_counts && layer < LAYERS_MAX ? (int32_t)layer : -1;
}

/* Do the numbers of a tensor lie in the file? */
static bool is_inside(const struct gguf *gguf, const struct gguf_tensor *tensor, uint64_t data)
{
    uint64_t num_bytes = (uint64_t)gguf->file.num_bytes;
    uint64_t bytes = (uint64_t)tensor->num_elements * sizeof(float);
    return tensor->type != GGML_F32 || (data <= num_bytes && tensor->offset <= num_bytes - data &&
                                        bytes <= num_bytes - data - tensor->offset);
}

static enum status read_counts(struct gguf *gguf, const struct gguf_tensor *tensor, int32_t layer,
                               uint64_t data)
{
    enum status status = STATUS_OK;
    if (tensor->type != GGML_F32 || tensor->num_elements < 1 ||
        tensor->num_elements > EXPERTS_MAX) {
        return import_complain(gguf->sink, gguf->file.path, tensor->name,
                               "expected F32 numbers, one an expert");
    }
    for (int64_t expert = 0; expert < tensor->num_elements && status == STATUS_OK; expert++) {
        float count;
        memcpy(&count, gguf->file.data + data + tensor->offset + (size_t)expert * sizeof count,
               sizeof count);
        if (!(count >= 0.0f && count <= 1e15f)) {
            return import_complain(gguf->sink, gguf->file.path, tensor->name,
                                   "expert %lld has %g tokens", (long long)expert, (double)count);
        }
        status = import_load_cell(gguf->sink, 0, layer, (int32_t)expert, (int64_t)count);
    }
    return status;
}

/* Reads the tensors twice: how long their list is says where their data begin. */
static enum status read_tensors(struct gguf *gguf, int64_t count)
{
    struct gguf_tensor tensor;
    bool is_read[LAYERS_MAX] = {false};
    int64_t list = gguf->at;
    for (int64_t i = 0; i < count; i++) {
        take_tensor(gguf, &tensor);
    }
    if (gguf->is_short) {
        return import_refuse(gguf->sink, gguf->file.path, "",
                             "ends within its list of tensors; the file is truncated");
    }
    uint64_t align = gguf->alignment;
    uint64_t data = ((uint64_t)gguf->at + align - 1) / align * align;
    int64_t num_layers = 0;
    enum status status = STATUS_OK;
    gguf->at = list;
    for (int64_t i = 0; i < count && status == STATUS_OK; i++) {
        take_tensor(gguf, &tensor);
        int32_t layer = layer_of(tensor.name);
        if (!is_inside(gguf, &tensor, data)) {
            return import_refuse(gguf->sink, gguf->file.path, tensor.name,
                                 "lies outside the file; it is truncated, copy it again");
        }
        if (layer >= 0 && !is_read[layer]) {
            is_read[layer] = true;
            num_layers++;
            status = read_counts(gguf, &tensor, layer, data);
        }
    }
    return status != STATUS_OK || num_layers > 0
               ? status
               : import_refuse(gguf->sink, gguf->file.path, "",
                               "has no blk.N.ffn_*_exps.weight.counts: is it an imatrix of a model "
                               "with experts?");
}

static enum status read_file(struct gguf *gguf, const char *path)
{
    enum status status = import_file_open(&gguf->file, path, gguf->input->error);
    if (status != STATUS_OK) {
        return status;
    }
    gguf->at = 0;
    gguf->is_short = false;
    gguf->alignment = ALIGNMENT;
    const unsigned char *magic = take(gguf, 4);
    uint64_t version = take_number(gguf, 4);
    uint64_t num_tensors = take_number(gguf, 8);
    uint64_t num_keys = take_number(gguf, 8);
    if (magic == NULL || memcmp(magic, "GGUF", 4) != 0 || version < 2 || version > 3) {
        return import_refuse(gguf->sink, path, "",
                             "is no GGUF file of version 2 or 3; llama-imatrix writes one with "
                             "--output-format gguf");
    }
    if (num_tensors > TENSORS_MAX || !skip_keys(gguf, num_keys)) {
        return import_refuse(gguf->sink, path, "", "its keys or tensors are none that GGUF has");
    }
    return read_tensors(gguf, (int64_t)num_tensors);
}

static enum status read_all(const struct import_input *input, struct import_sink *sink)
{
    struct gguf gguf = {.input = input, .sink = sink};
    enum status status = STATUS_OK;
    for (int32_t i = 0; i < input->options->num_paths && status == STATUS_OK; i++) {
        status = read_file(&gguf, input->options->paths[i]);
        import_progress(sink, i + 1, input->options->num_paths);
        import_file_close(&gguf.file);
    }
    return status;
}

static int32_t detect(const struct import_probe *probe)
{
    return probe->num_bytes > 4 && memcmp(probe->text, "GGUF", 4) == 0 ? 90 : 0;
}

const struct import_format import_llama_imatrix = {
    .name = "llama_imatrix",
    .summary = "importance matrix of llama.cpp (.gguf): becomes loads",
    .source = "ggml-org/llama.cpp, tools/imatrix",
    .level = IMPORT_LOADS,
    .detect = detect,
    .read = read_all,
};
