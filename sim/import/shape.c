/*
 * shape.c -- which layers are recorded, of how many experts.
 *
 * The model says it: a file with all of its layers loses the dense ones. Where the model is a mere
 * name, a layer whose first rows hold one id throughout is a dense layer that the engine filled
 * with zeros.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "import/sink.h"
#include "trace_internal.h"

#define CONSTANT_VARIES (-2)
#define CONSTANT_UNSEEN (-3)
#define CONSTANT_TOKENS 32 /* fewer say nothing of a layer of top-1 */

/* A name that model_load does not know is fine when the experts are said. */
static enum status load_model(struct import_sink *sink, bool *is_known)
{
    const struct import_options *options = sink->options;
    *is_known = false;
    if (options->num_experts > 0 && options->model_layer != NULL) {
        return STATUS_OK;
    }
    if (options->num_experts == 0) {
        *is_known = true;
        return model_load(&sink->model, options->model, sink->error);
    }
    bool is_path = strpbrk(options->model, "/.") != NULL;
    struct error *quiet = calloc(1, sizeof *quiet);
    if (quiet == NULL) {
        return error_add(sink->error, STATUS_NO_MEMORY, "no memory for messages");
    }
    enum status status = model_load(&sink->model, options->model, quiet);
    *is_known = status == STATUS_OK;
    if (status != STATUS_OK && is_path) {
        *sink->error = *quiet;
    } else {
        status = STATUS_OK;
    }
    free(quiet);
    return status;
}

static enum status check_model_layers(const struct import_sink *sink)
{
    const struct import_options *options = sink->options;
    for (int32_t i = 0; i < options->num_layers; i++) {
        int32_t layer = options->model_layer[i];
        if (layer < 0 || layer >= sink->model.num_layers ||
            !model_layer_is_moe(&sink->model, layer)) {
            return error_add(sink->error, STATUS_INVALID,
                             "--layers: layer %d of %s is not a MoE layer", layer,
                             sink->model.name);
        }
    }
    return STATUS_OK;
}

enum status import_shape_begin(struct import_sink *sink)
{
    const struct import_options *options = sink->options;
    struct import_input *input = &sink->input;
    bool is_known = false;
    *input = (struct import_input){
        .options = options, .num_experts = options->num_experts, .top_k = options->top_k};
    input->error = sink->error;
    input->num_layers = options->model_layer != NULL ? options->num_layers : 0;
    if (options->model == NULL) {
        return sink->format->level == IMPORT_LOADS
                   ? STATUS_OK
                   : error_add(sink->error, STATUS_INVALID,
                               "--model: a trace needs one, or a name with --num-experts");
    }
    if (strlen(options->model) >= sizeof sink->summary->model || options->model[0] == '\0') {
        bool is_path = strpbrk(options->model, "/.") != NULL;
        if (!is_path) {
            return error_add(sink->error, STATUS_INVALID, "--model: a name has 1 to %d bytes",
                             NAME_BYTES - 1);
        }
    }
    enum status status = load_model(sink, &is_known);
    if (status != STATUS_OK) {
        return status;
    }
    (void)snprintf(sink->summary->model, sizeof sink->summary->model, "%s",
                   is_known ? sink->model.name : options->model);
    if (!is_known) {
        return STATUS_OK;
    }
    if (sink->model.num_experts == 0) {
        return error_add(sink->error, STATUS_INVALID, "model %s is dense: it routes nothing",
                         sink->model.name);
    }
    input->model = &sink->model;
    input->num_experts = input->num_experts > 0 ? input->num_experts : sink->model.num_experts;
    input->top_k = input->top_k > 0 ? input->top_k : sink->model.top_k;
    if (options->model_layer == NULL) {
        input->num_layers = model_num_moe_layers(&sink->model);
        input->num_layers_all = sink->model.num_layers;
    }
    return check_model_layers(sink);
}

bool import_shape_fits(const struct import_input *input, int64_t num_layers, int64_t top_k)
{
    bool layers_fit = input->num_layers == 0 || num_layers == input->num_layers ||
                      num_layers == input->num_layers_all;
    return num_layers > 0 && layers_fit && (input->top_k == 0 || top_k == input->top_k);
}

