/*
 * case_study_chart.c -- a study's figure as rows and gnuplot commands.
 *
 * What a chart of a kind looks like is in reports/study/KIND.gp. Before it stand the names that
 * this figure gives: columns, labels, the lines there are and, where they are few, the ticks.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "case_study_internal.h"

#define SERIES_MAX 7 /* colours */
#define TICKS_MAX  12
#define TICK_GAP   0.07 /* of the axis */
#define PHONE_GAP  0.12

/* Appends text as a string of gnuplot's in single quotes. */
static void write_string(FILE *file, const char *before, const char *text)
{
    fprintf(file, "%s'", before);
    for (; *text != '\0'; text++) {
        fputs(*text == '\''                ? "''"
              : (unsigned char)*text < ' ' ? " "
                                           : (char[]){*text, '\0'},
              file);
    }
    fputs("'", file);
}

/* Different values of a column in the order of rows; returns their number, or most + 1. */
static int32_t collect(const char **value, int32_t most, const struct rows *rows, const char *name)
{
    int32_t count = 0;
    for (int64_t row = 0; row < rows->num_rows && count <= most; row++) {
        const char *text = rows_text(rows, row, name);
        int32_t i = 0;
        while (i < count && strcmp(value[i], text) != 0) {
            i++;
        }
        if (i == count && count < most) {
            value[count] = text;
        }
        count += i == count;
    }
    return count;
}

static int compare_numbers(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;
    return (left > right) - (left < right);
}

/* tick [count] in order, but for those that would touch the last. */
static void write_apart(FILE *file, const double *tick, int32_t count, bool is_log, double apart)
{
    double range = is_log ? log2(tick[count - 1] / tick[0]) : tick[count - 1] - tick[0];
    fprintf(file, "set xtics ('%.4g' %.17g", tick[0], tick[0]);
    for (int32_t i = 1, last = 0; i < count; i++) {
        double gap = is_log ? log2(tick[i] / tick[last]) : tick[i] - tick[last];
        if (gap >= apart * range) {
            fprintf(file, ", '%.4g' %.17g", tick[i], tick[i]);
            last = i;
        }
    }
    fputs(")\n", file);
}

/* Ticks where the points are, if they are few. */
static void write_ticks(FILE *file, const struct case_figure *from, const struct rows *rows)
{
    const char *text[TICKS_MAX];
    double tick[TICKS_MAX];
    int32_t count = collect(text, TICKS_MAX, rows, from->x);
    bool is_log = from->log == CHART_LOG_X || from->log == CHART_LOG_XY;
    if (from->kind != CHART_LINES || count > TICKS_MAX || count == 0) {
        return;
    }
    for (int32_t i = 0; i < count; i++) {
        tick[i] = strtod(text[i], NULL);
    }
    qsort(tick, (size_t)count, sizeof tick[0], compare_numbers);
    if (is_log && tick[0] <= 0.0) {
        return;
    }
    fputs("if (narrow) {\n", file);
    write_apart(file, tick, count, is_log, PHONE_GAP);
    fputs("} else {\n", file);
    write_apart(file, tick, count, is_log, TICK_GAP);
    fputs("}\n", file);
}

static void write_commands(FILE *file, const struct case_figure *from, const struct rows *rows,
                           int32_t num_series, const char *const *series, const char *chart)
{
    write_string(file, "x_name = ", from->x);
    write_string(file, "\ny_name = ", from->y);
    write_string(file, "\nset xlabel ", from->kind == CHART_BARS ? from->y_label : from->x_label);
    write_string(file, "\nset ylabel ", from->kind == CHART_BARS ? "" : from->y_label);
    fprintf(file, "\nnum_series = %d\narray names[%d]\n", (int)num_series,
            (int)(num_series > 0 ? num_series : 1));
    for (int32_t i = 0; i < num_series; i++) {
        fprintf(file, "names[%d]", (int)i + 1);
        write_string(file, " = ", series[i]);
        fputc('\n', file);
    }
    write_string(file, "series_name = ", from->series);
    fputc('\n', file);
    write_ticks(file, from, rows);
    fprintf(file, "log_x = %d\nlog_y = %d\n", from->log == CHART_LOG_X || from->log == CHART_LOG_XY,
            from->log == CHART_LOG_Y || from->log == CHART_LOG_XY);
    fputs(chart, file);
}

enum status case_study_chart(struct figure *figure, const struct case_study *study,
                             const struct case_figure *from, struct store *store, const char *chart,
                             struct arena *arena, struct error *error)
{
    const char *series[SERIES_MAX];
    char *commands = NULL;
    size_t bytes = 0;
    *figure = (struct figure){.title = from->title,
                              .caption = from->caption,
                              .empty = "No point has these numbers.",
                              .rows_min = 1,
                              .row_pixels = {[FIGURE_WIDE] = 30, [FIGURE_NARROW] = 34},
                              .table_open = from == study->figure,
                              .tells_model_error = true,
                              .sql = from->sql};
    memcpy(figure->name, from->name, sizeof figure->name);
    if (from->kind == CHART_LINES) {
        figure->row_pixels[FIGURE_WIDE] = figure->row_pixels[FIGURE_NARROW] = 0;
    }
    enum status status = figure_query(figure, store, NULL, arena, error);
    if (status != STATUS_OK) {
        return error_add(error, status, "%s:%d: figures", study->path, (int)from->line);
    }
    int32_t num_series =
        from->series[0] != '\0' ? collect(series, SERIES_MAX, &figure->rows, from->series) : 0;
    if (num_series > SERIES_MAX) {
        return error_add(error, STATUS_INVALID, "%s:%d: %s: more than %d lines in one figure",
                         study->path, (int)from->line, from->series, SERIES_MAX);
    }
    FILE *file = open_memstream(&commands, &bytes);
    if (file != NULL) {
        write_commands(file, from, &figure->rows, num_series, series, chart);
    }
    bool is_whole = file != NULL && fclose(file) == 0;
    figure->commands = is_whole ? arena_strdup(arena, commands) : NULL;
    free(commands);
    return figure->commands != NULL ? STATUS_OK
                                    : error_add(error, STATUS_NO_MEMORY, "out of memory");
}
