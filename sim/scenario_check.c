/*
 * scenario_check.c -- how the keys of a scenario have to fit together.
 *
 * A check speaks up only when what it compares was given without a problem of its own: one mistake,
 * one line.
 */
#include <stdio.h>
#include <string.h>

#include "gpu/fitted_phases.h"
#include "scenario_internal.h"

static void check_fabric(struct scenario_loader *loader)
{
    const struct scenario_file *file = &loader->file;
    if (file->fabric != FABRIC_FLAT && file->nodes_per_leaf == 0) {
        scenario_complain(loader, "cluster.nodes_per_leaf",
                          "is missing: how many nodes does a leaf switch join?");
    } else if (file->fabric == FABRIC_FLAT && file->nodes_per_leaf > 0) {
        scenario_complain(loader, "cluster.nodes_per_leaf",
                          "goes with cluster.fabric: leaves or rails");
    } else if (file->fabric == FABRIC_LEAVES && file->nodes > 0 &&
               file->nodes <= file->nodes_per_leaf) {
        scenario_complain(loader, "cluster.nodes_per_leaf",
                          "all %d nodes are on one leaf, so nothing goes over a spine; use fewer a "
                          "leaf or fabric: flat",
                          (int)file->nodes);
    } else if (file->fabric == FABRIC_FLAT && file->spine_oversubscription > 1.0) {
        scenario_complain(loader, "cluster.spine_oversubscription",
                          "goes with cluster.fabric: leaves or rails");
    } else if (file->fabric != FABRIC_FLAT && strcmp(file->network, "alpha_beta") == 0) {
        scenario_complain(loader, "cluster.fabric", "alpha_beta has no fabric; use network: flow");
    }
}

static void check_slots(struct scenario_loader *loader)
{
    const struct scenario *scenario = loader->scenario;
    int64_t experts = scenario->model.num_experts;
    int64_t redundant = scenario->redundant_experts;
    if (!loader->has_model || scenario->ep < 1 || scenario->ep % scenario->expert_tp != 0) {
        return;
    }
    const bool is_cut = scenario->expert_tp > 1;
    int64_t ep = scenario_expert_groups(scenario);
    if (experts == 0) {
        if (redundant > 0) {
            scenario_complain(loader, "placement.redundant_experts", "%s has no experts",
                              scenario->model.name);
        }
        return;
    }
    if ((experts + redundant) % ep == 0) {
        return;
    }
    int64_t more = (experts + redundant + ep - 1) / ep * ep - experts;
    int64_t fewer = (experts + redundant) / ep * ep - experts;
    char choice[64] = "";
    if (fewer >= 0) {
        (void)snprintf(choice, sizeof choice, "%lld or ", (long long)fewer);
    }
    scenario_complain(loader, "placement.redundant_experts",
                      "%lld experts + %lld redundant = %lld slots do not divide over %s%lld%s; use "
                      "%s%lld redundant",
                      (long long)experts, (long long)redundant, (long long)(experts + redundant),
                      is_cut ? "" : "ep ", (long long)ep, is_cut ? " groups of GPUs" : "", choice,
                      (long long)more);
}

static void check_trace(struct scenario_loader *loader)
{
    const struct scenario_file *file = &loader->file;
    bool has_path = file->trace_path[0] != '\0';
    bool has_preset = file->trace_preset[0] != '\0';
    if (loader->has_model && loader->scenario->model.num_experts == 0) {
        if (has_path || has_preset) {
            scenario_complain(loader, has_path ? "trace.path" : "trace.preset",
                              "%s has no experts, so there is nothing to route",
                              loader->scenario->model.name);
        }
        return;
    }
    if (has_path && has_preset) {
        scenario_complain(loader, "trace.preset", "give a path or a preset, not both");
    }
    if (loader->has_model && !has_path && !has_preset) {
        scenario_complain(loader, "trace", "%s has experts: name a path or a preset",
                          loader->scenario->model.name);
    }
    if (has_preset && file->trace_tokens == 0) {
        scenario_complain(loader, "trace.tokens", "is missing: how many to generate?");
    }
    if (!has_preset && file->trace_tokens > 0) {
        scenario_complain(loader, "trace.tokens", "goes with a preset only");
    }
}

