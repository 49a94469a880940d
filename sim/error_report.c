/* error_report.c -- gathers rows, sums up their errors. */
#include "error_report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "odd_rows.h"

#define NOT_SKIPPED (-1)

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

double nearest_rank(const double *sorted, int64_t count, double share)
{
    int64_t rank = (int64_t)ceil(share * (double)count) - 1;
    return sorted[rank < 0 ? 0 : rank];
}

struct error_summary error_summarise(double *error, int64_t count)
{
    struct error_summary summary = {.num_rows = (int32_t)count};
    if (count == 0) {
        return summary;
    }
    for (int64_t i = 0; i < count; i++) {
        error[i] = fabs(error[i]);
    }
    qsort(error, (size_t)count, sizeof *error, compare_doubles);
    summary.median = nearest_rank(error, count, 0.5);
    summary.p90 = nearest_rank(error, count, 0.9);
    summary.max = error[count - 1];
    return summary;
}

void error_report_keys(struct error_report *report, const char *const *keys, int32_t num_keys)
{
    report->num_keys = num_keys < REPORT_KEYS_MAX ? num_keys : REPORT_KEYS_MAX;
    for (int32_t key = 0; key < report->num_keys; key++) {
        report->key[key] = keys[key];
    }
}

static bool is_of(const struct error_group *group, const char *const *value, int32_t num_keys)
{
    for (int32_t key = 0; key < num_keys; key++) {
        if (strcmp(group->value[key], value[key]) != 0) {
            return false;
        }
    }
    return true;
}

static enum status find_group(int32_t *found, struct error_report *report, const char *const *value,
                              struct error *error)
{
    int32_t index = 0;
    while (index < report->num_groups && !is_of(&report->group[index], value, report->num_keys)) {
        index++;
    }
    if (index == report->group_capacity) {
        int32_t capacity = 2 * report->group_capacity + 64;
        void *grown = realloc(report->group, (size_t)capacity * sizeof *report->group);
        if (grown == NULL) {
            return error_add(error, STATUS_NO_MEMORY, "out of memory");
        }
        report->group = grown;
        report->group_capacity = capacity;
    }
    if (index == report->num_groups) {
        struct error_group group = {0};
        for (int32_t key = 0; key < report->num_keys; key++) {
            group.value[key] = arena_strdup(&report->texts, value[key]);
            if (group.value[key] == NULL) {
                return error_add(error, STATUS_NO_MEMORY, "out of memory");
            }
        }
        report->group[report->num_groups++] = group;
    }
    *found = index;
    return STATUS_OK;
}

static enum status push_row(struct error_report *report, struct error_row row,
                            const char *const *value, struct error *error)
{
    enum status status = find_group(&row.group, report, value, error);
    if (status == STATUS_OK && report->num_rows == report->row_capacity) {
        int64_t capacity = 2 * report->row_capacity + 1024;
        void *grown = realloc(report->row, (size_t)capacity * sizeof *report->row);
        if (grown == NULL) {
            return error_add(error, STATUS_NO_MEMORY, "out of memory");
        }
        report->row = grown;
        report->row_capacity = capacity;
    }
    if (status == STATUS_OK) {
        report->row[report->num_rows++] = row;
    }
    return status;
}

enum status error_report_add(struct error_report *report, int64_t line, const char *const *value,
                             double predicted, double measured, bool is_fitted, struct error *error)
{
    const struct error_row row = {
        .line = line, .reason = NOT_SKIPPED, .predicted = predicted, .measured = measured};
    enum status status = push_row(report, row, value, error);
    if (status == STATUS_OK && is_fitted) {
        report->group[report->row[report->num_rows - 1].group].is_fitted = true;
    }
    return status;
}

enum status error_report_skip(struct error_report *report, int64_t line, const char *const *value,
                              const char *reason, struct error *error)
{
    return error_report_skip_odd(report, line, value, reason, NULL, error);
}

