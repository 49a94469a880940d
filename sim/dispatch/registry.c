/* registry.c -- every replica dispatch, in the order in which they are listed. */
#include "dispatch/dispatch.h"

#include <string.h>

#define DISPATCHES(ENTRY)                                                                          \
    ENTRY(dispatch_round_robin)                                                                    \
    ENTRY(dispatch_locality)                                                                       \
    ENTRY(dispatch_random)                                                                         \
    ENTRY(dispatch_metro)                                                                          \
    ENTRY(dispatch_lp)                                                                             \
    ENTRY(dispatch_lp_fixed)                                                                       \
    ENTRY(dispatch_micro_ep)                                                                       \
    ENTRY(dispatch_llep)                                                                           \
    ENTRY(dispatch_harmoeny)

#define DECLARE(symbol) extern const struct replica_dispatch symbol;
#define ADDRESS(symbol) &symbol,

DISPATCHES(DECLARE)

static const struct replica_dispatch *const dispatches[] = {DISPATCHES(ADDRESS)};

const struct replica_dispatch *const *dispatch_all(int32_t *count)
{
    *count = (int32_t)(sizeof dispatches / sizeof dispatches[0]);
    return dispatches;
}

const struct replica_dispatch *dispatch_find(const char *name)
{
    for (size_t i = 0; i < sizeof dispatches / sizeof dispatches[0]; i++) {
        if (strcmp(dispatches[i]->name, name) == 0) {
            return dispatches[i];
        }
    }
    return NULL;
}