static void check_phase(struct scenario_loader *loader)
{
    const struct scenario_file *file = &loader->file;
    if (file->phase == PHASE_PREFILL && file->context_tokens < 1) {
        scenario_complain(loader, "context_tokens", "prefill needs the length of a prompt");
    } else if (file->phase == PHASE_PREFILL && file->tokens_per_rank > file->context_tokens &&
               file->tokens_per_rank % file->context_tokens != 0) {
        scenario_complain(loader, "trace.tokens_per_rank",
                          "%d is neither whole prompts of context_tokens %d nor a part of one",
                          (int)file->tokens_per_rank, (int)file->context_tokens);
    }
    bool is_dense = loader->has_model && loader->scenario->model.num_experts == 0;
    if (file->phase == PHASE_DECODE && is_dense && file->context_tokens < 1) {
        scenario_complain(loader, "context_tokens",
                          "a dense model has no trace to take contexts from");
    }
}

static void check_overlap(struct scenario_loader *loader)
{
    const struct scenario_file *file = &loader->file;
    int32_t parts = file->micro_batches * file->chunks;
    if (file->tokens_per_rank > 0 && parts > file->tokens_per_rank) {
        scenario_complain(loader, "overlap",
                          "%d micro-batches x %d chunks are more than the %d tokens of a rank",
                          (int)file->micro_batches, (int)file->chunks, (int)file->tokens_per_rank);
    }
    if (file->shared_tokens > 0 && file->micro_batches > 1) {
        scenario_complain(loader, "overlap.shared_tokens",
                          "is of steps whose GPU computes nothing else meanwhile: take "
                          "micro_batches of 1, or leave it out");
    }
}

static void check_rebalance(struct scenario_loader *loader)
{
    struct scenario *scenario = loader->scenario;
    if (scenario->strategy == NULL) {
        return;
    }
    if (scenario->strategy->needs != 0 && scenario->rebalance_interval_steps == 0) {
        scenario_complain(loader, "placement.strategy",
                          "%s is never asked while rebalance_interval_steps is 0; give an interval "
                          "or use static",
                          scenario->strategy->name);
    }
    if (scenario->window_steps > scenario->rebalance_interval_steps) {
        scenario_complain(loader, "placement.window_steps",
                          "%d is longer than the interval of %d steps", (int)scenario->window_steps,
                          (int)scenario->rebalance_interval_steps);
    }
    if (scenario->strategy->needs == 0) { /* it looks at no load: one answer, at first, is all */
        scenario->rebalance_interval_steps = 0;
        scenario->window_steps = 0;
    }
}

/* Four-bit weights are turned into bf16 where the tensor cores lack the format; all other formats
 * have to be computed in as they are. */
static bool gpu_computes(const struct gpu_spec *gpu, enum precision precision, bool is_weight)
{
    bool is_four_bit = precision == PRECISION_MXFP4 || precision == PRECISION_NVFP4;
    return gpu->flops_per_s[precision] > 0.0 || (is_four_bit && is_weight);
}

static void check_precision(struct scenario_loader *loader)
{
    const struct scenario *scenario = loader->scenario;
    const struct moe_model *model = &scenario->model;
    const struct {
        const char *key;
        enum precision precision;
        bool is_weight;
        bool is_known;
    } uses[] = {
        {"precision.dense", model->precision_dense, true, loader->has_model},
        {"precision.expert", model->precision_expert, true,
         loader->has_model && model->num_experts > 0},
        {"dispatch.dtype", scenario->dispatch_precision, false, true},
        {"dispatch.combine_dtype", scenario->combine_precision, false, true},
    };
    for (size_t i = 0; loader->has_gpu && i < sizeof uses / sizeof uses[0]; i++) {
        if (uses[i].is_known &&
            !gpu_computes(&scenario->cluster.gpu, uses[i].precision, uses[i].is_weight)) {
            scenario_complain(loader, uses[i].key, "%s does not compute in %s",
                              scenario->cluster.gpu.name, precision_name(uses[i].precision));
        }
    }
}

/* Is word one of the space-separated words of list? */
static bool has_word(const char *list, const char *word)
{
    size_t length = strlen(word);
    const char *place = list;
    while ((place = strstr(place, word)) != NULL) {
        bool begins = place == list || place[-1] == ' ';
        if (begins && (place[length] == ' ' || place[length] == '\0')) {
            return true;
        }
        place += length;
    }
    return false;
}

