/*
 * scenario_lookup.c -- names in a scenario become presets, plug-ins and paths.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "data.h"
#include "scenario_internal.h"
#include "suggest.h"

#define PLUGINS_MAX 64 /* of a kind */

/* The directory part of a path, "." when it has none. */
static void directory_of(char *directory, size_t size, const char *path)
{
    const char *slash = strrchr(path, '/');
    int length = slash == NULL ? 1 : (int)(slash - path);
    (void)snprintf(directory, size, "%.*s", length == 0 ? 1 : length,
                   slash == NULL ? "." : (length == 0 ? "/" : path));
}

static bool exists(const char *path)
{
    struct stat entry;
    return stat(path, &entry) == 0;
}

/* The node of a dotted key, or the deepest of its parents that is there. */
static const struct yaml_node *find_node(const struct yaml_node *root, const char *key,
                                         bool *is_found)
{
    char part[NAME_BYTES];
    const struct yaml_node *node = root;
    *is_found = true;
    while (key != NULL && *is_found) {
        const char *dot = strchr(key, '.');
        size_t length = dot != NULL ? (size_t)(dot - key) : strlen(key);
        (void)snprintf(part, sizeof part, "%.*s", (int)length, key);
        const struct yaml_node *child = yaml_get(node, part);
        *is_found = child != NULL;
        node = child != NULL ? child : node;
        key = dot != NULL ? dot + 1 : NULL;
    }
    return node;
}

void scenario_complain(struct scenario_loader *loader, const char *key, const char *format, ...)
{
    char text[2048];
    bool is_found = false;
    const struct yaml_node *node = find_node(loader->root, key, &is_found);
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    loader->status = STATUS_INVALID;
    if (node->line > 0 && node != loader->root) {
        (void)error_add(loader->error, STATUS_INVALID, "%s:%d: %s: %s", node->file, node->line, key,
                        text);
    } else if (node->line == 0 && is_found) {
        (void)error_add(loader->error, STATUS_INVALID, "%s %s: %s", node->file, key, text);
    } else {
        (void)error_add(loader->error, STATUS_INVALID, "%s: %s: %s", loader->path, key, text);
    }
}

bool scenario_find_path(const struct scenario_loader *loader, char path[PATH_BYTES],
                        const char *key, const char *written)
{
    char directory[PATH_BYTES];
    bool is_found = false;
    const struct yaml_node *node = find_node(loader->root, key, &is_found);
    directory_of(directory, sizeof directory, node->line > 0 ? node->file : loader->path);
    const char *const bases[] = {directory, data_directory()};
    for (size_t i = 0; written[0] != '/' && i < sizeof bases / sizeof bases[0]; i++) {
        int length = snprintf(path, PATH_BYTES, "%s/%s", bases[i], written);
        if (length < PATH_BYTES && exists(path)) {
            return true;
        }
    }
    (void)snprintf(path, PATH_BYTES, "%s", written);
    return exists(path);
}

void scenario_pass_on(struct scenario_loader *loader, const char *key, const struct error *problems)
{
    const char *line = problems->text;
    while (*line != '\0') {
        const char *end = strchr(line, '\n');
        int length = end != NULL ? (int)(end - line) : (int)strlen(line);
        scenario_complain(loader, key, "%.*s", length, line);
        line += length + (end != NULL ? 1 : 0);
    }
}

void scenario_resolve_preset(const struct scenario_loader *loader, char path[PATH_BYTES],
                             const char *key, const char *name)
{
    char config[PATH_BYTES];
    size_t length = strlen(name);
    int config_length = snprintf(config, sizeof config, "%s/config.json", name);
    if (strcmp(key, "model") == 0 && config_length < PATH_BYTES &&
        scenario_find_path(loader, path, key, config)) {
        return;
    }
    bool is_yaml = length > 5 && strcmp(name + length - 5, ".yaml") == 0;
    bool is_json = length > 5 && strcmp(name + length - 5, ".json") == 0;
    (void)snprintf(path, PATH_BYTES, "%s", name);
    if (is_yaml || is_json || strchr(name, '/') != NULL) {
        (void)scenario_find_path(loader, path, key, name);
    }
}

static void look_up_price(struct scenario_loader *loader, struct error *problems)
{
    struct scenario *scenario = loader->scenario;
    char path[PATH_BYTES];
    scenario_resolve_preset(loader, path, "price", loader->file.price);
    loader->has_price =
        price_load_for(&scenario->price, path, loader->has_gpu ? &scenario->cluster.gpu : NULL,
                       problems) == STATUS_OK;
}

static void look_up_presets(struct scenario_loader *loader)
{
    struct scenario *scenario = loader->scenario;
    const struct scenario_file *file = &loader->file;
    char path[PATH_BYTES];
    struct error *problems = calloc(1, sizeof *problems);
    if (problems == NULL) {
        loader->status = error_add(loader->error, STATUS_NO_MEMORY, "out of memory");
        return;
    }
    if (file->model[0] != '\0') {
        scenario_resolve_preset(loader, path, "model", file->model);
        loader->has_model = model_load(&scenario->model, path, problems) == STATUS_OK;
        scenario_pass_on(loader, "model", problems);
    }
    *problems = (struct error){0};
    if (file->gpu[0] != '\0') {
        scenario_resolve_preset(loader, path, "cluster.gpu", file->gpu);
        loader->has_gpu = gpu_load(&scenario->cluster.gpu, path, problems) == STATUS_OK;
        scenario_pass_on(loader, "cluster.gpu", problems);
    }
    *problems = (struct error){0};
    if (file->price[0] != '\0') {
        look_up_price(loader, problems);
        scenario_pass_on(loader, "price", problems);
    }
    free(problems);
}

