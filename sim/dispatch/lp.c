/*
 * lp -- tokens split over replicas so that the busiest rank has the fewest, exactly.
 *
 * Source: deepseek-ai/LPLB @ 9db27ad and SGLang's lplb_solver.py: per layer and batch, min M such
 * that the slots of an expert share its tokens and no rank has more than M. There an interior-point
 * solver runs five iterations (lp_fixed here) and each token draws its slot by the shares; ours is
 * the optimum in whole tokens, as a maximum flow (split_level.c), and slots take turns instead of
 * dice, so the split is met exactly. It shows the most that this dispatch can give. Left out: the
 * all-reduce of counts that every rank needs, and the time to solve.
 */
#include "dispatch/split.h"

static enum status assign_level(void *state, const struct dispatch_input *input,
                                struct route *route)
{
    (void)state; /* each batch stands alone */
    struct split split;
    enum status status = split_open(&split, input, route);
    if (status == STATUS_OK) {
        status = split_level(&split, input->scratch);
    }
    return status == STATUS_OK ? split_deal_mixed(&split, route, input->scratch) : status;
}

const struct replica_dispatch dispatch_lp = {
    .name = "lp",
    .summary = "tokens split over replicas, the fewest on the busiest rank (exact)",
    .source = "deepseek-ai/LPLB @ 9db27ad, its linear program; a maximum flow",
    .assign = assign_level,
};
