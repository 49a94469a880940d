/*
 * plan_launch.h -- the commands that start a plan's winner in serving engines.
 *
 * Flags as in vLLM's docs/serving/expert_parallel_deployment.md, SGLang's
 * docs/advanced_features/server_arguments.md @ 004813e1 and TensorRT-LLM's
 * examples/wide_ep/README.md @ 0e626045; of offloaded experts vLLM's vllm/config/offload.py @
 * 00593fa7, llama.cpp's tools/server/README.md @ 00dc8057 and KTransformers'
 * doc/en/Kimi-K2-Thinking.md. $MODEL, $MAIN (address of a group's first node), $NODE (number of
 * this node within its group), $GGUF and $CPU_WEIGHTS (converted weights), $CORES and $SOCKETS are
 * left to the reader. Only what a plan decides is set.
 */
#ifndef MOESIM_PLAN_LAUNCH_H
#define MOESIM_PLAN_LAUNCH_H

#include <stdbool.h>

#include "plan.h"

#define LAUNCH_BYTES 2048

enum launch_engine {
    LAUNCH_VLLM,
    LAUNCH_SGLANG,
    LAUNCH_TRTLLM,
    LAUNCH_LLAMA,
    LAUNCH_KTRANSFORMERS,
    LAUNCH_ENGINES
};

const char *launch_engine_name(enum launch_engine engine); /* "vLLM", ... */

/* The command for one node of a group of the winner's pool; of a shared deployment only
 * COST_DECODE. False where there is none to write. */
bool plan_launch(char command[LAUNCH_BYTES], const struct plan *plan,
                 const struct plan_answer *answer, enum launch_engine engine, enum cost_pool pool);

#endif
