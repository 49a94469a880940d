/* plan_launch_internal.h -- what the plan_launch*.c files share. */
#ifndef MOESIM_PLAN_LAUNCH_INTERNAL_H
#define MOESIM_PLAN_LAUNCH_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "plan_launch.h"

struct command {
    char *text;
    size_t used;
};

/* What the flags are made of. */
struct launch {
    const struct plan *plan;
    const struct plan_point *point;
    bool shared;
    bool prefill;
    int32_t replicas;       /* that compute attention alone */
    int32_t nodes;          /* of a group */
    int32_t prefill_tokens; /* of a replica and step; 0: none */
    int32_t sequences;      /* of a replica */
    int32_t mean_tokens;    /* of a request */
    int32_t max_tokens;     /* likewise, that is not refused */
};

void __attribute__((format(printf, 2, 3)))
launch_add(struct command *command, const char *format, ...);

/* Groups of GPUs that have different experts: all GPUs, where experts are whole. */
int32_t launch_expert_groups(const struct launch *launch);

/* On one GPU there is nobody to exchange tokens with, and nothing to balance;
 * nor where experts are cut over all GPUs. */
bool launch_spreads_experts(const struct launch *launch);

/* Whether the point places experts by their loads. */
bool launch_balances(const struct launch *launch);

/* A comment where the plan balances what the engine cannot. */
void launch_add_unbalanced(struct command *command, const struct launch *launch, const char *why);

void launch_write_trtllm(struct command *command, const struct launch *launch);

#endif
