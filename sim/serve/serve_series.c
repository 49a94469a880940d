/*
 * serve_series.c -- levels over time: how many wait and run, how full caches are, who is busy.
 *
 * A level is integrated whenever one is about to change. Windows begin as a fixed share of the time
 * in which requests come; when the run needs more of them than there are, two become one.
 */
#include <math.h>

#include "serve/serve_internal.h"

#define GRID 4096.0 /* a logarithm is rounded to it before it chooses a bin */

void series_open(struct serving *serving)
{
    int64_t last_ns = serving->result->request[serving->arrivals->count - 1].arrival_ns;
    serving->window_ns = last_ns / (SERIES_WINDOWS / 2) + 1;
}

static void merge_windows(struct serving *serving)
{
    for (int32_t pool = 0; pool < SERVE_POOLS; pool++) {
        struct serve_window *window = serving->series[pool].window;
        for (int32_t i = 0; i < SERIES_WINDOWS; i++) {
            struct serve_window sum = {0};
            for (int32_t part = 2 * i; part < 2 * i + 2 && part < SERIES_WINDOWS; part++) {
                sum.waiting += window[part].waiting;
                sum.running += window[part].running;
                sum.kv_fraction += window[part].kv_fraction;
                sum.busy += window[part].busy;
                sum.arrivals += window[part].arrivals;
                sum.read_tokens += window[part].read_tokens;
                sum.new_tokens += window[part].new_tokens;
            }
            window[i] = sum;
        }
    }
    serving->window_ns *= 2;
}

static int64_t window_at(struct serving *serving, int64_t time_ns)
{
    while (time_ns / serving->window_ns >= SERIES_WINDOWS) {
        merge_windows(serving);
    }
    return time_ns / serving->window_ns;
}

struct serve_window *series_now(struct serving *serving, enum serve_pool_kind pool)
{
    int64_t index = window_at(serving, serving->now_ns);
    return &serving->series[pool].window[index];
}

void series_advance(struct serving *serving)
{
    (void)window_at(serving, serving->now_ns);
    while (serving->series_ns < serving->now_ns) {
        int64_t index = serving->series_ns / serving->window_ns;
        int64_t end_ns = (index + 1) * serving->window_ns;
        end_ns = end_ns < serving->now_ns ? end_ns : serving->now_ns;
        double time_ns = (double)(end_ns - serving->series_ns);
        for (int32_t pool = 0; pool < SERVE_POOLS; pool++) {
            const struct series *series = &serving->series[pool];
            struct serve_window *window = &serving->series[pool].window[index];
            window->waiting += time_ns * (double)series->waiting;
            window->running += time_ns * (double)series->running;
            window->kv_fraction += time_ns * (double)series->blocks;
            window->busy += time_ns * (double)series->busy_groups;
        }
        serving->series_ns = end_ns;
    }
}

void series_gap(struct serving *serving, double gap_ns, int64_t count)
{
    double bin = gap_ns > 1.0 ? round(log2(gap_ns) * GAP_BINS_OCT * GRID) / GRID : 0.0;
    serving->gap_count[(int32_t)fmin(bin, GAP_BINS - 1)] += count;
    serving->gap_sum_ns += gap_ns * (double)count;
}
