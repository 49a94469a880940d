/*
 * trace_fit_factors.c -- what each request is about, in few numbers.
 *
 * A request's taste is ln(its share of a layer's expert / everybody's share), smoothed; weighted by
 * the square root of the expert's share and of the request's tokens. The factors are the tastes'
 * principal components, found by subspace iteration (Golub and Van Loan, Matrix Computations, 8.2),
 * then turned and scaled so that over the requests their covariance is 1.
 */
#include <gsl/gsl_eigen.h>
#include <gsl/gsl_matrix.h>
#include <gsl/gsl_vector.h>
#include <math.h>
#include <string.h>

#include "rng.h"
#include "trace_fit_internal.h"

#define SMOOTHING       8.0 /* tokens of everybody's taste added to a request's */
#define TASTE_MAX       4.0
#define SUBSPACE_PASSES 20

/* All tastes and the subspace; in the arena of the rows. */
struct tastes {
    int64_t num_requests;
    int64_t width; /* num_layers * num_experts */
    int64_t num_factors;
    float *taste;       /* [num_requests][width] */
    double *direction;  /* [num_factors][width] orthonormal */
    double *projection; /* [num_requests][num_factors] */
};

static void counts_take(double *count, double *total, const struct fit_rows *rows, int32_t request)
{
    memset(count, 0, (size_t)(rows->num_layers * rows->num_experts) * sizeof *count);
    for (int64_t layer = 0; layer < rows->num_layers; layer++) {
        const uint16_t *expert = rows->expert + layer * rows->num_tokens * rows->top_k;
        for (int64_t i = rows->begin[request] * rows->top_k;
             i < rows->begin[request + 1] * rows->top_k; i++) {
            count[layer * rows->num_experts + expert[i]]++;
            total[layer * rows->num_experts + expert[i]]++;
        }
    }
}

/* count, total: [width] scratch. */
static void tastes_take(struct tastes *tastes, const struct fit_rows *rows, double *count,
                        double *total)
{
    const double mean_tokens = (double)rows->num_tokens / rows->num_requests;
    memset(total, 0, (size_t)tastes->width * sizeof *total);
    for (int32_t request = 0; request < rows->num_requests; request++) {
        counts_take(count, total, rows, request);
        for (int64_t i = 0; i < tastes->width; i++) {
            tastes->taste[request * tastes->width + i] = (float)count[i];
        }
    }
    memset(count, 0, (size_t)tastes->width * sizeof *count);
    for (int32_t request = 0; request < rows->num_requests; request++) {
        double tokens = (double)(rows->begin[request + 1] - rows->begin[request]);
        float *taste = tastes->taste + request * tastes->width;
        for (int64_t i = 0; i < tastes->width; i++) {
            double share = total[i] / (double)rows->num_tokens;
            double ratio = ((double)taste[i] + SMOOTHING * share) / ((tokens + SMOOTHING) * share);
            double value = share > 0 ? log(ratio) : 0;
            value = fmax(-TASTE_MAX, fmin(TASTE_MAX, value)) * sqrt(share);
            taste[i] = (float)value;
            count[i] += value * tokens / (double)rows->num_tokens;
        }
    }
    for (int32_t request = 0; request < rows->num_requests; request++) {
        double tokens = (double)(rows->begin[request + 1] - rows->begin[request]);
        double weight = sqrt(tokens / mean_tokens);
        float *taste = tastes->taste + request * tastes->width;
        for (int64_t i = 0; i < tastes->width; i++) {
            taste[i] = (float)(((double)taste[i] - count[i]) * weight);
        }
    }
}

