/*
 * whole_engine.h -- how far whole engines came out off, with nothing fitted to them.
 *
 * What kernels and exchanges are off by, each alone, says too little of an engine under load.
 */
#ifndef MOESIM_WHOLE_ENGINE_H
#define MOESIM_WHOLE_ENGINE_H

#include <stdbool.h>

struct whole_engine_error {
    double median;     /* relative */
    double low, high;  /* the same as factors on a step's time, low <= 1 <= high */
    const char *brief; /* beside a number */
    const char *words; /* a clause, with the number of rows */
};

/* Median of measured over predicted time to the first token, where the prediction has no engine's
 * host: the 560 rows that hosts are fitted to (scenarios/engines/fit.py), prompts of 1,024 and
 * 8,192 tokens, 4 to 256 requests outstanding. */
#define WHOLE_ENGINE_WITHOUT_HOST 1.35

/* is_cut: experts are cut over GPUs (parallel.expert_tp). */
const struct whole_engine_error *whole_engine_error(bool is_prefill, bool is_cut);

#endif
