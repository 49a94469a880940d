/* registry.c -- every balancing strategy, in the order in which they are listed. */
#include "balance/balance.h"

#include <string.h>

#define STRATEGIES(ENTRY)                                                                          \
    ENTRY(balance_static)                                                                          \
    ENTRY(balance_eplb)                                                                            \
    ENTRY(balance_round_robin)                                                                     \
    ENTRY(balance_zigzag)                                                                          \
    ENTRY(balance_vllm)                                                                            \
    ENTRY(balance_sglang)                                                                          \
    ENTRY(balance_deepseek_vec)                                                                    \
    ENTRY(balance_trtllm)                                                                          \
    ENTRY(balance_ascend_default)                                                                  \
    ENTRY(balance_swift)                                                                           \
    ENTRY(balance_elasticity_aware)                                                                \
    ENTRY(balance_trtllm_cooccurrence)                                                             \
    ENTRY(balance_omni)                                                                            \
    ENTRY(balance_shadow)                                                                          \
    ENTRY(balance_affinity)                                                                        \
    ENTRY(balance_smart)                                                                           \
    ENTRY(balance_biased)                                                                          \
    ENTRY(balance_flashlb)                                                                         \
    ENTRY(balance_drift_aware)

#define DECLARE(symbol) extern const struct balance_strategy symbol;
#define ADDRESS(symbol) &symbol,

STRATEGIES(DECLARE)

static const struct balance_strategy *const strategies[] = {STRATEGIES(ADDRESS)};

const struct balance_strategy *const *balance_all(int32_t *count)
{
    *count = (int32_t)(sizeof strategies / sizeof strategies[0]);
    return strategies;
}

const struct balance_strategy *balance_find(const char *name)
{
    for (size_t i = 0; i < sizeof strategies / sizeof strategies[0]; i++) {
        if (strcmp(strategies[i]->name, name) == 0) {
            return strategies[i];
        }
    }
    return NULL;
}

size_t balance_state_bytes(const struct balance_strategy *strategy, int32_t num_layers,
                           int32_t num_experts)
{
    return strategy->state_bytes +
           strategy->state_bytes_per_expert * (size_t)num_layers * (size_t)num_experts;
}
