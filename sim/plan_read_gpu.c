/* plan_read_gpu.c -- the kinds of GPU that a plan may rent: preset, price, node and its host. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan_read.h"

struct gpu_item {
    char cluster[PATH_BYTES];
    char gpu[PATH_BYTES];
    char price[PATH_BYTES];
    double spot_usd_per_gpu_hour;
    int32_t gpus_per_node;
    int32_t nodes_max;
    struct yaml_node *host;
};

static const struct yaml_field gpu_fields[] = {
    {"cluster", YAML_TEXT, offsetof(struct gpu_item, cluster), .size = PATH_BYTES},
    {"gpu", YAML_TEXT, offsetof(struct gpu_item, gpu), .size = PATH_BYTES},
    {"price", YAML_TEXT, offsetof(struct gpu_item, price), .size = PATH_BYTES},
    {"spot_usd_per_gpu_hour", YAML_DOUBLE, offsetof(struct gpu_item, spot_usd_per_gpu_hour),
     .max = 1e6},
    {"gpus_per_node", YAML_INT32, offsetof(struct gpu_item, gpus_per_node), .min = 1, .max = 1024},
    {"nodes_max", YAML_INT32, offsetof(struct gpu_item, nodes_max), .min = 1, .max = 65536},
    {"host", YAML_NODE, offsetof(struct gpu_item, host), .size = 0},
    {.key = NULL},
};

/* Without a price of its own, a GPU has a usual one. */
static enum status load_price(struct plan_gpu *gpu, const char *name, struct error *error)
{
    return name[0] != '\0' ? price_load_for(&gpu->price, name, &gpu->cluster.gpu, error)
                           : price_load_usual(&gpu->price, &gpu->cluster.gpu, error);
}

/* A cluster preset brings GPU, wiring and fitted collectives; a GPU alone has its usual nodes. */
static enum status load_cluster(struct cluster *cluster, const struct gpu_item *item,
                                struct error *error)
{
    if ((item->cluster[0] != '\0') == (item->gpu[0] != '\0')) {
        return error_add(error, STATUS_INVALID, "give either a gpu or a cluster");
    }
    enum status status = item->cluster[0] != '\0' ? cluster_load(cluster, item->cluster, error)
                                                  : gpu_load(&cluster->gpu, item->gpu, error);
    if (status == STATUS_OK && item->cluster[0] == '\0') {
        cluster->gpus_per_node = gpu_usual_node(&cluster->gpu);
    }
    if (item->gpus_per_node > 0) {
        cluster->gpus_per_node = item->gpus_per_node;
    }
    return status;
}

static void take_gpu(struct plan_file *file, const struct yaml_node *node)
{
    struct plan *plan = &file->plan;
    struct plan_gpu *gpu = &plan->gpu[plan->num_gpus];
    struct gpu_item *item = calloc(1, sizeof *item);
    struct error *problems = calloc(1, sizeof *problems);
    if (problems == NULL || item == NULL) {
        file->status = STATUS_NO_MEMORY;
    } else if (node->kind != YAML_MAPPING) {
        plan_complain_at(file, node, "gpus", "a key gpu or cluster is expected, and mostly price");
    } else if (yaml_fill(item, node, gpu_fields, file->error) != STATUS_OK) {
        file->status = STATUS_INVALID;
    } else if (load_cluster(&gpu->cluster, item, problems) != STATUS_OK) {
        plan_pass_on(file, node, "gpus", problems);
    } else if (load_price(gpu, item->price, problems) != STATUS_OK) {
        plan_pass_on(file, node, "gpus.price", problems);
    } else if (strcmp(gpu->price.gpu, gpu->cluster.gpu.name) != 0) {
        plan_complain_at(file, node, "gpus.price", "is the price of another GPU");
    } else {
        gpu->spot_usd_per_gpu_hour = item->spot_usd_per_gpu_hour;
        gpu->nodes_max = item->nodes_max;
        plan_take_host(file, &gpu->host, item->host);
        plan->num_gpus++;
    }
    free(item);
    free(problems);
}

void plan_take_gpus(struct plan_file *file)
{
    const struct yaml_node *list = file->gpus;
    if (list == NULL) {
        return; /* required, and told */
    }
    for (const struct yaml_node *item = plan_items(list); item != NULL;
         item = plan_next_item(list, item)) {
        if (file->plan.num_gpus == PLAN_GPUS_MAX) {
            plan_complain_at(file, item, "gpus", "at most 8 kinds");
            return;
        }
        take_gpu(file, item);
    }
    if (plan_items(list) == NULL) {
        plan_complain_at(file, list, "gpus", "an empty list leaves nothing to rent");
    }
}
