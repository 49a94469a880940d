/*
 * place_write.c -- placements in the formats that serving engines load.
 *
 * SGLang: {"physical_to_logical_map": [layer][slot]}, --init-expert-location. TensorRT-LLM: YAML
 * with num_slots and initial_global_assignments, layer: [slots], moe_load_balancer; it is told to
 * update no layer by itself. vLLM-Ascend: expert_map.json, layer by layer and device by device.
 */
#include "place.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "textfile.h"

const char *place_format_name(enum place_format format)
{
    static const char *const names[PLACE_FORMAT_COUNT] = {"csv", "sglang", "trtllm", "ascend"};
    assert(format < PLACE_FORMAT_COUNT);
    return names[format];
}

static void write_row(FILE *file, const int32_t *value, int32_t count, const char *comma)
{
    for (int32_t i = 0; i < count; i++) {
        fprintf(file, "%s%d", i == 0 ? "" : comma, (int)value[i]);
    }
}

static void write_sglang(FILE *file, const int32_t *map, int32_t num_layers, int32_t num_slots)
{
    fputs("{\"physical_to_logical_map\": [\n", file);
    for (int32_t layer = 0; layer < num_layers; layer++) {
        fputs("[", file);
        write_row(file, map + (int64_t)layer * num_slots, num_slots, ", ");
        fputs(layer + 1 < num_layers ? "],\n" : "]\n", file);
    }
    fputs("]}\n", file);
}

static void write_trtllm(FILE *file, const int32_t *map, int32_t num_layers, int32_t num_slots,
                         int32_t first_layer)
{
    fprintf(file, "num_slots: %d\ninitial_global_assignments:\n", (int)num_slots);
    for (int32_t layer = 0; layer < num_layers; layer++) {
        fprintf(file, "  %d: [", (int)(first_layer + layer));
        write_row(file, map + (int64_t)layer * num_slots, num_slots, ", ");
        fputs("]\n", file);
    }
    fputs("layer_updates_per_iter: 0\n", file);
}

static void write_ascend(FILE *file, const int32_t *map, int32_t num_layers,
                         const struct place_options *options, int32_t first_layer)
{
    int32_t slots_per_rank = options->num_slots / options->num_ranks;
    fprintf(file, "{\"moe_layer_count\": %d, \"layer_list\": [\n", (int)num_layers);
    for (int32_t layer = 0; layer < num_layers; layer++) {
        fprintf(file, "{\"layer_id\": %d, \"device_count\": %d, \"device_list\": [\n",
                (int)(first_layer + layer), (int)options->num_ranks);
        for (int32_t rank = 0; rank < options->num_ranks; rank++) {
            fprintf(file, "{\"device_id\": %d, \"device_expert\": [", (int)rank);
            write_row(file, map + (int64_t)layer * options->num_slots + rank * slots_per_rank,
                      slots_per_rank, ", ");
            fputs(rank + 1 < options->num_ranks ? "]},\n" : "]}\n", file);
        }
        fputs(layer + 1 < num_layers ? "]},\n" : "]}\n", file);
    }
    fputs("]}\n", file);
}

enum status place_write(const char *path, enum place_format format, const int32_t *expert_of_slot,
                        const struct place_options *options, int32_t num_layers,
                        int32_t first_layer, struct error *error)
{
    char partial[FILE_PATH_BYTES];
    if (snprintf(partial, sizeof partial, "%s.partial", path) >= (int)sizeof partial) {
        return error_add(error, STATUS_INVALID, "%s: the path is too long", path);
    }
    FILE *file = fopen(partial, "w");
    if (file == NULL) {
        return error_add(error, STATUS_IO, "%s: %s", partial, strerror(errno));
    }
    switch (format) {
    case PLACE_CSV:
        for (int32_t layer = 0; layer < num_layers; layer++) {
            write_row(file, expert_of_slot + (int64_t)layer * options->num_slots,
                      options->num_slots, ",");
            fputs("\n", file);
        }
        break;
    case PLACE_SGLANG:
        write_sglang(file, expert_of_slot, num_layers, options->num_slots);
        break;
    case PLACE_TRTLLM:
        write_trtllm(file, expert_of_slot, num_layers, options->num_slots, first_layer);
        break;
    case PLACE_ASCEND:
        write_ascend(file, expert_of_slot, num_layers, options, first_layer);
        break;
    case PLACE_FORMAT_COUNT:
        break;
    }
    int failed = ferror(file);
    failed |= fclose(file);
    if (failed != 0 || rename(partial, path) != 0) {
        enum status status = error_add(error, STATUS_IO, "%s: %s", path, strerror(errno));
        remove(partial);
        return status;
    }
    return STATUS_OK;
}
