/*
 * physical.c -- which expert each slot held, for engines that record slots.
 *
 * The map comes with the recording or from a file: SGLang's expert location (JSON with
 * physical_to_logical_map), an integer .npy array, or CSV; each [layers][slots].
 */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "import/sink.h"
#include "json_config.h"
#include "textfile.h"
#include "trace_internal.h"

#define SLOTS_MAX 65536

static enum status set_map(struct import_sink *sink, int32_t num_layers, int32_t num_slots)
{
    size_t count = (size_t)num_layers * (size_t)num_slots;
    sink->physical_layers = num_layers;
    sink->physical_slots = num_slots;
    sink->physical = arena_alloc(&sink->arena, count, sizeof *sink->physical);
    return sink->physical != NULL ? STATUS_OK
                                  : error_add(sink->error, STATUS_NO_MEMORY,
                                              "no memory for a map of %zu slots", count);
}

enum status import_physical(struct import_sink *sink, const int32_t *expert, int32_t num_layers,
                            int32_t num_slots)
{
    if (sink->physical_is_users || sink->pass == IMPORT_SURVEY) {
        return STATUS_OK;
    }
    enum status status = STATUS_OK;
    if (sink->physical == NULL || sink->physical_layers != num_layers ||
        sink->physical_slots != num_slots) {
        status = set_map(sink, num_layers, num_slots);
    }
    if (status == STATUS_OK) {
        memcpy(sink->physical, expert,
               (size_t)num_layers * (size_t)num_slots * sizeof *sink->physical);
    }
    return status;
}

static enum status read_array(struct import_sink *sink, const char *path)
{
    struct npy file;
    enum status status = npy_open(&file, path, sink->error);
    if (status == STATUS_OK &&
        (file.num_dims != 2 || file.type > NPY_UINT64 || file.dim[0] < 1 || file.dim[1] < 1 ||
         file.dim[0] > TRACE_LAYERS_MAX || file.dim[1] > SLOTS_MAX)) {
        status = error_add(sink->error, STATUS_INVALID,
                           "%s: a physical-to-logical map is an array of integers with the axes "
                           "layer and slot",
                           path);
    }
    if (status == STATUS_OK) {
        status = set_map(sink, (int32_t)file.dim[0], (int32_t)file.dim[1]);
    }
    for (int64_t i = 0; status == STATUS_OK && i < file.num_elements; i++) {
        int64_t id = npy_int(&file, i);
        sink->physical[i] = id >= 0 && id < INT32_MAX ? (int32_t)id : -1;
    }
    npy_close(&file);
    return status;
}

static enum status refuse_json(const struct import_sink *sink, const char *path)
{
    return error_add(sink->error, STATUS_INVALID,
                     "%s: physical_to_logical_map must be a list of layers, each a list of as many "
                     "expert ids",
                     path);
}

static enum status read_json(struct import_sink *sink, const char *path)
{
    struct json_config config;
    enum status status = json_config_open(&config, path, sink->error);
    const cJSON *map = NULL;
    if (status == STATUS_OK) {
        map = json_config_find(&config, "physical_to_logical_map");
        int32_t num_layers = cJSON_IsArray(map) ? cJSON_GetArraySize(map) : 0;
        int32_t num_slots = num_layers > 0 ? cJSON_GetArraySize(map->child) : 0;
        bool fits = num_slots > 0 && num_layers <= TRACE_LAYERS_MAX && num_slots <= SLOTS_MAX;
        status = fits ? set_map(sink, num_layers, num_slots) : refuse_json(sink, path);
    }
    int32_t layer = 0;
    for (const cJSON *row = map != NULL ? map->child : NULL; row != NULL && status == STATUS_OK;
         row = row->next) {
        int32_t slot = 0;
        for (const cJSON *id = row->child; id != NULL && slot < sink->physical_slots;
             id = id->next) {
            bool is_id = cJSON_IsNumber(id) && id->valuedouble >= -1.0 && id->valuedouble < 65536.0;
            status = is_id ? status : refuse_json(sink, path);
            sink->physical[layer * sink->physical_slots + slot++] = is_id ? id->valueint : -1;
        }
        if (status == STATUS_OK &&
            (slot != sink->physical_slots || cJSON_GetArraySize(row) != slot)) {
            status = refuse_json(sink, path);
        }
        layer++;
    }
    json_config_close(&config);
    return status;
}

/* Counts lines that are not empty and the fields of the first. */
static void count_csv(const char *text, int32_t *num_layers, int32_t *num_slots)
{
    *num_layers = 0;
    *num_slots = 1;
    for (const char *at = text; *at != '\0'; at += at[0] != '\0' ? 1 : 0) {
        size_t length = strcspn(at, "\n");
        for (size_t i = 0; i < length && *num_layers == 0; i++) {
            *num_slots += at[i] == ',' ? 1 : 0;
        }
        *num_layers += length > 0 && at[0] != '\r' && *num_layers <= TRACE_LAYERS_MAX ? 1 : 0;
        at += length;
    }
}

static enum status read_csv(struct import_sink *sink, const char *path, const char *text)
{
    int32_t num_layers = 0;
    int32_t num_slots = 0;
    count_csv(text, &num_layers, &num_slots);
    if (num_layers < 1 || num_layers > TRACE_LAYERS_MAX || num_slots > SLOTS_MAX) {
        return error_add(sink->error, STATUS_INVALID, "%s: has %d layers of %d slots", path,
                         num_layers, num_slots);
    }
    enum status status = set_map(sink, num_layers, num_slots);
    const char *at = text;
    for (int64_t i = 0; i < (int64_t)num_layers * num_slots && status == STATUS_OK; i++) {
        char *end = NULL;
        long id = strtol(at, &end, 10);
        bool is_last = (i + 1) % num_slots == 0;
        end += end != at ? strspn(end, " \t\r") : 0;
        bool ends_well = is_last ? *end == '\n' || *end == '\0' : *end == ',';
        if (end == at || !ends_well || id < -1 || id > UINT16_MAX) {
            return error_add(sink->error, STATUS_INVALID,
                             "%s: row %lld, slot %lld: expected an expert id, as many in each row",
                             path, (long long)(i / num_slots), (long long)(i % num_slots));
        }
        sink->physical[i] = (int32_t)id;
        at = end + (*end != '\0' ? 1 : 0);
        at += is_last ? strspn(at, "\r\n") : 0;
    }
    return status;
}

enum status import_physical_read(struct import_sink *sink)
{
    const char *path = sink->options->physical_path;
    struct import_file file;
    struct arena arena = {0};
    const char *text = NULL;
    sink->physical_is_users = true;
    enum status status = import_file_open(&file, path, sink->error);
    if (status != STATUS_OK) {
        return status;
    }
    bool is_npy = file.data[0] == 0x93;
    bool is_json = file.data[0] == '{';
    import_file_close(&file);
    if (is_npy) {
        return read_array(sink, path);
    }
    if (is_json) {
        return read_json(sink, path);
    }
    status = text_read(&text, path, &arena, sink->error);
    if (status == STATUS_OK) {
        status = read_csv(sink, path, text);
    }
    arena_free(&arena);
    return status;
}
