/*
 * scenario_offload.c -- the `offload:` keys of a scenario: where experts live that GPUs do not
 * keep.
 *
 *     offload: {where: host, slots: 4, policy: lru}            # of each layer's experts, on a GPU
 *     offload: {where: nvme, share: 0.25, home_bytes_per_s: 7e9}
 *     offload: {where: host, slots: 0, misses: cpu, cpu_bytes_per_s: 200e9, cpu_flops_per_s: 4e12}
 */
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "scenario_internal.h"

#define RATE_MAX 1e18 /* bytes or flops a second */

static const char *const homes[] = {"nothing", "host", "nvme", NULL}; /* enum offload_home */
static const char *const misses[] = {"fetch", "cpu", "faster", NULL}; /* enum offload_misses */

/* As written. */
struct offload_file {
    struct offload_settings settings;
    char policy[NAME_BYTES];
    double share; /* of a GPU's experts, in place of num_slots */
    double bytes; /* of GPU memory, likewise */
};

static const struct offload_file offload_defaults = {
    .settings = {.num_slots = SCENARIO_UNSET, .profile_steps = 64},
    .policy = "lru",
};

#define AT(field) offsetof(struct offload_file, settings.field)

static const struct yaml_field offload_fields[] = {
    {"where", YAML_CHOICE, AT(home), .required = true, .choices = homes},
    {"slots", YAML_INT32, AT(num_slots), .min = 0, .max = 65536},
    {"share", YAML_DOUBLE, offsetof(struct offload_file, share), .min = 1e-6, .max = 1.0},
    {"bytes", YAML_DOUBLE, offsetof(struct offload_file, bytes), .min = 1.0, .max = 1e15},
    {"policy", YAML_TEXT, offsetof(struct offload_file, policy), .size = NAME_BYTES},
    {"prefetch", YAML_INT32, AT(prefetch), .min = 0, .max = 65536},
    {"misses", YAML_CHOICE, AT(misses), .choices = misses},
    {"profile_steps", YAML_INT64, AT(profile_steps), .min = 1, .max = 1e12},
    {"link_bytes_per_s", YAML_DOUBLE, AT(link_bytes_per_s), .min = 1.0, .max = RATE_MAX},
    {"link_latency_ns", YAML_DOUBLE, AT(link_latency_ns), .max = 1e9},
    {"home_bytes_per_s", YAML_DOUBLE, AT(home_bytes_per_s), .min = 1.0, .max = RATE_MAX},
    {"home_latency_ns", YAML_DOUBLE, AT(home_latency_ns), .max = 1e9},
    {"cpu_bytes_per_s", YAML_DOUBLE, AT(cpu_bytes_per_s), .min = 1.0, .max = RATE_MAX},
    {"cpu_flops_per_s", YAML_DOUBLE, AT(cpu_flops_per_s), .min = 1.0, .max = RATE_MAX},
    {"cpu_latency_ns", YAML_DOUBLE, AT(cpu_latency_ns), .max = 1e9},
    {"home_bytes", YAML_INT64, AT(home_bytes), .min = 1, .max = 1e18},
    {.key = NULL},
};

const char *offload_home_name(enum offload_home home)
{
    return homes[home];
}

const char *offload_misses_name(enum offload_misses choice)
{
    return misses[choice];
}

static bool is_given(const struct scenario_loader *loader, const char *key)
{
    return yaml_get(loader->file.offload, key) != NULL;
}

static void size_slots(struct scenario_loader *loader, const struct offload_file *file)
{
    struct scenario *scenario = loader->scenario;
    struct offload_settings *offload = &scenario->offload;
    int32_t given =
        is_given(loader, "slots") + is_given(loader, "share") + is_given(loader, "bytes");
    int32_t served = scenario_experts_per_rank(scenario);
    double slot_bytes = (double)model_expert_bytes(&scenario->model) *
                        (double)model_num_moe_layers(&scenario->model);
    if (given != 1) {
        scenario_complain(loader, "offload",
                          "give one of slots (of each layer), share (of a GPU's experts) and bytes "
                          "(of its memory)");
        return;
    }
    if (file->share > 0.0) {
        offload->num_slots = (int32_t)ceil(file->share * (double)served);
    } else if (file->bytes > 0.0) {
        offload->num_slots = (int32_t)fmin(file->bytes / slot_bytes, (double)served);
        if (offload->num_slots == 0) {
            scenario_complain(
                loader, "offload.bytes",
                "%.3g GB are less than a slot in each of the %d layers takes, %.3g GB",
                file->bytes * 1e-9, (int)model_num_moe_layers(&scenario->model), slot_bytes * 1e-9);
        }
    } else if (offload->num_slots > served) {
        scenario_complain(loader, "offload.slots",
                          "%d are more than the %d experts of a layer that a GPU serves",
                          (int)offload->num_slots, (int)served);
    } else if (offload->num_slots == 0 && offload->misses != OFFLOAD_CPU) {
        scenario_complain(loader, "offload.slots",
                          "0: a GPU needs a slot to compute in; with misses: cpu it may have none");
    }
}

