/*
 * sglang.c -- files of SGLang's recorder: their map from slots to experts, their arrays, copies.
 */
#include "import/sglang.h"

#include <stdlib.h>
#include <string.h>

#include "digest.h"
#include "trace_internal.h"

static int ascending(const void *a, const void *b)
{
    const uint64_t *left = a;
    const uint64_t *right = b;
    return (*left > *right) - (*left < *right);
}

void sglang_seen_begin_file(struct sglang_seen *seen)
{
    if (seen->count > 0) {
        qsort(seen->digest, (size_t)seen->count, sizeof *seen->digest, ascending);
    }
    seen->num_sorted = seen->count;
}

void sglang_seen_free(struct sglang_seen *seen)
{
    free(seen->digest);
    *seen = (struct sglang_seen){.count = 0};
}

enum status sglang_seen_add(struct sglang_seen *seen, bool *is_copy, int64_t forward_pass,
                            const struct tensor *tensor, struct error *error)
{
    *is_copy = false;
    if (!tensor_is_contiguous(tensor)) {
        return STATUS_OK; /* recorders write whole arrays */
    }
    uint64_t digest = digest_u64(DIGEST_START, (uint64_t)forward_pass);
    int64_t num_bytes = tensor->num_elements * tensor_type_bytes(tensor->type);
    for (int64_t at = 0; at < num_bytes; at += (int64_t)sizeof(uint64_t)) {
        uint64_t word = 0;
        int64_t left = num_bytes - at;
        memcpy(&word, tensor->data + at, left < (int64_t)sizeof word ? (size_t)left : sizeof word);
        digest = digest_u64(digest, word);
    }
    if ((seen->count & (seen->count - 1)) == 0) { /* 0, 1, 2, 4, ...: full */
        size_t capacity = seen->count == 0 ? 1 : 2 * (size_t)seen->count;
        void *larger = realloc(seen->digest, capacity * sizeof *seen->digest);
        if (larger == NULL) {
            return error_add(error, STATUS_NO_MEMORY, "no memory for %zu passes", capacity);
        }
        seen->digest = larger;
    }
    *is_copy = seen->num_sorted > 0 && bsearch(&digest, seen->digest, (size_t)seen->num_sorted,
                                               sizeof *seen->digest, ascending) != NULL;
    seen->digest[seen->count++] = digest;
    return STATUS_OK;
}

enum status sglang_load(struct tensor *tensor, void **memory, struct sglang_file *file,
                        const struct pickle_value *record, const char *key, int32_t num_dims,
                        const char *place)
{
    char shape[TENSOR_TEXT_BYTES];
    const struct pickle_value *value = pickle_get(&file->pickle, record, key);
    const struct tensor *view = pickle_tensor_view(&file->pickle, value);
    enum npy_type type;
    *memory = NULL;
    if (view == NULL) {
        return import_refuse(file->sink, file->path, place, "has no tensor %s", key);
    }
    if (view->num_dims != num_dims || !tensor_type_is_integer(view->type) ||
        !tensor_type_to_npy(&type, view->type)) {
        return import_refuse(
            file->sink, file->path, place, "%s is %s %s; integers with %d dimensions are expected",
            key, tensor_type_name(view->type), tensor_shape_text(shape, view), num_dims);
    }
    for (int32_t i = 0; i < num_dims; i++) {
        if (view->dim[i] > INT32_MAX) {
            return import_refuse(file->sink, file->path, place, "%s is too large", key);
        }
    }
    return pickle_tensor_load(tensor, memory, &file->pickle, value, file->input->error);
}

/* Experts of the slots at the end of the recording. */
static enum status load_map(struct sglang_file *file)
{
    static const char key[] = "last_physical_to_logical_map";
    struct tensor map;
    void *memory = NULL;
    if (pickle_get(&file->pickle, &file->pickle.root, key) == NULL) {
        return STATUS_OK;
    }
    enum status status = sglang_load(&map, &memory, file, &file->pickle.root, key, 2, "");
    if (status == STATUS_OK && (map.dim[0] > TRACE_LAYERS_MAX || map.dim[1] > SGLANG_SLOTS_MAX)) {
        status =
            import_refuse(file->sink, file->path, key, "has more layers or slots than are read");
    }
    if (status == STATUS_OK) {
        file->num_layers = (int32_t)map.dim[0];
        file->num_slots = (int32_t)map.dim[1];
        file->expert = calloc((size_t)map.num_elements + 1, sizeof *file->expert);
        status = file->expert != NULL
                     ? STATUS_OK
                     : error_add(file->input->error, STATUS_NO_MEMORY, "no memory for a map");
    }
    for (int64_t i = 0; status == STATUS_OK && i < map.num_elements; i++) {
        int64_t offset = i / map.dim[1] * map.stride[0] + i % map.dim[1] * map.stride[1];
        int64_t expert = tensor_int(&map, offset);
        file->expert[i] = expert >= 0 && expert < TRACE_EXPERTS_MAX ? (int32_t)expert : -1;
    }
    free(memory);
    return status;
}

enum status sglang_open(struct sglang_file *file, const char *path,
                        const struct import_input *input, struct import_sink *sink)
{
    *file = (struct sglang_file){.input = input, .sink = sink, .path = path};
    enum status status = pickle_open(&file->pickle, path, input->error);
    if (status != STATUS_OK) {
        return status;
    }
    file->records = pickle_get(&file->pickle, &file->pickle.root, "records");
    if (file->records != NULL && file->records->kind != PICKLE_LIST) {
        return import_refuse(sink, path, "records", "is no list");
    }
    return load_map(file);
}

void sglang_close(struct sglang_file *file)
{
    free(file->expert);
    file->expert = NULL;
    pickle_close(&file->pickle);
}

int64_t sglang_forward_pass(const struct sglang_file *file, int64_t record)
{
    const struct pickle_value *dict = pickle_item(&file->pickle, file->records, record);
    const struct pickle_value *number = pickle_get(&file->pickle, dict, "forward_pass_id");
    return number != NULL && number->kind == PICKLE_INT ? number->as.integer : record;
}

bool sglang_probe_has(const struct import_probe *probe, const char *text)
{
    size_t length = strlen(text);
    bool is_archive = probe->num_bytes > 4 && memcmp(probe->text, "PK\3\4", 4) == 0;
    for (size_t at = 0; is_archive && at + length <= probe->num_bytes; at++) {
        if (memcmp(probe->text + at, text, length) == 0) {
            return true;
        }
    }
    return false;
}
