/* registry.c -- the collectives, one line each. */
#include "collective/collective.h"

#include <string.h>

#define NVLINK 1e11 /* bytes/s: DeepEP wants GPUs that are joined so, not PCIe */

#define COLLECTIVES(X)                                                                             \
    X(flat)                                                                                        \
    X(deepep_normal)                                                                               \
    X(deepep_low_latency)                                                                          \
    X(deepep_low_latency_rdma)                                                                     \
    X(hierarchical_2d)                                                                             \
    X(allgather_reducescatter)                                                                     \
    X(one_sided)                                                                                   \
    X(two_sided)

#define DECLARE(name) extern const struct collective collective_##name;
COLLECTIVES(DECLARE)

#define LIST(name) &collective_##name,
static const struct collective *const all[] = {COLLECTIVES(LIST)};

const struct collective *const *collective_all(int32_t *count)
{
    *count = (int32_t)(sizeof all / sizeof all[0]);
    return all;
}

const char *collective_usual(bool prefill)
{
    return prefill ? "deepep_normal" : "deepep_low_latency";
}

const struct collective *collective_find(const char *name)
{
    for (size_t index = 0; index < sizeof all / sizeof all[0]; index++) {
        if (strcmp(all[index]->name, name) == 0) {
            return all[index];
        }
    }
    return NULL;
}

const struct collective *collective_usual_on(const struct gpu_spec *gpu, bool prefill)
{
    bool has_nvlink = gpu->port[TIER_SCALE_UP].bytes_per_s >= NVLINK;
    return collective_find(has_nvlink ? collective_usual(prefill) : "allgather_reducescatter");
}
