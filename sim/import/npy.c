/*
 * npy.c -- arrays of expert ids, of one .npy file each.
 *
 * A shape alone does not say which axis is which; the model does. What fits neither its MoE layers
 * nor all its layers is refused, with the order of axes that would fit if there is one.
 */
#include "npy.h"

#include <stdio.h>
#include <string.h>

#include "import/sink.h"

#define BLOCK_BYTES (INT64_C(8) << 20) /* passed on at a time, then let go */

static const char *const axis_names[TRACE_AXIS_COUNT] = {"token", "layer", "k"};

static int32_t detect(const struct import_probe *probe)
{
    bool is_npy = probe->num_bytes > 6 && memcmp(probe->text, "\x93NUMPY", 6) == 0;
    bool is_float = is_npy && strstr((const char *)probe->text + 10, "'<f") != NULL;
    return is_npy && !is_float ? 60 : 0;
}

/* Words the mismatch; if exactly one other order of the axes fits, names it. */
static enum status refuse_shape(const struct import_input *input, struct import_sink *sink,
                                const char *path, const struct npy *file,
                                const int64_t size[TRACE_AXIS_COUNT])
{
    const struct import_options *options = input->options;
    char expected[NAME_BYTES + 64];
    char hint[96];
    int32_t num_fitting = 0;
    for (int32_t layer = 0; layer < TRACE_AXIS_COUNT; layer++) {
        for (int32_t k = 0; k < TRACE_AXIS_COUNT; k++) {
            if (k == layer || !import_shape_fits(input, file->dim[layer], file->dim[k])) {
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
    if (input->model == NULL) {
        (void)snprintf(expected, sizeof expected, "--layers names %d", input->num_layers);
    } else {
        bool has_dense = input->num_layers_all > input->num_layers;
        (void)snprintf(expected, sizeof expected, "%s has %d%s and top-%d", input->model->name,
                       input->num_layers, has_dense ? " with experts" : "", input->top_k);
    }
    return import_refuse(
        sink, path, "", "read as --axes %s,%s,%s it has %lld layers and top-%lld, but %s: %s",
        axis_names[options->axis[0]], axis_names[options->axis[1]], axis_names[options->axis[2]],
        (long long)size[TRACE_AXIS_LAYER], (long long)size[TRACE_AXIS_K], expected, hint);
}

static enum status check_array(const struct import_input *input, struct import_sink *sink,
                               const char *path, const struct npy *file)
{
    int64_t size[TRACE_AXIS_COUNT];
    if (file->type == NPY_FLOAT16 || file->type == NPY_FLOAT32 || file->type == NPY_FLOAT64) {
        return import_refuse(sink, path, "",
                             "holds %s, but expert ids are integers: save ids as such, as with "
                             "ids.astype(numpy.int32); gate weights go to --gate-weights",
                             npy_type_name(file->type));
    }
    if (file->num_dims != TRACE_AXIS_COUNT) {
        return import_refuse(sink, path, "",
                             "has %d axes, but an array of tokens, layers and k has 3: reshape it",
                             file->num_dims);
    }
    for (int32_t i = 0; i < TRACE_AXIS_COUNT; i++) {
        size[input->options->axis[i]] = file->dim[i];
    }
    if (!import_shape_fits(input, size[TRACE_AXIS_LAYER], size[TRACE_AXIS_K])) {
        return refuse_shape(input, sink, path, file, size);
    }
    if (size[TRACE_AXIS_K] < 1 || size[TRACE_AXIS_K] > input->num_experts ||
        size[TRACE_AXIS_TOKEN] < 1) {
        return import_refuse(sink, path, "",
                             "%lld tokens with top-%lld of %d experts: there must be a token, and "
                             "k from 1 to the number of experts",
                             (long long)size[TRACE_AXIS_TOKEN], (long long)size[TRACE_AXIS_K],
                             input->num_experts);
    }
    return STATUS_OK;
}

static enum status check_gate_weights(const struct import_input *input, struct import_sink *sink,
                                      const struct npy *expert, const struct npy *file)
{
    const char *path = input->options->gate_weight_path;
    if (file->type != NPY_FLOAT16 && file->type != NPY_FLOAT32 && file->type != NPY_FLOAT64) {
        return import_refuse(sink, path, "",
                             "holds %s, but gate weights are float16, float32 or float64",
                             npy_type_name(file->type));
    }
    bool same = file->num_dims == TRACE_AXIS_COUNT;
    int64_t num_tokens = 0;
    int64_t num_tokens_wanted = 0;
    for (int32_t i = 0; same && i < TRACE_AXIS_COUNT; i++) {
        bool is_token = input->options->axis[i] == TRACE_AXIS_TOKEN;
        num_tokens = is_token ? file->dim[i] : num_tokens;
        num_tokens_wanted = is_token ? expert->dim[i] : num_tokens_wanted;
        same = is_token || file->dim[i] == expert->dim[i];
    }
    if (!same) {
        return import_refuse(sink, path, "",
                             "its shape differs from that of %s: both need the same axes",
                             input->options->paths[0]);
    }
    int64_t max = input->options->num_tokens_max;
    num_tokens_wanted = max > 0 && max < num_tokens_wanted ? max : num_tokens_wanted;
    if (num_tokens < num_tokens_wanted) {
        return import_refuse(sink, path, "",
                             "covers %lld of %lld tokens: add --tokens %lld to import only those, "
                             "or leave out --gate-weights",
                             (long long)num_tokens, (long long)num_tokens_wanted,
                             (long long)num_tokens);
    }
    return STATUS_OK;
}

/* The strides of the two files differ when one has fewer tokens and tokens are not the slowest. */
static void set_view(struct import_array *array, const struct npy *file,
                     const enum trace_axis axis[TRACE_AXIS_COUNT])
{
    int64_t elements = 1;
    array->data = file->data;
    array->type = file->type;
    for (int32_t i = TRACE_AXIS_COUNT - 1; i >= 0; i--) {
        array->stride[axis[i]] = elements;
        elements *= file->dim[i];
    }
}

static void advance(struct import_array *array, int64_t num_tokens)
{
    if (array->data != NULL) {
        array->data = (const unsigned char *)array->data +
                      num_tokens * array->stride[TRACE_AXIS_TOKEN] * npy_type_bytes(array->type);
    }
}

/* Passes the tokens on, a few MiB at a time. */
static enum status pass_on(const struct import_input *input, struct import_sink *sink,
                           const char *path, const struct npy *file, const struct npy *weights)
{
    int64_t size[TRACE_AXIS_COUNT];
    for (int32_t i = 0; i < TRACE_AXIS_COUNT; i++) {
        size[input->options->axis[i]] = file->dim[i];
    }
    int64_t token_bytes = size[TRACE_AXIS_LAYER] * size[TRACE_AXIS_K] * npy_type_bytes(file->type);
    int64_t num_tokens = BLOCK_BYTES / token_bytes > 0 ? BLOCK_BYTES / token_bytes : 1;
    struct import_block block = {
        .num_layers = (int32_t)size[TRACE_AXIS_LAYER],
        .top_k = (int32_t)size[TRACE_AXIS_K],
        .path = path,
        .place = "",
    };
    enum status status = STATUS_OK;
    set_view(&block.expert, file, input->options->axis);
    if (weights->data != NULL) {
        set_view(&block.gate_weight, weights, input->options->axis);
    }
    while (status == STATUS_OK && block.first_token < size[TRACE_AXIS_TOKEN] &&
           import_wants_more(sink)) {
        int64_t left = size[TRACE_AXIS_TOKEN] - block.first_token;
        block.num_tokens = left < num_tokens ? left : num_tokens;
        status = import_block(sink, &block);
        block.first_token += block.num_tokens;
        advance(&block.expert, block.num_tokens);
        advance(&block.gate_weight, block.num_tokens);
        import_forget(file->mapping, file->mapping_bytes);
        import_forget(weights->mapping, weights->mapping_bytes);
        import_progress(sink, block.first_token * token_bytes,
                        size[TRACE_AXIS_TOKEN] * token_bytes);
    }
    return status;
}

static enum status read_file(const struct import_input *input, struct import_sink *sink,
                             const char *path, const char *gate_weight_path)
{
    struct npy file;
    struct npy weights = {.data = NULL};
    enum status status = npy_open(&file, path, input->error);
    if (status == STATUS_OK) {
        status = check_array(input, sink, path, &file);
    }
    if (status == STATUS_OK && gate_weight_path != NULL) {
        status = npy_open(&weights, gate_weight_path, input->error);
        if (status == STATUS_OK) {
            status = check_gate_weights(input, sink, &file, &weights);
        }
    }
    for (int32_t i = 0; i < TRACE_AXIS_COUNT && status == STATUS_OK; i++) {
        if (input->options->axis[i] == TRACE_AXIS_TOKEN) {
            status = import_total(sink, file.dim[i]);
        }
    }
    if (status == STATUS_OK) {
        status = pass_on(input, sink, path, &file, &weights);
    }
    npy_close(&file);
    npy_close(&weights);
    return status;
}

static enum status read_all(const struct import_input *input, struct import_sink *sink)
{
    const struct import_options *options = input->options;
    enum status status = STATUS_OK;
    if (options->num_paths > 1 && options->gate_weight_path != NULL) {
        return import_refuse(sink, options->gate_weight_path, "",
                             "goes with one array, not with %d", options->num_paths);
    }
    for (int32_t i = 0; i < options->num_paths && status == STATUS_OK; i++) {
        if (import_wants_more(sink)) {
            status = read_file(input, sink, options->paths[i], options->gate_weight_path);
        }
    }
    return status;
}

const struct import_format import_npy = {
    .name = "npy",
    .summary = "an array of expert ids over token, layer and k, axes in any order",
    .source = "numpy.save",
    .level = IMPORT_ROWS,
    .detect = detect,
    .read = read_all,
};
