/* bench_rows.c -- reads the CSV of moe-bench. */
#include "bench_rows.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "csv_cells.h"

#define CELLS_MAX 128
#define ROWS_MAX  INT64_C(1000000)

/* clang-format off */
#define COLUMNS(X) \
    X(device) X(num_sms) X(command) X(version) X(phase) X(model) X(dtype) X(num_experts) X(top_k) \
    X(hidden_dim) X(ffn_dim) X(shared_ffn_dim) X(activation) X(num_tokens) X(routing) X(rank) \
    X(num_ranks) X(median_ns) X(min_ns) X(status) X(expert_tokens)
/* clang-format on */

#define COLUMN_ENUM(name) COLUMN_##name,
#define COLUMN_NAME(name) #name,

enum column { COLUMNS(COLUMN_ENUM) COLUMN_COUNT };

static const char *const column_names[COLUMN_COUNT] = {COLUMNS(COLUMN_NAME)};

struct table {
    FILE *file;
    const char *path;
    char *line;
    size_t line_bytes;
    int64_t line_number;
    int32_t column[COLUMN_COUNT];
    int64_t capacity;
};

const char *bench_phase_name(enum bench_phase phase)
{
    static const char *const names[BENCH_PHASE_COUNT] = {"router",   "gate",    "permute", "rows",
                                                         "dispatch", "gate_up", "down",    "return",
                                                         "shared",   "combine", "layer",   "wall"};
    return names[phase];
}

const char *bench_skip_reason(enum bench_skip skip)
{
    static const char *const reasons[BENCH_SKIP_COUNT] = {
        "used", "not of moe-bench forward", "its status is not ok", "its phase is not modelled",
        "it is another library's"};
    return reasons[skip];
}

static enum status read_header(struct table *table, struct error *error)
{
    char *cell[CELLS_MAX];
    if (getline(&table->line, &table->line_bytes, table->file) < 0) {
        return error_add(error, STATUS_INVALID, "%s:1: the file is empty", table->path);
    }
    char missing[512] = "";
    int32_t count = csv_cells(cell, CELLS_MAX, table->line);
    for (int32_t column = 0; column < COLUMN_COUNT; column++) {
        table->column[column] = -1;
        for (int32_t i = 0; i < count; i++) {
            if (strcmp(cell[i], column_names[column]) == 0) {
                table->column[column] = i;
            }
        }
        if (table->column[column] < 0) {
            size_t used = strlen(missing);
            (void)snprintf(missing + used, sizeof missing - used, "%s%s", used > 0 ? ", " : "",
                           column_names[column]);
        }
    }
    if (missing[0] != '\0') {
        return error_add(error, STATUS_INVALID,
                         "%s:1: columns are missing: %s; is it a CSV of moe-bench?", table->path,
                         missing);
    }
    return STATUS_OK;
}

static enum status read_number(double *value, const struct table *table, char *const *cell,
                               enum column column, double min, struct error *error)
{
    char *end;
    errno = 0;
    *value = strtod(cell[column], &end);
    if (end == cell[column] || *end != '\0' || !isfinite(*value) || *value < min) {
        return error_add(error, STATUS_INVALID, "%s:%lld: %s is '%s', not a number from %g",
                         table->path, (long long)table->line_number, column_names[column],
                         cell[column], min);
    }
    return STATUS_OK;
}

