/* placement_file.c -- four formats into one struct, and checks against loads or a model. */
#include "placement_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "yaml_file.h"

#define LAYERS_MAX 4096
#define SLOTS_MAX  65536

struct reader {
    struct placement_file *file;
    struct arena *arena;
    struct error *error;
};

static enum status refuse(const struct reader *reader, const struct yaml_node *node,
                          const char *what)
{
    return error_add(reader->error, STATUS_INVALID, "%s:%d: %s%s%s", reader->file->path,
                     (int)node->line, node->key != NULL ? node->key : "",
                     node->key != NULL ? ": " : "", what);
}

/* A whole number from 0 to max; -1: it is none. */
static int32_t whole_number(const char *text, int32_t max)
{
    char *end;
    errno = 0;
    long number = *text >= '0' && *text <= '9' ? strtol(text, &end, 10) : -1;
    return number < 0 || errno != 0 || *end != '\0' || number > max ? -1 : (int32_t)number;
}

/* The number of a child; -1: there is no such child, or it is no number. */
static int32_t number_of(const struct yaml_node *mapping, const char *key, int32_t max)
{
    const struct yaml_node *node = yaml_get(mapping, key);
    return node != NULL && node->kind == YAML_SCALAR ? whole_number(node->text, max) : -1;
}

/* Room for all layers, once the first says how many slots there are. */
static enum status allocate(struct reader *reader, const struct yaml_node *layers,
                            int32_t num_slots)
{
    struct placement_file *file = reader->file;
    int32_t num_layers = yaml_count(layers);
    if (num_layers < 1 || num_layers > LAYERS_MAX || num_slots < 1 || num_slots > SLOTS_MAX) {
        return refuse(reader, layers, "needs layers with slots");
    }
    size_t rows = (size_t)num_layers;
    file->num_layers = num_layers;
    file->num_slots = num_slots;
    file->layer = arena_alloc(reader->arena, rows, sizeof *file->layer);
    file->line = arena_alloc(reader->arena, rows, sizeof *file->line);
    file->expert_of_slot =
        arena_alloc(reader->arena, rows * (size_t)num_slots, sizeof *file->expert_of_slot);
    if (file->layer == NULL || file->line == NULL || file->expert_of_slot == NULL) {
        return error_add(reader->error, STATUS_NO_MEMORY, "%s: out of memory", file->path);
    }
    return STATUS_OK;
}

/* A list of experts into the slots from first on; they must be exactly num_slots. */
static enum status read_slots(struct reader *reader, const struct yaml_node *list, int32_t row,
                              int32_t first, int32_t num_slots)
{
    int32_t *to = reader->file->expert_of_slot + (int64_t)row * reader->file->num_slots + first;
    if (list->kind != YAML_SEQUENCE || yaml_count(list) != num_slots) {
        char what[96];
        (void)snprintf(what, sizeof what, "expected a list of %d experts, one a slot", num_slots);
        return refuse(reader, list, what);
    }
    for (const struct yaml_node *item = list->child; item != NULL; item = item->next) {
        int32_t expert = item->kind == YAML_SCALAR ? whole_number(item->text, INT32_MAX) : -1;
        if (expert < 0) {
            return refuse(reader, item, "an expert is a whole number from 0");
        }
        *to++ = expert;
    }
    return STATUS_OK;
}

/* Numbers ascend, so that the order in the file is that of the layers. */
static enum status set_layer(struct reader *reader, const struct yaml_node *node, int32_t row,
                             int32_t number)
{
    struct placement_file *file = reader->file;
    if (number < 0 || (row > 0 && number <= file->layer[row - 1])) {
        return refuse(reader, node, "layer numbers must ascend from one layer to the next");
    }
    file->layer[row] = number;
    file->line[row] = node->line;
    return STATUS_OK;
}

static enum status read_sglang(struct reader *reader, const struct yaml_node *map)
{
    int32_t row = 0;
    if (map->kind != YAML_SEQUENCE || map->child == NULL) {
        return refuse(reader, map, "expected a list of layers");
    }
    enum status status = allocate(reader, map, yaml_count(map->child));
    for (const struct yaml_node *list = map->child; status == STATUS_OK && list != NULL;
         list = list->next) {
        status = set_layer(reader, list, row, row);
        if (status == STATUS_OK) {
            status = read_slots(reader, list, row, 0, reader->file->num_slots);
        }
        row++;
    }
    return status;
}

static enum status read_trtllm(struct reader *reader, const struct yaml_node *root,
                               const struct yaml_node *layers)
{
    int32_t row = 0;
    int32_t num_slots = number_of(root, "num_slots", SLOTS_MAX);
    if (layers->kind != YAML_MAPPING || num_slots < 1) {
        return refuse(reader, layers,
                      "expected num_slots, and here a list of slots for each layer");
    }
    enum status status = allocate(reader, layers, num_slots);
    reader->file->is_numbered = true;
    for (const struct yaml_node *list = layers->child; status == STATUS_OK && list != NULL;
         list = list->next) {
        status = set_layer(reader, list, row, whole_number(list->key, LAYERS_MAX));
        if (status == STATUS_OK) {
            status = read_slots(reader, list, row, 0, num_slots);
        }
        row++;
    }
    return status;
}

