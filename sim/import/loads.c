/*
 * loads.c -- gathers loads: once through all files for the shape, once more for the numbers.
 */
#include "import/loads.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "directory.h"
#include "trace_internal.h"

#define EXPERTS_MAX 65535
#define STEPS_MAX   (1 << 20)
#define CELLS_MAX   (INT64_C(1) << 27) /* steps x layers x experts: half a GiB */
#define SUMS_MAX    (INT64_C(1) << 22) /* layers x experts */

/* Remembers in the first pass that there is such a cell. */
static enum status survey_cell(struct import_sink *sink, int64_t step, int32_t layer,
                               int32_t expert)
{
    struct import_loads *loads = sink->loads;
    loads->is_present[layer] = true;
    loads->num_experts = expert >= loads->num_experts ? expert + 1 : loads->num_experts;
    loads->num_steps = step >= loads->num_steps ? step + 1 : loads->num_steps;
    return STATUS_OK;
}

static enum status add_cell(struct import_sink *sink, int64_t step, int32_t layer, int32_t expert,
                            int64_t tokens)
{
    struct import_loads *loads = sink->loads;
    if (loads->row[layer] < 0) {
        loads->num_dense += tokens;
        return STATUS_OK;
    }
    assert(expert < loads->num_experts && step < loads->num_steps);
    int64_t cell = (int64_t)loads->row[layer] * loads->num_experts + expert;
    if (__builtin_add_overflow(loads->sum[cell], tokens, &loads->sum[cell])) {
        return error_add(sink->error, STATUS_INVALID, "layer %d, expert %d: tokens beyond 64 bits",
                         layer, expert);
    }
    if (loads->step_tokens != NULL) {
        int32_t *step_tokens =
            &loads->step_tokens[step * loads->num_rows * loads->num_experts + cell];
        if (__builtin_add_overflow(*step_tokens, tokens, step_tokens)) {
            return error_add(
                sink->error, STATUS_INVALID,
                "step %lld, layer %d, expert %d: tokens beyond 32 bits; write sums, to "
                "a .csv",
                (long long)step, layer, expert);
        }
    }
    return STATUS_OK;
}

/* The expert of a slot when loads are counted by slot. */
static int32_t expert_of_slot(const struct import_sink *sink, int32_t layer, int32_t slot)
{
    int32_t row = layer < sink->physical_layers ? layer : sink->physical_layers - 1;
    return slot < sink->physical_slots ? sink->physical[row * sink->physical_slots + slot] : -1;
}

enum status import_load_cell(struct import_sink *sink, int64_t step, int32_t model_layer,
                             int32_t expert, int64_t tokens)
{
    assert(sink->loads != NULL);
    assert(tokens >= 0);
    if (step < 0 || step >= STEPS_MAX || model_layer < 0 || model_layer >= IMPORT_LOADS_LAYERS ||
        expert < 0 || expert >= EXPERTS_MAX) {
        return error_add(
            sink->error, STATUS_INVALID,
            "step %lld, layer %d, expert %d: there are at most %d steps, %d layers and "
            "%d experts",
            (long long)step, model_layer, expert, STEPS_MAX, IMPORT_LOADS_LAYERS, EXPERTS_MAX);
    }
    if (sink->physical != NULL && sink->physical_is_users) {
        int32_t slot = expert;
        expert = expert_of_slot(sink, model_layer, slot);
        if (expert < 0) {
            return tokens == 0 ? STATUS_OK
                               : error_add(sink->error, STATUS_INVALID,
                                           "layer %d, slot %d: the physical-to-logical map has no "
                                           "expert there",
                                           model_layer, slot);
        }
    }
    return sink->pass == IMPORT_SURVEY ? survey_cell(sink, step, model_layer, expert)
                                       : add_cell(sink, step, model_layer, expert, tokens);
}