static void check_home(struct scenario_loader *loader)
{
    struct scenario *scenario = loader->scenario;
    struct offload_settings *offload = &scenario->offload;
    const struct port_spec *host = &scenario->cluster.gpu.host;
    bool has_link = host->bytes_per_s > 0.0;
    if (!is_given(loader, "link_bytes_per_s")) {
        offload->link_bytes_per_s =
            has_link ? host->bytes_per_s * host->fraction : offload->home_bytes_per_s;
    }
    if (!is_given(loader, "link_latency_ns")) {
        offload->link_latency_ns = host->latency_ns;
    }
    if (loader->has_gpu && offload->home == OFFLOAD_HOST && offload->link_bytes_per_s <= 0.0) {
        scenario_complain(loader, "offload.link_bytes_per_s",
                          "is missing: %s says nothing about its link to the host",
                          scenario->cluster.gpu.name);
    }
    if (offload->home == OFFLOAD_NVME && !is_given(loader, "home_bytes_per_s")) {
        scenario_complain(loader, "offload.home_bytes_per_s",
                          "is missing: how fast do a node's drives read, all together?");
    }
    int32_t ranks = scenario->ep < scenario->cluster.gpus_per_node
                        ? scenario->ep
                        : scenario->cluster.gpus_per_node;
    double bytes = (double)scenario_experts_per_rank(scenario) * (double)ranks *
                   (double)model_num_moe_layers(&scenario->model) *
                   (double)model_expert_bytes(&scenario->model);
    if (offload->home_bytes > 0 && bytes > (double)offload->home_bytes) {
        scenario_complain(loader, "offload.home_bytes",
                          "a node's experts take %.3g GB, and there are %.3g; use a smaller "
                          "precision.expert%s",
                          bytes * 1e-9, (double)offload->home_bytes * 1e-9,
                          offload->home == OFFLOAD_HOST ? " or where: nvme" : "");
    }
}

static void check_cpu(struct scenario_loader *loader)
{
    const struct offload_settings *offload = &loader->scenario->offload;
    const char *const keys[] = {"cpu_bytes_per_s", "cpu_flops_per_s", "cpu_latency_ns"};
    char key[64] = "offload.";
    size_t prefix = strlen(key);
    if (offload->misses != OFFLOAD_FETCH && offload->home == OFFLOAD_NVME) {
        scenario_complain(loader, "offload.misses",
                          "CPUs compute what lies in host memory, not on drives");
    }
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        memcpy(key + prefix, keys[i], strlen(keys[i]) + 1);
        bool is_required = offload->misses != OFFLOAD_FETCH && i < 2; /* latency may be 0 */
        if (is_required && !is_given(loader, keys[i])) {
            scenario_complain(loader, key, "is missing: CPUs shall compute experts");
        } else if (offload->misses == OFFLOAD_FETCH && is_given(loader, keys[i])) {
            scenario_complain(loader, key, "goes with misses: cpu or faster");
        }
    }
}

/* What a cache of experts does not go with. */
static void check_others(struct scenario_loader *loader)
{
    const struct scenario *scenario = loader->scenario;
    if (scenario->strategy != NULL && scenario->strategy->needs != 0) {
        scenario_complain(loader, "offload",
                          "%s moves experts between GPUs, whose homes are now their hosts; use "
                          "placement.strategy: static",
                          scenario->strategy->name);
    }
    if (scenario->replica != NULL && scenario->replica->lends) {
        scenario_complain(loader, "offload",
                          "%s lends experts that the GPU may not have itself; use "
                          "dispatch.replica: locality",
                          scenario->replica->name);
    }
    if (scenario->expert_tp > 1) {
        scenario_complain(loader, "offload",
                          "keeps whole experts, and parallel.expert_tp cuts them");
    }
    if (scenario->micro_batches * scenario->chunks > 1) {
        scenario_complain(loader, "offload", "does not go with overlap.micro_batches or chunks");
    }
    if (scenario->offload.prefetch > scenario_experts_per_rank(scenario)) {
        scenario_complain(loader, "offload.prefetch",
                          "%d are more than the %d experts of a layer that a GPU serves",
                          (int)scenario->offload.prefetch,
                          (int)scenario_experts_per_rank(scenario));
    }
}

void scenario_read_offload(struct scenario_loader *loader)
{
    struct scenario *scenario = loader->scenario;
    const struct yaml_node *node = loader->file.offload;
    struct offload_file file = offload_defaults;
    if (node == NULL) {
        return;
    }
    if (node->kind != YAML_MAPPING) {
        scenario_complain(loader, "offload",
                          "expected keys and values, as {where: host, slots: 4}");
        return;
    }
    enum status status = yaml_fill(&file, node, offload_fields, loader->error);
    if (status != STATUS_OK) {
        loader->status = status;
        return;
    }
    scenario->offload = file.settings;
    if (file.settings.home == OFFLOAD_NOTHING) {
        return; /* so that --set offload.where=nothing undoes what a file says */
    }
    scenario->offload.policy = offload_find(file.policy);
    if (scenario->offload.policy == NULL) {
        scenario_complain_plugin(loader, "offload.policy", file.policy, REGISTRY_OFFLOAD);
    }
    if (is_given(loader, "profile_steps") && strcmp(file.policy, "pinned") != 0) {
        scenario_complain(loader, "offload.profile_steps", "goes with policy: pinned");
    }
    check_cpu(loader);
    if (!loader->has_model || scenario->ep < 1) {
        return;
    }
    if (scenario->model.num_experts == 0) {
        scenario_complain(loader, "offload", "%s has no experts", scenario->model.name);
        return;
    }
    size_slots(loader, &file);
    check_home(loader);
    check_others(loader);
}
