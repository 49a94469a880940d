/*
 * scenario.h -- what to simulate: one YAML file, checked whole before the first event.
 *
 * ARCHITECTURE.md, "Scenario", lists every key with its unit and default. Presets are resolved
 * while loading, so a loaded scenario is complete: it needs no file but its trace.
 */
#ifndef MOESIM_SCENARIO_H
#define MOESIM_SCENARIO_H

#include <stdbool.h>
#include <stdint.h>

#include "balance/balance.h"
#include "batch.h"
#include "cluster.h"
#include "collective/collective.h"
#include "dispatch/dispatch.h"
#include "gpu/gpu.h"
#include "memory.h"
#include "model.h"
#include "net/net.h"
#include "offload/offload.h"
#include "precision.h"
#include "price.h"
#include "route/route.h"
#include "serve/serving_config.h"
#include "status.h"

#define PATH_BYTES 1024
#define TEXT_BYTES 1024

enum phase {
    PHASE_DECODE,  /* one new token a sequence and step */
    PHASE_PREFILL, /* whole prompts of context_tokens tokens */
};

/* A rank that is slow from one step until before another: shares of what it does when sound. */
struct fault {
    int64_t from_step;
    int64_t until_step;
    int32_t rank;
    double compute;  /* of all its compute */
    double scale_up; /* of its ports, both ways */
    double scale_out;
};

struct scenario {
    char name[NAME_BYTES]; /* file name without .yaml */
    char question[TEXT_BYTES];
    struct moe_model model;
    struct cluster cluster;
    int32_t ep; /* ranks, each a GPU, that share the experts of a layer: those that are simulated */
    int32_t expert_tp; /* ranks that every expert is cut over, by its intermediate size; 1: none */
    int32_t tp;        /* tensor-parallel degree of attention and dense FFN; 1: data-parallel */
    enum phase phase;
    int32_t context_tokens; /* decode: KV tokens of every sequence, 0: from the trace's requests;
                               prefill: prompt length */

    char trace_path[PATH_BYTES];   /* resolved; "" when generated or dense */
    char trace_preset[NAME_BYTES]; /* generator preset instead of a path; "" : none */
    int64_t trace_tokens;          /* tokens to generate */
    int32_t tokens_per_rank;
    enum batching batching;
    int64_t num_steps; /* 0: as many as the trace fills */

    const struct router *router;
    double capacity_factor; /* 0: never drop */
    enum capacity_scope capacity_scope;
    const struct drop_policy *drop;
    struct route_settings routing; /* the rest; what the engine knows better is filled in by
                                      scenario_route_settings */

    const struct balance_strategy *strategy;
    int32_t redundant_experts;
    int32_t *initial_expert_of_slot;  /* [MoE layers][slots] placement.initial; NULL: slot s holds
                                         expert s % experts. Owned */
    int32_t rebalance_interval_steps; /* 0: never */
    int32_t window_steps;             /* load window; 0: the whole interval */

    const struct replica_dispatch *replica;
    const struct collective *collective;
    const struct collective *prefill_collective; /* of serving steps that read prompts beside
                                                    answers; NULL: the same */
    int32_t num_sms; /* that the collective takes while it runs; 0: its own number */
    enum precision dispatch_precision;
    enum precision combine_precision;
    int32_t micro_batches; /* parts of a step that take turns on the GPU; 1: no overlap */
    int32_t chunks; /* parts of a micro-batch that travel to the experts one by one; 1: whole */
    int32_t shared_tokens; /* steps that decode at most so many tokens where attention is shared
                              compute the shared expert beside the routed ones; 0: none do */

    const struct net_model *net;
    const struct gpu_model *gpu_model;
    char kernels[NAME_BYTES];
    struct measured_table *measured; /* compute.measured: what cluster.gpu points to; owned */
    double memory_fraction;          /* of HBM that weights and KV cache may fill */

    struct offload_settings offload; /* of experts; home OFFLOAD_NOTHING: none */

    struct fault *fault; /* [num_faults] owned */
    int32_t num_faults;

    struct serving_config *serving; /* who comes; NULL: not said. Owned */

    struct price price;
    uint64_t seed;

    char *text; /* canonical YAML of all keys after inherits and overrides; owned */
};

static inline int32_t scenario_num_sms(const struct scenario *scenario)
{
    return scenario->num_sms > 0 ? scenario->num_sms : scenario->collective->num_sms;
}

