/*
 * random_run.h -- small random scenarios for laws that must hold in all of them.
 */
#ifndef MOESIM_RANDOM_RUN_H
#define MOESIM_RANDOM_RUN_H

#include "engine.h"
#include "scenario.h"
#include "trace.h"

struct random_run {
    struct scenario scenario;
    struct trace trace;
    struct fault fault; /* of the scenario, if it has one */
};

/* Fills scenario and trace from the stream of this round: every registry entry, 1 to 12 ranks in
 * nodes of 1 to 4, with and without dense layers, shared experts, tensor-parallel attention,
 * drops, redundancy and rebalancing. Release with random_run_free. */
void random_run_make(struct random_run *run, uint64_t round);
void random_run_free(struct random_run *run);

/* A trace in memory of the scenario's model: requests of random lengths, uniform experts or skewed
 * ones, a few rows not routed. */
void random_trace(struct trace *trace, const struct moe_model *model, int64_t num_tokens,
                  uint64_t round);

/* A GPU whose ports, memory and rates are round numbers. */
struct gpu_spec simple_gpu(void);

#endif
