/* plan_offload.c -- points whose experts live in host memory or on drives. */
#include "plan_offload.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "digest.h"
#include "plan.h"
#include "scenario.h"

#define PROFILE_STEPS 32 /* that pinned counts; the steps before a point is measured */

bool plan_offload_same(const struct plan_offload *a, const struct plan_offload *b)
{
    return a->home == b->home && a->policy == b->policy && a->num_slots == b->num_slots;
}

bool plan_offload_none(const struct plan *plan)
{
    bool has_none = plan->offloads.num_homes == 0;
    for (int32_t i = 0; i < plan->offloads.num_homes; i++) {
        has_none = has_none || plan->offloads.home[i] == OFFLOAD_NOTHING;
    }
    return has_none;
}

int32_t plan_offload_count(const struct plan *plan)
{
    const struct plan_offloads *tried = &plan->offloads;
    return tried->num_homes * tried->num_shares * tried->num_policies * tried->num_misses;
}

bool plan_offload_take(struct plan_point *point, const struct plan *plan, int32_t index)
{
    const struct plan_offloads *tried = &plan->offloads;
    assert(index >= 0 && index < plan_offload_count(plan));
    int32_t served = plan->model.num_experts / point->ep;
    struct plan_offload *offload = &point->offload;
    offload->home = tried->home[index % tried->num_homes];
    index /= tried->num_homes;
    double share = tried->share[index % tried->num_shares];
    index /= tried->num_shares;
    offload->policy = tried->policy[index % tried->num_policies];
    offload->misses = tried->misses[index / tried->num_policies];
    offload->num_slots = (int32_t)lround(share * (double)served);
    if (offload->num_slots == 0) {
        offload->policy = tried->policy[0]; /* nothing is kept, whatever the policy */
    }
    bool computes_some = offload->num_slots > 0 || offload->misses == OFFLOAD_CPU;
    return offload->home != OFFLOAD_NOTHING && offload->num_slots < served && computes_some;
}

/* Groups on a node share what it has. */
static double groups_on_node(const struct plan *plan, const struct plan_point *point)
{
    int32_t gpus = plan->gpu[point->gpu].cluster.gpus_per_node;
    return point->ep < gpus ? floor((double)gpus / (double)point->ep) : 1.0;
}

double plan_offload_bytes(const struct plan *plan, const struct plan_point *point)
{
    int32_t gpus = plan->gpu[point->gpu].cluster.gpus_per_node;
    double share = point->ep > gpus ? (double)gpus / (double)point->ep : 1.0;
    struct moe_model model = plan->model;
    model.precision_expert = point->expert_precision;
    return share * (double)model.num_experts * (double)model_num_moe_layers(&model) *
           (double)model_expert_bytes(&model);
}

static const struct plan_host *host_of(const struct plan *plan, const struct plan_point *point)
{
    return &plan->gpu[point->gpu].host;
}

const char *plan_offload_objection(const struct plan *plan, const struct plan_point *point)
{
    const struct plan_host *host = host_of(plan, point);
    const struct port_spec *link = &plan->gpu[point->gpu].cluster.gpu.host;
    bool on_cpu = point->offload.misses != OFFLOAD_FETCH;
    if (point->offload.home == OFFLOAD_NOTHING) {
        return NULL;
    }
    if (point->offload.home == OFFLOAD_NVME && host->nvme_bytes <= 0.0) {
        return "the host has no drives (gpus.host.nvme)";
    }
    if (point->offload.home == OFFLOAD_NVME && on_cpu) {
        return "CPUs compute what lies in host memory, not on drives";
    }
    if (point->offload.home == OFFLOAD_HOST && host->memory_bytes <= 0.0) {
        return "the host has no memory for experts (gpus.host.memory)";
    }
    if (on_cpu && (host->cpu_bytes_per_s <= 0.0 || host->cpu_flops_per_s <= 0.0)) {
        return "nothing is known of the host's CPUs (gpus.host.cpu_bytes_per_s, cpu_flops_per_s)";
    }
    if (link->bytes_per_s <= 0.0) {
        return "the GPU's preset says nothing about its link to the host";
    }
    return NULL;
}

bool plan_offload_fits(const struct plan *plan, const struct plan_point *point)
{
    const struct plan_host *host = host_of(plan, point);
    double room = point->offload.home == OFFLOAD_NVME ? host->nvme_bytes : host->memory_bytes;
    return point->offload.home == OFFLOAD_NOTHING ||
           plan_offload_bytes(plan, point) * groups_on_node(plan, point) <= room;
}

