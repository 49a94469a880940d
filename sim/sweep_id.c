/*
 * sweep_id.c -- what names a point: everything that its result depends on.
 *
 * A generated trace is not made for its name: preset, tokens and seed say what it will be.
 */
#include <string.h>

#include "data.h"
#include "digest.h"
#include "sweep_internal.h"
#include "yaml_file.h"

/* The bytes of a file; 0: there is none. */
static uint64_t read_digest(const char *path)
{
    unsigned char bytes[65536];
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return 0;
    }
    uint64_t digest = DIGEST_START;
    size_t count;
    while ((count = fread(bytes, 1, sizeof bytes, file)) > 0) {
        for (size_t i = 0; i < count; i++) {
            digest = digest_u64(digest, bytes[i]);
        }
    }
    bool is_whole = ferror(file) == 0;
    fclose(file);
    return is_whole ? digest : 0;
}

static uint64_t file_digest(struct sweep_files *files, const char *path)
{
    pthread_mutex_lock(&files->mutex);
    int32_t i = 0;
    while (i < files->count && strcmp(files->file[i].path, path) != 0) {
        i++;
    }
    uint64_t digest = i < files->count ? files->file[i].digest : read_digest(path);
    if (i == files->count && i < SWEEP_FILES_MAX && digest != 0 && strlen(path) < PATH_BYTES) {
        memcpy(files->file[i].path, path, strlen(path) + 1);
        files->file[i].digest = digest;
        files->count++;
    }
    pthread_mutex_unlock(&files->mutex);
    return digest;
}

/* A preset's file, or the user's own: beside the scenario, or where the command runs. 0: a number,
 * as prices may be. */
static uint64_t named_digest(struct sweep_files *files, const char *kind, const char *name,
                             const char *scenario_path)
{
    char path[2 * PATH_BYTES];
    const char *slash = strrchr(scenario_path, '/');
    int directory = slash != NULL && name[0] != '/' ? (int)(slash - scenario_path) + 1 : 0;
    (void)snprintf(path, sizeof path, "%.*s%s", directory, scenario_path, name);
    uint64_t digest = strchr(name, '.') != NULL ? file_digest(files, path) : 0;
    if (digest == 0 && data_find(path, sizeof path, kind, name, NULL) == STATUS_OK) {
        digest = file_digest(files, path);
    }
    return digest;
}

/* Prices are named by what follows the GPU's name too. */
static uint64_t price_digest(struct sweep_files *files, const struct scenario *scenario,
                             const char *name, const char *path)
{
    char of_gpu[2 * NAME_BYTES];
    int family = (int)strcspn(scenario->cluster.gpu.name, "-");
    (void)snprintf(of_gpu, sizeof of_gpu, "%.*s-%.*s", family, scenario->cluster.gpu.name,
                   NAME_BYTES - 1, name);
    uint64_t digest = named_digest(files, "prices", name, path);
    return digest != 0 ? digest : named_digest(files, "prices", of_gpu, path);
}

static const char *text_of(const struct yaml_node *node)
{
    return node != NULL && node->kind == YAML_SCALAR ? node->text : "";
}

/* All files that the scenario's text names but the trace. */
static enum status presets_digest(uint64_t *digest, const struct scenario *scenario,
                                  const char *path, struct sweep_files *files, struct error *error)
{
    struct arena arena = {0};
    struct yaml_node *root = NULL;
    enum status status = yaml_parse(&root, scenario->text, path, &arena, error);
    if (status == STATUS_OK) {
        const char *model = text_of(yaml_get(root, "model"));
        const char *cluster = text_of(yaml_get(yaml_get(root, "cluster"), "preset"));
        const char *gpu = text_of(yaml_get(yaml_get(root, "cluster"), "gpu"));
        gpu = *gpu != '\0' ? gpu : scenario->cluster.gpu.name; /* that of the cluster's preset */
        const char *price = text_of(yaml_get(root, "price"));
        *digest = digest_u64(*digest, named_digest(files, "models", model, path));
        *digest = digest_u64(*digest, named_digest(files, "clusters", cluster, path));
        *digest = digest_u64(*digest, named_digest(files, "gpus", gpu, path));
        *digest = digest_u64(*digest, price_digest(files, scenario, price, path));
    }
    arena_free(&arena);
    return status;
}

/* A generated trace is a function of its preset, and of tokens and seed, which the text has. */
static enum status trace_part(uint64_t *digest, const struct scenario *scenario,
                              struct sweep_files *files, struct sweep_traces *traces,
                              struct error *error)
{
    char path[PATH_BYTES];
    if (model_num_moe_layers(&scenario->model) == 0) {
        return STATUS_OK;
    }
    if (scenario->trace_preset[0] == '\0') {
        const struct trace *trace = NULL;
        enum status status = sweep_traces_take(traces, scenario, &trace, error);
        *digest = digest_u64(*digest, status == STATUS_OK ? trace->digest : 0);
        sweep_traces_give(traces, trace);
        return status;
    }
    enum status status = data_find(path, sizeof path, "traces", scenario->trace_preset, error);
    if (status == STATUS_OK) {
        *digest = digest_u64(*digest, file_digest(files, path));
        char *suffix = strrchr(path, '.');
        (void)snprintf(suffix, sizeof path - (size_t)(suffix - path), ".npy"); /* its tables */
        *digest = digest_u64(*digest, file_digest(files, path));
    }
    return status;
}

enum status sweep_point_id(uint64_t *id, const struct scenario *scenario, const char *path,
                           const char *label, struct sweep_files *files,
                           struct sweep_traces *traces, struct error *error)
{
    uint64_t digest = digest_text(DIGEST_START, scenario->text);
    digest = digest_text(digest, label);
    digest = digest_text(digest, store_commit());
    enum status status = presets_digest(&digest, scenario, path, files, error);
    if (status == STATUS_OK) {
        status = trace_part(&digest, scenario, files, traces, error);
    }
    *id = digest;
    return status;
}
