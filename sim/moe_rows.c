/* moe_rows.c -- reads the MoE table, finds each row's GPU and counts what rank 0 got. */
#include "moe_rows.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "moe_rows_internal.h"
#include "rng.h"

#define ROWS_MAX INT64_C(10000000)

int32_t moe_rows_gpu(struct moe_rows *rows, const char *name)
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

enum status moe_rows_add(struct moe_rows *rows, const struct moe_row *row, struct error *error)
{
    if (rows->num_rows == rows->capacity) {
        int64_t capacity = rows->capacity > 0 ? 2 * rows->capacity : 1024;
        void *grown =
            capacity > ROWS_MAX ? NULL : realloc(rows->row, (size_t)capacity * sizeof *rows->row);
        if (grown == NULL) {
            return error_add(error, STATUS_NO_MEMORY, "out of memory");
        }
        rows->row = grown;
        rows->capacity = capacity;
    }
    struct moe_row *added = &rows->row[rows->num_rows++];
    *added = *row;
    if (added->skip == MOE_USED && (added->gpu < 0 || !rows->gpu_known[added->gpu])) {
        added->skip = MOE_SKIP_GPU;
    }
    return STATUS_OK;
}

/* odd: scratch, empty before and after. */
static enum status take_row(struct moe_rows *rows, const struct csv_stream *table,
                            struct error *odd, struct error *error)
{
    struct moe_row row = {.gpu = moe_rows_gpu(rows, table->cell[COLUMN_GPU])};
    if (moe_row_parse(&row, table, odd) != STATUS_OK) {
        row.odd = odd_rows_add(&rows->odd, odd);
        if (row.odd == NULL) {
            return error_add(error, STATUS_NO_MEMORY, "out of memory");
        }
    }
    return moe_rows_add(rows, &row, error);
}

static enum status read_table(struct moe_rows *rows, struct csv_stream *table, struct error *error)
{
    bool found = false;
    struct error odd = {0};
    enum status status = csv_stream_next(table, &found, error);
    while (status == STATUS_OK && found) {
        status = take_row(rows, table, &odd, error);
        if (status == STATUS_OK) {
            status = csv_stream_next(table, &found, error);
        }
    }
    if (status == STATUS_OK && rows->num_rows == 0) {
        status = error_add(error, STATUS_INVALID, "%s: there are no rows", table->path);
    }
    return status;
}

static void count_load(struct expert_load *load, const struct moe_row *row,
                       const struct dealt *dealt)
{
    int32_t local = row->num_experts / row->ep;
    *load = (struct expert_load){0};
    for (int32_t expert = 0; expert < local; expert++) {
        expert_load_add(load, dealt->tokens_of[expert], 1.0);
    }
    load->rows = (double)dealt->rows;
    /* The power law hands an expert neighbouring tokens, but rank 0's first expert those left over.
     */
    bool is_together = row->class == MOE_SKEWED && load->copies > 0.0;
    load->span = is_together ? fmin(load->rows, load->squares / load->copies) : load->rows;
    load->choices = (double)dealt->rows * (double)row->top_k;
    load->experts = (double)row->num_experts;
}

/* As many experts of rank 0 as its share of the copies fills; the last one with what is left. */
static void deal_filled(struct dealt *dealt, const struct moe_row *row)
{
    int64_t left = row->tokens * row->top_k / row->ep;
    int32_t local = row->num_experts / row->ep;
    int64_t filled = left > row->filled * local ? (left + local - 1) / local : row->filled;
    for (int32_t expert = 0; expert < local; expert++) {
        dealt->tokens_of[expert] = left < filled ? left : filled;
        left -= dealt->tokens_of[expert];
    }
    dealt->rows = row->tokens;
}

static void count_row(struct moe_row *row, gsl_rng *rng, uint64_t index)
{
    int64_t tokens_of[DEAL_EXPERTS_MAX];
    struct dealt dealt;
    const struct deal deal = {row->tokens, row->num_experts, row->top_k, row->ep};
    if (row->filled > 0) {
        deal_filled(&dealt, row);
        count_load(row->load, row, &dealt);
        return;
    }
    if (row->num_loads == 1) {
        moe_gate_balanced(&dealt, &deal, &row->gate);
        count_load(row->load, row, &dealt);
        return;
    }
    double alpha = moe_power_law(row->distribution);
    rng_restream(rng, index, "moe rows", 0);
    for (int32_t draw = 0; draw < row->num_loads; draw++) {
        moe_deal_power_law(tokens_of, &deal, alpha, rng);
        moe_gate_counts(&dealt, tokens_of, &deal, &row->gate);
        count_load(&row->load[draw], row, &dealt);
    }
}

enum status moe_rows_count(struct moe_rows *rows, struct error *error)
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

enum status moe_rows_open(struct moe_rows *rows, struct error *error)
{
    *rows = (struct moe_rows){.gpu = calloc(MOE_GPUS_MAX, sizeof *rows->gpu)};
    return rows->gpu != NULL ? STATUS_OK : error_add(error, STATUS_NO_MEMORY, "out of memory");
}

enum status moe_rows_load(struct moe_rows *rows, const char *path, struct error *error)
{
    struct csv_stream table;
    enum status status = moe_rows_open(rows, error);
    if (status != STATUS_OK) {
        return status;
    }
    status = csv_stream_open(&table, path, moe_column_names, COLUMN_COUNT, error);
    if (status == STATUS_OK) {
        status = read_table(rows, &table, error);
    }
    csv_stream_close(&table);
    return status;
}

enum status moe_rows_read(struct moe_rows *rows, const char *path, struct error *error)
{
    enum status status = moe_rows_load(rows, path, error);
    return status == STATUS_OK ? moe_rows_count(rows, error) : status;
}

void moe_rows_free(struct moe_rows *rows)
{
    free(rows->row);
    free(rows->load);
    free(rows->gpu);
    odd_rows_free(&rows->odd);
    *rows = (struct moe_rows){0};
}

double moe_row_predict(const struct moe_row *row, const struct gpu_spec *gpu,
                       const struct fitted_kernels *fitted)
{
    return moe_row_predict_few(row, gpu, fitted, row->num_loads);
}

double moe_row_predict_few(const struct moe_row *row, const struct gpu_spec *gpu,
                           const struct fitted_kernels *fitted, int32_t num_draws)
{
    int32_t num_loads = num_draws < row->num_loads ? num_draws : row->num_loads;
    const struct expert_shape shape = {.gpu = gpu->name,
                                       .hidden_dim = (double)row->hidden_dim,
                                       .ffn_dim = (double)row->ffn_dim,
                                       .weight_bytes = precision_weight_bytes(row->precision),
                                       .num_sms = (double)gpu->num_sms,
                                       .is_looped = true,
                                       .l2_bytes = gpu->l2_bytes,
                                       .gpu_sms = (double)gpu->num_sms};
    double sum_ns = 0.0;
    for (int32_t draw = 0; draw < num_loads; draw++) {
        sum_ns += fitted_expert_ns(fitted, &shape, &row->load[draw]);
    }
    /* A rank without a token still launches its kernels and writes its zeros. */
    double idle_ns =
        fitted->t0_ns + row->load[0].rows * shape.hidden_dim * 2.0 / fitted->row_bytes_per_s * 1e9;
    return fmax(sum_ns / (double)num_loads, idle_ns);
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
