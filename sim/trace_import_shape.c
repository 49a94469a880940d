/*
 * trace_import_shape.c -- finds out what an array is.
 *
 * A shape alone does not say which axis is which; the model does. What fits neither its MoE layers
 * nor all its layers is refused, with the order of axes that would fit if there is one.
 */
#include <stdio.h>
#include <string.h>

#include "trace_import_internal.h"

static const char *const axis_names[TRACE_AXIS_COUNT] = {"token", "layer", "k"};

bool trace_axes_parse(enum trace_axis axis[TRACE_AXIS_COUNT], const char *text)
{
    bool seen[TRACE_AXIS_COUNT] = {false};
    for (int32_t i = 0; i < TRACE_AXIS_COUNT; i++) {
        size_t length = strcspn(text, ",");
        int32_t found = 0;
        while (found < TRACE_AXIS_COUNT && (strlen(axis_names[found]) != length ||
                                            strncmp(text, axis_names[found], length) != 0)) {
            found++;
        }
        if (found == TRACE_AXIS_COUNT || seen[found]) {
            return false;
        }
        seen[found] = true;
        axis[i] = (enum trace_axis)found;
        text += length;
        bool last = i == TRACE_AXIS_COUNT - 1;
        if (*text != (last ? '\0' : ',')) {
            return false;
        }
        text += last ? 0 : 1;
    }
    return true;
}

/* What the array must look like. */
struct wanted {
    int32_t num_layers;     /* recorded layers */
    int32_t num_layers_all; /* with the dense ones; 0: not a choice */
    int32_t top_k;          /* 0: any */
};

static bool fits(const struct wanted *wanted, int64_t num_layers, int64_t top_k)
{
    bool layers_fit = num_layers == wanted->num_layers || num_layers == wanted->num_layers_all;
    return num_layers > 0 && layers_fit && (wanted->top_k == 0 || top_k == wanted->top_k);
}

/* Words the mismatch; if exactly one other order of the axes fits, names it. */
static enum status refuse_shape(const struct trace_import_job *job, const struct wanted *wanted,
                                const int64_t size[TRACE_AXIS_COUNT])
{
    const int64_t *dim = job->expert_file.dim;
    char expected[NAME_BYTES + 64];
    char hint[96] = "look at --axes, --model and --layers";
    int32_t num_fitting = 0;
    for (int32_t layer = 0; layer < TRACE_AXIS_COUNT; layer++) {
        for (int32_t k = 0; k < TRACE_AXIS_COUNT; k++) {
            if (k == layer || !fits(wanted, dim[layer], dim[k])) {
                continue;
            }
            const char *name[TRACE_AXIS_COUNT] = {"token", "token", "token"};
            name[layer] = "layer";
            name[k] = "k";
            (void)snprintf(hint, sizeof hint, "--axes %s,%s,%s would fit", name[0], name[1],
                           name[2]);
            num_fitting++;
        }
    }
    if (num_fitting != 1) {
        (void)snprintf(hint, sizeof hint, "look at --axes, --model and --layers");
    }
    if (wanted->top_k == 0) {
        (void)snprintf(expected, sizeof expected, "--layers names %d", wanted->num_layers);
    } else {
        bool has_dense = wanted->num_layers_all > wanted->num_layers;
        (void)snprintf(expected, sizeof expected, "%s has %d%s and top-%d", job->summary->model,
                       wanted->num_layers, has_dense ? " with experts" : "", wanted->top_k);
    }
    return error_add(job->error, STATUS_INVALID,
                     "%s: read as --axes %s,%s,%s it has %lld layers and top-%lld, but %s: %s",
                     job->options->expert_path, axis_names[job->options->axis[0]],
                     axis_names[job->options->axis[1]], axis_names[job->options->axis[2]],
                     (long long)size[TRACE_AXIS_LAYER], (long long)size[TRACE_AXIS_K], expected,
                     hint);
}

