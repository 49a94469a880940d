/*
 * validate_measured.c -- is a table better than the fit? Each row by its neighbours, its own left
 * out.
 *
 * Rows of one GPU, kernels, format, shape and routing lie on a curve over how much is done
 * (gpu/measured.h). Every row that has one on either side is predicted twice: by the constants in
 * the preset, and by those times what the curve says there without the row. So both kinds of groups
 * hold the same rows; rows at the end of a curve are counted as left out.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/measured.h"
#include "kernel_rows.h"
#include "moe_rows.h"
#include "validate.h"

#define NUM_KEYS 5
#define BY       (NUM_KEYS - 1)

static const char *const keys[NUM_KEYS] = {"gpu", "kernels", "dtype", "of", "by"};

/* One row of a table, in the words of its group. */
struct entry {
    int64_t line;
    const char *value[BY];
    const char *reason; /* why the fit has no prediction; NULL: it has */
    const char *odd;    /* which cell it was, or NULL */
    const char *curve;  /* what else rows of a curve have in common */
    struct measured_place place;
    double measured_ns;
    double fitted_ns;
    bool is_fitted;
};

/* Entries whose words differ are of different kinds, whatever their places. */
static uint32_t hash_words(const struct entry *entry)
{
    uint32_t hash = 2166136261U; /* Fowler, Noll and Vo */
    const char *const words[] = {entry->value[0], entry->value[1], entry->value[2], entry->value[3],
                                 entry->curve};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        for (const char *at = words[i]; *at != '\0'; at++) {
            hash = (hash ^ (uint32_t)(unsigned char)*at) * 16777619U;
        }
        hash = (hash ^ 0xffU) * 16777619U;
    }
    return hash;
}

static enum status fill_table(struct measured_table *table, struct entry *entry, int64_t count,
                              struct error *error)
{
    enum status status = STATUS_OK;
    for (int64_t i = 0; i < count && status == STATUS_OK; i++) {
        if (entry[i].reason != NULL) {
            continue;
        }
        entry[i].place.kind = (int32_t)(hash_words(&entry[i]) & 0x7fffffffU);
        status = measured_add(table, &entry[i].place, entry[i].measured_ns, entry[i].fitted_ns, i,
                              error);
    }
    measured_sort(table);
    return status;
}

static enum status report_entry(struct error_report *report, const struct entry *entry,
                                const struct measured_table *table, int64_t point,
                                struct error *error)
{
    const char *value[NUM_KEYS] = {entry->value[0], entry->value[1], entry->value[2],
                                   entry->value[3], "table"};
    double ratio = 1.0;
    if (entry->reason != NULL) {
        return error_report_skip_odd(report, entry->line, value, entry->reason, entry->odd, error);
    }
    if (point < 0 || !measured_ratio(&ratio, table, &entry->place, point)) {
        return error_report_skip(report, entry->line, value,
                                 "it has no row of its curve on either side", error);
    }
    enum status status = error_report_add(report, entry->line, value, entry->fitted_ns * ratio,
                                          entry->measured_ns, false, error);
    value[BY] = "fitted";
    return status == STATUS_OK ? error_report_add(report, entry->line, value, entry->fitted_ns,
                                                  entry->measured_ns, entry->is_fitted, error)
                               : status;
}

static enum status report_all(struct error_report *report, struct entry *entry, int64_t count,
                              struct error *error)
{
    struct measured_table table = {0};
    int64_t *point_of = malloc(((size_t)count + 1) * sizeof *point_of);
    enum status status =
        point_of != NULL ? STATUS_OK : error_add(error, STATUS_NO_MEMORY, "out of memory");
    if (status == STATUS_OK) {
        status = fill_table(&table, entry, count, error);
    }
    for (int64_t i = 0; i < count && status == STATUS_OK; i++) {
        point_of[i] = -1;
    }
    for (int64_t i = 0; i < table.num_points && status == STATUS_OK; i++) {
        point_of[table.point[i].row] = i;
    }
    for (int64_t i = 0; i < count && status == STATUS_OK; i++) {
        status = report_entry(report, &entry[i], &table, point_of[i], error);
    }
    free(point_of);
    measured_free(&table);
    return status;
}

