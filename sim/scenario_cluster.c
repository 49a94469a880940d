/* scenario_cluster.c -- the cluster of a scenario: a preset, or a GPU and how many of them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scenario_internal.h"

static void read_preset(struct scenario_loader *loader, struct error *problems)
{
    struct scenario_file *file = &loader->file;
    struct cluster *cluster = &loader->scenario->cluster;
    char path[PATH_BYTES];
    scenario_resolve_preset(loader, path, "cluster.preset", file->cluster);
    if (cluster_load(cluster, path, problems) != STATUS_OK) {
        scenario_pass_on(loader, "cluster.preset", problems);
        return;
    }
    if (file->gpus_per_node == 0) {
        file->gpus_per_node = cluster->gpus_per_node;
    }
    struct gpu_spec *own = file->gpu[0] != '\0' ? calloc(1, sizeof *own) : NULL;
    if (own != NULL && gpu_load(own, file->gpu, problems) == STATUS_OK &&
        strcmp(own->name, cluster->gpu.name) != 0) {
        scenario_complain(loader, "cluster.gpu", "%s is not the GPU of %s, which is %s", own->name,
                          cluster->preset, cluster->gpu.name);
    }
    free(own);
    if (file->gpu[0] == '\0') {
        (void)snprintf(file->gpu, sizeof file->gpu, "%s", cluster->gpu.name);
    }
}

void scenario_drop_rival(struct yaml_node *root, bool has_gpu, bool has_preset)
{
    struct yaml_node *cluster = yaml_get(root, "cluster");
    const struct yaml_node *rival = yaml_get(cluster, has_gpu ? "preset" : "gpu");
    if (has_gpu != has_preset && rival != NULL) {
        yaml_remove(cluster, rival);
    }
}

void scenario_read_cluster(struct scenario_loader *loader)
{
    const struct scenario_file *file = &loader->file;
    if (file->cluster[0] != '\0') {
        struct error *problems = calloc(1, sizeof *problems);
        if (problems == NULL) {
            loader->status = error_add(loader->error, STATUS_NO_MEMORY, "out of memory");
            return;
        }
        read_preset(loader, problems);
        free(problems);
        return;
    }
    if (yaml_get(loader->root, "cluster") == NULL) {
        return; /* told already */
    }
    if (file->gpu[0] == '\0') {
        scenario_complain(loader, "cluster.gpu",
                          "is missing; name a GPU, or a cluster of scenarios/clusters/ as preset");
    }
    if (file->gpus_per_node == 0) {
        scenario_complain(loader, "cluster.gpus_per_node", "is missing");
    }
}

void scenario_choose_exchange(struct scenario_loader *loader)
{
    struct scenario *scenario = loader->scenario;
    struct cluster *cluster = &scenario->cluster;
    if (loader->has_gpu && scenario->num_sms >= cluster->gpu.num_sms) {
        scenario_complain(loader, "dispatch.num_sms",
                          "%d leaves none of the %d SMs of %s to compute", (int)scenario->num_sms,
                          (int)cluster->gpu.num_sms, cluster->gpu.name);
    }
    if (scenario->collective == NULL || cluster->num_fitted == 0) {
        return;
    }
    const struct fitted_collective *fitted = cluster_constants(
        cluster, scenario->collective->name, precision_name(scenario->dispatch_precision));
    cluster->fitted_used = fitted != NULL ? (int32_t)(fitted - cluster->fitted) + 1 : 0;
}
