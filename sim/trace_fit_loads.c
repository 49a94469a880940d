/*
 * trace_fit_loads.c -- corrects which experts each domain prefers.
 *
 * A domain's log-odds of an expert lie, to first order, sum over f of mean[domain][f] request[f]
 * above everybody's. So where generated domains have excess[domain] = ln(generated / measured) too
 * much of it, request[f] is changed by minus
 *
 *     (M' W M + noise I)^-1 M' W excess
 *
 * with W what the domains have of the expert's tokens, and M [num_domains][num_factors] the
 * domains' means, both M and excess less their mean under W, which is left to the base rows. The
 * means are in units of what requests of a domain differ by: a factor in which they differ much
 * would make requests more unlike on the way. noise is what chance makes of such means, so
 * directions without more are held back (a ridge: Hoerl and Kennard 1970, Technometrics 12).
 */
#include <gsl/gsl_linalg.h>
#include <gsl/gsl_matrix.h>
#include <math.h>
#include <string.h>

#include "rng.h"
#include "trace_fit_internal.h"

#define PRIOR_TOKENS 32.0 /* of everybody's choices, added to a domain's measured and generated */
#define LOG_MAX      1.0  /* most that one correction may find of an expert too much */
#define SIGMA_MIN    0.01 /* of requests of a domain */

/* The domains' choices. */
static void wanted_take(struct fit_loads *loads, const struct fit_rows *rows)
{
    for (int32_t request = 0; request < rows->num_requests; request++) {
        double *wanted = loads->wanted + rows->domain[request] * loads->cells;
        for (int64_t layer = 0; layer < rows->num_layers; layer++) {
            const uint16_t *expert = rows->expert + layer * rows->num_tokens * rows->top_k;
            for (int64_t i = rows->begin[request] * rows->top_k;
                 i < rows->begin[request + 1] * rows->top_k; i++) {
                wanted[layer * rows->num_experts + expert[i]]++;
            }
        }
    }
}

/* Means of the domains in units of a request's sigma within its domain. */
static void means_take(struct fit_loads *loads, const struct coupled_law *law)
{
    double requests = 0;
    for (int32_t domain = 0; domain < law->num_domains; domain++) {
        requests += law->domain[domain].requests;
    }
    for (int32_t f = 0; f < law->num_factors; f++) {
        double variance = 0;
        for (int32_t domain = 0; domain < law->num_domains; domain++) {
            double sigma = law->domain[domain].sigma[f];
            variance += sigma * sigma * law->domain[domain].requests / requests;
        }
        loads->sigma[f] = fmax(SIGMA_MIN, sqrt(variance));
        for (int32_t domain = 0; domain < law->num_domains; domain++) {
            loads->mean[domain * law->num_factors + f] =
                law->domain[domain].mean[f] / loads->sigma[f];
        }
    }
}

enum status fit_loads_open(struct fit_loads *loads, const struct coupled_law *law,
                           const struct fit_rows *rows, struct error *error)
{
    size_t domains = (size_t)law->num_domains;
    size_t factors = (size_t)law->num_factors;
    *loads = (struct fit_loads){.cells = (int64_t)law->num_layers * law->num_experts,
                                .noise = (double)law->num_domains / rows->num_requests};
    size_t cells = domains * (size_t)loads->cells;
    loads->wanted = arena_alloc(&loads->arena, cells, sizeof *loads->wanted);
    loads->got = arena_alloc(&loads->arena, cells, sizeof *loads->got);
    loads->excess =
        arena_alloc(&loads->arena, domains * (size_t)law->num_experts, sizeof *loads->excess);
    loads->mean = arena_alloc(&loads->arena, domains * factors, sizeof *loads->mean);
    loads->normal = arena_alloc(&loads->arena, 1, sizeof *loads->normal);
    loads->count = arena_alloc(&loads->arena, (size_t)law->num_experts, sizeof *loads->count);
    if (loads->wanted == NULL || loads->got == NULL || loads->excess == NULL ||
        loads->mean == NULL || loads->normal == NULL || loads->count == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "no memory to fit a trace");
    }
    generate_normal_init(loads->normal);
    wanted_take(loads, rows);
    means_take(loads, law);
    return STATUS_OK;
}

