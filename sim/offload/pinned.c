/*
 * pinned -- the experts that the first lookups used most stay for good.
 *
 * Fiddler (Kamahori et al., arXiv 2402.07033) places by a profile of calibration data. Ours is the
 * beginning of the run itself (offload.profile_steps), so no expert is pinned for what only the
 * future shows. All others are used where they arrive and not kept.
 */
#include "offload/offload.h"

static double profiled_count(const struct offload_view *view, int32_t expert)
{
    return (double)view->profile_touches[expert];
}

const struct offload_policy offload_pinned = {
    .name = "pinned",
    .summary = "the experts that the first steps used most stay for good",
    .source = "Kamahori et al., Fiddler, arXiv 2402.07033; profile of the run's first steps",
    .may_refuse = true,
    .worth = profiled_count,
};
