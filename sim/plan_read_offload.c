/* plan_read_offload.c -- search.offload and gpus.host of a plan. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "plan_read.h"
#include "quantity.h"
#include "scenario.h"

#define RATE_MAX 1e15

static const struct yaml_field host_fields[] = {
    {"memory", YAML_DOUBLE, offsetof(struct plan_host, memory_bytes), .max = 1e18},
    {"cpu_bytes_per_s", YAML_DOUBLE, offsetof(struct plan_host, cpu_bytes_per_s), .max = RATE_MAX},
    {"cpu_flops_per_s", YAML_DOUBLE, offsetof(struct plan_host, cpu_flops_per_s), .max = 1e18},
    {"cpu_latency_ns", YAML_DOUBLE, offsetof(struct plan_host, cpu_latency_ns), .max = 1e9},
    {"nvme", YAML_DOUBLE, offsetof(struct plan_host, nvme_bytes), .max = 1e18},
    {"nvme_bytes_per_s", YAML_DOUBLE, offsetof(struct plan_host, nvme_bytes_per_s),
     .max = RATE_MAX},
    {"nvme_latency_ns", YAML_DOUBLE, offsetof(struct plan_host, nvme_latency_ns), .max = 1e9},
    {.key = NULL},
};

void plan_take_host(struct plan_file *file, struct plan_host *host, const struct yaml_node *node)
{
    if (node == NULL) {
        return;
    }
    if (node->kind != YAML_MAPPING) {
        plan_complain_at(file, node, "gpus.host", "keys are expected, as {memory: 64e9}");
    } else if (yaml_fill(host, node, host_fields, file->error) != STATUS_OK) {
        file->status = STATUS_INVALID;
    } else if ((host->nvme_bytes > 0.0) != (host->nvme_bytes_per_s > 0.0)) {
        plan_complain_at(file, node, "gpus.host", "nvme and nvme_bytes_per_s go together");
    } else if ((host->cpu_bytes_per_s > 0.0) != (host->cpu_flops_per_s > 0.0)) {
        plan_complain_at(file, node, "gpus.host",
                         "cpu_bytes_per_s and cpu_flops_per_s go together");
    }
}

/* As written: each is a scalar or a list. */
struct offload_lists {
    struct yaml_node *where;
    struct yaml_node *share;
    struct yaml_node *policy;
    struct yaml_node *misses;
};

static const struct yaml_field offload_fields[] = {
    {"where", YAML_NODE, offsetof(struct offload_lists, where), .size = 0},
    {"share", YAML_NODE, offsetof(struct offload_lists, share), .size = 0},
    {"policy", YAML_NODE, offsetof(struct offload_lists, policy), .size = 0},
    {"misses", YAML_NODE, offsetof(struct offload_lists, misses), .size = 0},
    {.key = NULL},
};

/* One item of a list; false: it is none of those. */
typedef bool take_item(struct plan_offloads *offloads, const char *text);

static bool take_where(struct plan_offloads *offloads, const char *text)
{
    for (int32_t home = OFFLOAD_NOTHING; home <= OFFLOAD_NVME; home++) {
        if (strcmp(text, offload_home_name((enum offload_home)home)) == 0) {
            offloads->home[offloads->num_homes++] = (enum offload_home)home;
            return true;
        }
    }
    return false;
}

static bool take_share(struct plan_offloads *offloads, const char *text)
{
    double share = -1.0;
    if (!quantity_count(&share, text) || share < 0.0 || share >= 1.0) {
        return false;
    }
    offloads->share[offloads->num_shares++] = share;
    return true;
}

static bool take_policy(struct plan_offloads *offloads, const char *text)
{
    const struct offload_policy *policy = offload_find(text);
    offloads->policy[offloads->num_policies] = policy;
    offloads->num_policies += policy != NULL;
    return policy != NULL;
}