static double dot(const double *a, const double *b, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

/* Gram and Schmidt, twice for accuracy. */
static void orthonormalize(struct tastes *tastes)
{
    for (int64_t f = 0; f < tastes->num_factors; f++) {
        double *own = tastes->direction + f * tastes->width;
        for (int64_t other = 0; other < 2 * f; other++) {
            const double *done = tastes->direction + other % f * tastes->width;
            double shared = dot(own, done, tastes->width);
            for (int64_t i = 0; i < tastes->width; i++) {
                own[i] -= shared * done[i];
            }
        }
        double norm = sqrt(dot(own, own, tastes->width));
        for (int64_t i = 0; i < tastes->width; i++) {
            own[i] = norm > 0 ? own[i] / norm : 0;
        }
    }
}

static void project(struct tastes *tastes)
{
    for (int64_t request = 0; request < tastes->num_requests; request++) {
        const float *taste = tastes->taste + request * tastes->width;
        for (int64_t f = 0; f < tastes->num_factors; f++) {
            const double *direction = tastes->direction + f * tastes->width;
            double sum = 0;
            for (int64_t i = 0; i < tastes->width; i++) {
                sum += (double)taste[i] * direction[i];
            }
            tastes->projection[request * tastes->num_factors + f] = sum;
        }
    }
}

static void subspace_find(struct tastes *tastes, gsl_rng *rng)
{
    for (int64_t i = 0; i < tastes->num_factors * tastes->width; i++) {
        tastes->direction[i] = gsl_rng_uniform(rng) - 0.5;
    }
    orthonormalize(tastes);
    for (int32_t pass = 0; pass < SUBSPACE_PASSES; pass++) {
        project(tastes);
        memset(tastes->direction, 0,
               (size_t)(tastes->num_factors * tastes->width) * sizeof *tastes->direction);
        for (int64_t request = 0; request < tastes->num_requests; request++) {
            const float *taste = tastes->taste + request * tastes->width;
            for (int64_t f = 0; f < tastes->num_factors; f++) {
                double share = tastes->projection[request * tastes->num_factors + f];
                double *direction = tastes->direction + f * tastes->width;
                for (int64_t i = 0; i < tastes->width; i++) {
                    direction[i] += share * (double)taste[i];
                }
            }
        }
        orthonormalize(tastes);
    }
    project(tastes);
}

/* Projections, freed of their weight by tokens, to mean 0 and covariance 1: along the eigenvectors
 * of their covariance, largest first. */
static enum status whiten(struct fit_rows *rows, const struct tastes *tastes, struct error *error)
{
    const size_t f_count = (size_t)tastes->num_factors;
    const double mean_tokens = (double)rows->num_tokens / rows->num_requests;
    double mean[FIT_FACTORS] = {0};
    double *value = tastes->projection;
    for (int32_t request = 0; request < rows->num_requests; request++) {
        double tokens = (double)(rows->begin[request + 1] - rows->begin[request]);
        for (size_t f = 0; f < f_count; f++) {
            double *own = &value[(size_t)request * f_count + f];
            *own /= sqrt(tokens / mean_tokens);
            mean[f] += *own / rows->num_requests;
        }
    }
    gsl_matrix *covariance = gsl_matrix_calloc(f_count, f_count);
    gsl_matrix *vector = gsl_matrix_alloc(f_count, f_count);
    gsl_vector *root = gsl_vector_alloc(f_count);
    gsl_eigen_symmv_workspace *work = gsl_eigen_symmv_alloc(f_count);
    bool complete = covariance != NULL && vector != NULL && root != NULL && work != NULL;
    for (int32_t request = 0; complete && request < rows->num_requests; request++) {
        const double *own = value + (size_t)request * f_count;
        for (size_t f = 0; f < f_count * f_count; f++) {
            double product = (own[f / f_count] - mean[f / f_count]) *
                             (own[f % f_count] - mean[f % f_count]) / rows->num_requests;
            *gsl_matrix_ptr(covariance, f / f_count, f % f_count) += product;
        }
    }
    if (complete) {
        (void)gsl_eigen_symmv(covariance, root, vector, work);
        (void)gsl_eigen_symmv_sort(root, vector, GSL_EIGEN_SORT_VAL_DESC);
    }
    for (int32_t request = 0; complete && request < rows->num_requests; request++) {
        const double *own = value + (size_t)request * f_count;
        for (size_t f = 0; f < f_count; f++) {
            double sum = 0;
            for (size_t i = 0; i < f_count; i++) {
                sum += (own[i] - mean[i]) * gsl_matrix_get(vector, i, f);
            }
            double scale = sqrt(fmax(gsl_vector_get(root, f), 1e-12));
            rows->factor[(size_t)request * f_count + f] = (float)(sum / scale);
        }
    }
    gsl_eigen_symmv_free(work);
    gsl_vector_free(root);
    gsl_matrix_free(vector);
    gsl_matrix_free(covariance);
    return complete ? STATUS_OK : error_add(error, STATUS_NO_MEMORY, "no memory to fit a trace");
}

enum status fit_factors(struct fit_rows *rows, uint64_t seed, struct error *error)
{
    struct arena arena = {0};
    struct tastes tastes = {.num_requests = rows->num_requests,
                            .width = (int64_t)rows->num_layers * rows->num_experts,
                            .num_factors = rows->num_factors};
    size_t width = (size_t)tastes.width;
    size_t requests = (size_t)rows->num_requests;
    size_t factors = (size_t)rows->num_factors;
    tastes.taste = arena_alloc(&arena, requests * width, sizeof *tastes.taste);
    tastes.direction = arena_alloc(&arena, factors * width, sizeof *tastes.direction);
    tastes.projection = arena_alloc(&arena, requests * factors, sizeof *tastes.projection);
    double *count = arena_alloc(&arena, width, sizeof *count);
    double *total = arena_alloc(&arena, width, sizeof *total);
    gsl_rng *rng = rng_stream(seed, "trace_fit.factors", 0);
    enum status status = STATUS_OK;
    if (tastes.taste == NULL || tastes.direction == NULL || tastes.projection == NULL ||
        count == NULL || total == NULL || rng == NULL) {
        status = error_add(error, STATUS_NO_MEMORY, "no memory to fit a trace");
    } else {
        tastes_take(&tastes, rows, count, total);
        subspace_find(&tastes, rng);
        status = whiten(rows, &tastes, error);
    }
    gsl_rng_free(rng);
    arena_free(&arena);
    return status;
}
