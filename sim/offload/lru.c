/*
 * lru -- the expert that was not used for the longest time leaves.
 *
 * Mixtral-offloading (Eliseev and Mazur, arXiv 2312.17238) keeps the k last used experts of each
 * layer so. Experts of one lookup are of one age; of them the highest number leaves first.
 */
#include "offload/offload.h"

static double last_use(const struct offload_view *view, int32_t expert)
{
    return (double)view->last_lookup[expert];
}

const struct offload_policy offload_lru = {
    .name = "lru",
    .summary = "the least recently used expert leaves",
    .source = "Eliseev and Mazur, arXiv 2312.17238",
    .worth = last_use,
};
