/* registry.c -- asks each folder's registry. */
#include "registry.h"

#include <assert.h>

#include "balance/balance.h"
#include "collective/collective.h"
#include "dispatch/dispatch.h"
#include "gpu/gpu.h"
#include "net/net.h"
#include "offload/offload.h"
#include "route/route.h"

static const char *const kind_names[REGISTRY_KIND_COUNT] = {
    [REGISTRY_ROUTERS] = "routers",         [REGISTRY_DROPS] = "drops",
    [REGISTRY_STRATEGIES] = "strategies",   [REGISTRY_REPLICAS] = "replicas",
    [REGISTRY_COLLECTIVES] = "collectives", [REGISTRY_NETWORKS] = "networks",
    [REGISTRY_GPU_MODELS] = "gpu-models",   [REGISTRY_OFFLOAD] = "caches",
};

const char *registry_kind_name(enum registry_kind kind)
{
    assert(kind < REGISTRY_KIND_COUNT);
    return kind_names[kind];
}

/* The entry at index if there is one, and how many there are. */
static struct registry_entry look(enum registry_kind kind, int32_t index, int32_t *count)
{
    struct registry_entry entry = {0};
    switch (kind) {
    case REGISTRY_ROUTERS: {
        const struct router *const *all = route_all(count);
        return index < *count ? (struct registry_entry){all[index]->name, all[index]->summary,
                                                        all[index]->source}
                              : entry;
    }
    case REGISTRY_DROPS: {
        const struct drop_policy *const *all = drop_all(count);
        return index < *count ? (struct registry_entry){all[index]->name, all[index]->summary,
                                                        all[index]->source}
                              : entry;
    }
    case REGISTRY_STRATEGIES: {
        const struct balance_strategy *const *all = balance_all(count);
        return index < *count ? (struct registry_entry){all[index]->name, all[index]->summary,
                                                        all[index]->source}
                              : entry;
    }
    case REGISTRY_REPLICAS: {
        const struct replica_dispatch *const *all = dispatch_all(count);
        return index < *count ? (struct registry_entry){all[index]->name, all[index]->summary,
                                                        all[index]->source}
                              : entry;
    }
    case REGISTRY_COLLECTIVES: {
        const struct collective *const *all = collective_all(count);
        return index < *count ? (struct registry_entry){all[index]->name, all[index]->summary,
                                                        all[index]->source}
                              : entry;
    }
    case REGISTRY_NETWORKS: {
        const struct net_model *const *all = net_all(count);
        return index < *count ? (struct registry_entry){all[index]->name, all[index]->summary,
                                                        all[index]->source}
                              : entry;
    }
    case REGISTRY_GPU_MODELS: {
        const struct gpu_model *const *all = gpu_all(count);
        return index < *count ? (struct registry_entry){all[index]->name, all[index]->summary,
                                                        all[index]->source}
                              : entry;
    }
    case REGISTRY_OFFLOAD: {
        const struct offload_policy *const *all = offload_all(count);
        return index < *count ? (struct registry_entry){all[index]->name, all[index]->summary,
                                                        all[index]->source}
                              : entry;
    }
    case REGISTRY_KIND_COUNT:
        break;
    }
    *count = 0;
    return entry;
}

int32_t registry_count(enum registry_kind kind)
{
    int32_t count = 0;
    (void)look(kind, INT32_MAX, &count);
    return count;
}

struct registry_entry registry_entry(enum registry_kind kind, int32_t index)
{
    int32_t count = 0;
    struct registry_entry entry = look(kind, index, &count);
    assert(index >= 0 && index < count);
    return entry;
}