static enum status check_model_layers(const struct trace_import_options *options,
                                      const struct moe_model *model, struct error *error)
{
    for (int32_t i = 0; i < options->num_layers; i++) {
        int32_t layer = options->model_layer[i];
        if (layer < 0 || layer >= model->num_layers || !model_layer_is_moe(model, layer)) {
            return error_add(error, STATUS_INVALID, "--layers: layer %d of %s is not a MoE layer",
                             layer, model->name);
        }
    }
    return STATUS_OK;
}

/* Name, experts and shape from the model, or from the options alone. */
static enum status read_model(struct trace_import_job *job, struct moe_model *model,
                              struct wanted *wanted)
{
    const struct trace_import_options *options = job->options;
    struct trace_import_summary *summary = job->summary;
    if (options->num_experts > 0 && options->model_layer != NULL) {
        if (strlen(options->model) >= sizeof summary->model || options->model[0] == '\0') {
            return error_add(job->error, STATUS_INVALID, "--model: a name has 1 to %d bytes",
                             NAME_BYTES - 1);
        }
        (void)snprintf(summary->model, sizeof summary->model, "%s", options->model);
        summary->num_experts = options->num_experts;
        *wanted = (struct wanted){.num_layers = options->num_layers};
        return STATUS_OK;
    }
    enum status status = model_load(model, options->model, job->error);
    if (status != STATUS_OK) {
        return status;
    }
    if (model->num_experts == 0) {
        return error_add(job->error, STATUS_INVALID, "model %s is dense: it routes nothing",
                         model->name);
    }
    (void)snprintf(summary->model, sizeof summary->model, "%s", model->name);
    summary->num_experts = options->num_experts > 0 ? options->num_experts : model->num_experts;
    *wanted = (struct wanted){
        .num_layers =
            options->model_layer != NULL ? options->num_layers : model_num_moe_layers(model),
        .num_layers_all = options->model_layer != NULL ? 0 : model->num_layers,
        .top_k = model->top_k,
    };
    return check_model_layers(options, model, job->error);
}

/* Which layers of the file are recorded, and which layers of the model they are. */
static enum status map_layers(struct trace_import_job *job, const struct moe_model *model,
                              const struct wanted *wanted, int64_t num_layers_in_file)
{
    struct trace_import_summary *summary = job->summary;
    bool has_all = num_layers_in_file != wanted->num_layers;
    summary->num_layers = wanted->num_layers;
    summary->num_dense_layers_dropped = (int32_t)num_layers_in_file - wanted->num_layers;
    size_t count = (size_t)wanted->num_layers;
    job->file_layer = arena_alloc(&job->arena, count, sizeof *job->file_layer);
    job->model_layer = arena_alloc(&job->arena, count, sizeof *job->model_layer);
    if (job->file_layer == NULL || job->model_layer == NULL) {
        return error_add(job->error, STATUS_NO_MEMORY, "no memory for %zu layers", count);
    }
    int32_t next = 0;
    for (int32_t i = 0; i < wanted->num_layers; i++) {
        if (job->options->model_layer != NULL) {
            next = job->options->model_layer[i];
        } else {
            while (!model_layer_is_moe(model, next)) {
                next++;
            }
        }
        job->model_layer[i] = next;
        job->file_layer[i] = has_all ? next : i;
        next++;
    }
    return STATUS_OK;
}

static enum status check_array(const struct trace_import_job *job)
{
    const struct npy *file = &job->expert_file;
    const char *path = job->options->expert_path;
    if (file->type == NPY_FLOAT16 || file->type == NPY_FLOAT32 || file->type == NPY_FLOAT64) {
        return error_add(job->error, STATUS_INVALID,
                         "%s: holds %s, but expert ids are integers: is it the gate weights?", path,
                         npy_type_name(file->type));
    }
    if (file->num_dims != TRACE_AXIS_COUNT) {
        return error_add(job->error, STATUS_INVALID,
                         "%s: has %d axes, but an array of tokens, layers and k has 3: reshape it",
                         path, file->num_dims);
    }
    return STATUS_OK;
}

