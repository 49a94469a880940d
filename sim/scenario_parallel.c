/*
 * scenario_parallel.c -- how GPUs share a model: expert, tensor and data parallelism.
 *
 *   ep         GPUs that the experts of a layer are dealt to
 *   expert_tp  of them, those that every expert is cut over: ep / expert_tp groups have different
 *              experts; ep itself is tensor parallelism alone
 *   tp         of them, those that attention and dense FFN are cut over
 *
 * All three count the same GPUs, so that who compares expert with tensor parallelism varies one
 * number. vLLM without --enable-expert-parallel is expert_tp: ep; TensorRT-LLM's moe_tp_size is
 * expert_tp and its moe_ep_size ep / expert_tp.
 */
#include <stdio.h>

#include "scenario_internal.h"

const char *scenario_sharing(char text[SHARING_BYTES], int32_t ep, int32_t expert_tp)
{
    if (expert_tp <= 1) {
        (void)snprintf(text, SHARING_BYTES, "EP%d", (int)ep);
    } else if (ep == expert_tp) {
        (void)snprintf(text, SHARING_BYTES, "TP%d", (int)expert_tp);
    } else {
        (void)snprintf(text, SHARING_BYTES, "EP%dxTP%d", (int)(ep / expert_tp), (int)expert_tp);
    }
    return text;
}

static void check_parallel(struct scenario_loader *loader)
{
    struct scenario *scenario = loader->scenario;
    const struct scenario_file *file = &loader->file;
    int64_t num_gpus = (int64_t)file->nodes * file->gpus_per_node;
    if (scenario->ep < 1) {
        return; /* nodes and ep are missing or wrong, and told */
    }
    if (num_gpus > 0 && num_gpus % scenario->ep != 0) {
        scenario_complain(loader, "parallel.ep",
                          "%d does not divide the %lld GPUs of the cluster (nodes %d x %d GPUs)",
                          (int)scenario->ep, (long long)num_gpus, (int)file->nodes,
                          (int)file->gpus_per_node);
    }
    if (file->attention == 0 && file->tp > 1) {
        scenario_complain(loader, "parallel.tp", "needs attention: tp, not dp");
    }
    if (scenario->tp > 1 && scenario->ep % scenario->tp != 0) {
        scenario_complain(loader, "parallel.tp", "%d does not divide ep %d", (int)scenario->tp,
                          (int)scenario->ep);
    }
    if (!loader->has_model || scenario->tp <= 1) {
        return;
    }
    const struct moe_model *model = &scenario->model;
    if (model->num_q_heads % scenario->tp != 0) {
        scenario_complain(loader, "parallel.tp", "%d does not divide the %d attention heads of %s",
                          (int)scenario->tp, (int)model->num_q_heads, model->name);
    }
    if (model->dense_ffn_dim % scenario->tp != 0) {
        scenario_complain(loader, "parallel.tp", "%d does not divide the dense FFN width %d of %s",
                          (int)scenario->tp, (int)model->dense_ffn_dim, model->name);
    }
    bool is_split = model->attention == ATTENTION_MLA || model->num_kv_heads % scenario->tp == 0 ||
                    scenario->tp % model->num_kv_heads == 0;
    if (!is_split) {
        scenario_complain(loader, "parallel.tp", "%d and the %d KV heads of %s do not divide",
                          (int)scenario->tp, (int)model->num_kv_heads, model->name);
    }
}

/* What holds of experts that are cut, and what does not go with them. */
static void check_expert_tp(struct scenario_loader *loader)
{
    const struct scenario *scenario = loader->scenario;
    const struct scenario_file *file = &loader->file;
    const struct moe_model *model = &scenario->model;
    const char *key = "parallel.expert_tp";
    int32_t expert_tp = scenario->expert_tp;
    int32_t on_node = scenario->cluster.gpus_per_node;
    if (expert_tp == 1 || scenario->ep < 1) {
        return;
    }
    if (scenario->ep % expert_tp != 0) {
        scenario_complain(loader, key, "%d does not divide ep %d, the GPUs that share the experts",
                          (int)expert_tp, (int)scenario->ep);
    } else if (on_node > 0 && on_node % expert_tp != 0 && expert_tp % on_node != 0) {
        scenario_complain(loader, key, "%d is neither a part of a node's %d GPUs nor whole nodes",
                          (int)expert_tp, (int)on_node);
    }
    if (loader->has_model && model->num_experts == 0) {
        scenario_complain(loader, key, "%s has no experts; tp cuts the rest", model->name);
    } else if (loader->has_model && scenario->ep % expert_tp == 0 &&
               model->expert_ffn_dim % expert_tp != 0) {
        scenario_complain(loader, key, "%d does not divide the expert FFN width %d of %s",
                          (int)expert_tp, (int)model->expert_ffn_dim, model->name);
    }
    const struct {
        bool is_wrong;
        const char *key;
        const char *text;
    } rules[] = {
        {scenario->collective != NULL && !scenario->collective->goes_to_all, "dispatch.collective",
         "sends a token to one GPU of an expert, but expert_tp cuts experts over several, whose "
         "sums are added up; use allgather_reducescatter"},
        {file->prefill_collective[0] != '\0' && scenario->prefill_collective != NULL &&
             !scenario->prefill_collective->goes_to_all,
         "dispatch.prefill_collective",
         "sends a token to one GPU of an expert; use allgather_reducescatter"},
        {scenario->replica != NULL && scenario->replica->lends, "dispatch.replica",
         "lends whole experts, and expert_tp cuts them; use locality"},
        {file->micro_batches > 1 || file->chunks > 1, "overlap",
         "needs whole experts: with expert_tp take micro_batches and chunks of 1"},
        {scenario->ep == expert_tp && scenario->redundant_experts > 0,
         "placement.redundant_experts",
         "every GPU has its part of every expert, so a second copy relieves nobody; use 0"},
    };
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        if (rules[i].is_wrong) {
            scenario_complain(loader, rules[i].key, "%s", rules[i].text);
        }
    }
}

void scenario_check_parallel(struct scenario_loader *loader)
{
    check_parallel(loader);
    check_expert_tp(loader);
}