static enum status read_counts(struct bench_row *row, const struct table *table, char *const *cell,
                               struct error *error)
{
    const struct {
        int32_t *value;
        enum column column;
        double min;
        double max;
    } counts[] = {{&row->num_sms, COLUMN_num_sms, 1.0, 1e6},
                  {&row->num_experts, COLUMN_num_experts, 1.0, 1e5},
                  {&row->top_k, COLUMN_top_k, 1.0, 1e5},
                  {&row->hidden_dim, COLUMN_hidden_dim, 1.0, 1e7},
                  {&row->ffn_dim, COLUMN_ffn_dim, 1.0, 1e7},
                  {&row->shared_ffn_dim, COLUMN_shared_ffn_dim, 0.0, 1e7},
                  {&row->num_tokens, COLUMN_num_tokens, 0.0, 1e8},
                  {&row->rank, COLUMN_rank, 0.0, 1e5},
                  {&row->num_ranks, COLUMN_num_ranks, 1.0, 1e5}};
    enum status status = STATUS_OK;
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        double value = 0.0;
        bool is_absent = cell[counts[i].column][0] == '\0' && counts[i].column >= COLUMN_rank;
        if (is_absent) {
            value = counts[i].min; /* a step of one rank */
        } else if (read_number(&value, table, cell, counts[i].column, counts[i].min, error) !=
                   STATUS_OK) {
            status = STATUS_INVALID;
        } else if (value > counts[i].max || value != floor(value)) {
            status =
                error_add(error, STATUS_INVALID, "%s:%lld: %s is '%s', not a count up to %g",
                          table->path, (long long)table->line_number,
                          column_names[counts[i].column], cell[counts[i].column], counts[i].max);
        }
        *counts[i].value = status == STATUS_OK ? (int32_t)value : 0;
    }
    if (status == STATUS_OK && row->rank >= row->num_ranks) {
        status = error_add(error, STATUS_INVALID, "%s:%lld: rank %d of %d", table->path,
                           (long long)table->line_number, (int)row->rank, (int)row->num_ranks);
    }
    return status;
}

/* Counts with blanks between. */
static enum status read_slots(struct bench_rows *rows, struct bench_row *row,
                              const struct table *table, const char *text, struct error *error)
{
    row->slot_tokens =
        arena_alloc(&rows->arena, (size_t)row->num_experts, sizeof *row->slot_tokens);
    if (row->slot_tokens == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "%s: out of memory", table->path);
    }
    const char *next = text;
    while (*next != '\0') {
        char *end;
        long count = strtol(next, &end, 10);
        if (end == next || count < 0 || count > INT32_MAX || row->num_slots == row->num_experts ||
            (*end != ' ' && *end != '\0')) {
            return error_add(error, STATUS_INVALID,
                             "%s:%lld: expert_tokens is no list of at most %d counts", table->path,
                             (long long)table->line_number, (int)row->num_experts);
        }
        row->slot_tokens[row->num_slots++] = (int32_t)count;
        next = *end == ' ' ? end + 1 : end;
    }
    return STATUS_OK;
}

static void copy_text(char to[NAME_BYTES], const char *from)
{
    (void)snprintf(to, NAME_BYTES, "%.63s", from);
}

static enum bench_skip classify(struct bench_row *row, char *const *cell)
{
    if (strcmp(cell[COLUMN_command], "forward") != 0) {
        return BENCH_SKIP_COMMAND;
    }
    if (strcmp(cell[COLUMN_status], "ok") != 0) {
        return BENCH_SKIP_STATUS;
    }
    row->is_cpu = strcmp(cell[COLUMN_version], "cpu") == 0;
    if (!row->is_cpu && strcmp(cell[COLUMN_version], "graph") != 0) {
        return BENCH_SKIP_PEER;
    }
    if (cell[COLUMN_phase][0] == '\0') { /* of the CUDA device: the graph as a whole */
        row->phase = BENCH_LAYER;
        return BENCH_USED;
    }
    for (int32_t phase = 0; phase < BENCH_PHASE_COUNT; phase++) {
        if (strcmp(cell[COLUMN_phase], bench_phase_name((enum bench_phase)phase)) == 0) {
            row->phase = (enum bench_phase)phase;
            return BENCH_USED;
        }
    }
    return BENCH_SKIP_PHASE;
}

