/* calibrate_network_sets.c -- which sets the rows hold, all of their fits, and presets of them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "calibrate_network_internal.h"

#define FILE_BYTES 4096
#define EP_LARGEST 32 /* DeepEP's largest published degree: predicted from lower ones */

const char *network_constant_name(int32_t index)
{
    static const char *const names[NETWORK_CONSTANTS] = {
        "startup_ns",       "far_startup_ns", "node_ns",
        "doubling_ns",      "expert_ns",      "far_expert_ns",
        "fill_ns",          "fill_half_ns",   "token_ns",
        "token_byte_ns",    "scale_up_share", "scale_out_share",
        "copy_bytes_per_s", "own_copies",     "copy_extra_bytes",
        "slot_blocks",      "blend"};
    return names[index];
}

const char *network_exchange_name(enum exchange exchange)
{
    static const char *const names[EXCHANGE_COUNT] = {"dispatch", "combine", "prepare",
                                                      "combine_low_precision"};
    return names[exchange];
}

static bool is_of(const struct alltoall_row *row, const struct network_set *set)
{
    return set->collective == row->collective && set->exchange == row->leg[0].exchange &&
           strcmp(set->cluster, row->cluster) == 0 && strcmp(set->dtype, row->dtype) == 0;
}

/* In order of appearance; those of few rows are taken out again. */
static void list_sets(struct network_calibration *calibration, const struct alltoall_rows *rows,
                      const char *gpu)
{
    int32_t count = 0;
    for (int64_t i = 0; i < rows->num_rows; i++) {
        const struct alltoall_row *row = &rows->row[i];
        int32_t known = 0;
        bool is_other = gpu != NULL && row->gpu >= 0 && strcmp(rows->gpu[row->gpu].name, gpu) != 0;
        if (row->skip != ALLTOALL_USED || row->num_legs != 1 || is_other) {
            continue;
        }
        while (known < count && !is_of(row, &calibration->set[known])) {
            known++;
        }
        if (known == NETWORK_SETS_MAX) {
            continue;
        }
        struct network_set *set = &calibration->set[known];
        if (known == count) {
            *set = (struct network_set){.collective = row->collective,
                                        .exchange = row->leg[0].exchange,
                                        .gpu = &rows->gpu[row->gpu]};
            set->library = row->library;
            memcpy(set->cluster, row->cluster, sizeof set->cluster);
            memcpy(set->dtype, row->dtype, sizeof set->dtype);
            count++;
        }
        set->num_rows++;
        set->spans_nodes = set->spans_nodes || row->nodes > 1;
        set->num_sms = row->num_sms > 0 ? row->collective->num_sms : set->num_sms;
        if (row->gpus_per_node > set->gpus_per_node) {
            set->gpus_per_node = row->gpus_per_node;
        }
    }
    for (int32_t i = 0; i < count; i++) {
        if (calibration->set[i].num_rows >= NETWORK_ROWS_MIN) {
            calibration->set[calibration->num_sets++] = calibration->set[i];
        }
    }
}

static void summarise(struct network_calibration *calibration)
{
    int64_t count = 0;
    double *sorted = calibration->sorted;
    for (int32_t i = 0; i < calibration->num_sets; i++) {
        struct network_set *set = &calibration->set[i];
        const double *error = calibration->error + set->first_error;
        memcpy(sorted, error, (size_t)set->num_errors * sizeof *sorted);
        set->held_out = error_summarise(sorted, set->num_errors);
    }
    memcpy(sorted, calibration->error, (size_t)calibration->num_errors * sizeof *sorted);
    calibration->held_out = error_summarise(sorted, calibration->num_errors);
    for (int32_t i = 0; i < calibration->num_sets; i++) {
        const struct network_set *set = &calibration->set[i];
        bool is_deepep = strncmp(set->collective->name, "deepep", 6) == 0;
        for (int64_t k = set->first_error; k < set->first_error + set->num_errors; k++) {
            if (is_deepep && calibration->ep[k] == EP_LARGEST) {
                sorted[count++] = calibration->error[k];
            }
        }
    }
    calibration->held_out_largest = error_summarise(sorted, count);
}