enum status import_load(struct import_sink *sink, int64_t step, int32_t model_layer,
                        const int64_t *tokens, int32_t num_experts)
{
    enum status status = STATUS_OK;
    for (int32_t expert = 0; expert < num_experts && status == STATUS_OK; expert++) {
        status = import_load_cell(sink, step, model_layer, expert, tokens[expert]);
    }
    return status;
}

/* Numbers the layers that are wanted and allocates. */
static enum status shape(struct import_sink *sink, bool wants_steps)
{
    struct import_loads *loads = sink->loads;
    const struct import_input *input = &sink->input;
    const char *path = sink->options->paths[0];
    int32_t num_present = 0;
    for (int32_t layer = 0; layer < IMPORT_LOADS_LAYERS; layer++) {
        num_present += loads->is_present[layer] ? 1 : 0;
    }
    bool by_number = input->model != NULL && num_present != input->num_layers;
    for (int32_t layer = 0; layer < IMPORT_LOADS_LAYERS; layer++) {
        bool wanted = loads->is_present[layer];
        if (wanted && by_number) {
            wanted = layer < input->model->num_layers && model_layer_is_moe(input->model, layer);
        }
        loads->row[layer] = wanted ? loads->num_rows++ : -1;
    }
    if (loads->num_rows == 0) {
        return error_add(sink->error, STATUS_INVALID, "%s: holds no load of a layer with experts",
                         path);
    }
    if (input->num_experts > 0 && loads->num_experts > input->num_experts) {
        return error_add(sink->error, STATUS_INVALID,
                         "%s: has %d experts, but %s has %d: look at --model; are they slots? Then "
                         "name the map with --physical-to-logical",
                         path, loads->num_experts, sink->summary->model, input->num_experts);
    }
    loads->num_experts = input->num_experts > 0 ? input->num_experts : loads->num_experts;
    int64_t cells = (int64_t)loads->num_rows * loads->num_experts;
    int64_t step_cells = wants_steps ? cells * loads->num_steps : 0;
    if (cells > SUMS_MAX || (wants_steps && loads->num_steps > CELLS_MAX / cells)) {
        return error_add(sink->error, STATUS_INVALID,
                         "%s: %lld steps x %d layers x %d experts are too many%s", path,
                         (long long)loads->num_steps, loads->num_rows, loads->num_experts,
                         wants_steps ? "; write sums, to a .csv" : "");
    }
    loads->sum = calloc((size_t)cells, sizeof *loads->sum);
    loads->step_tokens =
        wants_steps ? calloc((size_t)step_cells, sizeof *loads->step_tokens) : NULL;
    return loads->sum == NULL || (wants_steps && loads->step_tokens == NULL)
               ? error_add(sink->error, STATUS_NO_MEMORY, "no memory for loads")
               : STATUS_OK;
}

static enum status write_csv(const struct import_loads *loads, const char *path,
                             struct error *error)
{
    FILE *stream = fopen(path, "w");
    if (stream == NULL) {
        return error_add(error, STATUS_IO, "%s: %s", path, strerror(errno));
    }
    for (int32_t row = 0; row < loads->num_rows; row++) {
        for (int32_t expert = 0; expert < loads->num_experts; expert++) {
            fprintf(stream, "%s%lld", expert > 0 ? "," : "",
                    (long long)loads->sum[(int64_t)row * loads->num_experts + expert]);
        }
        fputc('\n', stream);
    }
    bool is_written = fflush(stream) == 0 && fsync(fileno(stream)) == 0;
    is_written = fclose(stream) == 0 && is_written;
    return is_written
               ? STATUS_OK
               : error_add(error, STATUS_IO, "%s: cannot be written: %s", path, strerror(errno));
}

static enum status write_npy(const struct import_loads *loads, const char *path,
                             struct error *error)
{
    const int64_t dim[3] = {loads->num_steps, loads->num_rows, loads->num_experts};
    struct npy_writer writer;
    enum status status = npy_writer_open(&writer, path, NPY_INT32, 3, dim, error);
    if (status == STATUS_OK) {
        size_t bytes = (size_t)(dim[0] * dim[1] * dim[2]) * sizeof *loads->step_tokens;
        status = npy_writer_append(&writer, loads->step_tokens, bytes, error);
        if (status != STATUS_OK) {
            npy_writer_abandon(&writer);
            return status;
        }
        status = npy_writer_close(&writer, error);
    }
    return status;
}

