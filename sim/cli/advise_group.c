/* advise_group.c -- the GPUs: which, how many, how wired, and what an hour of one costs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/advise.h"
#include "data.h"
#include "memory_fit.h"

#define GPUS_MAX      4096
#define MEMORY_SHARE  0.9   /* the scenario's default */
#define DOMAIN_SUFFIX "-nv" /* of presets that are one NVLink domain: h100-nvlink, gb200-nvl72 */

static struct memory_question memory_of(const struct advise *advise)
{
    return (struct memory_question){.model = &advise->model,
                                    .gpu = &advise->cluster.gpu,
                                    .context_tokens = 1,
                                    .memory_fraction = MEMORY_SHARE};
}

static bool fits(const struct advise *advise, int32_t num_gpus)
{
    struct memory_question question = memory_of(advise);
    return memory_fit(&question, num_gpus).batch_max > 0;
}

/* Of presets with this GPU, one whose exchanges were measured as the GPUs are joined: within a
 * domain for one, between nodes for more. "": none. */
static enum status find_cluster(char name[NAME_BYTES], const struct advise *advise,
                                struct error *error)
{
    const char *const *preset = NULL;
    struct arena arena = {0};
    struct cluster *cluster = calloc(1, sizeof *cluster);
    int32_t count = data_list(&preset, "clusters", &arena);
    bool is_domain = advise->num_gpus <= advise->cluster.gpus_per_node && advise->num_nodes < 2;
    enum status status = cluster == NULL || count == DATA_NO_MEMORY
                             ? error_add(error, STATUS_NO_MEMORY, "out of memory")
                             : STATUS_OK;
    name[0] = '\0';
    for (int32_t i = 0; i < count && status == STATUS_OK; i++) {
        status = cluster_load(cluster, preset[i], error);
        bool is_ours =
            status == STATUS_OK && strcmp(cluster->gpu.name, advise->cluster.gpu.name) == 0;
        bool is_wired_so = (strstr(preset[i], DOMAIN_SUFFIX) != NULL) == is_domain;
        if (is_ours && (is_wired_so || (is_domain && name[0] == '\0'))) {
            (void)snprintf(name, NAME_BYTES, "%s", preset[i]);
        }
    }
    free(cluster);
    arena_free(&arena);
    return status;
}

