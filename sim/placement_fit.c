/* placement_fit.c -- holds a placement from a file against loads or a model. */
#include <string.h>

#include "placement_file.h"

/* One layer: ids in range, and every expert somewhere. held [num_experts] scratch, zero before the
 * first row. */
static enum status check_layer(const struct placement_file *file, int32_t row, int32_t num_experts,
                               int32_t *held, struct error *error)
{
    const int32_t *expert_of_slot = file->expert_of_slot + (int64_t)row * file->num_slots;
    for (int32_t slot = 0; slot < file->num_slots; slot++) {
        if (expert_of_slot[slot] >= num_experts) {
            return error_add(error, STATUS_INVALID,
                             "%s:%d: slot %d: expert %d of %d; a placement of another model?",
                             file->path, (int)file->line[row], (int)slot, (int)expert_of_slot[slot],
                             (int)num_experts);
        }
        held[expert_of_slot[slot]] = row + 1;
    }
    for (int32_t expert = 0; expert < num_experts; expert++) {
        if (held[expert] != row + 1) {
            return error_add(error, STATUS_INVALID, "%s:%d: expert %d has no slot", file->path,
                             (int)file->line[row], (int)expert);
        }
    }
    return STATUS_OK;
}

static enum status check_layers(const struct placement_file *file, int32_t num_experts,
                                struct arena *arena, struct error *error)
{
    enum status status = STATUS_OK;
    int32_t *held = arena_alloc(arena, (size_t)num_experts, sizeof *held);
    if (held == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "%s: out of memory", file->path);
    }
    for (int32_t row = 0; status == STATUS_OK && row < file->num_layers; row++) {
        status = check_layer(file, row, num_experts, held, error);
    }
    return status;
}

enum status placement_file_read(int32_t **expert_of_slot, const char *path,
                                const struct load_file *load, int32_t num_slots,
                                struct arena *arena, struct error *error)
{
    struct placement_file file;
    enum status status = placement_file_load(&file, path, arena, error);
    if (status != STATUS_OK) {
        return status;
    }
    if (file.num_layers == 0) {
        return error_add(error, STATUS_INVALID,
                         "%s: has loads (logical_count) and no placement: give it as --load", path);
    }
    if (file.num_layers != load->num_layers || file.num_slots != num_slots) {
        return error_add(error, STATUS_INVALID,
                         "%s:1: %d layers of %d slots; the loads and --slots ask for %d of %d",
                         path, (int)file.num_layers, (int)file.num_slots, (int)load->num_layers,
                         (int)num_slots);
    }
    *expert_of_slot = file.expert_of_slot;
    return check_layers(&file, load->num_experts, arena, error);
}

/* The row of a layer by its number; -1: it has none. */
static int32_t row_of(const struct placement_file *file, int32_t layer)
{
    for (int32_t row = 0; row < file->num_layers; row++) {
        if (file->layer[row] == layer) {
            return row;
        }
    }
    return -1;
}

/* Are rows the model's own layer numbers? Else they are its MoE layers in order. */
static bool is_by_number(const struct placement_file *file, const struct moe_model *model)
{
    bool has_all = file->is_numbered || file->num_layers == model->num_layers;
    for (int32_t layer = 0; has_all && layer < model->num_layers; layer++) {
        has_all = !model_layer_is_moe(model, layer) || row_of(file, layer) >= 0;
    }
    return has_all;
}

static enum status check_shape(const struct placement_file *file, const struct moe_model *model,
                               bool by_number, int32_t num_slots, int32_t num_ranks,
                               struct error *error)
{
    int32_t num_layers = model_num_moe_layers(model);
    enum status status = STATUS_OK;
    if (!by_number && file->num_layers != num_layers) {
        status =
            error_add(error, STATUS_INVALID, "%s:%d: %d layers; %s has %d with experts", file->path,
                      (int)file->line[0], (int)file->num_layers, model->name, (int)num_layers);
    }
    if (file->num_slots < model->num_experts) {
        status = error_add(error, STATUS_INVALID, "%s:%d: %d slots a layer; %s has %d experts",
                           file->path, (int)file->line[0], (int)file->num_slots, model->name,
                           (int)model->num_experts);
    } else if (file->num_slots != num_slots) {
        status = error_add(error, STATUS_INVALID,
                           "%s:%d: %d slots a layer; %s has %d experts, which makes "
                           "placement.redundant_experts: %d",
                           file->path, (int)file->line[0], (int)file->num_slots, model->name,
                           (int)model->num_experts, (int)(file->num_slots - model->num_experts));
    }
    if (file->num_ranks > 0 && file->num_ranks != num_ranks) {
        status = error_add(error, STATUS_INVALID, "%s:%d: %d devices, but parallel.ep is %d",
                           file->path, (int)file->line[0], (int)file->num_ranks, (int)num_ranks);
    }
    return status;
}