/* A step's rows follow each other, but rows of several files or runs may mix. */
static int32_t find_step(struct bench_rows *rows, const struct bench_row *row)
{
    for (int64_t i = rows->num_rows - 1; i >= 0; i--) {
        const struct bench_row *other = &rows->row[i];
        if (other->skip == BENCH_USED && other->num_tokens == row->num_tokens &&
            other->num_ranks == row->num_ranks && other->num_sms == row->num_sms &&
            other->hidden_dim == row->hidden_dim && other->ffn_dim == row->ffn_dim &&
            strcmp(other->model, row->model) == 0 && strcmp(other->dtype, row->dtype) == 0 &&
            strcmp(other->routing, row->routing) == 0 && strcmp(other->device, row->device) == 0) {
            bool is_again = other->phase == row->phase && other->rank == row->rank;
            return is_again ? rows->num_steps++ : other->step;
        }
    }
    return rows->num_steps++;
}

static enum status fill_row(struct bench_rows *rows, struct bench_row *row,
                            const struct table *table, char *const *cell, struct error *error)
{
    *row = (struct bench_row){0};
    row->skip = classify(row, cell);
    copy_text(row->device, cell[COLUMN_device]);
    copy_text(row->model, cell[COLUMN_model]);
    copy_text(row->dtype, cell[COLUMN_dtype]);
    copy_text(row->routing, cell[COLUMN_routing]);
    if (row->skip != BENCH_USED) {
        return STATUS_OK;
    }
    row->is_gated = strcmp(cell[COLUMN_activation], "gelu") != 0;
    enum status status = read_counts(row, table, cell, error);
    enum column time = row->is_cpu ? COLUMN_min_ns : COLUMN_median_ns;
    if (read_number(&row->ns, table, cell, time, -HUGE_VAL, error) != STATUS_OK) {
        status = STATUS_INVALID;
    }
    if (status == STATUS_OK) {
        status = read_slots(rows, row, table, cell[COLUMN_expert_tokens], error);
    }
    if (row->ns <= 0.0) {
        row->skip = BENCH_SKIP_STATUS; /* shorter than the clock can tell */
    } else if (status == STATUS_OK) {
        row->step = find_step(rows, row);
    }
    return status;
}

static enum status add_row(struct bench_rows *rows, struct table *table, struct error *error)
{
    char *all[CELLS_MAX];
    char *cell[COLUMN_COUNT];
    int32_t count = csv_cells(all, CELLS_MAX, table->line);
    for (int32_t column = 0; column < COLUMN_COUNT; column++) {
        if (table->column[column] >= count) {
            return error_add(error, STATUS_INVALID, "%s:%lld: %d cells; %s is missing", table->path,
                             (long long)table->line_number, (int)count, column_names[column]);
        }
        cell[column] = all[table->column[column]];
    }
    if (rows->num_rows >= table->capacity) {
        int64_t capacity = 2 * rows->num_rows + 256;
        void *grown =
            capacity > ROWS_MAX ? NULL : realloc(rows->row, (size_t)capacity * sizeof *rows->row);
        if (grown == NULL) {
            return error_add(error, STATUS_NO_MEMORY, "%s: out of memory", table->path);
        }
        rows->row = grown;
        table->capacity = capacity;
    }
    struct bench_row row;
    enum status status = fill_row(rows, &row, table, cell, error);
    rows->row[rows->num_rows++] = row;
    return status;
}

enum status bench_rows_read(struct bench_rows *rows, const char *path, struct error *error)
{
    struct table table = {.path = path, .file = fopen(path, "r"), .line_number = 1};
    if (table.file == NULL) {
        return error_add(error, STATUS_IO, "%s: %s", path, strerror(errno));
    }
    enum status status = read_header(&table, error);
    int64_t before = rows->num_rows;
    while (status == STATUS_OK && getline(&table.line, &table.line_bytes, table.file) >= 0) {
        table.line_number++;
        status = add_row(rows, &table, error);
    }
    if (status == STATUS_OK && rows->num_rows == before) {
        status = error_add(error, STATUS_INVALID, "%s: there are no rows", path);
    }
    free(table.line);
    fclose(table.file);
    return status;
}

void bench_rows_free(struct bench_rows *rows)
{
    free(rows->row);
    arena_free(&rows->arena);
    *rows = (struct bench_rows){0};
}