/* Notes which columns and layers of a block hold anything but one id. */
static void survey_ids(struct import_sink *sink, const struct import_block *block)
{
    struct import_survey *survey = &sink->survey;
    bool ones_are_pads = sink->input.num_experts == 0 || sink->input.num_experts < 256 ||
                         block->expert.type != NPY_UINT8;
    int64_t left = IMPORT_SURVEY_TOKENS - survey->num_tokens;
    int64_t num_tokens = block->num_tokens < left ? block->num_tokens : left;
    for (int64_t token = 0; token < num_tokens; token++) {
        for (int32_t layer = 0; layer < block->num_layers; layer++) {
            for (int32_t k = 0; k < block->top_k; k++) {
                int64_t index = import_array_at(&block->expert, token, layer, k);
                int64_t id = import_array_int(&block->expert, index, ones_are_pads);
                int64_t *constant = &survey->constant[layer];
                *constant = *constant == CONSTANT_UNSEEN || *constant == id ? id : CONSTANT_VARIES;
                bool may_be_pad = block->expert.type == NPY_UINT8 && id == UINT8_MAX;
                survey->id_max = id > survey->id_max && !may_be_pad ? id : survey->id_max;
                if (id != -1 && k >= survey->top_k_used) {
                    survey->top_k_used = k + 1;
                }
            }
        }
    }
}

enum status import_survey_block(struct import_sink *sink, const struct import_block *block)
{
    struct import_survey *survey = &sink->survey;
    if (block->num_layers < 1 || block->num_layers > TRACE_LAYERS_MAX) {
        return import_refuse(sink, block->path, block->place,
                             "has %d layers: there must be 1 to %d", block->num_layers,
                             TRACE_LAYERS_MAX);
    }
    if (survey->num_layers == 0) {
        survey->num_layers = block->num_layers;
        survey->top_k = block->top_k;
        survey->has_gate_weights = block->gate_weight.data != NULL;
        survey->has_scores = block->score.data != NULL;
        survey->has_model_layers = block->model_layer != NULL;
        for (int32_t layer = 0; layer < block->num_layers; layer++) {
            survey->constant[layer] = CONSTANT_UNSEEN;
            survey->model_layer[layer] =
                block->model_layer != NULL ? block->model_layer[layer] : layer;
        }
    }
    if (block->num_layers != survey->num_layers || block->top_k != survey->top_k) {
        survey->num_tokens = IMPORT_SURVEY_TOKENS; /* told when it is met again */
        return STATUS_OK;
    }
    if (block->expert.data != NULL) {
        survey_ids(sink, block);
    } else {
        survey->top_k_used = block->top_k;
    }
    survey->num_tokens += block->num_tokens;
    return STATUS_OK;
}

/* Are the file's layer numbers those of the model? Else (some count from 1, some count layers with
 * experts only) only their order says which is which. */
static bool numbers_are_models(const struct import_sink *sink)
{
    const struct import_survey *survey = &sink->survey;
    const struct import_input *input = &sink->input;
    bool all_there = survey->has_model_layers || survey->num_layers == input->num_layers_all;
    int32_t num_moe = 0;
    for (int32_t layer = 0; layer < survey->num_layers && all_there; layer++) {
        int32_t number = survey->model_layer[layer];
        all_there = number >= 0 && number < input->model->num_layers;
        num_moe += all_there && model_layer_is_moe(input->model, number) ? 1 : 0;
    }
    bool has_dense = num_moe < survey->num_layers;
    return all_there && !(has_dense && survey->num_layers == input->num_layers);
}

/* As which layer of the model is a layer of the file recorded, the order-th by number? -1: it is
 * not. */
static int32_t layer_of_model(const struct import_sink *sink, int32_t layer, int32_t order)
{
    const struct import_survey *survey = &sink->survey;
    const struct import_input *input = &sink->input;
    if (sink->options->model_layer != NULL) {
        return sink->options->model_layer[order];
    }
    if (input->model == NULL) {
        bool says_something = survey->top_k_used > 1 || survey->num_tokens >= CONSTANT_TOKENS;
        bool is_dense = says_something && survey->constant[layer] >= -1; /* or all pads */
        return is_dense ? -1 : survey->model_layer[layer];
    }
    if (numbers_are_models(sink)) {
        int32_t number = survey->model_layer[layer];
        return model_layer_is_moe(input->model, number) ? number : -1;
    }
    int32_t number = 0;
    for (int32_t found = 0; found <= order; number++) {
        found += model_layer_is_moe(input->model, number) ? 1 : 0;
    }
    return number - 1;
}

