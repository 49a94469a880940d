/*
 * load_file.c -- CSV by hand, one pass for the shape and one for the values; .npy by reference/;
 * JSON by libyaml, whose subset it is.
 */
#include "load_file.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "npy.h"
#include "textfile.h"
#include "trace.h"
#include "yaml_file.h"

#define VALUES_MAX  (INT64_C(1) << 28)
#define TRACE_STEPS 64 /* a trace is cut into: what strategies that look at steps were made for */

static const char *line_end(const char *line)
{
    return line + strcspn(line, "\n");
}

/* Rows and columns, by counting; blank lines only at the end. */
static enum status measure(struct load_matrix *matrix, const char *path, const char *text,
                           struct error *error)
{
    for (const char *line = text; *line != '\0';) {
        const char *end = line_end(line);
        if (strspn(line, " \t\r\n") == strlen(line)) {
            break;
        }
        int64_t columns = 1;
        for (const char *at = line; at < end; at++) {
            columns += *at == ',';
        }
        matrix->num_columns = matrix->num_rows == 0 ? columns : matrix->num_columns;
        if (columns != matrix->num_columns) {
            return error_add(error, STATUS_INVALID, "%s:%lld: %lld values; the first line has %lld",
                             path, (long long)matrix->num_rows + 1, (long long)columns,
                             (long long)matrix->num_columns);
        }
        matrix->num_rows++;
        line = *end == '\n' ? end + 1 : end;
    }
    return matrix->num_rows > 0 ? STATUS_OK
                                : error_add(error, STATUS_INVALID, "%s:1: no values", path);
}

/* One value, and its comma or line end. */
static enum status read_value(int32_t *value, const char **at, const char *path, int64_t row,
                              int64_t column, struct error *error)
{
    char *end;
    const char *start = *at + strspn(*at, " \t");
    errno = 0;
    long long number = strtoll(start, &end, 10);
    size_t spaces = strspn(end, " \t\r");
    bool ended = end[spaces] == ',' || end[spaces] == '\n' || end[spaces] == '\0';
    if (end == start || !ended) {
        int length = (int)strcspn(start, ",\r\n");
        return error_add(error, STATUS_INVALID, "%s:%lld: column %lld: '%.*s' is no whole number",
                         path, (long long)row + 1, (long long)column + 1, length < 40 ? length : 40,
                         start);
    }
    if (number < 0 || number > INT32_MAX || errno == ERANGE) {
        return error_add(error, STATUS_INVALID, "%s:%lld: column %lld: %lld is not in 0 ... %d",
                         path, (long long)row + 1, (long long)column + 1, number, INT32_MAX);
    }
    *value = (int32_t)number;
    *at = end + spaces + (end[spaces] != '\0');
    return STATUS_OK;
}

enum status load_matrix_read(struct load_matrix *matrix, const char *path, struct arena *arena,
                             struct error *error)
{
    const char *text = NULL;
    *matrix = (struct load_matrix){0};
    enum status status = text_read(&text, path, arena, error);
    if (status == STATUS_OK) {
        status = measure(matrix, path, text, error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    matrix->value = arena_alloc(arena, (size_t)matrix->num_rows * (size_t)matrix->num_columns,
                                sizeof *matrix->value);
    if (matrix->value == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "%s: out of memory", path);
    }
    const char *at = text;
    for (int64_t row = 0; status == STATUS_OK && row < matrix->num_rows; row++) {
        for (int64_t column = 0; status == STATUS_OK && column < matrix->num_columns; column++) {
            status = read_value(&matrix->value[row * matrix->num_columns + column], &at, path, row,
                                column, error);
        }
    }
    return status;
}

/* Checks the sizes and adds up the steps. */
static enum status sum_steps(struct load_file *load, const char *path, struct arena *arena,
                             struct error *error)
{
    size_t loads = (size_t)load->num_layers * (size_t)load->num_experts;
    load->load_tokens = arena_alloc(arena, loads, sizeof *load->load_tokens);
    if (load->load_tokens == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "%s: out of memory", path);
    }
    int64_t total = 0;
    for (int32_t step = 0; step < load->num_steps; step++) {
        for (size_t i = 0; i < loads; i++) {
            load->load_tokens[i] += load->step_tokens[(size_t)step * loads + i];
            total += load->step_tokens[(size_t)step * loads + i];
        }
    }
    return total > 0 ? STATUS_OK
                     : error_add(error, STATUS_INVALID, "%s: no expert has any tokens", path);
}

