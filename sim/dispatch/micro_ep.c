/*
 * micro_ep -- the split of lp, with tokens kept as near to where they are as it allows.
 *
 * Source: MicroMoE, arXiv 2511.16947 (MicroEP), from its abstract: token scheduling by a linear
 * program in every micro-batch, so that GPUs are loaded equally. The optimum of lp says how many
 * tokens each replica serves; it does not say which. Here a token stays on its GPU while the
 * replica there has room, else on its node, else it goes to the replica with the most room. The
 * order is ours. So compute is lp's and less is sent. Left out, as in lp: the counts' all-reduce
 * and the time to solve.
 */
#include "dispatch/split.h"

static enum status assign_level_near(void *state, const struct dispatch_input *input,
                                     struct route *route)
{
    (void)state; /* each micro-batch stands alone */
    struct split split;
    enum status status = split_open(&split, input, route);
    if (status == STATUS_OK) {
        status = split_level(&split, input->scratch);
    }
    return status == STATUS_OK ? split_deal_nearest(&split, input, route) : status;
}

const struct replica_dispatch dispatch_micro_ep = {
    .name = "micro_ep",
    .summary = "the split of lp; tokens stay on their GPU or node where it has room",
    .source = "arXiv 2511.16947 (MicroMoE), its objective; nearest first is ours",
    .assign = assign_level_near,
};