/* The layers of the file by ascending number: order[num_layers]. False: one comes twice. */
static bool sort_layers(const struct import_survey *survey, int32_t *order)
{
    bool all_differ = true;
    for (int32_t layer = 0; layer < survey->num_layers; layer++) {
        int32_t hole = layer;
        int32_t number = survey->model_layer[layer];
        while (hole > 0 && survey->model_layer[order[hole - 1]] > number) {
            order[hole] = order[hole - 1];
            hole--;
        }
        all_differ = all_differ && (hole == 0 || survey->model_layer[order[hole - 1]] != number);
        order[hole] = layer;
    }
    return all_differ;
}

static enum status refuse_layers(const struct import_sink *sink)
{
    const struct import_input *input = &sink->input;
    const char *path = sink->options->paths[0];
    if (sink->options->model_layer != NULL) {
        return error_add(sink->error, STATUS_INVALID,
                         "%s: has %d layers, but --layers names %d: look at --model and --layers",
                         path, sink->survey.num_layers, input->num_layers);
    }
    bool has_dense = input->num_layers_all > input->num_layers;
    return error_add(sink->error, STATUS_INVALID,
                     "%s: has %d layers, but %s has %d%s: look at --model and --layers", path,
                     sink->survey.num_layers, sink->summary->model, input->num_layers,
                     has_dense ? " with experts" : "");
}

static enum status map_layers(struct import_sink *sink)
{
    struct import_summary *summary = sink->summary;
    int32_t count = sink->survey.num_layers;
    sink->num_file_layers = count;
    sink->file_layer = arena_alloc(&sink->arena, (size_t)count, sizeof *sink->file_layer);
    sink->model_layer = arena_alloc(&sink->arena, (size_t)count, sizeof *sink->model_layer);
    if (sink->file_layer == NULL || sink->model_layer == NULL) {
        return error_add(sink->error, STATUS_NO_MEMORY, "no memory for %d layers", count);
    }
    if (!sort_layers(&sink->survey, sink->file_layer)) {
        return error_add(sink->error, STATUS_INVALID, "%s: has a layer twice",
                         sink->options->paths[0]);
    }
    summary->num_layers = 0;
    for (int32_t order = 0; order < count; order++) {
        int32_t layer = sink->file_layer[order];
        int32_t number = layer_of_model(sink, layer, order);
        if (number >= 0) {
            sink->file_layer[summary->num_layers] = layer;
            sink->model_layer[summary->num_layers] = number;
            summary->num_layers++;
        }
    }
    summary->num_dense_layers_dropped = count - summary->num_layers;
    if (summary->num_layers == 0) {
        return error_add(
            sink->error, STATUS_INVALID,
            "%s: has no layer that routes: all %d hold one id throughout, or are dense "
            "in %s",
            sink->options->paths[0], count, summary->model);
    }
    return STATUS_OK;
}

enum status import_shape(struct import_sink *sink)
{
    struct import_summary *summary = sink->summary;
    const struct import_survey *survey = &sink->survey;
    const struct import_input *input = &sink->input;
    bool layers_fit = input->num_layers == 0 || survey->num_layers == input->num_layers ||
                      survey->num_layers == input->num_layers_all;
    bool says_layers = survey->has_model_layers && input->model != NULL &&
                       sink->options->model_layer == NULL && numbers_are_models(sink);
    if (!layers_fit && !says_layers) {
        return refuse_layers(sink);
    }
    summary->num_experts = input->num_experts;
    summary->top_k = input->top_k > 0 ? input->top_k : survey->top_k_used;
    summary->has_gate_weights = survey->has_gate_weights;
    summary->has_scores = survey->has_scores;
    if (survey->top_k < summary->top_k || survey->top_k_used > summary->top_k) {
        return error_add(sink->error, STATUS_INVALID,
                         "%s: holds top-%d, but %s has top-%d: look at --model and --top-k",
                         sink->options->paths[0],
                         survey->top_k < summary->top_k ? survey->top_k : survey->top_k_used,
                         summary->model, summary->top_k);
    }
    if (summary->top_k < 1 || summary->top_k > summary->num_experts) {
        return error_add(sink->error, STATUS_INVALID,
                         "%s: top-%d of %d experts: k must be from 1 to the number of experts",
                         sink->options->paths[0], summary->top_k, summary->num_experts);
    }
    return map_layers(sink);
}