enum status calibrate_network(struct network_calibration *calibration,
                              const struct alltoall_rows *rows,
                              const struct network_options *options, struct error *error)
{
    size_t size = (size_t)rows->num_rows + 1;
    *calibration = (struct network_calibration){.error = calloc(size, sizeof(double)),
                                                .sorted = calloc(size, sizeof(double)),
                                                .ep = calloc(size, sizeof(int32_t))};
    if (calibration->error == NULL || calibration->sorted == NULL || calibration->ep == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    list_sets(calibration, rows, options->gpu);
    if (calibration->num_sets == 0) {
        return error_add(error, STATUS_INVALID,
                         "%s: no cluster, collective and format has %d rows that can be fitted%s%s",
                         options->table, NETWORK_ROWS_MIN, options->gpu != NULL ? " for " : "",
                         options->gpu != NULL ? options->gpu : "");
    }
    enum status status = STATUS_OK;
    for (int32_t i = 0; i < calibration->num_sets && status == STATUS_OK; i++) {
        status = calibrate_network_set(&calibration->set[i], rows, options, calibration, error);
    }
    if (status == STATUS_OK) {
        summarise(calibration);
    }
    return status;
}

void network_calibration_free(struct network_calibration *calibration)
{
    free(calibration->error);
    free(calibration->sorted);
    free(calibration->ep);
    *calibration = (struct network_calibration){0};
}

static void write_exchange(const struct network_set *set, enum exchange exchange, FILE *file)
{
    double value[NETWORK_CONSTANTS];
    memcpy(value, &set->constants, sizeof value);
    fprintf(file, "    %s:\n", network_exchange_name(exchange));
    for (int32_t i = 0; i < NETWORK_CONSTANTS; i++) {
        fprintf(file, "      %s: %.4g", network_constant_name(i), value[i]);
        if (set->high[i] > set->low[i]) {
            fprintf(file, " # 90 %% interval %.3g to %.3g", set->low[i], set->high[i]);
        }
        fputc('\n', file);
    }
}

/* The exchange of the entry that the given dispatch begins; NULL: it has none. */
static const struct network_set *set_of(const struct network_calibration *calibration,
                                        const struct network_set *first, enum exchange exchange)
{
    for (int32_t i = 0; i < calibration->num_sets; i++) {
        const struct network_set *set = &calibration->set[i];
        if (set->collective == first->collective && set->exchange == exchange &&
            strcmp(set->cluster, first->cluster) == 0 && strcmp(set->dtype, first->dtype) == 0) {
            return set;
        }
    }
    return NULL;
}

/* One entry of the list: all exchanges of a dispatch's collective and format. A single exchange, as
 * NCCL's all-to-all, serves both ways. */
static void write_entry(const struct network_calibration *calibration,
                        const struct network_set *first, const struct network_options *options,
                        FILE *file)
{
    static const char *const holdouts[] = {"a degree of EP at a time, else an eighth of the sizes",
                                           "an eighth of the sizes at a time", "a random share"};
    int32_t num_rows = 0;
    int32_t num_errors = 0;
    const char *separator = "";
    fprintf(file, "  - collective: %s\n    dtype: %s\n    library: \"%s\"\n    num_sms: %d\n",
            first->collective->name, first->dtype, first->library, (int)first->num_sms);
    for (int32_t i = 0; i < EXCHANGE_COUNT; i++) {
        const struct network_set *set = set_of(calibration, first, (enum exchange)i);
        if (set == NULL && i != EXCHANGE_COMBINE) {
            continue;
        }
        write_exchange(set != NULL ? set : first, (enum exchange)i, file);
        if (set != NULL) {
            num_rows += set->num_rows;
            memcpy(calibration->sorted + num_errors, calibration->error + set->first_error,
                   (size_t)set->num_errors * sizeof(double));
            num_errors += set->num_errors;
        }
    }
    struct error_summary all = error_summarise(calibration->sorted, num_errors);
    fprintf(file,
            "    fitted_on: \"%d rows of %s\"\n    holdout: \"%s; median / p90:", (int)num_rows,
            options->table, holdouts[options->holdout]);
    for (int32_t i = 0; i < EXCHANGE_COUNT; i++) {
        const struct network_set *set = set_of(calibration, first, (enum exchange)i);
        if (set != NULL) {
            fprintf(file, "%s %s %.1f / %.1f %% (%d)", separator,
                    network_exchange_name((enum exchange)i), 100.0 * set->held_out.median,
                    100.0 * set->held_out.p90, (int)set->num_errors);
            separator = ",";
        }
    }
    fprintf(file, "\"\n    num_rows: %d\n    error_median: %.4f\n    error_p90: %.4f\n",
            (int)num_rows, all.median, all.p90);
}

static enum status write_cluster(const struct network_calibration *calibration,
                                 const struct network_set *one,
                                 const struct network_options *options, const char *directory,
                                 struct error *error)
{
    char path[FILE_BYTES];
    int32_t gpus_per_node = 0;
    (void)snprintf(path, sizeof path, "%s/%s.yaml", directory, one->cluster);
    FILE *file = fopen(path, "w");
    if (file == NULL) {
        return error_add(error, STATUS_IO, "%s: %s", path, strerror(errno));
    }
    for (int32_t i = 0; i < calibration->num_sets; i++) {
        const struct network_set *set = &calibration->set[i];
        if (strcmp(set->cluster, one->cluster) == 0 && set->gpus_per_node > gpus_per_node) {
            gpus_per_node = set->gpus_per_node;
        }
    }
    fprintf(file,
            "# Constants of collectives, made by moesim calibrate --alltoall %s; their form is in\n"
            "# sim/collective/exchange.h. holdout tells their error on rows a fit had not seen.\n",
            options->table);
    fprintf(file, "source: \"constants: moesim calibrate --alltoall %s\"\ngpu: %s\n",
            options->table, one->gpu->name);
    fprintf(file, "gpus_per_node: %d\nfitted:\n", (int)gpus_per_node);
    for (int32_t i = 0; i < calibration->num_sets; i++) {
        const struct network_set *set = &calibration->set[i];
        if (strcmp(set->cluster, one->cluster) == 0 && set->exchange == EXCHANGE_DISPATCH) {
            write_entry(calibration, set, options, file);
        }
    }
    bool is_whole = ferror(file) == 0;
    is_whole = fclose(file) == 0 && is_whole;
    return is_whole ? STATUS_OK : error_add(error, STATUS_IO, "%s: %s", path, strerror(errno));
}

enum status calibrate_network_write(const struct network_calibration *calibration,
                                    const struct network_options *options, const char *directory,
                                    struct error *error)
{
    enum status status = STATUS_OK;
    if (mkdir(directory, 0777) != 0 && errno != EEXIST) {
        return error_add(error, STATUS_IO, "%s: %s", directory, strerror(errno));
    }
    for (int32_t i = 0; i < calibration->num_sets && status == STATUS_OK; i++) {
        const struct network_set *set = &calibration->set[i];
        bool is_first = true;
        for (int32_t k = 0; k < i; k++) {
            is_first = is_first && strcmp(calibration->set[k].cluster, set->cluster) != 0;
        }
        if (is_first) {
            status = write_cluster(calibration, set, options, directory, error);
        }
    }
    return status;
}