static enum status read_csv(struct load_file *load, const char *path, struct arena *arena,
                            struct error *error)
{
    struct load_matrix matrix;
    enum status status = load_matrix_read(&matrix, path, arena, error);
    load->num_steps = 1;
    load->num_layers = (int32_t)matrix.num_rows;
    load->num_experts = (int32_t)matrix.num_columns;
    load->step_tokens = matrix.value;
    return status;
}

static enum status copy_npy(struct load_file *load, const struct npy *npy, const char *path,
                            struct arena *arena, struct error *error)
{
    int32_t dims = npy->num_dims;
    if (dims < 2 || dims > 3 || npy->type == NPY_FLOAT16 || npy->type == NPY_FLOAT32 ||
        npy->type == NPY_FLOAT64) {
        return error_add(error, STATUS_INVALID,
                         "%s: %s in %d dimensions; integers [layers][experts] or "
                         "[steps][layers][experts] are read",
                         path, npy_type_name(npy->type), (int)dims);
    }
    if (npy->num_elements < 1 || npy->num_elements > VALUES_MAX) {
        return error_add(error, STATUS_INVALID, "%s: %lld values", path,
                         (long long)npy->num_elements);
    }
    load->num_steps = dims == 3 ? (int32_t)npy->dim[0] : 1;
    load->num_layers = (int32_t)npy->dim[dims - 2];
    load->num_experts = (int32_t)npy->dim[dims - 1];
    load->step_tokens = arena_alloc(arena, (size_t)npy->num_elements, sizeof *load->step_tokens);
    if (load->step_tokens == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "%s: out of memory", path);
    }
    int64_t layer_experts = (int64_t)load->num_layers * load->num_experts;
    for (int64_t i = 0; i < npy->num_elements; i++) {
        int64_t tokens = npy_int(npy, i);
        if (tokens < 0 || tokens > INT32_MAX) {
            return error_add(error, STATUS_INVALID,
                             "%s: step %lld, layer %lld, expert %lld: %lld is not in 0 ... %d",
                             path, (long long)(i / layer_experts),
                             (long long)(i % layer_experts / load->num_experts),
                             (long long)(i % load->num_experts), (long long)tokens, INT32_MAX);
        }
        load->step_tokens[i] = (int32_t)tokens;
    }
    return STATUS_OK;
}

static enum status read_npy(struct load_file *load, const char *path, struct arena *arena,
                            struct error *error)
{
    struct npy npy = {0};
    enum status status = npy_open(&npy, path, error);
    if (status == STATUS_OK) {
        status = copy_npy(load, &npy, path, arena, error);
        npy_close(&npy);
    }
    return status;
}

/* The numbers of steps and their siblings, each [num_layers][num_experts]. */
static enum status read_lists(struct load_file *load, const struct yaml_node *steps,
                              const char *path, struct error *error)
{
    int64_t at = 0;
    for (const struct yaml_node *step = steps; step != NULL; step = step->next) {
        int32_t layer = 0;
        for (const struct yaml_node *row = step->child; row != NULL; row = row->next) {
            int32_t expert = 0;
            for (const struct yaml_node *item = row->child; item != NULL; item = item->next) {
                char *end = NULL;
                errno = 0;
                long long tokens = item->kind == YAML_SCALAR ? strtoll(item->text, &end, 10) : -1;
                if (tokens < 0 || tokens > INT32_MAX || errno != 0 || end == item->text ||
                    *end != '\0' || expert == load->num_experts || layer == load->num_layers) {
                    return error_add(error, STATUS_INVALID,
                                     "%s:%d: logical_count: layer %d, expert %d: expected a whole "
                                     "number, and as many in every layer",
                                     path, (int)item->line, (int)layer, (int)expert);
                }
                load->step_tokens[at++] = (int32_t)tokens;
                expert++;
            }
            layer++;
        }
    }
    int64_t wanted = (int64_t)load->num_steps * load->num_layers * load->num_experts;
    return at == wanted
               ? STATUS_OK
               : error_add(error, STATUS_INVALID,
                           "%s:%d: logical_count: %lld numbers for %lld experts and layers", path,
                           (int)steps->line, (long long)at, (long long)wanted);
}

