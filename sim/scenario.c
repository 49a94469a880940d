/*
 * scenario.c -- loads a scenario: inherited files, overrides, schema, names, cross-checks.
 */
#include "scenario.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "data.h"
#include "gpu/measured.h"
#include "scenario_internal.h"

#define INHERIT_MAX 8

/* A chain of files: each inherits the next. */
struct chain {
    int32_t count;
    char path[INHERIT_MAX][PATH_BYTES];
    struct yaml_node *root[INHERIT_MAX];
    dev_t device[INHERIT_MAX]; /* which file it is, however it was named */
    ino_t inode[INHERIT_MAX];
};

/* Is the newest file of the chain in it already? */
static bool is_cycle(const struct chain *chain)
{
    int32_t newest = chain->count - 1;
    for (int32_t i = 0; i < newest; i++) {
        if (chain->device[i] == chain->device[newest] && chain->inode[i] == chain->inode[newest]) {
            return true;
        }
    }
    return false;
}

/* Loads the file at the end of the chain and takes its inherits key out. Returns the name it
 * inherits, or NULL. */
static const struct yaml_node *load_link(struct chain *chain, struct arena *arena,
                                         enum status *status, struct error *error)
{
    int32_t link = chain->count - 1;
    const char *path = chain->path[link];
    struct stat entry;
    *status = yaml_load(&chain->root[link], path, arena, error);
    if (*status != STATUS_OK) {
        return NULL;
    }
    if (stat(path, &entry) == 0) {
        chain->device[link] = entry.st_dev;
        chain->inode[link] = entry.st_ino;
    }
    if (chain->root[link]->kind != YAML_MAPPING) {
        *status = error_add(error, STATUS_INVALID, "%s:%d: expected keys and values", path,
                            (int)chain->root[link]->line);
        return NULL;
    }
    const struct yaml_node *inherits = yaml_get(chain->root[link], "inherits");
    if (inherits != NULL) {
        yaml_remove(chain->root[link], inherits);
        if (inherits->kind != YAML_SCALAR || *inherits->text == '\0') {
            *status = error_add(error, STATUS_INVALID, "%s:%d: inherits: expected a file", path,
                                (int)inherits->line);
            return NULL;
        }
    }
    return inherits;
}

