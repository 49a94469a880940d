/* pickle.c -- the archive around a pickle, and its values one at a time. */
#include "pickle.h"

#include <stdlib.h>
#include <string.h>

#include "pickle_internal.h"

#define KEY_BYTES_MAX 64

/* Finds NAME/data.pkl, NAME without a slash. */
static enum status find_folder(int64_t *member, struct pickle *pickle, struct error *error)
{
    static const char suffix[] = "/data.pkl";
    for (int64_t index = 0; index < pickle->zip.num_members; index++) {
        const char *name = zip_file_name(&pickle->zip, index);
        const char *slash = strchr(name, '/');
        if (slash != NULL && strcmp(slash, suffix) == 0) {
            pickle->folder = strdup(name);
            if (pickle->folder == NULL) {
                return error_add(error, STATUS_NO_MEMORY, "%s: no memory", pickle->path);
            }
            pickle->folder[slash - name + 1] = '\0';
            *member = index;
            return STATUS_OK;
        }
    }
    return error_add(error, STATUS_INVALID,
                     "%s: holds no data.pkl: is it written by torch.save of PyTorch 1.6 or later?",
                     pickle->path);
}

/* The path of a part in the archive; false: longer than torch.save makes it. */
static bool part_name(char *name, size_t bytes, const struct pickle *pickle, const char *folder,
                      const char *part, size_t part_length)
{
    size_t before = strlen(pickle->folder);
    size_t between = strlen(folder);
    if (before + between + part_length >= bytes) {
        return false;
    }
    memcpy(name, pickle->folder, before);
    memcpy(name + before, folder, between);
    memcpy(name + before + between, part, part_length);
    name[before + between + part_length] = '\0';
    return true;
}

/* Storages are raw bytes of the machine that wrote them. */
static enum status check_byte_order(struct pickle *pickle, struct error *error)
{
    char name[4096];
    void *order = NULL;
    int64_t num_bytes = 0;
    int64_t member = -1;
    if (part_name(name, sizeof name, pickle, "", "byteorder", strlen("byteorder"))) {
        member = zip_file_find(&pickle->zip, name);
    }
    if (member < 0) {
        return STATUS_OK; /* PyTorch before 2.1 did not say */
    }
    enum status status =
        zip_member_load(&order, &num_bytes, &pickle->zip, member, KEY_BYTES_MAX, error);
    if (status == STATUS_OK && strcmp(order, "little") != 0) {
        status =
            error_add(error, STATUS_INVALID,
                      "%s: was written on a big-endian machine; save it on a little-endian one",
                      pickle->path);
    }
    free(order);
    return status;
}

enum status pickle_open(struct pickle *pickle, const char *path, struct error *error)
{
    int64_t member = 0;
    void *text = NULL;
    *pickle = (struct pickle){.path = path};
    enum status status = zip_file_open(&pickle->zip, path, error);
    if (status == STATUS_OK) {
        status = find_folder(&member, pickle, error);
    }
    if (status == STATUS_OK) {
        status = check_byte_order(pickle, error);
    }
    if (status == STATUS_OK) {
        status = zip_member_load(&text, &pickle->num_bytes, &pickle->zip, member, PICKLE_BYTES_MAX,
                                 error);
        pickle->text = text;
    }
    return status == STATUS_OK ? pickle_run(pickle, error) : status;
}

void pickle_close(struct pickle *pickle)
{
    for (int64_t i = 0; i < pickle->num_containers; i++) {
        free(pickle->container[i].item);
    }
    free(pickle->container);
    free(pickle->storage);
    free(pickle->tensor);
    free(pickle->text);
    free(pickle->folder);
    zip_file_close(&pickle->zip);
    *pickle = (struct pickle){.path = NULL};
}

const struct pickle_value *pickle_get(const struct pickle *pickle, const struct pickle_value *dict,
                                      const char *key)
{
    if (dict == NULL || dict->kind != PICKLE_DICT) {
        return NULL;
    }
    const struct pickle_array *array = &pickle->container[dict->as.index];
    size_t length = strlen(key);
    for (int64_t i = array->count - 2; i >= 0; i -= 2) { /* of two equal keys the later counts */
        const struct pickle_value *at = &array->item[i];
        if (at->kind == PICKLE_TEXT && at->length == length &&
            memcmp(pickle->text + at->as.offset, key, length) == 0) {
            return at + 1;
        }
    }
    return NULL;
}

int64_t pickle_count(const struct pickle *pickle, const struct pickle_value *list)
{
    bool is_list = list != NULL && (list->kind == PICKLE_LIST || list->kind == PICKLE_TUPLE);
    return is_list ? pickle->container[list->as.index].count : 0;
}

const struct pickle_value *pickle_item(const struct pickle *pickle, const struct pickle_value *list,
                                       int64_t index)
{
    return &pickle->container[list->as.index].item[index];
}

const struct tensor *pickle_tensor_view(const struct pickle *pickle,
                                        const struct pickle_value *value)
{
    bool is_tensor = value != NULL && value->kind == PICKLE_TENSOR;
    return is_tensor ? &pickle->tensor[value->as.index].view : NULL;
}

enum status pickle_tensor_load(struct tensor *tensor, void **memory, struct pickle *pickle,
                               const struct pickle_value *value, struct error *error)
{
    const struct pickle_tensor *source = &pickle->tensor[value->as.index];
    const struct pickle_storage *storage = &pickle->storage[source->storage];
    const char *key = pickle->text + storage->key.as.offset;
    char name[4096];
    *memory = NULL;
    *tensor = source->view;
    int64_t member = -1;
    bool fits = storage->key.length <= KEY_BYTES_MAX &&
                part_name(name, sizeof name, pickle, "data/", key, storage->key.length);
    if (fits) {
        member = zip_file_find(&pickle->zip, name);
    }
    if (member < 0) {
        return error_add(
            error, STATUS_INVALID, "%s: holds no data/%.*s, the bytes of a tensor", pickle->path,
            storage->key.length <= KEY_BYTES_MAX ? (int)storage->key.length : KEY_BYTES_MAX, key);
    }
    int64_t num_bytes = 0;
    enum status status =
        zip_member_load(memory, &num_bytes, &pickle->zip, member, PICKLE_STORAGE_MAX, error);
    int64_t stored_bytes =
        storage->type >= 0 ? tensor_type_bytes((enum tensor_type)storage->type) : 1;
    if (status == STATUS_OK && num_bytes / stored_bytes < storage->num_elements) {
        status = error_add(error, STATUS_INVALID,
                           "%s: data/%.*s has %lld bytes where its tensor needs %lld", pickle->path,
                           (int)storage->key.length, key, (long long)num_bytes,
                           (long long)(storage->num_elements * stored_bytes));
        free(*memory);
        *memory = NULL;
    }
    if (status == STATUS_OK) {
        tensor->data = (const uint8_t *)*memory + source->offset * tensor_type_bytes(tensor->type);
    }
    return status;
}
