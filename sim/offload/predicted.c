/*
 * predicted -- the expert that the next lookup is least likely to use leaves.
 *
 * The likelihood is learnt while the run goes on: how often an expert was used by the lookup after
 * one that used the experts of the present lookup (offload_predict.h).
 */
#include "offload/offload.h"

static double next_use(const struct offload_view *view, int32_t expert)
{
    return view->chance[expert];
}

const struct offload_policy offload_predicted = {
    .name = "predicted",
    .summary = "the expert least likely to be used next leaves, by what followed so far",
    .source = "after Xue et al., MoE-Infinity, arXiv 2401.14361; first-order, learnt as it goes",
    .predicts = true,
    .may_refuse = true,
    .worth = next_use,
};