void plan_offload_scenario(struct scenario *scenario, const struct plan *plan,
                           const struct plan_point *point)
{
    const struct plan_host *host = host_of(plan, point);
    const struct port_spec *link = &plan->gpu[point->gpu].cluster.gpu.host;
    double groups = groups_on_node(plan, point);
    bool on_cpu = point->offload.misses != OFFLOAD_FETCH;
    bool on_drive = point->offload.home == OFFLOAD_NVME;
    if (point->offload.home == OFFLOAD_NOTHING) {
        return;
    }
    scenario->offload = (struct offload_settings){
        .home = point->offload.home,
        .policy = point->offload.policy,
        .num_slots = point->offload.num_slots,
        .misses = point->offload.misses,
        .profile_steps = PROFILE_STEPS,
        .link_bytes_per_s = link->bytes_per_s * link->fraction,
        .link_latency_ns = link->latency_ns,
        .home_bytes_per_s = on_drive ? host->nvme_bytes_per_s / groups : 0.0,
        .home_latency_ns = on_drive ? host->nvme_latency_ns : 0.0,
        .cpu_bytes_per_s = on_cpu ? host->cpu_bytes_per_s / groups : 0.0,
        .cpu_flops_per_s = on_cpu ? host->cpu_flops_per_s / groups : 0.0,
        .cpu_latency_ns = on_cpu ? host->cpu_latency_ns : 0.0,
    };
}

void plan_offload_write(FILE *file, const struct plan *plan, const struct plan_point *point)
{
    struct scenario scenario = {0};
    const struct offload_settings *settings = &scenario.offload;
    plan_offload_scenario(&scenario, plan, point);
    if (settings->home == OFFLOAD_NOTHING) {
        return;
    }
    fprintf(file, "offload: {where: %s, slots: %d, policy: %s, misses: %s",
            offload_home_name(settings->home), (int)settings->num_slots, settings->policy->name,
            offload_misses_name(settings->misses));
    if (settings->home == OFFLOAD_NVME) {
        fprintf(file, ", home_bytes_per_s: %.6g, home_latency_ns: %.6g", settings->home_bytes_per_s,
                settings->home_latency_ns);
    }
    if (settings->misses != OFFLOAD_FETCH) {
        fprintf(file, ", cpu_bytes_per_s: %.6g, cpu_flops_per_s: %.6g, cpu_latency_ns: %.6g",
                settings->cpu_bytes_per_s, settings->cpu_flops_per_s, settings->cpu_latency_ns);
    }
    fputs("}\n", file);
}

uint64_t plan_offload_digest(uint64_t digest, const struct offload_settings *settings)
{
    const double numbers[] = {settings->link_bytes_per_s, settings->link_latency_ns,
                              settings->home_bytes_per_s, settings->home_latency_ns,
                              settings->cpu_bytes_per_s,  settings->cpu_flops_per_s,
                              settings->cpu_latency_ns};
    if (settings->home == OFFLOAD_NOTHING) {
        return digest;
    }
    digest = digest_u64(digest, (uint64_t)settings->home);
    digest = digest_u64(digest, (uint64_t)settings->misses);
    digest = digest_u64(digest, (uint64_t)settings->num_slots);
    digest = digest_text(digest, settings->policy->name);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        uint64_t bits;
        memcpy(&bits, &numbers[i], sizeof bits);
        digest = digest_u64(digest, bits);
    }
    return digest;
}

void plan_offload_short(char *text, size_t bytes, const struct plan_point *point)
{
    const struct plan_offload *offload = &point->offload;
    text[0] = '\0';
    if (offload->home != OFFLOAD_NOTHING) {
        (void)snprintf(text, bytes, "; %s: %d a layer (%s), misses %s",
                       offload_home_name(offload->home), (int)offload->num_slots,
                       offload->policy->name, offload_misses_name(offload->misses));
    }
}

void plan_offload_words(char *text, size_t bytes, const struct plan_point *point)
{
    static const char *const others[] = {[OFFLOAD_FETCH] = "fetched",
                                         [OFFLOAD_CPU] = "computed by the CPUs",
                                         [OFFLOAD_FASTER] =
                                             "fetched or computed by the CPUs, whatever is faster"};
    const struct plan_offload *offload = &point->offload;
    text[0] = '\0';
    if (offload->home == OFFLOAD_NOTHING) {
        return;
    }
    char kept[64] = "no expert on the GPU";
    if (offload->num_slots > 0) {
        (void)snprintf(kept, sizeof kept, "%d experts a layer on the GPU (%s)",
                       (int)offload->num_slots, offload->policy->name);
    }
    (void)snprintf(text, bytes, ", %s, others in %s and %s", kept,
                   offload->home == OFFLOAD_NVME ? "files on NVMe" : "host memory",
                   others[offload->misses]);
}