void fit_loads_close(struct fit_loads *loads)
{
    arena_free(&loads->arena);
    *loads = (struct fit_loads){0};
}

/* Which domain each request of the trace is of follows from the stream that drew them. */
static enum status got_take(struct fit_loads *loads, const struct generate_preset *preset,
                            const struct generate_options *options, const struct trace *trace,
                            struct error *error)
{
    struct generate_requests requests = {0};
    const int32_t experts = trace->num_experts;
    gsl_rng *rng = rng_stream(options->seed, "generate.requests", 0);
    enum status status =
        rng == NULL ? error_add(error, STATUS_NO_MEMORY, "no memory to fit a trace")
                    : generate_requests_draw(&requests, preset, options, loads->normal, rng, error);
    memset(loads->got, 0,
           (size_t)(preset->coupled->num_domains * loads->cells) * sizeof *loads->got);
    for (int64_t i = 0; status == STATUS_OK && i < requests.count; i++) {
        double *got = loads->got + requests.domain[i] * loads->cells;
        for (int32_t layer = 0; status == STATUS_OK && layer < trace->num_layers; layer++) {
            memset(loads->count, 0, (size_t)experts * sizeof *loads->count);
            status = trace_count(trace, loads->count, layer, requests.request[i].row_offset,
                                 requests.request[i].num_rows, error);
            for (int32_t expert = 0; expert < experts; expert++) {
                got[(int64_t)layer * experts + expert] += (double)loads->count[expert];
            }
        }
    }
    gsl_rng_free(rng);
    generate_requests_free(&requests);
    return status;
}

/* Choices of a domain in a layer. */
static double choices(const double *cell, int32_t num_experts)
{
    double sum = 0;
    for (int32_t expert = 0; expert < num_experts; expert++) {
        sum += cell[expert];
    }
    return sum;
}

/* excess [num_experts] out: ln(generated / measured) of a domain's shares, drawn towards 0 where
 * its tokens are few; pool: everybody's measured shares. 0 where the domain was not generated. */
static void excess_take(double *excess, const double *got, const double *wanted, const double *pool,
                        int32_t num_experts, int32_t top_k)
{
    double got_choices = choices(got, num_experts);
    double wanted_choices = choices(wanted, num_experts);
    double prior = PRIOR_TOKENS * top_k;
    for (int32_t expert = 0; expert < num_experts; expert++) {
        double added = prior * pool[expert];
        double got_share = (got[expert] + added) / (got_choices + prior);
        double wanted_share = (wanted[expert] + added) / (wanted_choices + prior);
        double found = got_choices > 0 && pool[expert] > 0 ? log(got_share / wanted_share) : 0;
        excess[expert] = fmax(-LOG_MAX, fmin(LOG_MAX, found));
    }
}

static void pool_take(double *pool, const struct fit_loads *loads, int64_t first_cell,
                      int32_t num_domains, int32_t num_experts)
{
    double sum = 0;
    for (int32_t expert = 0; expert < num_experts; expert++) {
        pool[expert] = 0;
        for (int32_t domain = 0; domain < num_domains; domain++) {
            pool[expert] += loads->wanted[domain * loads->cells + first_cell + expert];
        }
        sum += pool[expert];
    }
    for (int32_t expert = 0; expert < num_experts; expert++) {
        pool[expert] /= sum;
    }
}

/* Adds M' W M and M' W excess of an expert to square and slope; wanted, excess: of its first
 * domain, the next ones stand cells and num_experts farther on. */
