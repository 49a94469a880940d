/*
 * bench_clock.h -- seconds by a clock, and times in their order, for what is timed by hand.
 */
#ifndef MOESIM_BENCH_CLOCK_H
#define MOESIM_BENCH_CLOCK_H

#include <stdint.h>
#include <stdlib.h>
#include <time.h>

/* CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID. */
static inline double clock_s(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static inline int compare_times(const void *left, const void *right)
{
    double a = *(const double *)left;
    double b = *(const double *)right;
    return (a > b) - (a < b);
}

/* Sorts, the shortest first: time[count / 2] is the median. */
static inline void sort_times(double *time, int64_t count)
{
    qsort(time, (size_t)count, sizeof *time, compare_times);
}

#endif
