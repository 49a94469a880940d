/*
 * sglang_recorder_counts.c -- SGLang's recorder, modes stat, stat_approx and per_pass: loads.
 *
 * stat: logical_count [steps][layers][experts], a ring of which steps that were not reached are
 * zero and are left out. per_pass: global_physical_count [layers][slots] of every pass and rank;
 * slots become experts by the map at the end of the file, ranks add up, and a rank that counted
 * what another did (tensor-parallel attention) is left out. Layers without any token are dense.
 */
#include <stdio.h>
#include <stdlib.h>

#include "import/sglang.h"

struct counts {
    struct sglang_file file;
    struct sglang_seen seen;
    int64_t *tokens;    /* [num_experts] scratch of a layer */
    int64_t room;       /* of tokens */
    int64_t step;       /* the next of mode stat */
    int64_t first_pass; /* of mode per_pass: its step is 0 */
    bool has_first_pass;
};

static int32_t detect(const struct import_probe *probe)
{
    bool has_counts = sglang_probe_has(probe, "logical_count") ||
                      sglang_probe_has(probe, "global_physical_count");
    return has_counts && !sglang_probe_has(probe, "topk_ids_of_layer") ? 100 : 0;
}

static enum status make_room(struct counts *counts, int64_t num_experts)
{
    if (num_experts < 1 || num_experts > SGLANG_SLOTS_MAX) {
        return import_refuse(counts->file.sink, counts->file.path, "",
                             "has %lld experts or slots: 1 to %d are read", (long long)num_experts,
                             SGLANG_SLOTS_MAX);
    }
    if (counts->room < num_experts) {
        free(counts->tokens);
        counts->tokens = calloc((size_t)num_experts, sizeof *counts->tokens);
        counts->room = counts->tokens != NULL ? num_experts : 0;
    }
    return counts->tokens != NULL
               ? STATUS_OK
               : error_add(counts->file.input->error, STATUS_NO_MEMORY, "no memory for loads");
}

/* Reads one row; *sum is its tokens, -1 after a problem. */
static enum status read_row(struct counts *counts, const struct tensor *tensor, int64_t offset,
                            int64_t stride, int64_t count, const char *place, int64_t *sum)
{
    *sum = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t tokens = tensor_int(tensor, offset + i * stride);
        if (tokens < 0 || tokens > INT32_MAX) {
            *sum = -1;
            return import_complain(counts->file.sink, counts->file.path, place,
                                   "expert or slot %lld has %lld tokens", (long long)i,
                                   (long long)tokens);
        }
        counts->tokens[i] = tokens;
        *sum += tokens;
    }
    return STATUS_OK;
}

/* Does a layer have tokens in any step? */
static bool is_used(const struct tensor *tensor, int64_t layer)
{
    for (int64_t step = 0; step < tensor->dim[0]; step++) {
        for (int64_t expert = 0; expert < tensor->dim[2]; expert++) {
            if (tensor_int(tensor, step * tensor->stride[0] + layer * tensor->stride[1] +
                                       expert * tensor->stride[2]) != 0) {
                return true;
            }
        }
    }
    return false;
}

/* One step of logical_count. */
static enum status read_step(struct counts *counts, const struct tensor *tensor,
                             const bool *layer_is_used, int64_t step)
{
    bool is_reached = false;
    char place[64];
    enum status status = STATUS_OK;
    for (int64_t layer = 0; status == STATUS_OK && layer < tensor->dim[1]; layer++) {
        int64_t sum = 0;
        if (!layer_is_used[layer]) {
            continue;
        }
        (void)snprintf(place, sizeof place, "step %lld, layer %lld", (long long)step,
                       (long long)layer);
        status = read_row(counts, tensor, step * tensor->stride[0] + layer * tensor->stride[1],
                          tensor->stride[2], tensor->dim[2], place, &sum);
        if (status == STATUS_OK && sum > 0) {
            is_reached = true;
            status = import_load(counts->file.sink, counts->step, (int32_t)layer, counts->tokens,
                                 (int32_t)tensor->dim[2]);
        }
    }
    counts->step += is_reached ? 1 : 0;
    import_drop(counts->file.sink, "steps of the recorder's buffer that were not reached",
                is_reached ? 0 : 1);
    return status;
}

static enum status read_stat(struct counts *counts)
{
    struct sglang_file *file = &counts->file;
    struct tensor tensor;
    void *memory = NULL;
    enum status status =
        sglang_load(&tensor, &memory, file, &file->pickle.root, "logical_count", 3, "");
    if (status == STATUS_OK) {
        status = make_room(counts, tensor.dim[2]);
    }
    bool *layer_is_used = status == STATUS_OK ? calloc((size_t)tensor.dim[1] + 1, 1) : NULL;
    for (int64_t layer = 0; layer_is_used != NULL && layer < tensor.dim[1]; layer++) {
        layer_is_used[layer] = is_used(&tensor, layer);
    }
    if (status == STATUS_OK && layer_is_used == NULL) {
        status = error_add(file->input->error, STATUS_NO_MEMORY, "no memory for layers");
    }
    for (int64_t step = 0; status == STATUS_OK && step < tensor.dim[0]; step++) {
        status = read_step(counts, &tensor, layer_is_used, step);
        import_progress(file->sink, (step + 1) * file->pickle.zip.num_bytes / tensor.dim[0],
                        file->pickle.zip.num_bytes);
    }
    free(layer_is_used);
    free(memory);
    return status;
}