static size_t append_kernels(char *text, size_t bytes, size_t used, const char *kernels,
                             enum precision precision)
{
    int length = used < bytes ? snprintf(text + used, bytes - used, "%s%s in %s",
                                         used > 0 ? ", " : "", kernels, precision_name(precision))
                              : 0;
    return used + (length > 0 ? (size_t)length : 0);
}

bool scenario_choose_kernels(struct scenario *scenario)
{
    bool is_exchanged = scenario->ep > 1 && scenario->collective != NULL;
    const struct kernels_wanted wanted = {
        .kernels = scenario->kernels,
        .precision = scenario->model.precision_expert,
        .collective = is_exchanged ? scenario->collective->name : NULL,
        .prefill = scenario->phase == PHASE_PREFILL,
    };
    return fitted_choose(&scenario->cluster.gpu, &wanted);
}

/* Which of the GPU's constants the compute model uses: those of the kernels asked for, in the
 * experts' precision. Of GEMMs that were measured alone, experts are grouped ones and small
 * kernels, where there are grouped ones, else a roofline. */
static void choose_constants(struct scenario_loader *loader)
{
    struct scenario *scenario = loader->scenario;
    struct gpu_spec *gpu = &scenario->cluster.gpu;
    enum precision precision = scenario->model.precision_expert;
    char known[1024] = "";
    size_t used = 0;
    if (!loader->has_gpu || !loader->has_model || scenario_choose_kernels(scenario)) {
        return;
    }
    for (int32_t i = 0; i < gpu->num_fitted; i++) {
        if (!fitted_holds_exchange(gpu->fitted[i].kernels)) {
            used = append_kernels(known, sizeof known, used, gpu->fitted[i].kernels,
                                  gpu->fitted[i].precision);
        }
    }
    for (int32_t i = 0; i < gpu->num_gemm; i++) {
        used =
            append_kernels(known, sizeof known, used, gpu->gemm[i].kernels, gpu->gemm[i].precision);
    }
    scenario_complain(
        loader, "compute.model", "%s has no constants for %s with kernels '%s' in %s%s; it has: %s",
        scenario->gpu_model->name, gpu->name, scenario->kernels, precision_name(precision),
        fitted_holds_exchange(scenario->kernels)
            ? " (those dispatch and combine, too, which is charged apart)"
            : "",
        known[0] != '\0' ? known : "none");
}

static void check_kernels(struct scenario_loader *loader)
{
    const struct scenario *scenario = loader->scenario;
    const char *known = "any ours trtllm vllm sglang";
    if (scenario->gpu_model != NULL && scenario->gpu_model->evidence != NULL) {
        choose_constants(loader);
        return;
    }
    if (scenario->kernels[0] == '\0' || !has_word(known, scenario->kernels)) {
        scenario_complain(loader, "compute.kernels",
                          "'%s' is none of any, ours, trtllm, vllm, "
                          "sglang",
                          scenario->kernels);
        return;
    }
    const struct gpu_model *gpu_model = scenario->gpu_model;
    bool is_any = strcmp(scenario->kernels, "any") == 0;
    if (gpu_model == NULL || is_any || has_word(gpu_model->kernels, "any") ||
        has_word(gpu_model->kernels, scenario->kernels)) {
        return;
    }
    scenario_complain(loader, "compute.kernels", "%s predicts the kernels of %s, not %s",
                      gpu_model->name, gpu_model->kernels, scenario->kernels);
}

static void check_price(struct scenario_loader *loader)
{
    const struct scenario *scenario = loader->scenario;
    if (loader->has_price && loader->has_gpu &&
        strcmp(scenario->price.gpu, scenario->cluster.gpu.name) != 0) {
        scenario_complain(loader, "price",
                          "%s is the price of %s, the cluster has %s; moesim list prices shows "
                          "others, or give a file with gpu: %s, as moesim list prices %s prints",
                          scenario->price.name, scenario->price.gpu, scenario->cluster.gpu.name,
                          scenario->cluster.gpu.name, scenario->price.name);
    }
}

void scenario_cross_check(struct scenario_loader *loader)
{
    scenario_check_parallel(loader);
    check_fabric(loader);
    check_phase(loader);
    check_precision(loader);
    check_trace(loader);
    scenario_check_routing(loader);
    check_slots(loader);
    check_overlap(loader);
    scenario_read_faults(loader);
    scenario_read_placement(loader);
    check_rebalance(loader);
    check_kernels(loader);
    scenario_read_measured(loader);
    check_price(loader);
    scenario_read_offload(loader);
}
