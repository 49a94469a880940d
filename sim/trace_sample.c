/* trace_sample.c -- some requests of a trace, drawn at random. */
#include <gsl/gsl_rng.h>

#include "rng.h"
#include "trace_tools.h"

enum status trace_sample(struct trace_edit *edit, const char *path, int64_t num_requests,
                         uint64_t seed, struct error *error)
{
    enum status status = trace_edit_open(edit, &path, 1, error);
    if (status != STATUS_OK) {
        return status;
    }
    const struct trace *trace = &edit->trace[0];
    if (trace->num_requests == 0) {
        return error_add(error, STATUS_INVALID,
                         "%s has no requests to draw from: moesim trace slice takes tokens",
                         trace->name);
    }
    if (num_requests < 1 || num_requests > trace->num_requests) {
        return error_add(error, STATUS_INVALID, "%s has %lld requests: %lld cannot be drawn",
                         trace->name, (long long)trace->num_requests, (long long)num_requests);
    }
    gsl_rng *rng = rng_stream(seed, "trace_sample", 0);
    if (rng == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "no memory for random numbers");
    }
    int64_t left = num_requests; /* selection sampling: Knuth, TAOCP 2, 3.4.2, algorithm S */
    for (int64_t i = 0; i < trace->num_requests && status == STATUS_OK; i++) {
        if (gsl_rng_uniform(rng) * (double)(trace->num_requests - i) < (double)left) {
            status =
                trace_edit_add_request(edit, 0, &trace->requests[i], 0, trace->num_tokens, error);
            left--;
        }
    }
    gsl_rng_free(rng);
    return status == STATUS_OK ? trace_edit_keep_steps(edit, error) : status;
}
