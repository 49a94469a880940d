/*
 * skew.c -- max / mean, coefficient of variation and Gini coefficient of a load vector.
 *
 *     gini = sum over i of (2 i - n - 1) x_(i) / (n sum x),  x ascending, i from 1
 *
 * The sums that can be exact are integers; only the last division rounds.
 */
#include "skew.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int compare_int64(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a;
    int64_t right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

static double coefficient_of_variation(const int64_t *load_tokens, int32_t num_experts, double mean)
{
    double squares = 0.0;
    for (int32_t expert = 0; expert < num_experts; expert++) {
        double deviation = (double)load_tokens[expert] - mean;
        squares += deviation * deviation;
    }
    return sqrt(squares / num_experts) / mean;
}

struct load_skew load_skew(const int64_t *load_tokens, int32_t num_experts, int64_t *scratch)
{
    assert(num_experts >= 1);
    struct load_skew skew = {.max_over_mean = (double)NAN, .cv = (double)NAN, .gini = (double)NAN};
    memcpy(scratch, load_tokens, (size_t)num_experts * sizeof *scratch);
    qsort(scratch, (size_t)num_experts, sizeof *scratch, compare_int64);
    assert(scratch[0] >= 0);
    int64_t sum = 0;
    int64_t weighted = 0; /* at most num_experts * sum: 2^16 * 2^47 */
    for (int32_t i = 0; i < num_experts; i++) {
        sum += scratch[i];
        weighted += (2 * (int64_t)i + 1 - num_experts) * scratch[i];
        skew.dead_experts += scratch[i] == 0;
    }
    if (sum > 0) {
        double mean = (double)sum / num_experts;
        skew.max_over_mean = (double)scratch[num_experts - 1] / mean;
        skew.cv = coefficient_of_variation(load_tokens, num_experts, mean);
        skew.gini = (double)weighted / ((double)num_experts * (double)sum);
    }
    return skew;
}

double load_contiguous_max_over_mean(const int64_t *load_tokens, int32_t num_experts,
                                     int32_t num_ranks)
{
    if (num_ranks < 1 || num_experts % num_ranks != 0) {
        return (double)NAN;
    }
    int32_t experts_per_rank = num_experts / num_ranks;
    int64_t sum = 0;
    int64_t max = 0;
    for (int32_t rank = 0; rank < num_ranks; rank++) {
        int64_t rank_tokens = 0;
        for (int32_t i = 0; i < experts_per_rank; i++) {
            rank_tokens += load_tokens[rank * experts_per_rank + i];
        }
        sum += rank_tokens;
        max = rank_tokens > max ? rank_tokens : max;
    }
    return sum > 0 ? (double)max * num_ranks / (double)sum : (double)NAN;
}
