/* registry.c -- every policy of the expert cache, in the order in which they are listed. */
#include "offload/offload.h"

#include <string.h>

#define POLICIES(ENTRY)                                                                            \
    ENTRY(offload_lru)                                                                             \
    ENTRY(offload_lfu)                                                                             \
    ENTRY(offload_lrfu)                                                                            \
    ENTRY(offload_pinned)                                                                          \
    ENTRY(offload_predicted)

#define DECLARE(symbol) extern const struct offload_policy symbol;
#define ADDRESS(symbol) &symbol,

POLICIES(DECLARE)

static const struct offload_policy *const policies[] = {POLICIES(ADDRESS)};

const struct offload_policy *const *offload_all(int32_t *count)
{
    *count = (int32_t)(sizeof policies / sizeof policies[0]);
    return policies;
}

const struct offload_policy *offload_find(const char *name)
{
    for (size_t i = 0; i < sizeof policies / sizeof policies[0]; i++) {
        if (strcmp(policies[i]->name, name) == 0) {
            return policies[i];
        }
    }
    return NULL;
}
