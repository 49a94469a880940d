/*
 * sglang_recorder.c -- SGLang's recorder, mode per_token: the slots of every token of every pass.
 *
 * topk_ids_of_layer is int32 [layers][tokens][8], -1 where a layer is dense or k smaller. The ids
 * are slots; the map of the file's end says their experts, so a recording during which experts were
 * moved is not exact before the move. Requests are not recorded. Files of several ranks are read
 * one after the other; a rank that recorded what another did is left out.
 */
#include <stdio.h>
#include <stdlib.h>

#include "import/sglang.h"

static int32_t detect(const struct import_probe *probe)
{
    return sglang_probe_has(probe, "topk_ids_of_layer") ? 100 : 0;
}

static enum status pass_on(struct sglang_file *file, const struct tensor *ids, const char *place)
{
    struct import_block block = {
        .num_tokens = ids->dim[1],
        .num_layers = (int32_t)ids->dim[0],
        .top_k = (int32_t)ids->dim[2],
        .expert = {.data = ids->data,
                   .stride = {[TRACE_AXIS_TOKEN] = ids->stride[1],
                              [TRACE_AXIS_LAYER] = ids->stride[0],
                              [TRACE_AXIS_K] = ids->stride[2]}},
        .is_physical = file->expert != NULL,
        .path = file->path,
        .place = place,
    };
    bool is_known = tensor_type_to_npy(&block.expert.type, ids->type);
    return is_known ? import_block(file->sink, &block)
                    : import_refuse(file->sink, file->path, place, "holds truth values, not ids");
}

static enum status read_record(struct sglang_file *file, int64_t index, struct sglang_seen *seen)
{
    char place[64];
    struct tensor ids;
    void *memory = NULL;
    bool is_copy = false;
    int64_t forward_pass = sglang_forward_pass(file, index);
    const struct pickle_value *record = pickle_item(&file->pickle, file->records, index);
    (void)snprintf(place, sizeof place, "record %lld, forward pass %lld", (long long)index,
                   (long long)forward_pass);
    enum status status = sglang_load(&ids, &memory, file, record, "topk_ids_of_layer", 3, place);
    if (status != STATUS_OK || ids.num_elements == 0) {
        free(memory);
        return status; /* a rank may have had nothing to do */
    }
    if (file->input->options->num_paths > 1) {
        status = sglang_seen_add(seen, &is_copy, forward_pass, &ids, file->input->error);
    }
    if (is_copy) {
        import_drop(file->sink, "tokens that another rank recorded too", ids.dim[1]);
    } else if (status == STATUS_OK) {
        status = pass_on(file, &ids, place);
    }
    free(memory);
    return status;
}

static enum status read_records(struct sglang_file *file, struct sglang_seen *seen)
{
    if (file->records == NULL) {
        return import_refuse(file->sink, file->path, "",
                             "has no records: with logical_count it is sglang_recorder_counts");
    }
    enum status status = STATUS_OK;
    if (file->expert != NULL) {
        status = import_physical(file->sink, file->expert, file->num_layers, file->num_slots);
    }
    int64_t count = pickle_count(&file->pickle, file->records);
    for (int64_t i = 0; status == STATUS_OK && i < count && import_wants_more(file->sink); i++) {
        status = read_record(file, i, seen);
        import_progress(file->sink, (i + 1) * file->pickle.zip.num_bytes / count,
                        file->pickle.zip.num_bytes);
    }
    return status;
}

static enum status read_all(const struct import_input *input, struct import_sink *sink)
{
    struct sglang_seen seen = {.count = 0};
    enum status status = STATUS_OK;
    for (int32_t i = 0; i < input->options->num_paths && status == STATUS_OK; i++) {
        struct sglang_file file;
        if (!import_wants_more(sink)) {
            break;
        }
        sglang_seen_begin_file(&seen);
        status = sglang_open(&file, input->options->paths[i], input, sink);
        if (status == STATUS_OK) {
            status = read_records(&file, &seen);
        }
        sglang_close(&file);
    }
    sglang_seen_free(&seen);
    return status;
}

const struct import_format import_sglang_recorder = {
    .name = "sglang_recorder",
    .summary = "SGLang's expert-distribution recorder, mode per_token (.pt)",
    .source = "sgl-project/sglang, srt/eplb/expert_distribution.py",
    .level = IMPORT_ROWS,
    .detect = detect,
    .read = read_all,
};
