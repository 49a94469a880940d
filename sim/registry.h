/*
 * registry.h -- the plug-ins of every kind under one view: names to list, to check and to suggest.
 */
#ifndef MOESIM_REGISTRY_H
#define MOESIM_REGISTRY_H

#include <stdint.h>

enum registry_kind {
    REGISTRY_ROUTERS,
    REGISTRY_DROPS,
    REGISTRY_STRATEGIES,
    REGISTRY_REPLICAS,
    REGISTRY_COLLECTIVES,
    REGISTRY_NETWORKS,
    REGISTRY_GPU_MODELS,
    REGISTRY_OFFLOAD,
    REGISTRY_KIND_COUNT,
};

struct registry_entry {
    const char *name;
    const char *summary;
    const char *source;
};

const char *registry_kind_name(enum registry_kind kind); /* "routers", ..., as moesim list says */

/* How many plug-ins of a kind there are. */
int32_t registry_count(enum registry_kind kind);

/* One of them, 0 .. registry_count - 1, in the order of the registry. */
struct registry_entry registry_entry(enum registry_kind kind, int32_t index);

#endif