static void fill_moe(struct entry *entry, const struct moe_rows *rows, int64_t index,
                     const char *table)
{
    const struct moe_row *row = &rows->row[index];
    bool is_known = row->gpu >= 0 && rows->gpu_known[row->gpu];
    const struct gpu_spec *gpu = is_known ? &rows->gpu[row->gpu] : NULL;
    const struct fitted_kernels *fitted =
        row->skip == MOE_USED ? moe_row_constants(row, gpu) : NULL;
    const char *name = is_known ? gpu->name : row->gpu >= 0 ? rows->gpu_name[row->gpu] : "";
    bool is_balanced = row->class == MOE_BALANCED || row->class == MOE_BALANCED_EP;
    *entry = (struct entry){.line = index + 2, /* after the header, counted from 1 */
                            .value = {name, row->kernels, row->dtype, moe_class_name(row->class)},
                            .curve = row->distribution,
                            .odd = row->odd,
                            .measured_ns = row->latency_ns};
    if (fitted == NULL) {
        enum moe_skip skip = row->skip == MOE_USED ? MOE_SKIP_CONSTANTS : row->skip;
        entry->reason = moe_skip_reason(skip);
        return;
    }
    entry->place =
        (struct measured_place){.side = {row->num_experts, row->ep, row->hidden_dim, row->ffn_dim},
                                .along = log((double)row->tokens)};
    entry->fitted_ns = moe_row_predict(row, gpu, fitted);
    entry->is_fitted = is_balanced && validate_is_fitted_on(fitted->fit.fitted_on, table);
}

enum status validate_moe_measured(struct error_report *report, const char *path,
                                  struct error *error)
{
    struct moe_rows rows = {0};
    struct entry *entry = NULL;
    error_report_keys(report, keys, NUM_KEYS);
    enum status status = moe_rows_read(&rows, path, error);
    if (status == STATUS_OK) {
        entry = calloc((size_t)rows.num_rows, sizeof *entry);
        status = entry != NULL ? status : error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    for (int64_t i = 0; i < rows.num_rows && status == STATUS_OK; i++) {
        fill_moe(&entry[i], &rows, i, validate_table_name(path));
    }
    if (status == STATUS_OK) {
        status = report_all(report, entry, rows.num_rows, error);
    }
    free(entry);
    moe_rows_free(&rows);
    return status;
}

static void fill_kernel(struct entry *entry, const struct kernel_rows *rows,
                        const struct kernel_row *row, const char *table)
{
    bool is_known = row->gpu >= 0 && rows->moe.gpu_known[row->gpu];
    const struct gpu_spec *gpu = is_known ? &rows->moe.gpu[row->gpu] : NULL;
    const struct gemm_constants *gemm = NULL;
    const struct attention_constants *attention = NULL;
    const char *fitted_on = "";
    *entry =
        (struct entry){.line = row->line,
                       .value = {is_known ? gpu->name : "", row->kernels, row->dtype, row->label},
                       .curve = row->library,
                       .odd = row->odd,
                       .reason = row->skip,
                       .measured_ns = row->latency_ns};
    if (row->skip == NULL && row->class == KERNEL_GEMM) {
        gemm = kernel_row_gemm(row, gpu);
    } else if (row->skip == NULL && row->class == KERNEL_ATTENTION) {
        attention = kernel_row_attention(row, gpu);
    } else if (row->skip == NULL) {
        entry->reason = "experts of one rank: their routing is no curve";
    }
    if (gemm != NULL) {
        entry->place = measured_place_gemm(&row->gemm, row->precision);
        entry->fitted_ns = kernel_row_gemm_ns(row, gpu, gemm);
        fitted_on = gemm->fit.fitted_on;
    } else if (attention != NULL) {
        entry->place = measured_place_attention(&row->attention, row->phase, row->precision);
        entry->fitted_ns = kernel_row_attention_ns(row, gpu, attention);
        fitted_on = attention->fit.fitted_on;
    } else if (entry->reason == NULL) {
        entry->reason = moe_skip_reason(MOE_SKIP_CONSTANTS);
    }
    entry->is_fitted = validate_is_fitted_on(fitted_on, table);
}

enum status validate_kernels_measured(struct error_report *report, const char *path,
                                      struct error *error)
{
    struct kernel_rows rows = {0};
    struct entry *entry = NULL;
    error_report_keys(report, keys, NUM_KEYS);
    enum status status = kernel_rows_read(&rows, path, error);
    if (status == STATUS_OK) {
        entry = calloc((size_t)rows.num_rows, sizeof *entry);
        status = entry != NULL ? status : error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    for (int64_t i = 0; i < rows.num_rows && status == STATUS_OK; i++) {
        fill_kernel(&entry[i], &rows, &rows.row[i], validate_table_name(path));
    }
    if (status == STATUS_OK) {
        status = report_all(report, entry, rows.num_rows, error);
    }
    free(entry);
    kernel_rows_free(&rows);
    return status;
}
