/* moe_rows.c -- reads the MoE table, finds each row's GPU and counts what rank 0 got. */
#include "moe_rows.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "csv_cells.h"
#include "moe_rows_internal.h"
#include "rng.h"

#define CELLS_MAX   64
#define PLACE_BYTES 512
#define ROWS_MAX    INT64_C(10000000)

struct table {
    FILE *file;
    const char *path;
    char *line;
    size_t line_bytes;
    int64_t line_number;
    int32_t column[COLUMN_COUNT]; /* where in the file each is */
    int64_t capacity;
};

static enum status read_header(struct table *table, struct error *error)
{
    char *cell[CELLS_MAX];
    if (getline(&table->line, &table->line_bytes, table->file) < 0) {
        return error_add(error, STATUS_INVALID, "%s:1: the file is empty", table->path);
    }
    table->line_number = 1;
    int32_t count = csv_cells(cell, CELLS_MAX, table->line);
    for (int32_t column = 0; column < COLUMN_COUNT; column++) {
        table->column[column] = -1;
        for (int32_t i = 0; i < count; i++) {
            if (strcmp(cell[i], moe_column_name(column)) == 0) {
                table->column[column] = i;
            }
        }
        if (table->column[column] < 0) {
            return error_add(error, STATUS_INVALID, "%s:1: there is no column '%s'", table->path,
                             moe_column_name(column));
        }
    }
    return STATUS_OK;
}

static int32_t find_gpu(struct moe_rows *rows, const char *name)
{
    for (int32_t gpu = 0; gpu < rows->num_gpus; gpu++) {
        if (strcmp(rows->gpu_name[gpu], name) == 0) {
            return gpu;
        }
    }
    if (rows->num_gpus == MOE_GPUS_MAX) {
        return -1;
    }
    int32_t gpu = rows->num_gpus++;
    (void)snprintf(rows->gpu_name[gpu], sizeof rows->gpu_name[gpu], "%s", name);
    struct error unknown = {0};
    rows->gpu_known[gpu] = gpu_load(&rows->gpu[gpu], name, &unknown) == STATUS_OK;
    return gpu;
}

static enum status add_row(struct moe_rows *rows, struct table *table, struct error *error)
{
    char *all[CELLS_MAX];
    char *cell[COLUMN_COUNT];
    char place[PLACE_BYTES];
    (void)snprintf(place, sizeof place, "%s:%lld", table->path, (long long)table->line_number);
    int32_t count = csv_cells(all, CELLS_MAX, table->line);
    for (int32_t column = 0; column < COLUMN_COUNT; column++) {
        if (table->column[column] >= count) {
            return error_add(error, STATUS_INVALID, "%s: %d cells; %s is missing", place,
                             (int)count, moe_column_name(column));
        }
        cell[column] = all[table->column[column]];
    }
    if (rows->num_rows == table->capacity) {
        int64_t capacity = table->capacity > 0 ? 2 * table->capacity : 1024;
        void *grown =
            capacity > ROWS_MAX ? NULL : realloc(rows->row, (size_t)capacity * sizeof *rows->row);
        if (grown == NULL) {
            return error_add(error, STATUS_NO_MEMORY, "%s: out of memory", place);
        }
        rows->row = grown;
        table->capacity = capacity;
    }
    struct moe_row *row = &rows->row[rows->num_rows];
    *row = (struct moe_row){0};
    enum status status = moe_row_parse(row, cell, place, error);
    if (status != STATUS_OK) {
        return status;
    }
    row->gpu = find_gpu(rows, cell[COLUMN_GPU]);
    if (row->skip == MOE_USED && (row->gpu < 0 || !rows->gpu_known[row->gpu])) {
        row->skip = MOE_SKIP_GPU;
    }
    rows->num_rows++;
    return STATUS_OK;
}

static enum status read_table(struct moe_rows *rows, struct table *table, struct error *error)
{
    enum status status = read_header(table, error);
    while (status == STATUS_OK && getline(&table->line, &table->line_bytes, table->file) >= 0) {
        table->line_number++;
        status = add_row(rows, table, error);
    }
    if (status == STATUS_OK && ferror(table->file) != 0) {
        status = error_add(error, STATUS_IO, "%s: %s", table->path, strerror(errno));
    }
    if (status == STATUS_OK && rows->num_rows == 0) {
        status = error_add(error, STATUS_INVALID, "%s: there are no rows", table->path);
    }
    return status;
}

/* TensorRT-LLM and vLLM see every token of the group and leave out what is not theirs; SGLang's
 * collector hands rank 0 only tokens that chose one of its experts, of which this is the mean. */
static double distinct_rows(const struct moe_row *row, const int64_t *tokens_of, int32_t count)
{
    double missed = 1.0;
    if (row->ep == 1 || strcmp(row->kernels, "sglang") != 0) {
        return (double)row->tokens;
    }
    for (int32_t expert = 0; expert < count; expert++) {
        missed *= 1.0 - (double)tokens_of[expert] / (double)row->tokens;
    }
    return (1.0 - missed) * (double)row->tokens;
}

