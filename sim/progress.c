/* progress.c -- redraws one line on stderr, ten times a second at most. */
#include "progress.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define SHOW_AFTER_S   2.0
#define REDRAW_AFTER_S 0.1
#define BAR_CELLS      28

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void progress_begin(struct progress *progress, const char *verb, const char *unit)
{
    *progress = (struct progress){.verb = verb, .unit = unit, .begin_s = now_s()};
    progress->enabled = isatty(STDERR_FILENO) != 0;
}

void progress_update(struct progress *progress, int64_t done, int64_t total)
{
    if (!progress->enabled || total <= 0) {
        return;
    }
    double now = now_s();
    double elapsed_s = now - progress->begin_s;
    if (elapsed_s < SHOW_AFTER_S || now - progress->last_s < REDRAW_AFTER_S) {
        return;
    }
    progress->last_s = now;
    progress->shown = true;
    char bar[BAR_CELLS + 1];
    for (int cell = 0; cell < BAR_CELLS; cell++) {
        bar[cell] = cell * total < done * BAR_CELLS ? '#' : '.';
    }
    bar[BAR_CELLS] = '\0';
    double rate = (double)done / elapsed_s;
    double left_s = rate > 0.0 ? (double)(total - done) / rate : 0.0;
    fprintf(stderr, "\r\033[K%s [%s] %lld/%lld %s  %.3g/s  %.0f s left", progress->verb, bar,
            (long long)done, (long long)total, progress->unit, rate, left_s);
    fflush(stderr);
}

void progress_end(struct progress *progress)
{
    if (progress->shown) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
    }
}
