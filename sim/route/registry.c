/* registry.c -- every router and every drop policy, in the order in which they are listed. */
#include "route/route.h"

#include <string.h>

#define ROUTERS(ENTRY)                                                                             \
    ENTRY(route_trace)                                                                             \
    ENTRY(route_softmax_topk)                                                                      \
    ENTRY(route_topk_softmax)                                                                      \
    ENTRY(route_deepseek_v3)                                                                       \
    ENTRY(route_deepseek_v2)                                                                       \
    ENTRY(route_loss_free)                                                                         \
    ENTRY(route_expert_choice)                                                                     \
    ENTRY(route_sinkhorn)                                                                          \
    ENTRY(route_quantile)                                                                          \
    ENTRY(route_hash)                                                                              \
    ENTRY(route_fastermoe)                                                                         \
    ENTRY(route_node_aware)

#define DROP_POLICIES(ENTRY)                                                                       \
    ENTRY(drop_position)                                                                           \
    ENTRY(drop_gate_weight)                                                                        \
    ENTRY(drop_switch)                                                                             \
    ENTRY(drop_gshard)                                                                             \
    ENTRY(drop_deepspeed)                                                                          \
    ENTRY(drop_batch_prioritised)                                                                  \
    ENTRY(drop_tutel)                                                                              \
    ENTRY(drop_device_limited)                                                                     \
    ENTRY(drop_reroute)

#define DECLARE_ROUTER(symbol)      extern const struct router symbol;
#define DECLARE_DROP_POLICY(symbol) extern const struct drop_policy symbol;
#define ADDRESS(symbol)             &symbol,

ROUTERS(DECLARE_ROUTER)
DROP_POLICIES(DECLARE_DROP_POLICY)

static const struct router *const routers[] = {ROUTERS(ADDRESS)};
static const struct drop_policy *const drop_policies[] = {DROP_POLICIES(ADDRESS)};

const struct router *const *route_all(int32_t *count)
{
    *count = (int32_t)(sizeof routers / sizeof routers[0]);
    return routers;
}

const struct router *route_find(const char *name)
{
    for (size_t i = 0; i < sizeof routers / sizeof routers[0]; i++) {
        if (strcmp(routers[i]->name, name) == 0) {
            return routers[i];
        }
    }
    return NULL;
}

const struct drop_policy *const *drop_all(int32_t *count)
{
    *count = (int32_t)(sizeof drop_policies / sizeof drop_policies[0]);
    return drop_policies;
}

const struct drop_policy *drop_find(const char *name)
{
    for (size_t i = 0; i < sizeof drop_policies / sizeof drop_policies[0]; i++) {
        if (strcmp(drop_policies[i]->name, name) == 0) {
            return drop_policies[i];
        }
    }
    return NULL;
}
