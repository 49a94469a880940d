/*
 * whole_engine.c -- how far whole engines came out off, with nothing fitted to them.
 *
 * Decode: time per token of mixtures of experts under load, whole or cut (moesim validate --engines
 * with aiconfigurator's silicon_sample.csv @ 095f58a), as often too long as too short. Prefill:
 * tokens a second that DeepSeek and SGLang published (moesim validate --serving), which later
 * kernels, each alone, promise too much of.
 */
#include "whole_engine.h"

static const struct whole_engine_error prefill = {
    0.20, 1.0, 1.20, "20 % of whole prefills",
    "whole prefills came out 20 % too fast in the median of 3 published rows"};

static const struct whole_engine_error decode = {
    0.08, 1.0 / 1.08, 1.08, "8 % of whole engines",
    "whole engines' time per token was 8 % off in the median of 296 published rows"};

static const struct whole_engine_error cut = {
    0.10, 1.0 / 1.10, 1.10, "10 % of whole engines",
    "whole engines' time per token was 10 % off in the median of 819 published rows whose experts "
    "are cut"};

const struct whole_engine_error *whole_engine_error(bool is_prefill, bool is_cut)
{
    return is_prefill ? &prefill : is_cut ? &cut : &decode;
}
