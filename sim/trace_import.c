/*
 * trace_import.c -- finds out what the array is, then carries it over chunk by chunk.
 *
 * A shape alone does not say which axis is which; the model does. What fits neither its MoE layers
 * nor all its layers is refused, with the order of axes that would fit if there is one.
 */
#include "trace_import.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trace_import_internal.h"
#include "trace_internal.h"
#include "trace_writer.h"

#define SHARD_BYTES (INT64_C(64) << 20) /* of the largest array in a shard */

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
    char all[48] = "";
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
    if (wanted->num_layers_all > wanted->num_layers) {
        (void)snprintf(all, sizeof all, " (or all %d)", wanted->num_layers_all);
    }
    return error_add(job->error, STATUS_INVALID,
                     "%s: read as --axes %s,%s,%s it has %lld layers and top-%lld, but %s has %d "
                     "MoE layers%s and top-%d: %s",
                     job->options->expert_path, axis_names[job->options->axis[0]],
                     axis_names[job->options->axis[1]], axis_names[job->options->axis[2]],
                     (long long)size[TRACE_AXIS_LAYER], (long long)size[TRACE_AXIS_K],
                     job->summary->model, wanted->num_layers, all,
                     wanted->top_k > 0 ? wanted->top_k : (int32_t)size[TRACE_AXIS_K], hint);
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

static enum status open_files(struct trace_import_job *job)
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

static enum status size_buffers(struct trace_import_job *job, bool has_gaps)
{
    struct trace_import_summary *summary = job->summary;
    bool has_weights = job->options->gate_weight_path != NULL;
    int64_t token_ids = (int64_t)summary->num_layers * summary->top_k;
    int64_t id_bytes = has_weights ? 2 : trace_id_bytes(summary->num_experts, has_gaps);
    int64_t tokens = job->options->tokens_per_shard;
    if (tokens == 0) {
        tokens = SHARD_BYTES / (token_ids * id_bytes);
        tokens = tokens > 1 ? tokens : 1;
    }
    tokens = tokens < summary->num_tokens ? tokens : summary->num_tokens;
    summary->tokens_per_shard = tokens;
    summary->num_shards = (summary->num_tokens + tokens - 1) / tokens;
    job->num_tokens_chunk = IMPORT_CHUNK_IDS / token_ids;
    job->num_tokens_chunk = job->num_tokens_chunk > 1 ? job->num_tokens_chunk : 1;
    size_t chunk_ids = (size_t)(job->num_tokens_chunk * token_ids);
    job->expert = arena_alloc(&job->arena, chunk_ids, sizeof *job->expert);
    job->expert_before = arena_alloc(&job->arena, (size_t)token_ids, sizeof *job->expert_before);
    if (has_weights) {
        job->gate_weight = arena_alloc(&job->arena, chunk_ids, sizeof *job->gate_weight);
    }
    if (job->expert == NULL || job->expert_before == NULL ||
        (has_weights && job->gate_weight == NULL)) {
        return error_add(job->error, STATUS_NO_MEMORY, "no memory to import %lld tokens at a time",
                         (long long)job->num_tokens_chunk);
    }
    return STATUS_OK;
}

/* Reads all rows; they reach the writer as long as none was wrong. */
static enum status carry_over(struct trace_import_job *job, struct trace_writer *writer)
{
    struct trace_import_summary *summary = job->summary;
    enum status status = STATUS_OK;
    int64_t count = 0;
    for (int64_t first = 0; first < summary->num_tokens && status == STATUS_OK; first += count) {
        int64_t shard_end = (first / summary->tokens_per_shard + 1) * summary->tokens_per_shard;
        int64_t end = shard_end < summary->num_tokens ? shard_end : summary->num_tokens;
        count = end - first < job->num_tokens_chunk ? end - first : job->num_tokens_chunk;
        status = trace_import_rows(job, first, count);
        if (status == STATUS_OK && job->num_problems == 0) {
            status = trace_writer_append(writer, job->expert, job->gate_weight, count, job->error);
        }
        if (job->options->progress != NULL) {
            job->options->progress(job->options->context, first + count, summary->num_tokens);
        }
    }
    return job->num_problems > 0 ? STATUS_INVALID : status;
}

static const char *file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

static enum status write_trace(struct trace_import_job *job, const char *path,
                               const struct trace_request *requests)
{
    const struct trace_import_options *options = job->options;
    struct trace_writer *writer = NULL;
    char source[SOURCE_BYTES];
    bool has_gaps = job->summary->num_experts == 256 && job->expert_file.type != NPY_UINT8 &&
                    trace_import_has_pads(job);
    enum status status = size_buffers(job, has_gaps);
    if (status != STATUS_OK) {
        return status;
    }
    (void)snprintf(source, sizeof source, "imported from %s", file_name(options->expert_path));
    struct trace_description description = {
        .model = job->summary->model,
        .num_experts = job->summary->num_experts,
        .top_k = job->summary->top_k,
        .num_layers = job->summary->num_layers,
        .model_layer = job->model_layer,
        .tokens_per_shard = job->summary->tokens_per_shard,
        .has_gate_weights = job->gate_weight != NULL,
        .has_gaps = has_gaps,
        .origin = "measured",
        .source = options->source != NULL ? options->source : source,
        .licence = options->licence != NULL ? options->licence : "unknown",
    };
    status = trace_writer_open(&writer, path, &description, options->replace, job->error);
    if (status != STATUS_OK) {
        return status;
    }
    status = carry_over(job, writer);
    if (status != STATUS_OK) {
        trace_writer_abandon(writer);
        return status;
    }
    return trace_writer_finish(writer, requests, job->summary->num_requests, job->error);
}

enum status trace_import(const char *path, const struct trace_import_options *options,
                         struct trace_import_summary *summary, struct error *error)
{
    *summary = (struct trace_import_summary){0};
    struct trace_import_job job = {.options = options, .summary = summary, .error = error};
    struct trace_request *requests = NULL;
    enum status status = open_files(&job);
    if (status == STATUS_OK && options->requests_path != NULL) {
        status = trace_import_requests(&requests, &summary->num_requests, options->requests_path,
                                       summary->num_tokens_in_file, summary->num_tokens, error);
    }
    if (status == STATUS_OK) {
        status = write_trace(&job, path, requests);
    }
    free(requests);
    npy_close(&job.expert_file);
    npy_close(&job.gate_weight_file);
    arena_free(&job.arena);
    return status;
}