/* --gpu names a cluster or a GPU; a file is told by what it holds, and its problems as a GPU's. */
static enum status load_gpu(struct advise *advise, struct error *error)
{
    struct error *quiet = calloc(1, sizeof *quiet);
    if (quiet == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    enum status status = cluster_load(&advise->cluster, advise->gpu_name, quiet);
    free(quiet);
    if (status == STATUS_OK) {
        advise_write_name(advise->gpu_written, advise->gpu_name);
        return STATUS_OK;
    }
    advise->cluster = (struct cluster){.num_nodes = 1};
    status = gpu_load(&advise->cluster.gpu, advise->gpu_name, error);
    advise_write_name(advise->gpu_written, advise->gpu_name);
    advise->cluster.gpus_per_node = status == STATUS_OK ? gpu_usual_node(&advise->cluster.gpu) : 1;
    return status;
}

static enum status load_price(struct advise *advise, struct error *error)
{
    const struct gpu_spec *gpu = &advise->cluster.gpu;
    enum status status = STATUS_OK;
    if (advise->price_name != NULL) {
        status = price_load_for(&advise->price, advise->price_name, gpu, error);
        advise_write_name(advise->price_written, advise->price_name);
    } else {
        status = price_load_usual(&advise->price, gpu, error);
        (void)snprintf(advise->price_written, sizeof advise->price_written, "%s",
                       advise->price.name);
    }
    return status;
}

/* Whole nodes, the fewest that hold the weights; or as many GPUs as were asked for. */
static enum status count_gpus(struct advise *advise, struct error *error)
{
    int32_t node = advise->cluster.gpus_per_node;
    bool is_asked = advise->num_gpus > 0;
    struct memory_question question = memory_of(advise);
    for (int32_t count = node; !is_asked && count <= GPUS_MAX; count += node) {
        if (fits(advise, count)) {
            advise->num_gpus = count;
            break;
        }
    }
    int32_t least = memory_gpus_min(&question, GPUS_MAX, false);
    if (least == 0) {
        return error_add(error, STATUS_INVALID, "%s does not fit on any number of %s",
                         advise->model.name, advise->cluster.gpu.name);
    }
    if (!fits(advise, advise->num_gpus)) {
        return error_add(
            error, STATUS_INVALID,
            "%s does not fit on %d %s: the fewest that hold it are %d; give --gpus %d, "
            "or a GPU with more memory (moesim memory %s --gpu %s shows why)",
            advise->model.name, (int)advise->num_gpus, advise->cluster.gpu.name, (int)least,
            (int)least, advise->model.name, advise->cluster.gpu.name);
    }
    return STATUS_OK;
}

static enum status deal_nodes(struct advise *advise, struct error *error)
{
    struct cluster *cluster = &advise->cluster;
    int32_t node = cluster->gpus_per_node;
    int32_t nodes =
        advise->num_nodes > 0 ? advise->num_nodes : (advise->num_gpus + node - 1) / node;
    if (advise->num_gpus % nodes != 0) {
        return error_add(error, STATUS_INVALID,
                         "%d GPUs do not make %d equal nodes; give --gpus a multiple of --nodes",
                         (int)advise->num_gpus, (int)nodes);
    }
    cluster->num_nodes = nodes;
    cluster->gpus_per_node = advise->num_gpus / nodes;
    advise->redundant_base = memory_redundant_for(&advise->model, 0, advise->num_gpus);
    if (advise->num_gpus > advise->model.num_experts) {
        return error_add(error, STATUS_INVALID,
                         "%d GPUs are more than the %d experts of a layer of %s; give --gpus %d or "
                         "fewer",
                         (int)advise->num_gpus, (int)advise->model.num_experts, advise->model.name,
                         (int)advise->model.num_experts);
    }
    return STATUS_OK;
}

/* The usual exchange, unless this cluster was measured with others alone. */
static void choose_exchange(struct advise *advise)
{
    const struct cluster *cluster = &advise->cluster;
    advise->collective = collective_usual_on(&cluster->gpu, advise->prefill);
    bool is_measured = false;
    for (int32_t i = 0; i < cluster->num_fitted; i++) {
        is_measured |= strcmp(cluster->fitted[i].collective, advise->collective->name) == 0;
    }
    if (cluster->num_fitted > 0 && !is_measured) {
        advise->collective = collective_find(cluster->fitted[0].collective);
    }
}

static void choose_compute(struct advise *advise)
{
    struct scenario *scenario = calloc(1, sizeof *scenario);
    if (scenario == NULL) {
        return; /* a roofline will do */
    }
    scenario->model = advise->model;
    scenario->cluster = advise->cluster;
    scenario->ep = advise->num_gpus;
    scenario->expert_tp = 1;
    scenario->phase = advise->prefill ? PHASE_PREFILL : PHASE_DECODE;
    scenario->collective = advise->collective;
    (void)snprintf(scenario->kernels, sizeof scenario->kernels, "any");
    advise->is_fitted = scenario_choose_kernels(scenario);
    free(scenario);
}

enum status advise_ask(struct advise *advise, struct error *error)
{
    char preset[NAME_BYTES] = "";
    enum status status = advise_take_model(advise, error);
    enum status of_gpu = load_gpu(advise, error);
    status = status == STATUS_OK ? of_gpu : status;
    if (of_gpu == STATUS_OK) {
        enum status of_price = load_price(advise, error);
        status = status == STATUS_OK ? of_price : status;
    }
    if (status == STATUS_OK) {
        status = count_gpus(advise, error);
    }
    if (status == STATUS_OK && advise->cluster.preset[0] == '\0') {
        status = find_cluster(preset, advise, error);
    }
    if (status == STATUS_OK && preset[0] != '\0') {
        status = cluster_load(&advise->cluster, preset, error);
        (void)snprintf(advise->gpu_written, sizeof advise->gpu_written, "%s", preset);
    }
    if (status == STATUS_OK) {
        status = deal_nodes(advise, error);
    }
    if (status == STATUS_OK) {
        choose_exchange(advise);
        choose_compute(advise);
    }
    return status;
}
