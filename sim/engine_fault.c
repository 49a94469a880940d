/* engine_fault.c -- ranks that are slow for some steps: the shares in force, changed between steps.
 */
#include "engine_internal.h"

static bool in_force(const struct fault *fault, int64_t step)
{
    return step >= fault->from_step && step < fault->until_step;
}

void fault_begin_step(struct engine *engine)
{
    const struct scenario *scenario = engine->scenario;
    bool changes = false;
    for (int32_t i = 0; i < scenario->num_faults; i++) {
        const struct fault *fault = &scenario->fault[i];
        changes |= engine->step == fault->from_step || engine->step == fault->until_step;
    }
    for (int32_t rank = 0; rank < scenario->ep && changes; rank++) {
        double share[TIER_COUNT] = {1.0, 1.0};
        engine->compute_share[rank] = 1.0;
        for (int32_t i = 0; i < scenario->num_faults; i++) { /* of one rank's, all count */
            const struct fault *fault = &scenario->fault[i];
            if (fault->rank == rank && in_force(fault, engine->step)) {
                engine->compute_share[rank] *= fault->compute;
                share[TIER_SCALE_UP] *= fault->scale_up;
                share[TIER_SCALE_OUT] *= fault->scale_out;
            }
        }
        scenario->net->set_port(engine->net, rank, TIER_SCALE_UP, share[TIER_SCALE_UP]);
        scenario->net->set_port(engine->net, rank, TIER_SCALE_OUT, share[TIER_SCALE_OUT]);
    }
}