/* Keeps the rows of MoE layers of [num_layers][columns] values of the model's layers. Rows ascend,
 * so none is overwritten before its turn. */
static int32_t keep_moe_rows(void *values, size_t row_bytes, const struct moe_model *model)
{
    char *to = values;
    int32_t num_kept = 0;
    for (int32_t layer = 0; layer < model->num_layers; layer++) {
        if (model_layer_is_moe(model, layer)) {
            memmove(to + (size_t)num_kept * row_bytes, to + (size_t)layer * row_bytes, row_bytes);
            num_kept++;
        }
    }
    return num_kept;
}

/* Places by loads, as SGLang does when it starts. */
static enum status place_loads(int32_t **expert_of_slot, const char *path,
                               const struct moe_model *model, const struct place_options *options,
                               struct arena *arena, struct error *error)
{
    struct load_file load;
    struct place_result result;
    enum status status = load_file_read(&load, path, arena, error);
    if (status != STATUS_OK) {
        return status;
    }
    int32_t num_layers = model_num_moe_layers(model);
    if ((load.num_layers != num_layers && load.num_layers != model->num_layers) ||
        load.num_experts != model->num_experts) {
        return error_add(error, STATUS_INVALID,
                         "%s: loads of %d layers with %d experts; %s has %d with %d", path,
                         (int)load.num_layers, (int)load.num_experts, model->name, (int)num_layers,
                         (int)model->num_experts);
    }
    if (load.num_layers == model->num_layers) {
        size_t row = (size_t)load.num_experts;
        for (int32_t step = 0; step < load.num_steps; step++) {
            int32_t *from = load.step_tokens + (size_t)step * (size_t)load.num_layers * row;
            (void)keep_moe_rows(from, row * sizeof *from, model);
            memmove(load.step_tokens + (size_t)step * (size_t)num_layers * row, from,
                    (size_t)num_layers * row * sizeof *from);
        }
        load.num_layers = keep_moe_rows(load.load_tokens, row * sizeof *load.load_tokens, model);
    }
    status = place(&result, options, &load, NULL, arena, error);
    *expert_of_slot = result.expert_of_slot;
    return status;
}

enum status placement_file_of_model(int32_t **expert_of_slot, const char *path,
                                    const struct moe_model *model,
                                    const struct place_options *options, struct arena *arena,
                                    struct error *error)
{
    struct placement_file file;
    enum status status = placement_file_load(&file, path, arena, error);
    if (status != STATUS_OK) {
        return status;
    }
    if (file.num_layers == 0) {
        return place_loads(expert_of_slot, path, model, options, arena, error);
    }
    bool by_number = is_by_number(&file, model);
    status = check_shape(&file, model, by_number, options->num_slots, options->num_ranks, error);
    if (status != STATUS_OK) {
        return status;
    }
    int32_t num_kept = 0;
    size_t row_bytes = (size_t)file.num_slots * sizeof *file.expert_of_slot;
    for (int32_t layer = 0; by_number && layer < model->num_layers; layer++) {
        if (model_layer_is_moe(model, layer)) { /* rows ascend: none is overwritten too early */
            int32_t row = row_of(&file, layer);
            memmove(file.expert_of_slot + (int64_t)num_kept * file.num_slots,
                    file.expert_of_slot + (int64_t)row * file.num_slots, row_bytes);
            file.line[num_kept] = file.line[row];
            num_kept++;
        }
    }
    file.num_layers = by_number ? num_kept : file.num_layers;
    *expert_of_slot = file.expert_of_slot;
    return check_layers(&file, model->num_experts, arena, error);
}
