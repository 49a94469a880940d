/*
 * trace_fit_gate.c -- how gate weights follow from scores.
 *
 * They are taken for softmax(scale * score) over the chosen experts. The scale is the one at which
 * the best expert's weight is on average as large as in the trace; it grows with the scale.
 */
#include <math.h>
#include <stdlib.h>

#include "rng.h"
#include "trace_fit_internal.h"

#define SAMPLE_ROWS     2048
#define SAMPLE_REQUESTS 256
#define SAMPLE_TOKENS   16 /* of each */
#define SCALE_MAX       50.0
#define BISECTIONS      40

/* The mean share of the best expert's weight; NaN where no row has one. */
static enum status share_measure(double *share, const struct trace *trace, struct error *error)
{
    int32_t expert[GENERATE_TOP_K_MAX];
    float weight[GENERATE_TOP_K_MAX];
    double sum = 0;
    int64_t count = 0;
    for (int32_t layer = 0; layer < trace->num_layers; layer++) {
        for (int64_t i = 0; i < SAMPLE_ROWS; i++) {
            int64_t row = i * trace->num_tokens / SAMPLE_ROWS;
            enum status status = trace_read(trace, expert, weight, layer, &row, 1, error);
            if (status != STATUS_OK) {
                return status;
            }
            double total = 0;
            for (int32_t k = 0; k < trace->top_k; k++) {
                total += (double)weight[k];
            }
            sum += total > 0 ? (double)weight[0] / total : 0;
            count += total > 0;
        }
    }
    *share = count > 0 ? sum / (double)count : (double)NAN;
    return STATUS_OK;
}

/* The same of scores[count][top_k], each less its best, under a scale. */
static double share_of_scale(const double *score, int64_t count, int32_t top_k, double scale)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++) {
        double total = 0;
        for (int32_t k = 0; k < top_k; k++) {
            total += exp(scale * score[i * top_k + k]);
        }
        sum += 1 / total;
    }
    return sum / (double)count;
}

/* Walks through requests of all domains in turn and keeps the scores of what is chosen. */
static void scores_sample(double *score, struct coupled_walk *walk, int32_t *expert, float *scores,
                          gsl_rng *rng)
{
    const struct coupled_law *law = walk->law;
    const struct coupled_tokens token = {.expert = expert,
                                         .score = scores,
                                         .stride = law->top_k,
                                         .score_stride = law->num_experts,
                                         .count = 1};
    for (int32_t request = 0; request < SAMPLE_REQUESTS; request++) {
        coupled_walk_begin(walk, request % law->num_domains, rng);
        for (int32_t i = 0; i < SAMPLE_TOKENS; i++) {
            coupled_walk_tokens(walk, &token, rng);
            for (int64_t layer = 0; layer < law->num_layers; layer++) {
                const float *own = scores + layer * law->num_experts;
                const int32_t *chosen = expert + layer * law->top_k;
                for (int32_t k = 0; k < law->top_k; k++) {
                    *score++ = (double)own[chosen[k]] - (double)own[chosen[0]];
                }
            }
        }
    }
}

enum status fit_gate(struct coupled_law *law, const struct trace *trace, uint64_t seed,
                     struct error *error)
{
    struct arena arena = {0};
    struct coupled_walk walk = {0};
    size_t choices = (size_t)law->num_layers * (size_t)law->top_k;
    size_t samples = (size_t)SAMPLE_REQUESTS * SAMPLE_TOKENS;
    double target = 0;
    enum status status = share_measure(&target, trace, error);
    if (status != STATUS_OK || !isfinite(target)) {
        return status;
    }
    struct generate_normal *normal = arena_alloc(&arena, 1, sizeof *normal);
    struct coupled_noise *noise = arena_alloc(&arena, 1, sizeof *noise);
    double *score = arena_alloc(&arena, samples * choices, sizeof *score);
    int32_t *expert = arena_alloc(&arena, choices, sizeof *expert);
    float *scores =
        arena_alloc(&arena, (size_t)law->num_layers * (size_t)law->num_experts, sizeof *scores);
    gsl_rng *rng = rng_stream(seed, "trace_fit.gate", 0);
    if (normal == NULL || noise == NULL || score == NULL || expert == NULL || scores == NULL ||
        rng == NULL || !coupled_walk_open(&walk, law, noise, normal)) {
        status = error_add(error, STATUS_NO_MEMORY, "no memory to fit a trace");
        goto done;
    }
    generate_normal_init(normal);
    coupled_noise_init(noise);
    scores_sample(score, &walk, expert, scores, rng);
    double low = 0;
    double high = SCALE_MAX;
    for (int32_t i = 0; i < BISECTIONS; i++) {
        double middle = (low + high) / 2;
        bool more =
            share_of_scale(score, (int64_t)samples * law->num_layers, law->top_k, middle) < target;
        low = more ? middle : low;
        high = more ? high : middle;
    }
    law->gate_scale = low;
done:
    coupled_walk_close(&walk);
    gsl_rng_free(rng);
    arena_free(&arena);
    return status;
}