/* One layer of a pass, slot by slot. The sink itself maps where the user named a map. */
static enum status read_layer(struct counts *counts, const struct tensor *tensor, int64_t layer,
                              int64_t step, const char *place)
{
    const struct sglang_file *file = &counts->file;
    int64_t sum = 0;
    bool maps = file->expert != NULL && file->input->options->physical_path == NULL;
    enum status status = read_row(counts, tensor, layer * tensor->stride[0], tensor->stride[1],
                                  tensor->dim[1], place, &sum);
    for (int64_t slot = 0; status == STATUS_OK && sum > 0 && slot < tensor->dim[1]; slot++) {
        int32_t expert = (int32_t)slot;
        if (maps && layer < file->num_layers && slot < file->num_slots) {
            expert = file->expert[layer * file->num_slots + slot];
        } else if (maps) {
            expert = -1;
        }
        if (expert < 0 && counts->tokens[slot] > 0) {
            return import_complain(file->sink, file->path, place,
                                   "layer %lld, slot %lld: last_physical_to_logical_map has no "
                                   "expert there",
                                   (long long)layer, (long long)slot);
        }
        if (expert >= 0) {
            status =
                import_load_cell(file->sink, step, (int32_t)layer, expert, counts->tokens[slot]);
        }
    }
    return status;
}

static enum status read_record(struct counts *counts, int64_t index)
{
    struct sglang_file *file = &counts->file;
    char place[64];
    struct tensor tensor;
    void *memory = NULL;
    bool is_copy = false;
    int64_t forward_pass = sglang_forward_pass(file, index);
    const struct pickle_value *record = pickle_item(&file->pickle, file->records, index);
    (void)snprintf(place, sizeof place, "record %lld, forward pass %lld", (long long)index,
                   (long long)forward_pass);
    counts->first_pass = counts->has_first_pass ? counts->first_pass : forward_pass;
    counts->has_first_pass = true;
    if (forward_pass < counts->first_pass) {
        return import_refuse(file->sink, file->path, place,
                             "is before the first of the first file, %lld: name that file first "
                             "which begins first",
                             (long long)counts->first_pass);
    }
    enum status status =
        sglang_load(&tensor, &memory, file, record, "global_physical_count", 2, place);
    if (status == STATUS_OK) {
        status = make_room(counts, tensor.dim[1]);
    }
    if (status == STATUS_OK) {
        status =
            sglang_seen_add(&counts->seen, &is_copy, forward_pass, &tensor, file->input->error);
    }
    import_drop(file->sink, "passes that another rank counted too", is_copy ? 1 : 0);
    for (int64_t layer = 0; status == STATUS_OK && !is_copy && layer < tensor.dim[0]; layer++) {
        status = read_layer(counts, &tensor, layer, forward_pass - counts->first_pass, place);
    }
    free(memory);
    return status;
}

static enum status read_file(struct counts *counts)
{
    struct sglang_file *file = &counts->file;
    if (pickle_get(&file->pickle, &file->pickle.root, "logical_count") != NULL) {
        return read_stat(counts);
    }
    if (file->records == NULL) {
        return import_refuse(file->sink, file->path, "", "has neither logical_count nor records");
    }
    enum status status = STATUS_OK;
    int64_t count = pickle_count(&file->pickle, file->records);
    for (int64_t i = 0; status == STATUS_OK && i < count; i++) {
        status = read_record(counts, i);
        import_progress(file->sink, (i + 1) * file->pickle.zip.num_bytes / count,
                        file->pickle.zip.num_bytes);
    }
    return status;
}

static enum status read_all(const struct import_input *input, struct import_sink *sink)
{
    struct counts counts = {.room = 0};
    enum status status = STATUS_OK;
    for (int32_t i = 0; i < input->options->num_paths && status == STATUS_OK; i++) {
        sglang_seen_begin_file(&counts.seen);
        status = sglang_open(&counts.file, input->options->paths[i], input, sink);
        if (status == STATUS_OK) {
            status = read_file(&counts);
        }
        sglang_close(&counts.file);
    }
    sglang_seen_free(&counts.seen);
    free(counts.tokens);
    return status;
}

const struct import_format import_sglang_recorder_counts = {
    .name = "sglang_recorder_counts",
    .summary = "the same, modes stat and per_pass (.pt): becomes loads",
    .source = "sgl-project/sglang, srt/eplb/expert_distribution.py",
    .level = IMPORT_LOADS,
    .detect = detect,
    .read = read_all,
};
