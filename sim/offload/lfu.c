/*
 * lfu -- the expert that was used by the fewest lookups leaves.
 *
 * Counts begin with the run and are never halved, so what was popular long ago stays. A fetched
 * expert is always kept, whatever its count.
 */
#include "offload/offload.h"

static double count(const struct offload_view *view, int32_t expert)
{
    return (double)view->touches[expert];
}

const struct offload_policy offload_lfu = {
    .name = "lfu",
    .summary = "the expert that fewest lookups used leaves",
    .source = "for MoE layers: arXiv 2511.05814",
    .worth = count,
};
