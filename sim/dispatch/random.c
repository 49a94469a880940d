/*
 * random -- every wish draws one of its expert's replicas, all equally likely.
 *
 * Source: SGLang @ b47eaa9, dynamic dispatch. Dice ignore where a token is and what others chose,
 * so a replica's share of its expert is even only on average: what the other dispatches do better
 * shows against this one.
 */
#include "dispatch/dispatch.h"

#include <assert.h>

#include "digest.h"
#include "rng.h"

/* A generator in the step's memory, because GSL's own would be allocated for every layer. Each
 * (step, layer, lane) has a stream of its own: in what order they come shifts no draw. */
static enum status open_stream(gsl_rng *rng, const struct dispatch_input *input)
{
    *rng = (gsl_rng){gsl_rng_mt19937, arena_take(input->scratch, 1, gsl_rng_mt19937->size)};
    if (rng->state == NULL) {
        return STATUS_NO_MEMORY;
    }
    uint64_t index = digest_u64(DIGEST_START, (uint64_t)input->batch->step);
    index = digest_u64(index, (uint64_t)input->layer);
    index = digest_u64(index, (uint64_t)input->lane);
    rng_restream(rng, input->seed, "dispatch.random", index);
    return STATUS_OK;
}

static enum status assign_drawn(void *state, const struct dispatch_input *input,
                                struct route *route)
{
    (void)state; /* a stream is a function of the seed and of where it is asked for */
    const struct placement *placement = input->placement;
    assert(route->num_experts == placement->num_experts);
    assert(route->num_tokens == input->batch->num_tokens);
    gsl_rng rng;
    if (open_stream(&rng, input) != STATUS_OK) {
        return STATUS_NO_MEMORY;
    }
    int64_t wishes = (int64_t)route->num_tokens * route->top_k;
    for (int64_t wish = 0; wish < wishes; wish++) {
        int32_t expert = route->expert[wish];
        if (expert == EXPERT_NOT_ROUTED || route->dropped[wish]) {
            route->slot[wish] = SLOT_DROPPED;
            continue;
        }
        int32_t replicas = placement_num_replicas(placement, expert);
        int32_t replica =
            replicas == 1 ? 0 : (int32_t)gsl_rng_uniform_int(&rng, (unsigned long)replicas);
        route->slot[wish] = placement->slot_of[placement->slot_begin[expert] + replica];
    }
    return STATUS_OK;
}

const struct replica_dispatch dispatch_random = {
    .name = "random",
    .summary = "every wish draws one of the replicas",
    .source = "SGLang @ b47eaa9, dynamic dispatch",
    .assign = assign_drawn,
};