static bool take_misses(struct plan_offloads *offloads, const char *text)
{
    for (int32_t misses = OFFLOAD_FETCH; misses <= OFFLOAD_FASTER; misses++) {
        if (strcmp(text, offload_misses_name((enum offload_misses)misses)) == 0) {
            offloads->misses[offloads->num_misses++] = (enum offload_misses)misses;
            return true;
        }
    }
    return false;
}

static void take(struct plan_file *file, const struct yaml_node *list, const char *key,
                 take_item *item_taken, const char *words)
{
    int32_t count = 0;
    for (const struct yaml_node *item = plan_items(list); item != NULL;
         item = plan_next_item(list, item)) {
        if (count++ == PLAN_OFFLOAD_MAX) {
            plan_complain_at(file, item, key, "at most 8");
            return;
        }
        if (item->kind != YAML_SCALAR || !item_taken(&file->plan.offloads, item->text)) {
            plan_complain_at(file, item, key, words);
        }
    }
    if (list != NULL && count == 0) {
        plan_complain_at(file, list, key, "an empty list leaves nothing to try");
    }
}

static void fill(struct plan_offloads *offloads)
{
    if (offloads->num_homes == 0) {
        offloads->home[0] = OFFLOAD_NOTHING;
        offloads->home[1] = OFFLOAD_HOST;
        offloads->num_homes = 2;
    }
    if (offloads->num_shares == 0) {
        static const double shares[] = {0.0, 0.25, 0.5, 0.75};
        offloads->num_shares = (int32_t)(sizeof shares / sizeof shares[0]);
        memcpy(offloads->share, shares, sizeof shares);
    }
    if (offloads->num_policies == 0) {
        offloads->policy[offloads->num_policies++] = offload_find("lru");
    }
    if (offloads->num_misses == 0) {
        offloads->misses[offloads->num_misses++] = OFFLOAD_FETCH;
    }
}

/* Some kind of GPU must have a host that experts can live on. */
static bool has_home(const struct plan *plan, enum offload_home home)
{
    for (int32_t i = 0; i < plan->num_gpus; i++) {
        const struct plan_host *host = &plan->gpu[i].host;
        double room = home == OFFLOAD_NVME ? host->nvme_bytes : host->memory_bytes;
        if (home == OFFLOAD_NOTHING || room > 0.0) {
            return true;
        }
    }
    return plan->num_gpus == 0; /* told elsewhere */
}

void plan_take_offload(struct plan_file *file)
{
    struct offload_lists lists = {0};
    struct plan_offloads *offloads = &file->plan.offloads;
    if (file->offload == NULL) {
        return;
    }
    if (file->offload->kind != YAML_MAPPING) {
        plan_complain_at(file, file->offload, "search.offload",
                         "keys are expected, as {where: [nothing, host], share: [0.25, 0.5]}");
        return;
    }
    if (yaml_fill(&lists, file->offload, offload_fields, file->error) != STATUS_OK) {
        file->status = STATUS_INVALID;
        return;
    }
    take(file, lists.where, "search.offload.where", take_where,
         "nothing, host or nvme is expected");
    take(file, lists.share, "search.offload.share", take_share,
         "a share of the experts in 0 ... 1 is expected; all of them is where: nothing");
    take(file, lists.policy, "search.offload.policy", take_policy,
         "is no policy (moesim list caches)");
    take(file, lists.misses, "search.offload.misses", take_misses,
         "fetch, cpu or faster is expected");
    fill(offloads);
    for (int32_t i = 0; i < offloads->num_homes; i++) {
        if (!has_home(&file->plan, offloads->home[i])) {
            plan_complain_at(file, file->offload, "search.offload.where",
                             offloads->home[i] == OFFLOAD_NVME
                                 ? "no GPU has drives: give gpus.host.nvme and nvme_bytes_per_s"
                                 : "no GPU has host memory for experts: give gpus.host.memory");
        }
    }
}
