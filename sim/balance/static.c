/*
 * static -- never change the placement.
 *
 * What every other strategy has to beat: with as many slots as experts this is linear placement.
 */
#include "balance/balance.h"

static enum status leave_alone(void *state, const struct balance_input *input,
                               int32_t *expert_of_slot, struct error *error)
{
    (void)state;
    (void)input;
    (void)expert_of_slot; /* holds the placement in force already */
    (void)error;
    return STATUS_OK;
}

const struct balance_strategy balance_static = {
    .name = "static",
    .summary = "never changes the placement",
    .source = "",
    .keeps_balanced = true,
    .settles = true,
    .plan = leave_alone,
};
