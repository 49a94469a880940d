/*
 * generate_requests.c -- which requests a generated trace has, and how long they are.
 *
 * Of a coupled law they come domain by domain, each as many in a row as it says; what a fraction
 * leaves is carried to the domain's next turn. So shares of domains are right after each cycle.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <gsl/gsl_randist.h>

#include "generate_coupled.h"
#include "rng.h"

#define FIRST_REQUESTS 256 /* room, at first */

static int32_t length_draw(const struct generate_lengths *lengths,
                           const struct generate_normal *normal, gsl_rng *rng)
{
    double length = lengths->median * exp(lengths->sigma * generate_normal_draw(normal, rng));
    if (length >= lengths->max) {
        return lengths->max;
    }
    return length < 1 ? 1 : (int32_t)lround(length);
}

static int32_t quantile_draw(const double quantiles[COUPLED_QUANTILES], gsl_rng *rng)
{
    double length = coupled_quantile(quantiles, gsl_rng_uniform(rng));
    return length < 1 ? 1 : (int32_t)lround(length);
}

/* Whose turn it is. */
struct turn {
    double carry[COUPLED_DOMAINS_MAX]; /* of a request */
    int32_t domain;
    int64_t left; /* requests of the domain, in a row */
};

static int32_t domain_next(struct turn *turn, const struct coupled_law *law)
{
    while (turn->left == 0) {
        turn->domain = (turn->domain + 1) % law->num_domains;
        double due = turn->carry[turn->domain] + law->domain[turn->domain].requests;
        turn->left = (int64_t)due;
        turn->carry[turn->domain] = due - (double)turn->left;
    }
    turn->left--;
    return turn->domain;
}

static bool make_room(struct generate_requests *requests, int64_t *capacity)
{
    if (requests->count < *capacity) {
        return true;
    }
    *capacity = *capacity == 0 ? FIRST_REQUESTS : 2 * *capacity;
    struct trace_request *request = realloc(requests->request, (size_t)*capacity * sizeof *request);
    requests->request = request != NULL ? request : requests->request;
    int32_t *domain = realloc(requests->domain, (size_t)*capacity * sizeof *domain);
    requests->domain = domain != NULL ? domain : requests->domain;
    return request != NULL && domain != NULL;
}

enum status generate_requests_draw(struct generate_requests *requests,
                                   const struct generate_preset *preset,
                                   const struct generate_options *options,
                                   const struct generate_normal *normal, gsl_rng *rng,
                                   struct error *error)
{
    const struct coupled_law *law = preset->coupled;
    struct turn turn = {.domain = -1};
    int64_t capacity = 0;
    double arrival_s = 0;
    *requests = (struct generate_requests){0};
    rng_restream(rng, options->seed, "generate.requests", 0);
    for (int64_t row = 0; row < options->num_tokens;) {
        if (!make_room(requests, &capacity)) {
            return error_add(error, STATUS_NO_MEMORY, "generate: no memory for requests");
        }
        struct trace_request *request = &requests->request[requests->count];
        int32_t domain = law != NULL ? domain_next(&turn, law) : 0;
        requests->domain[requests->count++] = domain;
        *request = (struct trace_request){.row_offset = row};
        if (law != NULL) {
            memcpy(request->tag, law->domain[domain].tag, sizeof request->tag);
            request->num_rows = quantile_draw(law->domain[domain].rows, rng);
            request->prompt_tokens = quantile_draw(law->domain[domain].prompt_tokens, rng);
        } else {
            memcpy(request->tag, preset->tag, sizeof request->tag);
            request->num_rows = length_draw(&preset->rows, normal, rng);
            request->prompt_tokens = length_draw(&preset->prompt_tokens, normal, rng);
        }
        if (options->request_rows > 0) {
            request->num_rows = options->request_rows;
        }
        arrival_s += gsl_ran_exponential(rng, 1 / preset->arrivals_per_s);
        arrival_s = round(arrival_s * 1e6) / 1e6; /* as requests.csv can hold it */
        request->arrival_s = arrival_s;
        if (request->num_rows > options->num_tokens - row) {
            request->num_rows = options->num_tokens - row;
        }
        row += request->num_rows;
    }
    return STATUS_OK;
}

void generate_requests_free(struct generate_requests *requests)
{
    free(requests->request);
    free(requests->domain);
    *requests = (struct generate_requests){0};
}