/* Writes beside the target and renames. */
static enum status write_loads(struct import_sink *sink, bool wants_steps)
{
    char partial[TRACE_PATH_BYTES];
    int length = snprintf(partial, sizeof partial, "%s.partial", sink->path);
    if (length < 0 || length >= (int)sizeof partial) {
        return error_add(sink->error, STATUS_INVALID, "%s: the path is too long", sink->path);
    }
    if (!sink->options->replace && access(sink->path, F_OK) == 0) {
        return error_add(sink->error, STATUS_INVALID,
                         "%s: exists; name another, or replace it with --force", sink->path);
    }
    enum status status = directory_make_parents(sink->path, sink->error);
    if (status == STATUS_OK) {
        status = wants_steps ? write_npy(sink->loads, partial, sink->error)
                             : write_csv(sink->loads, partial, sink->error);
        if (status == STATUS_OK && rename(partial, sink->path) != 0) {
            status = error_add(sink->error, STATUS_IO, "%s: cannot be put in place: %s", sink->path,
                               strerror(errno));
        }
        if (status != STATUS_OK) {
            (void)unlink(partial);
        }
    }
    return status;
}

static bool path_ends(const char *path, const char *end)
{
    const char *dot = strrchr(path, '.');
    return dot != NULL && strcmp(dot, end) == 0;
}

static int64_t total(const struct import_loads *loads)
{
    int64_t tokens = 0;
    for (int64_t i = 0; i < (int64_t)loads->num_rows * loads->num_experts; i++) {
        tokens += loads->sum[i];
    }
    return tokens;
}

static enum status read_twice(struct import_sink *sink, bool wants_steps)
{
    struct import_summary *summary = sink->summary;
    struct import_loads *loads = sink->loads;
    enum status status = import_survey(sink);
    if (status == STATUS_OK) {
        status = shape(sink, wants_steps);
    }
    if (status == STATUS_OK) {
        import_pass_begin(sink, IMPORT_WRITE);
        status = sink->format->read(&sink->input, sink);
    }
    if (status == STATUS_OK && sink->num_problems > 0) {
        status = STATUS_INVALID;
    }
    if (status != STATUS_OK) {
        return status;
    }
    import_drop(sink, "assignments of layers that have no experts in the model", loads->num_dense);
    summary->num_experts = loads->num_experts;
    summary->num_layers = loads->num_rows;
    summary->num_steps = loads->num_steps;
    summary->num_assignments = total(loads);
    summary->top_k = sink->input.top_k;
    if (summary->num_assignments == 0) {
        return error_add(sink->error, STATUS_INVALID, "%s: holds no token at all",
                         sink->options->paths[0]);
    }
    return path_ends(sink->path, ".yaml") ? import_loads_preset(sink, loads)
                                          : write_loads(sink, wants_steps);
}

enum status import_loads_run(struct import_sink *sink)
{
    bool wants_steps = path_ends(sink->path, ".npy");
    if (!wants_steps && !path_ends(sink->path, ".csv") && !path_ends(sink->path, ".yaml")) {
        return error_add(
            sink->error, STATUS_INVALID,
            "%s: %s has loads, not tokens: write them to a .csv (sums by layer and "
            "expert) or .npy (step by step), for moesim place --load, or to a .yaml, a "
            "preset for moesim trace generate",
            sink->path, sink->format->name);
    }
    sink->loads = calloc(1, sizeof *sink->loads);
    if (sink->loads == NULL) {
        return error_add(sink->error, STATUS_NO_MEMORY, "no memory for loads");
    }
    enum status status = read_twice(sink, wants_steps);
    free(sink->loads->sum);
    free(sink->loads->step_tokens);
    free(sink->loads);
    sink->loads = NULL;
    return status;
}