/* Follows inherits from path and merges the chain, the farthest file first. */
static enum status load_chain(struct yaml_node **root, const char *path, struct arena *arena,
                              struct error *error)
{
    struct chain *chain = arena_alloc(arena, 1, sizeof *chain);
    if (chain == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    memcpy(chain->path[chain->count++], path, strlen(path) + 1);
    enum status status = STATUS_OK;
    const struct yaml_node *inherits = load_link(chain, arena, &status, error);
    while (inherits != NULL) {
        const char *from = chain->path[chain->count - 1];
        const char *slash = strrchr(from, '/');
        int directory = slash != NULL && inherits->text[0] != '/' ? (int)(slash - from) + 1 : 0;
        if (chain->count == INHERIT_MAX) {
            return error_add(error, STATUS_INVALID, "%s:%d: inherits: more than %d files deep",
                             from, (int)inherits->line, INHERIT_MAX);
        }
        char next[PATH_BYTES];
        int length = snprintf(next, sizeof next, "%.*s%s", directory, from, inherits->text);
        if (length < 0 || length >= PATH_BYTES) {
            return error_add(error, STATUS_INVALID, "%s:%d: inherits: the path is too long", from,
                             (int)inherits->line);
        }
        memcpy(chain->path[chain->count++], next, sizeof next);
        int32_t line = inherits->line;
        struct stat entry;
        if (stat(next, &entry) != 0) {
            return error_add(error, STATUS_INVALID,
                             "%s:%d: inherits: there is no %s; paths are relative to this file",
                             from, (int)line, next);
        }
        inherits = load_link(chain, arena, &status, error);
        if (status == STATUS_OK && is_cycle(chain)) {
            return error_add(error, STATUS_INVALID, "%s:%d: inherits: goes round in a circle", from,
                             (int)line);
        }
    }
    *root = chain->root[chain->count - 1];
    for (int32_t i = chain->count - 2; status == STATUS_OK && i >= 0; i--) {
        scenario_drop_rivals(*root, chain->root[i], NULL);
        *root = yaml_merge(*root, chain->root[i]);
    }
    return status;
}

static enum precision or_default(int32_t choice, enum precision fallback)
{
    return choice == SCENARIO_UNSET ? fallback : (enum precision)choice;
}

/* Everything that is a number or a choice; names are looked up later. */
static void copy_values(struct scenario *scenario, const struct scenario_file *file,
                        bool ep_is_given)
{
    int64_t num_gpus = (int64_t)file->nodes * file->gpus_per_node;
    int32_t all_gpus = num_gpus <= 65536 ? (int32_t)num_gpus : 0;
    memcpy(scenario->question, file->question, sizeof scenario->question);
    scenario->cluster.num_nodes = file->nodes;
    scenario->cluster.node_uplink_bytes_per_s = file->node_uplink_bytes_per_s;
    scenario->cluster.fabric = (enum fabric)file->fabric;
    scenario->cluster.nodes_per_leaf = file->nodes_per_leaf;
    scenario->cluster.spine_oversubscription = file->spine_oversubscription;
    scenario->cluster.gpus_per_node = file->gpus_per_node;
    scenario->ep = ep_is_given ? file->ep : all_gpus; /* given and wrong: 0, and told */
    scenario->tp = file->attention == 0 ? 1 : (file->tp > 0 ? file->tp : scenario->ep);
    scenario->expert_tp = file->expert_tp > 0 ? file->expert_tp : 1; /* wrong: told */
    scenario->phase = file->phase == PHASE_PREFILL ? PHASE_PREFILL : PHASE_DECODE;
    scenario->context_tokens = file->context_tokens;
    scenario->trace_tokens = file->trace_tokens;
    scenario->tokens_per_rank = file->tokens_per_rank;
    scenario->batching = file->batching != SCENARIO_UNSET  ? (enum batching)file->batching
                         : scenario->phase == PHASE_DECODE ? BATCHING_INTERLEAVED
                                                           : BATCHING_CONSECUTIVE;
    scenario->num_steps = file->steps;
    scenario->capacity_factor = file->capacity_factor;
    scenario->routing = file->routing;
    scenario->capacity_scope = (enum capacity_scope)file->capacity_scope;
    scenario->redundant_experts = file->redundant_experts;
    scenario->rebalance_interval_steps = file->rebalance_interval_steps;
    scenario->window_steps = file->window_steps;
    scenario->dispatch_precision = (enum precision)file->dispatch_dtype;
    scenario->combine_precision = (enum precision)file->combine_dtype;
    scenario->num_sms = file->num_sms;
    scenario->micro_batches = file->micro_batches;
    scenario->chunks = file->chunks;
    scenario->shared_tokens = file->shared_tokens == SCENARIO_UNSET ? 0 : file->shared_tokens;
    memcpy(scenario->kernels, file->kernels, sizeof scenario->kernels);
    scenario->memory_fraction = file->memory_fraction;
    scenario->seed = file->seed;
}

static void apply_precision(struct moe_model *model, const struct scenario_file *file)
{
    model->precision_dense = or_default(file->precision_dense, model->precision_dense);
    model->precision_expert = or_default(file->precision_expert, model->precision_expert);
    model->precision_kv = or_default(file->precision_kv, model->precision_kv);
}

/* The canonical text, owned by the scenario. */
static enum status keep_text(struct scenario *scenario, const struct yaml_node *root,
                             struct arena *arena, struct error *error)
{
    const char *text = yaml_write(root, arena);
    scenario->text = text != NULL ? malloc(strlen(text) + 1) : NULL;
    if (scenario->text == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    memcpy(scenario->text, text, strlen(text) + 1);
    return STATUS_OK;
}

/* A file, or the name of a study or of a deployment to serve that moesim has. */
static enum status find_scenario(char found[PATH_BYTES], const char *path, struct error *error)
{
    struct stat entry;
    size_t length = strlen(path);
    if (length >= PATH_BYTES) {
        return error_add(error, STATUS_INVALID, "%.64s...: the path is too long", path);
    }
    memcpy(found, path, length + 1);
    bool is_path = strchr(path, '/') != NULL || strchr(path, '.') != NULL;
    if (is_path || length == 0 || stat(path, &entry) == 0) {
        return STATUS_OK;
    }
    int written =
        snprintf(found, PATH_BYTES, "%s/scenarios/serving/%s.yaml", data_directory(), path);
    if (written > 0 && written < PATH_BYTES && stat(found, &entry) == 0) {
        return STATUS_OK;
    }
    return data_find_with(found, PATH_BYTES, "studies", "answer", false, path, error);
}

static bool starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

/* Files of other commands have a question too, and lie in the same directories. */
static enum status refuse_other_files(const struct yaml_node *root, const char *path,
                                      struct error *error)
{
    static const char *const others[][2] = {{"answer", "study"},
                                            {"traffic", "plan"},
                                            {"plan", "study"},
                                            {"scenario", "sweep"},
                                            {"claim", "claims"}};
    for (size_t i = 0; yaml_get(root, "cluster") == NULL && i < sizeof others / sizeof others[0];
         i++) {
        if (yaml_get(root, others[i][0]) != NULL) {
            char name[PATH_BYTES];
            data_stem(name, sizeof name, path);
            return error_add(
                error, STATUS_INVALID, "%s: is no scenario: it has '%s'; try moesim %s %s", path,
                others[i][0], others[i][1], starts_with(path, data_directory()) ? name : path);
        }
    }
    return STATUS_OK;
}

enum status scenario_load(struct scenario *scenario, const char *path, const char *const *overrides,
                          int32_t num_overrides, struct error *error)
{
    *scenario = (struct scenario){0};
    struct arena arena = {0};
    struct scenario_loader *loader = arena_alloc(&arena, 1, sizeof *loader);
    enum status status = STATUS_OK;
    if (loader == NULL) {
        status = error_add(error, STATUS_NO_MEMORY, "out of memory");
        goto done;
    }
    char *found = arena_alloc(&arena, PATH_BYTES, 1);
    status = found != NULL ? find_scenario(found, path, error)
                           : error_add(error, STATUS_NO_MEMORY, "out of memory");
    if (status != STATUS_OK) {
        goto done;
    }
    path = found;
    *loader = (struct scenario_loader){
        .scenario = scenario, .path = path, .arena = &arena, .error = error};
    loader->file = scenario_defaults;
    data_stem(scenario->name, sizeof scenario->name, path);
    status = load_chain(&loader->root, path, &arena, error);
    if (status == STATUS_OK) {
        status = refuse_other_files(loader->root, path, error);
    }
    if (status != STATUS_OK) {
        goto done;
    }
    for (int32_t i = 0; i < num_overrides; i++) {
        scenario_drop_rivals(loader->root, NULL, overrides[i]);
        enum status outcome = yaml_override(loader->root, overrides[i], &arena, error);
        loader->status = outcome != STATUS_OK ? outcome : loader->status;
    }
    status = yaml_fill(&loader->file, loader->root, scenario_fields, error);
    loader->status = status != STATUS_OK ? status : loader->status;
    bool ep_is_given = yaml_get(yaml_get(loader->root, "parallel"), "ep") != NULL;
    scenario_read_cluster(loader);
    copy_values(scenario, &loader->file, ep_is_given);
    scenario_look_up(loader);
    if (loader->has_model) {
        apply_precision(&scenario->model, &loader->file);
    }
    scenario_cross_check(loader);
    scenario_read_serving(loader);
    status = loader->status;
    if (status == STATUS_OK) {
        status = keep_text(scenario, loader->root, &arena, error);
    }
done:
    arena_free(&arena);
    return status;
}

void scenario_free(struct scenario *scenario)
{
    free(scenario->text);
    free(scenario->initial_expert_of_slot);
    free(scenario->fault);
    if (scenario->measured != NULL) {
        measured_free(scenario->measured);
    }
    free(scenario->measured);
    scenario->measured = NULL;
    scenario->cluster.gpu.measured = NULL;
    free(scenario->serving);
    scenario->serving = NULL;
    scenario->fault = NULL;
    scenario->num_faults = 0;
    scenario->text = NULL;
    scenario->initial_expert_of_slot = NULL;
}
