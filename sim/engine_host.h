/*
 * engine_host.h -- what the host of an engine takes: presets of scenarios/engines/.
 *
 * Between a client and the GPUs stand HTTP, tokeniser, scheduler and the first token's way back. A
 * preset has one constant for them, milliseconds a request, fitted to times to the first token that
 * were published; scenarios/engines/fit.py makes the file and says how.
 */
#ifndef MOESIM_ENGINE_HOST_H
#define MOESIM_ENGINE_HOST_H

#include "model.h"
#include "status.h"

struct engine_host {
    char name[NAME_BYTES];
    char source[SOURCE_BYTES];
    double request_ms;
    double error_median; /* of TTFT with it, each model predicted by what the others gave */
    double error_p90;
};

/* Loads a preset by name, or a YAML path. With a model, by its preset's name, request_ms is what
 * rows of other models alone gave, for predictions of rows that it may have been fitted to; where
 * none was fitted to it, and with "", that of all rows. Errors as model_load. */
MUST_CHECK enum status engine_host_load(struct engine_host *host, const char *name_or_path,
                                        const char *without_model, struct error *error);

/* Up to how many tokens of those that share attention a step that decodes computes the shared
 * expert on a second stream, beside the routed ones (overlap.shared_tokens); 0: never, or an engine
 * that is not known. */
int32_t engine_shared_tokens(const char *engine);

#endif