/* The devices of one layer, each with as many slots. */
static enum status read_devices(struct reader *reader, const struct yaml_node *layer, int32_t row)
{
    const struct yaml_node *devices = yaml_get(layer, "device_list");
    struct placement_file *file = reader->file;
    int32_t num_slots = file->num_slots / file->num_ranks;
    int32_t rank = 0;
    enum status status = STATUS_OK;
    if (devices == NULL || devices->kind != YAML_SEQUENCE ||
        yaml_count(devices) != file->num_ranks) {
        return refuse(reader, layer, "needs a device_list as long as that of the first layer");
    }
    for (const struct yaml_node *device = devices->child; status == STATUS_OK && device != NULL;
         device = device->next) {
        const struct yaml_node *list = yaml_get(device, "device_expert");
        if (list == NULL || number_of(device, "device_id", SLOTS_MAX) != rank) {
            return refuse(reader, device, "needs device_expert, and device_id in order from 0");
        }
        status = read_slots(reader, list, row, rank * num_slots, num_slots);
        rank++;
    }
    return status;
}

static enum status read_ascend(struct reader *reader, const struct yaml_node *layers)
{
    int32_t row = 0;
    const struct yaml_node *devices = NULL;
    const struct yaml_node *experts = NULL;
    if (layers->kind == YAML_SEQUENCE) {
        devices = yaml_get(layers->child, "device_list");
    }
    if (devices != NULL && devices->kind == YAML_SEQUENCE) {
        experts = yaml_get(devices->child, "device_expert");
    }
    if (experts == NULL) {
        return refuse(reader, layers, "expected layers with a device_list with device_expert");
    }
    reader->file->num_ranks = yaml_count(devices);
    reader->file->is_numbered = true;
    enum status status = allocate(reader, layers, reader->file->num_ranks * yaml_count(experts));
    for (const struct yaml_node *layer = layers->child; status == STATUS_OK && layer != NULL;
         layer = layer->next) {
        int32_t number =
            layer->kind == YAML_MAPPING ? number_of(layer, "layer_id", LAYERS_MAX) : -1;
        status = set_layer(reader, layer, row, number);
        if (status == STATUS_OK) {
            status = read_devices(reader, layer, row);
        }
        row++;
    }
    return status;
}

static enum status read_csv(struct reader *reader)
{
    struct load_matrix matrix;
    struct placement_file *file = reader->file;
    enum status status = load_matrix_read(&matrix, file->path, reader->arena, reader->error);
    if (status != STATUS_OK) {
        return status;
    }
    if (matrix.num_rows > LAYERS_MAX || matrix.num_columns > SLOTS_MAX) {
        return error_add(reader->error, STATUS_INVALID, "%s:1: %lld layers of %lld slots",
                         file->path, (long long)matrix.num_rows, (long long)matrix.num_columns);
    }
    file->num_layers = (int32_t)matrix.num_rows;
    file->num_slots = (int32_t)matrix.num_columns;
    file->expert_of_slot = matrix.value;
    file->layer = arena_alloc(reader->arena, (size_t)file->num_layers, sizeof *file->layer);
    file->line = arena_alloc(reader->arena, (size_t)file->num_layers, sizeof *file->line);
    if (file->layer == NULL || file->line == NULL) {
        return error_add(reader->error, STATUS_NO_MEMORY, "%s: out of memory", file->path);
    }
    for (int32_t row = 0; row < file->num_layers; row++) {
        file->layer[row] = row;
        file->line[row] = row + 1;
    }
    return STATUS_OK;
}

/* Does a file begin as a table of numbers? */
static bool is_csv(const char *path)
{
    char text[64] = "";
    FILE *stream = fopen(path, "r");
    if (stream != NULL) {
        size_t length = fread(text, 1, sizeof text - 1, stream);
        text[length] = '\0';
        (void)fclose(stream);
    }
    size_t digits = strspn(text, " 0123456789");
    return digits > 0 && text[digits] != ':';
}

enum status placement_file_load(struct placement_file *file, const char *path, struct arena *arena,
                                struct error *error)
{
    struct reader reader = {.file = file, .arena = arena, .error = error};
    struct yaml_node *root = NULL;
    *file = (struct placement_file){.path = path};
    if (is_csv(path)) {
        return read_csv(&reader);
    }
    enum status status = yaml_load(&root, path, arena, error);
    if (status != STATUS_OK) {
        return status;
    }
    const struct yaml_node *sglang = yaml_get(root, "physical_to_logical_map");
    const struct yaml_node *trtllm = yaml_get(root, "initial_global_assignments");
    const struct yaml_node *ascend = yaml_get(root, "layer_list");
    file->has_loads = yaml_get(root, "logical_count") != NULL;
    if (sglang != NULL) {
        return read_sglang(&reader, sglang);
    }
    if (trtllm != NULL) {
        return read_trtllm(&reader, root, trtllm);
    }
    if (ascend != NULL) {
        return read_ascend(&reader, ascend);
    }
    return file->has_loads
               ? STATUS_OK
               : error_add(error, STATUS_INVALID,
                           "%s: is no placement: neither CSV, nor has it physical_to_logical_map "
                           "(SGLang), initial_global_assignments (TensorRT-LLM) or layer_list "
                           "(Ascend)",
                           path);
}
