/*
 * whole_engine.c -- how far whole engines came out off, with nothing fitted to them.
 *
 * Decode: time per token of mixtures of experts under load (moesim validate --engines with
 * aiconfigurator's silicon_sample.csv @ 095f58a), as often too long as too short. Prefill: tokens
 * a second that DeepSeek and SGLang published (moesim validate --serving), which later kernels,
 * each alone, promise too much of.
 */
#include "whole_engine.h"

static const struct whole_engine_error prefill = {
    1.0, 1.20, "20 % of whole prefills",
    "whole prefills came out 20 % too fast in the median of 3 published rows"};

static const struct whole_engine_error decode = {
    1.0 / 1.10, 1.10, "10 % of whole engines",
    "whole engines' time per token was 10 % off in the median of 250 published rows"};

const struct whole_engine_error *whole_engine_error(bool is_prefill)
{
    return is_prefill ? &prefill : &decode;
}
