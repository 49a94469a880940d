/*
 * calibrate_network_kinds.c -- what is known of collectives' constants before they are fitted.
 *
 * A table of one model cannot tell what depends on its dimensions. Those constants of DeepEP inside
 * a node come from aiconfigurator's tables of other models' (@ 095f58a51c4c, wideep_deepep_*_perf
 * of SGLang 0.5.12 on six GPUs: hidden 2048-7168, top-k 1-22, 8-512 experts, over NVLink, without
 * the rows of hidden 7168 and top-k 8): one value for all GPUs, which the fit leaves alone. With
 * constants fitted to DeepSeek-V3's rows they predict the others' 28784 times to a median of 5.1 %
 * and a p90 of 17 %, where 9.9 % and 38 % is reached without.
 */
#include <string.h>

#include "calibrate_network_internal.h"

static const struct network_kind kinds[] = {
    {"deepep_low_latency",
     EXCHANGE_DISPATCH,
     true,
     true,
     {[NETWORK_STARTUP] = {8e3, 1.0},
      [NETWORK_FAR_STARTUP] = {8e3, 0.0},
      [NETWORK_EXPERT] = {20.0, 0.0},
      [NETWORK_FAR_EXPERT] = {31.0, 1.0},
      [NETWORK_FILL] = {8e3, 2.0},
      [NETWORK_FILL_HALF] = {20e3, 3.0},
      [NETWORK_TOKEN] = {3.0, 2.0},
      [NETWORK_UP] = {0.75, 0.15},
      [NETWORK_OUT] = {0.93, 0.05},
      [NETWORK_COPY] = {450e9, 1.0},
      [NETWORK_BLOCKS] = {1.0, 0.0},
      [NETWORK_BLEND] = {4.0, 0.5}}},
    {"deepep_low_latency",
     EXCHANGE_COUNT,
     true,
     true,
     {[NETWORK_STARTUP] = {8e3, 1.0},
      [NETWORK_FAR_STARTUP] = {8e3, 0.0},
      [NETWORK_EXPERT] = {12.0, 0.0},
      [NETWORK_FAR_EXPERT] = {31.0, 1.0},
      [NETWORK_FILL] = {8e3, 2.0},
      [NETWORK_FILL_HALF] = {20e3, 3.0},
      [NETWORK_TOKEN] = {3.0, 2.0},
      [NETWORK_TOKEN_BYTE] = {0.1, 0.0},
      [NETWORK_UP] = {0.75, 0.15},
      [NETWORK_OUT] = {0.93, 0.05},
      [NETWORK_COPY] = {450e9, 1.0},
      [NETWORK_BLEND] = {4.0, 0.5}}},
    {"deepep_low_latency",
     EXCHANGE_COUNT,
     true,
     false,
     {[NETWORK_STARTUP] = {12e3, 1.0},
      [NETWORK_FAR_STARTUP] = {12e3, 0.0},
      [NETWORK_EXPERT] = {12.0, 0.0},
      [NETWORK_FAR_EXPERT] = {31.0, 1.0},
      [NETWORK_FILL] = {8e3, 2.0},
      [NETWORK_FILL_HALF] = {20e3, 3.0},
      [NETWORK_TOKEN] = {3.0, 2.0},
      [NETWORK_UP] = {0.75, 0.15},
      [NETWORK_OUT] = {0.93, 0.05},
      [NETWORK_COPY] = {450e9, 1.0},
      [NETWORK_BLEND] = {4.0, 0.5}}},
    {"deepep_normal",
     EXCHANGE_DISPATCH,
     false,
     true,
     {[NETWORK_STARTUP] = {35e3, 1.0},
      [NETWORK_FAR_STARTUP] = {40e3, 1.0},
      [NETWORK_NODE] = {3.7e3, 0.3},
      [NETWORK_FILL] = {8e3, 2.0},
      [NETWORK_FILL_HALF] = {20e3, 3.0},
      [NETWORK_TOKEN] = {3.0, 2.0},
      [NETWORK_TOKEN_BYTE] = {0.3, 0.0},
      [NETWORK_UP] = {0.75, 0.15},
      [NETWORK_OUT] = {0.93, 0.05},
      [NETWORK_COPY] = {800e9, 1.0},
      [NETWORK_OWN] = {2.0, 0.0},
      [NETWORK_EXTRA] = {4e3, 0.0},
      [NETWORK_BLEND] = {4.0, 0.5}}},
    {"deepep_normal",
     EXCHANGE_COUNT,
     false,
     true,
     {[NETWORK_STARTUP] = {25e3, 1.0},
      [NETWORK_FAR_STARTUP] = {40e3, 1.0},
      [NETWORK_NODE] = {3.7e3, 0.3},
      [NETWORK_FILL] = {8e3, 2.0},
      [NETWORK_FILL_HALF] = {20e3, 3.0},
      [NETWORK_TOKEN] = {3.0, 2.0},
      [NETWORK_TOKEN_BYTE] = {1.5, 0.0},
      [NETWORK_UP] = {0.75, 0.15},
      [NETWORK_OUT] = {0.93, 0.05},
      [NETWORK_COPY] = {800e9, 1.0},
      [NETWORK_OWN] = {3.0, 0.0},
      [NETWORK_EXTRA] = {2e3, 0.0},
      [NETWORK_BLEND] = {4.0, 0.5}}},
    {"deepep_normal", /* kernels of their own, of which only one model was measured */
     EXCHANGE_COUNT,
     false,
     false,
     {[NETWORK_STARTUP] = {35e3, 1.0},
      [NETWORK_FAR_STARTUP] = {40e3, 1.0},
      [NETWORK_NODE] = {3.7e3, 0.3},
      [NETWORK_FILL] = {8e3, 2.0},
      [NETWORK_FILL_HALF] = {20e3, 3.0},
      [NETWORK_TOKEN] = {3.0, 2.0},
      [NETWORK_UP] = {0.75, 0.15},
      [NETWORK_OUT] = {0.93, 0.05},
      [NETWORK_COPY] = {450e9, 1.0},
      [NETWORK_BLEND] = {4.0, 0.5}}},
    {"flat",
     EXCHANGE_COUNT,
     true,
     false,
     {[NETWORK_STARTUP] = {10e3, 1.0},
      [NETWORK_FAR_STARTUP] = {10e3, 0.0},
      [NETWORK_DOUBLING] = {1e3, 1.0},
      [NETWORK_FILL] = {8e3, 2.0},
      [NETWORK_FILL_HALF] = {200.0, 3.0},
      [NETWORK_UP] = {0.75, 0.15},
      [NETWORK_OUT] = {0.93, 0.05},
      [NETWORK_COPY] = {600e9, 1.0},
      [NETWORK_BLEND] = {4.0, 0.5}}},
    {"", /* any other: of one scale-up domain */
     EXCHANGE_COUNT,
     true,
     false,
     {[NETWORK_STARTUP] = {15e3, 1.0},
      [NETWORK_FAR_STARTUP] = {15e3, 0.0},
      [NETWORK_DOUBLING] = {1e3, 1.0},
      [NETWORK_FILL] = {8e3, 2.0},
      [NETWORK_FILL_HALF] = {20e3, 3.0},
      [NETWORK_TOKEN] = {3.0, 2.0},
      [NETWORK_UP] = {0.75, 0.15},
      [NETWORK_OUT] = {0.93, 0.0},
      [NETWORK_COPY] = {1500e9, 2.0},
      [NETWORK_BLEND] = {2.5, 0.5}}},
};

const struct network_kind *network_kind_of(const struct network_set *set)
{
    size_t last = sizeof kinds / sizeof kinds[0] - 1;
    for (size_t i = 0; i < last; i++) {
        bool is_of = kinds[i].exchange == EXCHANGE_COUNT || kinds[i].exchange == set->exchange;
        is_of = is_of && !(kinds[i].in_node && set->spans_nodes);
        if (is_of && strcmp(kinds[i].collective, set->collective->name) == 0) {
            return &kinds[i];
        }
    }
    return &kinds[last];
}
