/* registry.c -- the network models, one line each. */
#include "net/net.h"

#include <string.h>

#define NETWORKS(X)   X(alpha_beta) X(flow)

#define DECLARE(name) extern const struct net_model net_##name;
NETWORKS(DECLARE)

#define LIST(name) &net_##name,
static const struct net_model *const all[] = {NETWORKS(LIST)};

const struct net_model *const *net_all(int32_t *count)
{
    *count = (int32_t)(sizeof all / sizeof all[0]);
    return all;
}

const struct net_model *net_find(const char *name)
{
    for (size_t index = 0; index < sizeof all / sizeof all[0]; index++) {
        if (strcmp(all[index]->name, name) == 0) {
            return all[index];
        }
    }
    return NULL;
}
