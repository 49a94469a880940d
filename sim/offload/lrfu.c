/*
 * lrfu -- the expert that was used least of late leaves: counts that halve every 32 lookups.
 *
 * Between lru (a count forgotten at once) and lfu (never): Lee et al., IEEE Transactions on
 * Computers 50(12), 2001, with lambda = 1 / OFFLOAD_HALF_LIFE.
 */
#include "offload/offload.h"

static double recent_count(const struct offload_view *view, int32_t expert)
{
    return view->recent[expert];
}

const struct offload_policy offload_lrfu = {
    .name = "lrfu",
    .summary = "the expert least used of late leaves; counts halve every 32 lookups",
    .source = "Lee et al., IEEE Transactions on Computers 50(12), 2001",
    .worth = recent_count,
};