/* {"logical_count": [layers][experts] or [steps][layers][experts]}, as SGLang takes it. */
static enum status read_json(struct load_file *load, const char *path, struct arena *arena,
                             struct error *error)
{
    struct yaml_node *root = NULL;
    enum status status = yaml_load(&root, path, arena, error);
    if (status != STATUS_OK) {
        return status;
    }
    const struct yaml_node *count = yaml_get(root, "logical_count");
    const struct yaml_node *first = count != NULL ? count->child : NULL;
    if (first == NULL || first->child == NULL) {
        return error_add(error, STATUS_INVALID,
                         "%s: has no logical_count with the tokens of every layer's experts", path);
    }
    bool has_steps = first->child->kind == YAML_SEQUENCE;
    const struct yaml_node *steps = has_steps ? first : count;
    load->num_steps = has_steps ? yaml_count(count) : 1;
    load->num_layers = yaml_count(steps);
    load->num_experts = yaml_count(steps->child);
    int64_t values = (int64_t)load->num_steps * load->num_layers; /* a file has 1 MiB at most */
    values = values < VALUES_MAX ? values * load->num_experts : VALUES_MAX;
    load->step_tokens = arena_alloc(arena, (size_t)values, sizeof *load->step_tokens);
    if (values >= VALUES_MAX || load->step_tokens == NULL) {
        return error_add(error, STATUS_INVALID, "%s: logical_count: the lists differ in length",
                         path);
    }
    return read_lists(load, steps, path, error);
}

static enum status count_steps(struct load_file *load, const struct trace *trace, int64_t *tokens,
                               struct error *error)
{
    enum status status = STATUS_OK;
    int32_t *counted = load->step_tokens;
    for (int32_t step = 0; step < load->num_steps; step++) {
        int64_t first = trace->num_tokens * step / load->num_steps;
        int64_t count = trace->num_tokens * (step + 1) / load->num_steps - first;
        for (int32_t layer = 0; layer < load->num_layers && status == STATUS_OK; layer++) {
            memset(tokens, 0, (size_t)load->num_experts * sizeof *tokens);
            status = trace_count(trace, tokens, layer, first, count, error);
            for (int32_t expert = 0; expert < load->num_experts; expert++) {
                *counted++ =
                    (int32_t)tokens[expert]; /* a step has fewer tokens than 2^31 / top_k */
            }
        }
    }
    return status;
}

static enum status read_trace(struct load_file *load, const char *path, struct arena *arena,
                              struct error *error)
{
    struct trace trace;
    struct stat entry;
    char yaml[4096];
    int length = snprintf(yaml, sizeof yaml, "%s/trace.yaml", path);
    if (length < 0 || (size_t)length >= sizeof yaml || stat(yaml, &entry) != 0) {
        return error_add(error, STATUS_INVALID,
                         "%s: is a folder, but no trace: it has no trace.yaml", path);
    }
    enum status status = trace_open(&trace, path, error);
    if (status != STATUS_OK) {
        return status;
    }
    load->num_layers = trace.num_layers;
    load->num_experts = trace.num_experts;
    load->num_steps = trace.num_tokens < TRACE_STEPS ? 1 : TRACE_STEPS;
    size_t values = (size_t)load->num_steps * (size_t)load->num_layers * (size_t)load->num_experts;
    load->step_tokens = arena_alloc(arena, values, sizeof *load->step_tokens);
    int64_t *tokens = arena_alloc(arena, (size_t)trace.num_experts, sizeof *tokens);
    if (trace.num_tokens / load->num_steps > INT32_MAX / 2 / trace.top_k) {
        status = error_add(error, STATUS_INVALID,
                           "%s: %lld tokens are too many to place by; moesim trace sample makes a "
                           "smaller trace",
                           path, (long long)trace.num_tokens);
    } else if (load->step_tokens == NULL || tokens == NULL) {
        status = error_add(error, STATUS_NO_MEMORY, "%s: out of memory", path);
    } else {
        status = count_steps(load, &trace, tokens, error);
    }
    trace_close(&trace);
    return status;
}

enum status load_file_read(struct load_file *load, const char *path, struct arena *arena,
                           struct error *error)
{
    *load = (struct load_file){0};
    size_t length = strlen(path);
    bool is_npy = length >= 4 && strcmp(path + length - 4, ".npy") == 0;
    bool is_json = length >= 5 && strcmp(path + length - 5, ".json") == 0;
    struct stat entry;
    bool is_trace = stat(path, &entry) == 0 && S_ISDIR(entry.st_mode);
    enum status status = is_trace  ? read_trace(load, path, arena, error)
                         : is_npy  ? read_npy(load, path, arena, error)
                         : is_json ? read_json(load, path, arena, error)
                                   : read_csv(load, path, arena, error);
    return status == STATUS_OK ? sum_steps(load, path, arena, error) : status;
}
