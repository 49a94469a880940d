/* progress.c -- redraws one line on stderr, ten times a second at most; adds lines to a log. */
#include "progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define SHOW_AFTER_S   2.0
#define REDRAW_AFTER_S 0.1
#define LINE_AFTER_S   60.0 /* of a log */
#define BAR_CELLS      28
#define BAR_CELLS_MIN  4 /* fewer show nothing */
#define LINE_BYTES     160

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* What the words leave of a line: one that wraps could not be drawn over. */
static int bar_cells(int word_columns)
{
    struct winsize window = {0};
    bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 0;
    int left = known ? (int)window.ws_col - 1 - word_columns : BAR_CELLS;
    return left < BAR_CELLS_MIN ? 0 : left < BAR_CELLS ? left : BAR_CELLS;
}

void progress_begin(struct progress *progress, const char *verb, const char *unit)
{
    *progress = (struct progress){.verb = verb, .unit = unit, .begin_s = now_s()};
    progress->is_terminal = isatty(STDERR_FILENO) != 0;
}

void progress_update(struct progress *progress, int64_t done, int64_t total)
{
    double now = now_s();
    double elapsed_s = now - progress->begin_s;
    bool is_terminal = progress->is_terminal;
    double show_after_s = is_terminal ? SHOW_AFTER_S : LINE_AFTER_S;
    double again_after_s = is_terminal ? REDRAW_AFTER_S : LINE_AFTER_S;
    if (total <= 0 || elapsed_s < show_after_s || now - progress->last_s < again_after_s) {
        return;
    }
    progress->last_s = now;
    progress->shown = is_terminal;
    double rate = (double)done / elapsed_s;
    double left_s = done > 0 ? (double)(total - done) / rate : 0.0;
    char words[LINE_BYTES], bar[BAR_CELLS + 1];
    int length = snprintf(words, sizeof words, " %lld/%lld %s", (long long)done, (long long)total,
                          progress->unit);
    if (done > 0) { /* before, nobody knows */
        length += snprintf(words + length, sizeof words - (size_t)length, "  %.3g/s  %.0f s left",
                           rate, left_s);
    }
    if (!is_terminal) {
        fprintf(stderr, "moesim: %s%s\n", progress->verb, words);
        return;
    }
    int cells = bar_cells(length + (int)strlen(progress->verb) + 3);
    for (int cell = 0; cell < cells; cell++) {
        bar[cell] = cell * total < done * cells ? '#' : '.';
    }
    bar[cells] = '\0';
    fprintf(stderr, "\r\033[K%s", progress->verb);
    if (cells > 0) {
        fprintf(stderr, " [%s]", bar);
    }
    fputs(words, stderr);
    fflush(stderr);
}

void progress_end(struct progress *progress)
{
    if (progress->shown) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
    }
}
