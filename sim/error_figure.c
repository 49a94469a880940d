/* error_figure.c -- a script with its data, handed to gnuplot. */
#include "error_figure.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PERCENTILES 200

static const char *terminal_of(const char *path)
{
    const char *dot = strrchr(path, '.');
    if (dot != NULL && strcmp(dot, ".svg") == 0) {
        return "svg size 900,420 font 'sans-serif,12'";
    }
    return dot != NULL && strcmp(dot, ".png") == 0 ? "png size 900,420 font 'sans,10'" : NULL;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Text between single quotes: a quote within is doubled. */
static void write_quoted(FILE *script, const char *text)
{
    for (; *text != '\0'; text++) {
        fputs(*text == '\'' ? "''" : (const char[]){*text, '\0'}, script);
    }
}

static void write_script(FILE *script, const struct error_report *report, const double *sorted,
                         int64_t count, const char *path, const char *terminal)
{
    fprintf(script, "set terminal %s\nset output '", terminal);
    write_quoted(script, path);
    fputs("'\n$rows << END\n", script);
    for (int64_t i = 0; i < report->num_rows; i++) {
        const struct error_row *row = &report->row[i];
        if (row->reason < 0) {
            fprintf(script, "%.6g %.6g\n", row->measured, row->predicted / row->measured);
        }
    }
    fputs("END\n$share << END\n", script);
    for (int32_t i = 1; i <= PERCENTILES; i++) {
        double share = (double)i / PERCENTILES;
        fprintf(script, "%.6g %.6g\n", 100.0 * nearest_rank(sorted, count, share), 100.0 * share);
    }
    fprintf(
        script,
        "END\nset multiplot layout 1,2\nset grid lc rgb '#cccccc'\nunset key\n"
        "set logscale xy\nset format x '10^{%%T}'\nset title 'predicted over measured, %lld rows'\n"
        "set xlabel 'measured'\nset yrange [0.1:10]\n"
        "set ytics (0.1, 0.2, 0.5, 0.8, 1, 1.25, 2, 5, 10)\n"
        "plot $rows with points pt 7 ps 0.25 lc rgb '#1f77b4', 1 lc rgb '#000000'\n"
        "set title 'rows that are at most so far off'\nunset logscale y\nset format x '%%g'\n"
        "set xlabel 'absolute error, %%'\nset ylabel '%% of rows'\nset xrange [0.1:200]\n"
        "set yrange [0:100]\nset ytics 10\n"
        "set arrow from 0.1,50 to 200,50 nohead dt 3\n"
        "set arrow from 0.1,90 to 200,90 nohead dt 3\n"
        "plot $share with lines lw 2 lc rgb '#1f77b4'\nunset multiplot\n",
        (long long)count);
}

enum status error_figure_draw(const struct error_report *report, const char *path,
                              struct error *error)
{
    const char *terminal = terminal_of(path);
    int64_t count = report->num_rows - report->num_skipped;
    if (terminal == NULL) {
        return error_add(error, STATUS_INVALID, "%s: a figure's name ends in .svg or .png", path);
    }
    if (count == 0) {
        return error_add(error, STATUS_INVALID, "%s: no row was predicted, nothing to draw", path);
    }
    double *sorted = calloc((size_t)count, sizeof *sorted);
    if (sorted == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    int64_t used = 0;
    for (int64_t i = 0; i < report->num_rows; i++) {
        if (report->row[i].reason < 0) {
            sorted[used++] = fabs(report->row[i].predicted / report->row[i].measured - 1.0);
        }
    }
    qsort(sorted, (size_t)used, sizeof *sorted, compare_doubles);
    FILE *script = popen("gnuplot", "w");
    bool is_drawn = script != NULL;
    if (is_drawn) {
        write_script(script, report, sorted, used, path, terminal);
        is_drawn = pclose(script) == 0 && access(path, R_OK) == 0;
    }
    free(sorted);
    return is_drawn ? STATUS_OK
                    : error_add(error, STATUS_IO,
                                "%s: gnuplot did not draw it (is it installed, "
                                "and the directory there?)",
                                path);
}
