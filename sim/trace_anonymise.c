/*
 * trace_anonymise.c -- a trace without what names people, machines and moments.
 *
 * What remains is the routing itself. It is not anonymous: the experts of the first layers follow
 * the token ids closely (OLMoE's layer 0 sends half of a token id's routings to its k favourites),
 * so whoever has the model can guess at texts. trace_edit's notes say so.
 */
#include <errno.h>
#include <gsl/gsl_randist.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "digest.h"
#include "rng.h"
#include "trace_tools.h"

/* A seed nobody knows. */
static enum status draw_seed(uint64_t *seed, struct error *error)
{
    return getrandom(seed, sizeof *seed, 0) == (ssize_t)sizeof *seed
               ? STATUS_OK
               : error_add(error, STATUS_IO, "no random numbers from the kernel: %s",
                           strerror(errno));
}

static void hide(struct trace_request *request, const struct trace_anonymise *options,
                 uint64_t seed, double first_arrival_s)
{
    if (options->drops_tags) {
        memset(request->tag, 0, sizeof request->tag);
    } else if (request->tag[0] != '\0') {
        uint64_t word = digest_text(digest_u64(DIGEST_START, seed), request->tag);
        memset(request->tag, 0, sizeof request->tag);
        (void)snprintf(request->tag, sizeof request->tag, "tag-%08llx",
                       (unsigned long long)(word >> 32));
    }
    double arrival_s = options->drops_arrivals ? 0.0 : request->arrival_s - first_arrival_s;
    if (options->arrival_round_s > 0.0) {
        arrival_s = round(arrival_s / options->arrival_round_s) * options->arrival_round_s;
    }
    request->arrival_s = arrival_s;
}

static enum status add_shuffled(struct trace_edit *edit, const struct trace_anonymise *options,
                                uint64_t seed, struct error *error)
{
    const struct trace *trace = &edit->trace[0];
    size_t count = (size_t)trace->num_requests;
    int64_t *order = calloc(count, sizeof *order);
    gsl_rng *rng = rng_stream(seed, "trace_anonymise", 0);
    enum status status = STATUS_OK;
    double first_arrival_s = trace->requests[0].arrival_s;
    if (order == NULL || rng == NULL) {
        status = error_add(error, STATUS_NO_MEMORY, "no memory for %zu requests", count);
    } else {
        for (size_t i = 0; i < count; i++) {
            double arrival_s = trace->requests[i].arrival_s;
            first_arrival_s = arrival_s < first_arrival_s ? arrival_s : first_arrival_s;
            order[i] = (int64_t)i;
        }
        gsl_ran_shuffle(rng, order, count, sizeof *order);
    }
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        status = trace_edit_add_request(edit, 0, &trace->requests[order[i]], 0, trace->num_tokens,
                                        error);
        if (status == STATUS_OK) {
            hide(&edit->requests[edit->num_requests - 1], options, seed, first_arrival_s);
        }
    }
    gsl_rng_free(rng);
    free(order);
    return status;
}

enum status trace_anonymise(struct trace_edit *edit, const char *path,
                            const struct trace_anonymise *options, struct error *error)
{
    uint64_t seed = options->seed;
    enum status status = trace_edit_open(edit, &path, 1, error);
    if (status == STATUS_OK && seed == 0) {
        status = draw_seed(&seed, error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    const struct trace *trace = &edit->trace[0];
    (void)snprintf(edit->source, sizeof edit->source, "%s",
                   options->source != NULL ? options->source : "anonymised");
    if (trace->num_requests > 0) {
        status = add_shuffled(edit, options, seed, error);
    } else {
        trace_edit_note(edit, "the trace has no requests: its rows stay in their order");
        status = trace_edit_add(edit, 0, 0, trace->num_tokens, error);
    }
    if (trace->num_steps > 0) {
        trace_edit_note(edit, "steps are left out: they say which requests ran together");
    }
    trace_edit_note(edit, "remains: the experts of every token. The first layers' follow the token "
                          "ids: who has the model can guess at texts");
    if (trace->num_requests > 0) {
        trace_edit_note(edit, "remains: lengths of prompts and answers%s",
                        options->drops_arrivals ? "" : ", and when requests came after the first");
    }
    return status;
}