enum status error_report_skip_odd(struct error_report *report, int64_t line,
                                  const char *const *value, const char *reason, const char *words,
                                  struct error *error)
{
    int32_t index = 0;
    while (index < report->num_reasons &&
           strncmp(report->reason[index].text, reason, REPORT_TEXT_BYTES - 1) != 0) {
        index++;
    }
    if (index == REPORT_REASONS_MAX) {
        return error_add(error, STATUS_INVALID, "more than %d reasons to leave rows out",
                         REPORT_REASONS_MAX);
    }
    struct error_row row = {.line = line, .reason = index};
    row.words = words != NULL ? arena_strdup(&report->texts, words) : NULL;
    enum status status = words != NULL && row.words == NULL
                             ? error_add(error, STATUS_NO_MEMORY, "out of memory")
                             : push_row(report, row, value, error);
    if (status != STATUS_OK) {
        return status;
    }
    if (index == report->num_reasons) {
        (void)snprintf(report->reason[index].text, REPORT_TEXT_BYTES, "%s", reason);
        report->reason[index].first = report->num_rows - 1;
        report->num_reasons++;
    }
    report->reason[index].count++;
    report->group[report->row[report->num_rows - 1].group].num_skipped++;
    report->num_skipped++;
    return STATUS_OK;
}

static double relative_error(const struct error_row *row)
{
    return row->predicted / row->measured - 1.0;
}

enum status error_report_finish(struct error_report *report, struct error *error)
{
    int64_t *end = calloc((size_t)report->num_groups + 1, sizeof *end);
    double *sorted = calloc((size_t)report->num_rows + 1, sizeof *sorted);
    if (end == NULL || sorted == NULL) {
        free(end);
        free(sorted);
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    for (int64_t i = 0; i < report->num_rows; i++) {
        end[report->row[i].group + 1] += report->row[i].reason == NOT_SKIPPED;
    }
    for (int32_t group = 0; group < report->num_groups; group++) {
        end[group + 1] += end[group];
    }
    for (int64_t i = 0; i < report->num_rows; i++) { /* end[g]: where group g goes on */
        if (report->row[i].reason == NOT_SKIPPED) {
            sorted[end[report->row[i].group]++] = relative_error(&report->row[i]);
        }
    }
    for (int32_t group = 0; group < report->num_groups; group++) {
        int64_t begin = group > 0 ? end[group - 1] : 0;
        report->group[group].error = error_summarise(sorted + begin, end[group] - begin);
    }
    report->total = error_summarise(sorted, report->num_rows - report->num_skipped);
    free(end);
    free(sorted);
    return STATUS_OK;
}

/* A cell of CSV, in quotes where it has to be. */
static void write_cell(FILE *file, const char *text)
{
    if (strpbrk(text, ",\"\r\n") == NULL) {
        fputs(text, file);
        return;
    }
    putc('"', file);
    for (; *text != '\0'; text++) {
        if (*text == '"') {
            putc('"', file);
        }
        putc(*text, file);
    }
    putc('"', file);
}

void error_report_write_rows(const struct error_report *report, FILE *file)
{
    fputs("line", file);
    for (int32_t key = 0; key < report->num_keys; key++) {
        fprintf(file, ",%s", report->key[key]);
    }
    fputs(",measured,predicted,error,skipped\n", file);
    for (int64_t i = 0; i < report->num_rows; i++) {
        const struct error_row *row = &report->row[i];
        fprintf(file, "%lld", (long long)row->line);
        for (int32_t key = 0; key < report->num_keys; key++) {
            putc(',', file);
            write_cell(file, report->group[row->group].value[key]);
        }
        if (row->reason == NOT_SKIPPED) {
            fprintf(file, ",%.6g,%.6g,%.5f,\n", row->measured, row->predicted, relative_error(row));
        } else {
            fputs(",,,,", file);
            char why[REPORT_TEXT_BYTES + ODD_WORDS_BYTES];
            bool has_words = row->words != NULL;
            (void)snprintf(why, sizeof why, "%s%s%s", report->reason[row->reason].text,
                           has_words ? ": " : "", has_words ? row->words : "");
            write_cell(file, why);
            putc('\n', file);
        }
    }
}

void error_report_free(struct error_report *report)
{
    arena_free(&report->texts);
    free(report->group);
    free(report->row);
    *report = (struct error_report){0};
}
