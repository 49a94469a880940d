/* validate_network.c -- published exchanges, predicted by the constants in the cluster presets. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "alltoall_rows.h"
#include "validate.h"

#define CLUSTERS_MAX 32
#define NUM_KEYS     6

static const char *const keys[NUM_KEYS] = {"cluster",    "library", "version",
                                           "collective", "op",      "ep"};

/* Presets by the name of the testbed's kind; num_fitted 0: there is none. */
struct presets {
    int32_t count;
    char name[CLUSTERS_MAX][NAME_BYTES];
    struct cluster *cluster; /* [CLUSTERS_MAX] */
};

static const struct cluster *find_preset(struct presets *presets, const char *name)
{
    int32_t i = 0;
    while (i < presets->count && strcmp(presets->name[i], name) != 0) {
        i++;
    }
    if (i == CLUSTERS_MAX) {
        return NULL;
    }
    if (i == presets->count) {
        struct error unknown = {0};
        presets->count++;
        (void)snprintf(presets->name[i], NAME_BYTES, "%s", name);
        if (cluster_load(&presets->cluster[i], name, &unknown) != STATUS_OK) {
            presets->cluster[i].num_fitted = 0;
        }
    }
    return presets->cluster[i].num_fitted > 0 ? &presets->cluster[i] : NULL;
}

static bool has_all(const struct fitted_collective *fitted, const struct alltoall_row *row)
{
    for (int32_t leg = 0; leg < row->num_legs; leg++) {
        if (!fitted->has[row->leg[leg].exchange]) {
            return false;
        }
    }
    return true;
}

/* The constants for a row, or why there are none. */
static enum alltoall_skip find_constants(const struct fitted_collective **fitted,
                                         struct presets *presets, const struct alltoall_row *row)
{
    *fitted = NULL;
    if (row->skip != ALLTOALL_USED) {
        return row->skip;
    }
    const struct cluster *cluster = find_preset(presets, row->cluster);
    if (cluster == NULL) {
        return ALLTOALL_SKIP_CLUSTER;
    }
    *fitted = cluster_constants(cluster, row->collective->name, row->dtype);
    return *fitted != NULL && has_all(*fitted, row) ? ALLTOALL_USED : ALLTOALL_SKIP_CONSTANTS;
}

/* Part of the fit: a row of the table that the entry was fitted on, of the same format. */
static bool is_fitted(const struct fitted_collective *fitted, const struct alltoall_row *row,
                      const char *table)
{
    return row->num_legs == 1 && strcmp(fitted->dtype, row->dtype) == 0 &&
           validate_is_fitted_on(fitted->fit.fitted_on, table);
}

static enum status add_row(struct error_report *report, struct presets *presets,
                           const struct alltoall_rows *rows, const struct alltoall_row *row,
                           const char *table, struct error *error)
{
    char ep[16];
    (void)snprintf(ep, sizeof ep, "%d", (int)row->ep);
    const char *const values[NUM_KEYS] = {
        row->cluster[0] != '\0' ? row->cluster : row->gpu_name,      row->library, row->version,
        row->collective != NULL ? row->collective->name : row->mode, row->op,      ep};
    const struct fitted_collective *fitted = NULL;
    double ns = 0.0;
    enum alltoall_skip skip = find_constants(&fitted, presets, row);
    if (skip != ALLTOALL_USED) {
        return error_report_skip_odd(report, row->line, values, alltoall_skip_reason(skip),
                                     row->odd, error);
    }
    if (alltoall_predict(&ns, row, &rows->gpu[row->gpu], fitted, net_find("alpha_beta")) !=
        STATUS_OK) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    return error_report_add(report, row->line, values, ns * 1e-3, row->latency_ns * 1e-3,
                            is_fitted(fitted, row, table), error);
}

enum status validate_alltoall(struct error_report *report, const char *path, struct error *error)
{
    struct alltoall_rows rows = {0};
    struct presets presets = {.cluster = calloc(CLUSTERS_MAX, sizeof *presets.cluster)};
    enum status status = STATUS_OK;
    if (presets.cluster == NULL) {
        status = error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    error_report_keys(report, keys, NUM_KEYS);
    if (status == STATUS_OK) {
        status = alltoall_rows_read(&rows, path, error);
    }
    for (int64_t i = 0; i < rows.num_rows && status == STATUS_OK; i++) {
        status = add_row(report, &presets, &rows, &rows.row[i], validate_table_name(path), error);
    }
    alltoall_rows_free(&rows);
    free(presets.cluster);
    return status;
}
