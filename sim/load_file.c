/* load_file.c -- CSV by hand, one pass for the shape and one for the values; .npy by reference/. */
#include "load_file.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "npy.h"
#include "textfile.h"

#define VALUES_MAX (INT64_C(1) << 28)

/* Whole numbers, row by row; row r stands in line r + 1. */
struct matrix {
    int64_t num_rows;
    int64_t num_columns;
    int32_t *value; /* [num_rows][num_columns] */
};

static const char *line_end(const char *line)
{
    return line + strcspn(line, "\n");
}

/* Rows and columns, by counting; blank lines only at the end. */
static enum status measure(struct matrix *matrix, const char *path, const char *text,
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

static enum status read_matrix(struct matrix *matrix, const char *path, struct arena *arena,
                               struct error *error)
{
    const char *text = NULL;
    *matrix = (struct matrix){0};
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
    struct matrix matrix;
    enum status status = read_matrix(&matrix, path, arena, error);
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

enum status load_file_read(struct load_file *load, const char *path, struct arena *arena,
                           struct error *error)
{
    *load = (struct load_file){0};
    size_t length = strlen(path);
    bool is_npy = length >= 4 && strcmp(path + length - 4, ".npy") == 0;
    enum status status =
        is_npy ? read_npy(load, path, arena, error) : read_csv(load, path, arena, error);
    return status == STATUS_OK ? sum_steps(load, path, arena, error) : status;
}

/* One layer: ids in range, and every expert somewhere. held [num_experts] scratch. */
static enum status check_layer(const int32_t *row, int64_t layer, const char *path,
                               const struct load_file *load, int32_t num_slots, int64_t *held,
                               struct error *error)
{
    for (int32_t slot = 0; slot < num_slots; slot++) {
        if (row[slot] >= load->num_experts) {
            return error_add(error, STATUS_INVALID,
                             "%s:%lld: column %d: expert %d of %d; a placement of another model?",
                             path, (long long)layer + 1, (int)slot + 1, (int)row[slot],
                             (int)load->num_experts);
        }
        held[row[slot]] = layer + 1;
    }
    for (int32_t expert = 0; expert < load->num_experts; expert++) {
        if (held[expert] != layer + 1) {
            return error_add(error, STATUS_INVALID, "%s:%lld: expert %d has no slot", path,
                             (long long)layer + 1, (int)expert);
        }
    }
    return STATUS_OK;
}

enum status placement_file_read(int32_t **expert_of_slot, const char *path,
                                const struct load_file *load, int32_t num_slots,
                                struct arena *arena, struct error *error)
{
    struct matrix matrix;
    enum status status = read_matrix(&matrix, path, arena, error);
    if (status != STATUS_OK) {
        return status;
    }
    if (matrix.num_rows != load->num_layers || matrix.num_columns != num_slots) {
        return error_add(error, STATUS_INVALID,
                         "%s:1: %lld layers of %lld slots; the loads and --slots ask for %d of %d",
                         path, (long long)matrix.num_rows, (long long)matrix.num_columns,
                         (int)load->num_layers, (int)num_slots);
    }
    int64_t *held = arena_alloc(arena, (size_t)load->num_experts, sizeof *held);
    if (held == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "%s: out of memory", path);
    }
    for (int64_t layer = 0; status == STATUS_OK && layer < matrix.num_rows; layer++) {
        status = check_layer(matrix.value + layer * num_slots, layer, path, load, num_slots, held,
                             error);
    }
    *expert_of_slot = matrix.value;
    return status;
}