/* Loads path (a file, or the name of one in scenarios/studies), follows inherits, applies overrides
 * ("placement.strategy=static") and checks every key, range and cross-reference but the trace's
 * content. All problems are reported, each with file and line (overrides: "--set ..."). Release
 * with scenario_free, also after a failure. */
MUST_CHECK enum status scenario_load(struct scenario *scenario, const char *path,
                                     const char *const *overrides, int32_t num_overrides,
                                     struct error *error);
void scenario_free(struct scenario *scenario); /* safe on a zeroed struct, and twice */

/* Takes those of the GPU's constants that scenario->kernels, the experts' format, the exchange and
 * the phase ask for (gpu/fitted_phases.h). False: the GPU has none such. */
bool scenario_choose_kernels(struct scenario *scenario);

/* What the deployment needs on its fullest GPU (memory.h). kv_tokens_per_rank is the sum over the
 * rank's sequences. */
struct memory_use scenario_memory(const struct scenario *scenario, int64_t kv_tokens_per_rank);

/* STATUS_INVALID, saying by how much, when it does not fit. */
MUST_CHECK enum status scenario_check_memory(const struct scenario *scenario,
                                             int64_t kv_tokens_per_rank, struct error *error);

/* As written in scenarios. */
const char *offload_home_name(enum offload_home home);
const char *offload_misses_name(enum offload_misses choice);

/* Experts of a layer that a GPU serves: what offload.slots is a part of. */
static inline int32_t scenario_experts_per_rank(const struct scenario *scenario)
{
    return (scenario->model.num_experts + scenario->redundant_experts) / scenario->ep;
}

/* Ranks that hold the same experts, each its part of them, are a group: a rank to whatever places
 * experts or sends tokens to them. */
static inline int32_t scenario_expert_groups(const struct scenario *scenario)
{
    return scenario->ep / scenario->expert_tp;
}

/* Groups of a node; 1 where one spans several. */
static inline int32_t scenario_groups_per_node(const struct scenario *scenario)
{
    int32_t groups = scenario->cluster.gpus_per_node / scenario->expert_tp;
    return groups > 1 ? groups : 1;
}

/* Nodes of so many groups. */
static inline int32_t scenario_group_nodes(const struct scenario *scenario)
{
    return (scenario_expert_groups(scenario) - 1) / scenario_groups_per_node(scenario) + 1;
}

/* Ranks that gate and shared experts of a layer have in common. Where every token comes to every
 * rank, an all-reduce has left the tokens of all that share attention on each, and shared experts
 * are cut as attention is, whether routed ones are or not (vLLM and SGLang in deepseek_v2.py,
 * TensorRT-LLM in modeling_deepseekv3.py); where tokens are sent to their experts, as by DeepEP, or
 * take turns, a rank has its own and shared experts are whole. */
static inline int32_t scenario_gate_peers(const struct scenario *scenario)
{
    const bool is_left_on_all = scenario->collective != NULL && scenario->collective->goes_to_all &&
                                scenario->micro_batches == 1 && scenario->chunks == 1;
    return scenario->expert_tp > 1 || is_left_on_all ? scenario->tp : 1;
}

#define SHARING_BYTES 64

/* How so many GPUs share experts, in words: "EP8"; "TP8", where every expert is cut over all;
 * "EP2xTP4". expert_tp below 1 counts as 1. Returns text. */
const char *scenario_sharing(char text[SHARING_BYTES], int32_t ep, int32_t expert_tp);

/* Weight bytes of an expert on each rank of its group. */
static inline int64_t scenario_expert_bytes(const struct scenario *scenario)
{
    return model_expert_bytes(&scenario->model) / scenario->expert_tp;
}

/* At what rate an offloaded expert comes to a GPU while no other fetches: of the link, or of the
 * memory or drives behind it. */
static inline double offload_bytes_per_s(const struct offload_settings *offload)
{
    bool is_slower =
        offload->home_bytes_per_s > 0.0 && offload->home_bytes_per_s < offload->link_bytes_per_s;
    return is_slower ? offload->home_bytes_per_s : offload->link_bytes_per_s;
}

/* Who needs the trace's scores: the router's name, or the drop policy's; NULL: nobody. */
const char *scenario_needs_scores(const struct scenario *scenario);

/* Everything that routers and drop policies are told. */
struct route_settings scenario_route_settings(const struct scenario *scenario);

#endif
