/*
 * trace_fit_learn.c -- the table of a layer by maximum likelihood.
 *
 * The log-likelihood of the choices in a layer, given what is chosen below, before and by the token
 * so far, is that of a multinomial logistic regression, so it is concave and a descent on gradients
 * cannot be caught anywhere. Each number has a step of its own, step / sqrt(sum of its squared
 * gradients) (AdaGrad: Duchi et al. 2011, J. Mach. Learn. Res. 12), so rows that are seldom seen
 * learn as fast as others; DECAY pulls those that are hardly ever seen to 0.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "trace_fit_internal.h"

#define DECAY         1e-4f /* of a table's gradient: a normal prior */
#define REQUEST_DECAY 1e-2f /* the same of the request's rows, which are added up first */
#define OPENING_DECAY 1e-2f /* the same of rows that only a request's first tokens learn */
#define REQUEST_ROWS  64    /* between two steps of the request's rows */
#define SQUARE_MIN    1e-6f
#define EXP_MIN       (-80.0f)

struct learner {
    const struct fit_rows *rows;
    float *value; /* [rows of the law][num_experts] of the layer */
    float *square;
    int32_t num_experts;
    int32_t base, request, opening, repeat, together, below, first; /* rows of the table */
    float step;
    float *bias;           /* [num_experts] of the request */
    float *common;         /* [num_experts] log-odds for all choices of a token */
    float *odds;           /* [num_experts] */
    float *slope;          /* [num_experts] gradient of one choice */
    float *slopes;         /* [num_experts] of all choices of a token */
    float *request_slopes; /* [num_experts] of REQUEST_ROWS tokens */
    float *scratch;        /* holds them */
};

/* e^x for x from EXP_MIN to 0, to 2e-7 of it: by halves of ln 2, Taylor's sum and the exponent's
 * bits. Not libm's, so that fits are the same everywhere, and so that it can be vectorised. */
static inline float exp_of(float x)
{
    union {
        int32_t bits;
        float value;
    } power;
    int32_t whole = (int32_t)(x * 1.44269504f - 0.5f);
    float rest = x - (float)whole * 0.693359375f + (float)whole * 2.12194440e-4f;
    float sum = 1.0f + rest / 7.0f;
    sum = 1.0f + rest / 6.0f * sum;
    sum = 1.0f + rest / 5.0f * sum;
    sum = 1.0f + rest / 4.0f * sum;
    sum = 1.0f + rest / 3.0f * sum;
    sum = 1.0f + rest / 2.0f * sum;
    sum = 1.0f + rest * sum;
    power.bits = (whole + 127) << 23;
    return power.value * sum;
}

static void add(float *sum, const float *row, int32_t count)
{
#pragma omp simd
    for (int32_t i = 0; i < count; i++) {
        sum[i] += row[i];
    }
}

/* One ascent of a row along slope times weight. */
static void climb(struct learner *learner, int32_t row, const float *slope, float weight,
                  float decay)
{
    float *value = learner->value + (int64_t)row * learner->num_experts;
    float *square = learner->square + (int64_t)row * learner->num_experts;
    const float step = learner->step;
#pragma omp simd
    for (int32_t i = 0; i < learner->num_experts; i++) {
        float gradient = slope[i] * weight - decay * value[i];
        square[i] += gradient * gradient;
        value[i] += step * gradient / sqrtf(square[i] + SQUARE_MIN);
    }
}

/* The same for one number of a row. */
static void climb_one(struct learner *learner, int32_t row, int32_t expert, float gradient)
{
    int64_t at = (int64_t)row * learner->num_experts + expert;
    learner->square[at] += gradient * gradient;
    learner->value[at] += learner->step * gradient / sqrtf(learner->square[at] + SQUARE_MIN);
}

/* slope[e] = (1 if chosen) - chance of e; experts chosen before have none. */
static void slope_set(struct learner *learner, const uint16_t *expert, int32_t k)
{
    float *odds = learner->odds;
    for (int32_t before = 0; before < k; before++) {
        odds[expert[before]] = -INFINITY;
    }
    const float most = coupled_best_score(odds, learner->num_experts);
#pragma omp simd
    for (int32_t i = 0; i < learner->num_experts; i++) { /* apart: a branch would stop vectors */
        odds[i] = odds[i] - most > EXP_MIN ? odds[i] - most : EXP_MIN;
    }
#pragma omp simd
    for (int32_t i = 0; i < learner->num_experts; i++) {
        odds[i] = exp_of(odds[i]);
    }
    for (int32_t before = 0; before < k; before++) {
        odds[expert[before]] = 0;
    }
    float sum = 0;
    for (int32_t i = 0; i < learner->num_experts; i++) {
        sum += odds[i];
    }
#pragma omp simd
    for (int32_t i = 0; i < learner->num_experts; i++) {
        learner->slope[i] = -odds[i] / sum;
    }
    learner->slope[expert[k]] += 1.0f;
}

/* expert, below, before: the choices here, in the layer below (or NULL) and of the token before (or
 * NULL). opening: the stretch of the request, or -1. */