static void count_load(struct expert_load *load, const struct moe_row *row,
                       const int64_t *tokens_of)
{
    int32_t local = row->num_experts / row->ep;
    *load = (struct expert_load){0};
    for (int32_t expert = 0; expert < local; expert++) {
        expert_load_add(load, tokens_of[expert], 1.0);
    }
    load->rows = distinct_rows(row, tokens_of, local);
}

static void count_row(struct moe_row *row, gsl_rng *rng, uint64_t index)
{
    int64_t tokens_of[DEAL_EXPERTS_MAX];
    const struct deal deal = {row->tokens, row->num_experts, row->top_k, row->ep};
    if (row->num_loads == 1) {
        moe_deal_balanced(tokens_of, row->tokens, row->num_experts, row->top_k);
        count_load(row->load, row, tokens_of);
        return;
    }
    double alpha = strtod(row->distribution + strlen("power_law_"), NULL);
    alpha = fabs(alpha - 1.0) < 1e-6 ? 1.0 + 1e-6 : alpha; /* the formula has a gap at 1 */
    rng_restream(rng, index, "moe rows", 0);
    for (int32_t draw = 0; draw < row->num_loads; draw++) {
        moe_deal_power_law(tokens_of, &deal, alpha, rng);
        count_load(&row->load[draw], row, tokens_of);
    }
}

static enum status count_loads(struct moe_rows *rows, struct error *error)
{
    int64_t num_loads = 0;
    for (int64_t i = 0; i < rows->num_rows; i++) {
        struct moe_row *row = &rows->row[i];
        bool is_skewed = row->class == MOE_SKEWED || row->class == MOE_SKEWED_EP;
        row->num_loads = row->skip != MOE_USED ? 0 : is_skewed ? MOE_DRAWS : 1;
        num_loads += row->num_loads;
    }
    rows->load = calloc((size_t)num_loads + 1, sizeof *rows->load);
    gsl_rng *rng = rng_stream(0, "moe rows", 0);
    if (rows->load == NULL || rng == NULL) {
        gsl_rng_free(rng);
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    int64_t next = 0;
    for (int64_t i = 0; i < rows->num_rows; i++) {
        rows->row[i].load = rows->load + next;
        next += rows->row[i].num_loads;
        if (rows->row[i].num_loads > 0) {
            count_row(&rows->row[i], rng, (uint64_t)i);
        }
    }
    gsl_rng_free(rng);
    return STATUS_OK;
}

enum status moe_rows_read(struct moe_rows *rows, const char *path, struct error *error)
{
    struct table table = {.path = path, .file = fopen(path, "r")};
    *rows = (struct moe_rows){0};
    if (table.file == NULL) {
        return error_add(error, STATUS_IO, "%s: %s", path, strerror(errno));
    }
    enum status status = STATUS_OK;
    rows->gpu = calloc(MOE_GPUS_MAX, sizeof *rows->gpu);
    if (rows->gpu == NULL) {
        status = error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    if (status == STATUS_OK) {
        status = read_table(rows, &table, error);
    }
    if (status == STATUS_OK) {
        status = count_loads(rows, error);
    }
    free(table.line);
    (void)fclose(table.file);
    return status;
}

void moe_rows_free(struct moe_rows *rows)
{
    free(rows->row);
    free(rows->load);
    free(rows->gpu);
    *rows = (struct moe_rows){0};
}

double moe_row_predict(const struct moe_row *row, const struct gpu_spec *gpu,
                       const struct fitted_kernels *fitted)
{
    const struct expert_shape shape = {.hidden_dim = (double)row->hidden_dim,
                                       .ffn_dim = (double)row->ffn_dim,
                                       .weight_bytes = precision_weight_bytes(row->precision),
                                       .num_sms = (double)gpu->num_sms};
    double sum_ns = 0.0;
    for (int32_t draw = 0; draw < row->num_loads; draw++) {
        sum_ns += fitted_expert_ns(fitted, &shape, &row->load[draw]);
    }
    /* A rank without a token still launches its kernels and writes its zeros. */
    double idle_ns =
        fitted->t0_ns + row->load[0].rows * shape.hidden_dim * 2.0 / fitted->row_bytes_per_s * 1e9;
    return fmax(sum_ns / (double)row->num_loads, idle_ns);
}

const struct fitted_kernels *moe_row_constants(const struct moe_row *row,
                                               const struct gpu_spec *gpu)
{
    for (int32_t i = 0; i < gpu->num_fitted; i++) {
        if (gpu->fitted[i].precision == row->precision &&
            strcmp(gpu->fitted[i].kernels, row->kernels) == 0) {
            return &gpu->fitted[i];
        }
    }
    return NULL;
}