void scenario_complain_plugin(struct scenario_loader *loader, const char *key, const char *name,
                              enum registry_kind kind)
{
    char words[SUGGEST_BYTES];
    const char *known[PLUGINS_MAX];
    struct suggestion suggestion = {.word = name};
    int32_t count = registry_count(kind);
    assert(count <= PLUGINS_MAX);
    for (int32_t i = 0; i < count; i++) {
        known[i] = registry_entry(kind, i).name;
        suggest_offer(&suggestion, known[i]);
    }
    suggest_words(words, sizeof words, &suggestion, known, count, registry_kind_name(kind));
    scenario_complain(loader, key, "'%s' is none of the %s%s", name, registry_kind_name(kind),
                      words);
}

/* Prompts are too many tokens for kernels of decode: DeepEP's have buffers for a few hundred of a
 * rank. So SGLang's mode "auto" takes the normal ones for a step in which any rank reads
 * (DeepEPMode.resolve by is_extend_in_batch, sgl-project/sglang). Engines have one of any other. */
static const char *prefill_collective(const struct scenario_file *file, const char *collective)
{
    const char *of_decode = collective_usual(false);
    if (file->prefill_collective[0] != '\0') {
        return file->prefill_collective;
    }
    return strncmp(collective, of_decode, strlen(of_decode)) == 0 ? collective_usual(true)
                                                                  : collective;
}

static void look_up_plugins(struct scenario_loader *loader)
{
    struct scenario *scenario = loader->scenario;
    const struct scenario_file *file = &loader->file;
    const char *collective = file->collective;
    if (*collective == '\0') {
        collective = file->expert_tp > 1 ? "allgather_reducescatter"
                                         : collective_usual(file->phase == PHASE_PREFILL);
    }
    const char *of_prompts = prefill_collective(file, collective);
    if (file->phase == PHASE_PREFILL && file->prefill_collective[0] != '\0') {
        scenario_complain(loader, "dispatch.prefill_collective",
                          "goes with phase: decode; all steps here are of dispatch.collective");
    }
    scenario->router = route_find(file->router);
    scenario->drop = drop_find(file->drop);
    scenario->strategy = balance_find(file->strategy);
    scenario->replica = dispatch_find(file->replica);
    scenario->collective = collective_find(collective);
    scenario->prefill_collective = collective_find(of_prompts);
    scenario->net = net_find(file->network);
    scenario->gpu_model = gpu_find(file->gpu_model);
    const struct {
        bool is_found;
        const char *key;
        const char *name;
        enum registry_kind kind;
    } plugins[] = {
        {scenario->router != NULL, "routing.policy", file->router, REGISTRY_ROUTERS},
        {scenario->drop != NULL, "routing.drop", file->drop, REGISTRY_DROPS},
        {scenario->strategy != NULL, "placement.strategy", file->strategy, REGISTRY_STRATEGIES},
        {scenario->replica != NULL, "dispatch.replica", file->replica, REGISTRY_REPLICAS},
        {scenario->collective != NULL, "dispatch.collective", collective, REGISTRY_COLLECTIVES},
        {scenario->prefill_collective != NULL || file->prefill_collective[0] == '\0',
         "dispatch.prefill_collective", of_prompts, REGISTRY_COLLECTIVES},
        {scenario->net != NULL, "network", file->network, REGISTRY_NETWORKS},
        {scenario->gpu_model != NULL, "compute.model", file->gpu_model, REGISTRY_GPU_MODELS},
    };
    for (size_t i = 0; i < sizeof plugins / sizeof plugins[0]; i++) {
        if (!plugins[i].is_found) {
            scenario_complain_plugin(loader, plugins[i].key, plugins[i].name, plugins[i].kind);
        }
    }
}

/* Who has no recording of the model is told what generates one like it, where that is known. */
static void complain_of_trace(struct scenario_loader *loader)
{
    const char *written = loader->file.trace_path;
    const char *model = loader->scenario->model.name;
    char path[PATH_BYTES];
    char command[2 * PATH_BYTES] = "moesim trace import makes one of what an engine recorded";
    if (loader->has_model && data_find(path, sizeof path, "traces", model, NULL) == STATUS_OK) {
        (void)snprintf(command, sizeof command,
                       "moesim trace generate --preset %s --tokens 100000 --out %s makes one, or "
                       "trace import of what an engine recorded",
                       model, written);
    }
    scenario_complain(loader, "trace.path",
                      "there is no '%s' beside the file that names it, in the data directory %s or "
                      "here; %s",
                      written, data_directory(), command);
}

static void look_up_trace(struct scenario_loader *loader)
{
    struct scenario *scenario = loader->scenario;
    const struct scenario_file *file = &loader->file;
    char path[PATH_BYTES];
    if (file->trace_path[0] != '\0' &&
        !scenario_find_path(loader, scenario->trace_path, "trace.path", file->trace_path)) {
        complain_of_trace(loader);
    }
    if (file->trace_preset[0] == '\0') {
        return;
    }
    struct error *problems = calloc(1, sizeof *problems);
    if (problems == NULL) {
        loader->status = error_add(loader->error, STATUS_NO_MEMORY, "out of memory");
        return;
    }
    if (data_find(path, sizeof path, "traces", file->trace_preset, problems) != STATUS_OK) {
        scenario_pass_on(loader, "trace.preset", problems);
    }
    free(problems);
    memcpy(scenario->trace_preset, file->trace_preset, sizeof scenario->trace_preset);
}

void scenario_look_up(struct scenario_loader *loader)
{
    look_up_presets(loader);
    look_up_plugins(loader);
    scenario_choose_exchange(loader);
    look_up_trace(loader);
}
