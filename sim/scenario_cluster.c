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
    loader->has_gpu = true;
}

/* The section "serving.arrivals" of a scenario; NULL: it has none. */
static struct yaml_node *find_section(const struct yaml_node *root, const char *path)
{
    char first[NAME_BYTES];
    const char *dot = strchr(path, '.');
    (void)snprintf(first, sizeof first, "%.*s", (int)strcspn(path, "."), path);
    struct yaml_node *section = yaml_get(root, first);
    return section != NULL && dot != NULL ? find_section(section, dot + 1) : section;
}

/* An override without a value takes away, and so says nothing. */
static bool says(const struct yaml_node *later, const char *override, const char *section,
                 const char *key)
{
    char start[NAME_BYTES];
    int length = snprintf(start, sizeof start, "%s.%s=", section, key);
    return later != NULL
               ? yaml_get(find_section(later, section), key) != NULL
               : strncmp(override, start, (size_t)length) == 0 && override[length] != '\0';
}

void scenario_drop_rivals(struct yaml_node *root, const struct yaml_node *later,
                          const char *override)
{
    static const struct {
        const char *section;
        const char *key;
        const char *rival;
    } rivals[] = {{"cluster", "gpu", "preset"},
                  {"cluster", "preset", "gpu"},
                  {"trace", "path", "preset"},
                  {"trace", "path", "tokens"},
                  {"trace", "preset", "path"},
                  {"serving.arrivals", "path", "rate_per_s"},
                  {"serving.arrivals", "path", "duration_s"},
                  {"serving.arrivals", "path", "prompt_tokens"},
                  {"serving.arrivals", "path", "decode_tokens"},
                  {"serving.arrivals", "concurrency", "rate_per_s"},
                  {"serving.arrivals", "concurrency", "duration_s"},
                  {"serving.arrivals", "concurrency", "cv"},
                  {"serving.arrivals", "concurrency", "day_swing"},
                  {"serving.arrivals", "concurrency", "speed"},
                  {"serving.arrivals", "rate_per_s", "concurrency"},
                  {"serving.arrivals", "prompt_spread", "prompt_cv"},
                  {"serving.arrivals", "prompt_cv", "prompt_spread"},
                  {"serving.arrivals", "decode_spread", "decode_cv"},
                  {"serving.arrivals", "decode_cv", "decode_spread"}};
    for (size_t i = 0; i < sizeof rivals / sizeof rivals[0]; i++) {
        struct yaml_node *section = find_section(root, rivals[i].section);
        const struct yaml_node *rival = yaml_get(section, rivals[i].rival);
        if (rival != NULL && says(later, override, rivals[i].section, rivals[i].key) &&
            !says(later, override, rivals[i].section, rivals[i].rival)) {
            yaml_remove(section, rival);
        }
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
    if (scenario->collective != NULL) {
        cluster_use_constants(cluster, scenario->collective->name,
                              precision_name(scenario->dispatch_precision));
    }
}
