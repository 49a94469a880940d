/*
 * bench_random.c -- random numbers that are the same on every machine, and the wall clock.
 *
 * splitmix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators").
 */
#include "bench.h"

#include <math.h>
#include <time.h>

uint64_t bench_random(uint64_t *state)
{
    uint64_t mixed = *state += 0x9e3779b97f4a7c15u;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
    return mixed ^ mixed >> 31;
}

uint64_t bench_random_seed(uint64_t seed, uint64_t stream)
{
    uint64_t state = seed ^ 0x6d6f652d62656e63u;
    state = bench_random(&state) ^ stream;
    return bench_random(&state);
}

float bench_random_float(uint64_t *state)
{
    return (float)(bench_random(state) >> 40) * 0x1p-23f - 1.0f;
}

double bench_random_normal(uint64_t *state)
{
    double radius = ((double)(bench_random(state) >> 11) + 1.0) * 0x1p-53; /* in (0, 1] */
    double angle = (double)(bench_random(state) >> 11) * 0x1p-53;
    return sqrt(-2.0 * log(radius)) * cos(6.283185307179586 * angle);
}

double bench_now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}
