/*
 * placement_file.h -- placements in the formats that serving engines load, and in moesim's CSV.
 *
 *   CSV       one row a layer: the expert of every slot
 *   SGLang    JSON for --init-expert-location: {"physical_to_logical_map": [layer][slot]}
 *   TRT-LLM   YAML of moe_load_balancer: num_slots, initial_global_assignments {layer: [slots]}
 *   Ascend    JSON expert_map: layer_list [{layer_id, device_list [{device_id, device_expert}]}]
 *
 * SGLang also takes loads, {"logical_count": [layers][experts]}, and places by them when it starts.
 * Which one it is the content says. JSON is read as the YAML it is, so every problem has its line.
 */
#ifndef MOESIM_PLACEMENT_FILE_H
#define MOESIM_PLACEMENT_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "load_file.h"
#include "model.h"
#include "place.h"
#include "status.h"

/* Arrays are the arena's. */
struct placement_file {
    const char *path; /* borrowed */
    int32_t num_layers;
    int32_t num_slots;
    int32_t num_ranks; /* devices in the file; 0: it does not say */
    bool has_loads;    /* logical_count; without a placement num_layers is 0 */
    bool is_numbered;  /* the file says which layers these are */
    int32_t *layer;    /* [num_layers] numbers, ascending; the place in the file if it is not */
    int32_t *line;     /* [num_layers] where each begins */
    int32_t *expert_of_slot; /* [num_layers][num_slots] 0 or more */
};

/* STATUS_IO, STATUS_INVALID (no such format, ragged, no whole numbers) or STATUS_NO_MEMORY. */
MUST_CHECK enum status placement_file_load(struct placement_file *file, const char *path,
                                           struct arena *arena, struct error *error);

/* Reads a placement, [num_layers][num_slots], that must fit these loads: as many layers, slots in
 * each, ids in range, every expert somewhere. */
MUST_CHECK enum status placement_file_read(int32_t **expert_of_slot, const char *path,
                                           const struct load_file *load, int32_t num_slots,
                                           struct arena *arena, struct error *error);

/* The same for all MoE layers of a model, in their order: [MoE layers][num_slots]. The file has all
 * MoE layers of the model, by number or in order, or all of its layers, of which the dense are left
 * out. options says slots, ranks, nodes and groups; its strategy is asked where the file has loads
 * only. */
MUST_CHECK enum status placement_file_of_model(int32_t **expert_of_slot, const char *path,
                                               const struct moe_model *model,
                                               const struct place_options *options,
                                               struct arena *arena, struct error *error);

#endif
