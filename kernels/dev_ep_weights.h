/*
 * dev_ep_weights.h -- a rank's slots as a layer of their own.
 */
#ifndef MOESIM_DEV_EP_WEIGHTS_H
#define MOESIM_DEV_EP_WEIGHTS_H

#include "dev_memory.h"
#include "forward.h"

/* local = layer with slots first .. first + count - 1 as its experts: in place where they are
 * consecutive experts, else copied into memory (on the default stream). expert_of_slot is the
 * host's. STATUS_CUDA: memory or a copy failed. */
MUST_CHECK enum status dev_ep_hold_slots(struct moe_layer *local, const struct moe_layer *layer,
                                         const int32_t *expert_of_slot, int32_t first,
                                         int32_t count, struct dev_memory *memory);

#endif