static void token_learn(struct learner *learner, const uint16_t *expert, const uint16_t *below,
                        const uint16_t *before, int32_t opening)
{
    const int32_t top_k = learner->rows->top_k;
    const int32_t count = learner->num_experts;
    const size_t bytes = (size_t)count * sizeof(float);
    const float *value = learner->value;
    memcpy(learner->common, learner->bias, bytes);
    memset(learner->slopes, 0, bytes);
    if (opening >= 0) {
        add(learner->common, value + (int64_t)(learner->opening + opening) * count, count);
    }
    for (int32_t k = 0; k < top_k; k++) {
        if (before != NULL) {
            learner->common[before[k]] += value[(int64_t)learner->repeat * count + before[k]];
        }
        if (below != NULL) {
            add(learner->common, value + (int64_t)(learner->below + below[k]) * count, count);
        }
    }
    for (int32_t k = 0; k < top_k; k++) {
        memcpy(learner->odds, learner->common, bytes);
        add(learner->odds, value + (int64_t)(learner->base + k) * count, count);
        for (int32_t i = 0; i < k; i++) {
            add(learner->odds, value + (int64_t)(learner->together + expert[i]) * count, count);
        }
        if (k == 0 && below != NULL) {
            add(learner->odds, value + (int64_t)(learner->first + below[0]) * count, count);
        }
        if (k == 0 && before != NULL) {
            learner->odds[before[0]] += value[(int64_t)(learner->repeat + 1) * count + before[0]];
        }
        slope_set(learner, expert, k);
        add(learner->slopes, learner->slope, count);
        climb(learner, learner->base + k, learner->slope, 1.0f, 0.0f);
        for (int32_t i = 0; i < k; i++) {
            climb(learner, learner->together + expert[i], learner->slope, 1.0f, DECAY);
        }
        if (k == 0 && before != NULL) {
            climb_one(learner, learner->repeat + 1, before[0], learner->slope[before[0]]);
        }
        if (k == 0 && below != NULL) {
            climb(learner, learner->first + below[0], learner->slope, 1.0f, DECAY);
        }
    }
    if (opening >= 0) {
        climb(learner, learner->opening + opening, learner->slopes, 1.0f, OPENING_DECAY);
    }
    if (below != NULL) {
        for (int32_t k = 0; k < top_k; k++) {
            climb(learner, learner->below + below[k], learner->slopes, 1.0f, DECAY);
        }
    }
    for (int32_t k = 0; k < top_k && before != NULL; k++) {
        climb_one(learner, learner->repeat, before[k], learner->slopes[before[k]]);
    }
    add(learner->request_slopes, learner->slopes, count);
}

static void bias_set(struct learner *learner, const float *factor)
{
    memset(learner->bias, 0, (size_t)learner->num_experts * sizeof(float));
    for (int32_t f = 0; f < learner->rows->num_factors; f++) {
        const float *row = learner->value + (int64_t)(learner->request + f) * learner->num_experts;
#pragma omp simd
        for (int32_t i = 0; i < learner->num_experts; i++) {
            learner->bias[i] += factor[f] * row[i];
        }
    }
}

static void request_learn(struct learner *learner, int32_t layer, int32_t request)
{
    const struct fit_rows *rows = learner->rows;
    const float *factor = rows->factor + (int64_t)request * rows->num_factors;
    const int64_t begin = rows->begin[request];
    const int64_t end = rows->begin[request + 1];
    const uint16_t *here = rows->expert + (int64_t)layer * rows->num_tokens * rows->top_k;
    const uint16_t *below = layer > 0 ? here - rows->num_tokens * rows->top_k : NULL;
    bias_set(learner, factor);
    memset(learner->request_slopes, 0, (size_t)learner->num_experts * sizeof(float));
    for (int64_t token = begin; token < end; token++) {
        int64_t at = token * rows->top_k;
        token_learn(learner, here + at, below != NULL ? below + at : NULL,
                    token > begin ? here + at - rows->top_k : NULL, coupled_opening(token - begin));
        if (token + 1 == end || (token + 1 - begin) % REQUEST_ROWS == 0) {
            for (int32_t f = 0; f < rows->num_factors; f++) {
                climb(learner, learner->request + f, learner->request_slopes, factor[f],
                      REQUEST_DECAY);
            }
            bias_set(learner, factor);
            memset(learner->request_slopes, 0, (size_t)learner->num_experts * sizeof(float));
        }
    }
}

enum status fit_learn(float *value, float *square, const struct fit_rows *rows,
                      const struct coupled_law *law, int32_t layer, const int32_t *order,
                      float step)
{
    const int64_t cells = (int64_t)coupled_first_row(law, COUPLED_ROW_KINDS) * law->num_experts;
    size_t count = (size_t)rows->num_experts;
    struct learner learner = {
        .rows = rows,
        .value = value + layer * cells,
        .square = square + layer * cells,
        .num_experts = rows->num_experts,
        .base = coupled_first_row(law, COUPLED_BASE),
        .request = coupled_first_row(law, COUPLED_REQUEST),
        .opening = coupled_first_row(law, COUPLED_OPENING),
        .repeat = coupled_first_row(law, COUPLED_REPEAT),
        .together = coupled_first_row(law, COUPLED_TOGETHER),
        .below = coupled_first_row(law, COUPLED_BELOW),
        .first = coupled_first_row(law, COUPLED_FIRST),
        .step = step,
        .scratch = calloc(6 * count, sizeof(float)),
    };
    if (learner.scratch == NULL) {
        return STATUS_NO_MEMORY;
    }
    learner.bias = learner.scratch;
    learner.common = learner.bias + count;
    learner.odds = learner.common + count;
    learner.slope = learner.odds + count;
    learner.slopes = learner.slope + count;
    learner.request_slopes = learner.slopes + count;
    for (int32_t i = 0; i < rows->num_requests; i++) {
        request_learn(&learner, layer, order[i]);
    }
    free(learner.scratch);
    return STATUS_OK;
}