static void expert_sums(gsl_matrix *square, gsl_vector *slope, const struct fit_loads *loads,
                        const struct coupled_law *law, const double *wanted, const double *excess)
{
    const int32_t factors = law->num_factors;
    double all[FIT_FACTORS] = {0};
    double all_excess = 0;
    double tokens = 0;
    for (int64_t domain = 0; domain < law->num_domains; domain++) {
        tokens += wanted[domain * loads->cells];
    }
    for (int64_t domain = 0; domain < law->num_domains && tokens > 0; domain++) {
        double weight = wanted[domain * loads->cells] / tokens;
        all_excess += weight * excess[domain * law->num_experts];
        for (int32_t f = 0; f < factors; f++) {
            all[f] += weight * loads->mean[domain * factors + f];
        }
    }
    for (int64_t domain = 0; domain < law->num_domains && tokens > 0; domain++) {
        double weight = wanted[domain * loads->cells] / tokens;
        const double *mean = loads->mean + domain * factors;
        for (int32_t f = 0; f < factors; f++) {
            double apart = weight * (mean[f] - all[f]);
            *gsl_vector_ptr(slope, (size_t)f) +=
                apart * (excess[domain * law->num_experts] - all_excess);
            for (int32_t other = 0; other < factors; other++) {
                *gsl_matrix_ptr(square, (size_t)f, (size_t)other) +=
                    apart * (mean[other] - all[other]);
            }
        }
    }
}

/* value: the layer's first request row. */
static void layer_turn(float *value, gsl_matrix *square, gsl_vector *slope,
                       const struct fit_loads *loads, const struct coupled_law *law,
                       const double *wanted, double step)
{
    for (int32_t expert = 0; expert < law->num_experts; expert++) {
        gsl_matrix_set_identity(square);
        (void)gsl_matrix_scale(square, loads->noise);
        gsl_vector_set_zero(slope);
        expert_sums(square, slope, loads, law, wanted + expert, loads->excess + expert);
        (void)gsl_linalg_cholesky_decomp1(square); /* positive definite: the noise is above 0 */
        (void)gsl_linalg_cholesky_svx(square, slope);
        for (int32_t f = 0; f < law->num_factors; f++) {
            value[(int64_t)f * law->num_experts + expert] -=
                (float)(step * gsl_vector_get(slope, (size_t)f) / loads->sigma[f]);
        }
    }
}

enum status fit_loads_correct(struct fit_loads *loads, float *value,
                              const struct generate_preset *preset,
                              const struct generate_options *options, const struct trace *trace,
                              double step, struct error *error)
{
    const struct coupled_law *law = preset->coupled;
    const int64_t experts = law->num_experts;
    const int64_t rows = coupled_first_row(law, COUPLED_ROW_KINDS);
    double pool[GENERATE_EXPERTS_MAX];
    gsl_matrix *square = gsl_matrix_alloc((size_t)law->num_factors, (size_t)law->num_factors);
    gsl_vector *slope = gsl_vector_alloc((size_t)law->num_factors);
    enum status status = square == NULL || slope == NULL
                             ? error_add(error, STATUS_NO_MEMORY, "no memory to fit a trace")
                             : got_take(loads, preset, options, trace, error);
    for (int64_t layer = 0; status == STATUS_OK && layer < law->num_layers; layer++) {
        pool_take(pool, loads, layer * experts, law->num_domains, law->num_experts);
        for (int64_t domain = 0; domain < law->num_domains; domain++) {
            int64_t cell = domain * loads->cells + layer * experts;
            excess_take(loads->excess + domain * experts, loads->got + cell, loads->wanted + cell,
                        pool, law->num_experts, law->top_k);
        }
        int64_t row = layer * rows + coupled_first_row(law, COUPLED_REQUEST);
        layer_turn(value + row * experts, square, slope, loads, law,
                   loads->wanted + layer * experts, step);
    }
    gsl_vector_free(slope);
    gsl_matrix_free(square);
    return status;
}