static enum status check_gate_weights(const struct trace_import_job *job)
{
    const struct npy *file = &job->gate_weight_file;
    const char *path = job->options->gate_weight_path;
    if (file->type != NPY_FLOAT16 && file->type != NPY_FLOAT32 && file->type != NPY_FLOAT64) {
        return error_add(job->error, STATUS_INVALID,
                         "%s: holds %s, but gate weights are float16, float32 or float64", path,
                         npy_type_name(file->type));
    }
    bool same = file->num_dims == TRACE_AXIS_COUNT;
    int64_t num_tokens = 0;
    for (int32_t i = 0; same && i < TRACE_AXIS_COUNT; i++) {
        bool is_token = job->options->axis[i] == TRACE_AXIS_TOKEN;
        num_tokens = is_token ? file->dim[i] : num_tokens;
        same = is_token || file->dim[i] == job->expert_file.dim[i];
    }
    if (!same) {
        return error_add(job->error, STATUS_INVALID,
                         "%s: its shape differs from that of %s: both need the same axes", path,
                         job->options->expert_path);
    }
    if (num_tokens < job->summary->num_tokens) {
        return error_add(job->error, STATUS_INVALID,
                         "%s: covers %lld of %lld tokens: add --tokens %lld to import only those, "
                         "or leave out --gate-weights",
                         path, (long long)num_tokens, (long long)job->summary->num_tokens,
                         (long long)num_tokens);
    }
    return STATUS_OK;
}

/* The strides of the two files differ when one has fewer tokens and tokens are not the slowest. */
static void set_strides(int64_t stride[TRACE_AXIS_COUNT], const struct npy *file,
                        const enum trace_axis axis[TRACE_AXIS_COUNT])
{
    int64_t elements = 1;
    for (int32_t i = TRACE_AXIS_COUNT - 1; i >= 0; i--) {
        stride[axis[i]] = elements;
        elements *= file->dim[i];
    }
}

enum status trace_import_shape(struct trace_import_job *job)
{
    const struct trace_import_options *options = job->options;
    struct trace_import_summary *summary = job->summary;
    struct moe_model model = {0};
    struct wanted wanted = {0};
    int64_t size[TRACE_AXIS_COUNT];
    enum status status = read_model(job, &model, &wanted);
    if (status == STATUS_OK) {
        status = npy_open(&job->expert_file, options->expert_path, job->error);
    }
    if (status == STATUS_OK) {
        status = check_array(job);
    }
    if (status != STATUS_OK) {
        return status;
    }
    for (int32_t i = 0; i < TRACE_AXIS_COUNT; i++) {
        size[options->axis[i]] = job->expert_file.dim[i];
    }
    if (!fits(&wanted, size[TRACE_AXIS_LAYER], size[TRACE_AXIS_K])) {
        return refuse_shape(job, &wanted, size);
    }
    if (size[TRACE_AXIS_K] < 1 || size[TRACE_AXIS_K] > summary->num_experts ||
        size[TRACE_AXIS_TOKEN] < 1) {
        return error_add(job->error, STATUS_INVALID,
                         "%s: %lld tokens with top-%lld of %d experts: there must be a token, and "
                         "k from 1 to the number of experts",
                         options->expert_path, (long long)size[TRACE_AXIS_TOKEN],
                         (long long)size[TRACE_AXIS_K], summary->num_experts);
    }
    set_strides(job->stride, &job->expert_file, options->axis);
    summary->top_k = (int32_t)size[TRACE_AXIS_K];
    summary->num_tokens_in_file = size[TRACE_AXIS_TOKEN];
    summary->num_tokens = size[TRACE_AXIS_TOKEN];
    if (options->num_tokens_max > 0 && options->num_tokens_max < summary->num_tokens) {
        summary->num_tokens = options->num_tokens_max;
    }
    status = map_layers(job, &model, &wanted, size[TRACE_AXIS_LAYER]);
    if (status == STATUS_OK && options->gate_weight_path != NULL) {
        status = npy_open(&job->gate_weight_file, options->gate_weight_path, job->error);
        if (status == STATUS_OK) {
            status = check_gate_weights(job);
        }
        if (status == STATUS_OK) {
            set_strides(job->gate_weight_stride, &job->gate_weight_file, options->axis);
        }
    }
    return status;
}
