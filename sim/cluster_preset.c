/* cluster_preset.c -- presets of clusters: a GPU, how it is wired, and fitted collectives. */
#include "cluster.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gpu_constants.h"
#include "preset.h"

#define RATE_MAX 1e18
#define NS_MAX   1e9

struct cluster_file {
    char gpu[FILE_PATH_BYTES];
    char source[SOURCE_BYTES];
    int32_t gpus_per_node;
    struct yaml_node *aliases;
    struct yaml_node *fitted;
};

/* One entry of the list, as written. */
struct fitted_file {
    struct fitted_collective fitted; /* first: the table counts from its start */
    struct yaml_node *exchange[EXCHANGE_COUNT];
};

static const struct yaml_field cluster_fields[] = {
    {"aliases", YAML_NODE, offsetof(struct cluster_file, aliases), .size = 0},
    {"source", YAML_TEXT, offsetof(struct cluster_file, source), .size = SOURCE_BYTES,
     .required = true},
    {"gpu", YAML_TEXT, offsetof(struct cluster_file, gpu), .size = FILE_PATH_BYTES,
     .required = true},
    {"gpus_per_node", YAML_INT32, offsetof(struct cluster_file, gpus_per_node), .required = true,
     .min = 1, .max = 4096},
    {"fitted", YAML_NODE, offsetof(struct cluster_file, fitted), .size = 0},
    {.key = NULL},
};

#define CONSTANT(name, least, most)                                                                \
    {                                                                                              \
#name, YAML_DOUBLE, offsetof(struct exchange_constants, name),                             \
            .required = true, .min = (least), .max = (most)                                        \
    }
#define OPTIONAL(name, most)                                                                       \
    {                                                                                              \
#name, YAML_DOUBLE, offsetof(struct exchange_constants, name), .min = 0.0, .max = (most)   \
    }

static const struct yaml_field exchange_fields[] = {
    CONSTANT(startup_ns, 0.0, NS_MAX),
    CONSTANT(far_startup_ns, 0.0, NS_MAX),
    CONSTANT(node_ns, 0.0, NS_MAX),
    OPTIONAL(doubling_ns, NS_MAX),
    CONSTANT(expert_ns, 0.0, NS_MAX),
    CONSTANT(far_expert_ns, 0.0, NS_MAX),
    CONSTANT(fill_ns, 0.0, NS_MAX),
    CONSTANT(fill_half_ns, 0.0, NS_MAX),
    CONSTANT(token_ns, 0.0, NS_MAX),
    OPTIONAL(token_byte_ns, NS_MAX),
    CONSTANT(scale_up_share, 0.01, 2.0),
    CONSTANT(scale_out_share, 0.01, 2.0),
    CONSTANT(copy_bytes_per_s, 1.0, RATE_MAX),
    OPTIONAL(own_copies, 1e3),
    OPTIONAL(copy_extra_bytes, 1e9),
    OPTIONAL(slot_blocks, 1.0),
    CONSTANT(blend, 1.0, 100.0),
    {.key = NULL},
};

static const struct yaml_field fitted_fields[] = {
    {"collective", YAML_TEXT, offsetof(struct fitted_collective, collective), .size = NAME_BYTES,
     .required = true},
    {"dtype", YAML_TEXT, offsetof(struct fitted_collective, dtype), .size = NAME_BYTES,
     .required = true},
    {"library", YAML_TEXT, offsetof(struct fitted_collective, library), .size = NAME_BYTES,
     .required = true},
    {"num_sms", YAML_INT32, offsetof(struct fitted_collective, num_sms), .min = 0, .max = 65536},
    {"dispatch", YAML_NODE, offsetof(struct fitted_file, exchange[EXCHANGE_DISPATCH]), .size = 0},
    {"combine", YAML_NODE, offsetof(struct fitted_file, exchange[EXCHANGE_COMBINE]), .size = 0},
    {"prepare", YAML_NODE, offsetof(struct fitted_file, exchange[EXCHANGE_PREPARE]), .size = 0},
    {"combine_low_precision", YAML_NODE,
     offsetof(struct fitted_file, exchange[EXCHANGE_COMBINE_LOW]), .size = 0},
    FIT_EVIDENCE_FIELDS(struct fitted_collective),
    {.key = NULL},
};

static enum status fill_entry(struct cluster *cluster, const struct yaml_node *item,
                              struct error *error)
{
    struct fitted_file file = {0};
    if (item->kind != YAML_MAPPING) {
        return error_add(error, STATUS_INVALID, "%s:%d: fitted: keys and values are expected",
                         item->file, (int)item->line);
    }
    enum status status = yaml_fill(&file, item, fitted_fields, error);
    for (int32_t i = 0; i < EXCHANGE_COUNT; i++) {
        const struct yaml_node *node = file.exchange[i];
        if (node == NULL) {
            continue;
        }
        if (node->kind != YAML_MAPPING) {
            status = error_add(error, STATUS_INVALID, "%s:%d: %s: constants are expected",
                               node->file, (int)node->line, node->key);
        } else if (yaml_fill(&file.fitted.exchange[i], node, exchange_fields, error) != STATUS_OK) {
            status = STATUS_INVALID;
        }
        file.fitted.has[i] = true;
    }
    if (!file.fitted.has[EXCHANGE_DISPATCH] || !file.fitted.has[EXCHANGE_COMBINE]) {
        status = error_add(error, STATUS_INVALID, "%s:%d: fitted: dispatch and combine are needed",
                           item->file, (int)item->line);
    }
    for (int32_t i = 0; i < cluster->num_fitted; i++) {
        if (strcmp(cluster->fitted[i].collective, file.fitted.collective) == 0 &&
            strcmp(cluster->fitted[i].dtype, file.fitted.dtype) == 0) {
            status =
                error_add(error, STATUS_INVALID, "%s:%d: fitted: %s in %s stands twice", item->file,
                          (int)item->line, file.fitted.collective, file.fitted.dtype);
        }
    }
    cluster->fitted[cluster->num_fitted++] = file.fitted;
    return status;
}

static enum status fill_list(struct cluster *cluster, const struct yaml_node *list,
                             struct error *error)
{
    enum status status = STATUS_OK;
    if (list == NULL) {
        return STATUS_OK;
    }
    if (list->kind != YAML_SEQUENCE || yaml_count(list) > COLLECTIVES_MAX) {
        return error_add(error, STATUS_INVALID, "%s:%d: fitted: a list of at most %d is expected",
                         list->file, (int)list->line, COLLECTIVES_MAX);
    }
    for (const struct yaml_node *item = list->child; item != NULL; item = item->next) {
        if (fill_entry(cluster, item, error) != STATUS_OK) {
            status = STATUS_INVALID;
        }
    }
    return status;
}

/* A file stands beside the one that names it, else where the program was started. */
static void find_gpu(char path[FILE_PATH_BYTES], const char *name, const char *cluster_path)
{
    static const char suffix[] = ".yaml";
    size_t length = strlen(name);
    bool is_file = strchr(name, '/') != NULL ||
                   (length >= sizeof suffix && strcmp(name + length - strlen(suffix), suffix) == 0);
    const char *slash = is_file && name[0] != '/' ? strrchr(cluster_path, '/') : NULL;
    int folder = slash != NULL ? (int)(slash - cluster_path) + 1 : 0;
    int written = snprintf(path, FILE_PATH_BYTES, "%.*s%s", folder, cluster_path, name);
    if (folder > 0 && (written >= FILE_PATH_BYTES || access(path, F_OK) != 0)) {
        (void)snprintf(path, FILE_PATH_BYTES, "%s", name);
    }
}

static enum status load_gpu(struct cluster *cluster, const char *name, const struct preset *preset,
                            struct error *error)
{
    char path[FILE_PATH_BYTES];
    struct error *problems = calloc(1, sizeof *problems);
    if (problems == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    find_gpu(path, name, preset->path);
    enum status status = gpu_load(&cluster->gpu, path, problems);
    if (status != STATUS_OK) {
        const struct yaml_node *node = yaml_get(preset->root, "gpu");
        char *rest = NULL;
        for (char *line = strtok_r(problems->text, "\n", &rest); line != NULL;
             line = strtok_r(NULL, "\n", &rest)) {
            status = error_add(error, status, "%s:%d: gpu: %s", node->file, (int)node->line, line);
        }
    }
    free(problems);
    return status;
}

enum status cluster_load(struct cluster *cluster, const char *name_or_path, struct error *error)
{
    struct cluster_file file = {0};
    struct preset preset;
    enum status status = preset_open(&preset, "clusters", name_or_path, error);
    if (status == STATUS_OK) {
        status = yaml_fill(&file, preset.root, cluster_fields, error);
    }
    if (status == STATUS_OK) {
        memcpy(cluster->preset, preset.name, sizeof cluster->preset);
        cluster->num_fitted = 0;
        cluster->gpus_per_node = file.gpus_per_node;
        status = fill_list(cluster, file.fitted, error);
    }
    if (status == STATUS_OK) {
        status = load_gpu(cluster, file.gpu, &preset, error);
    }
    preset_close(&preset);
    return status;
}

const struct fitted_collective *cluster_constants(const struct cluster *cluster,
                                                  const char *collective, const char *dtype)
{
    const struct fitted_collective *first = NULL;
    const struct fitted_collective *any = NULL;
    for (int32_t i = 0; i < cluster->num_fitted; i++) {
        const struct fitted_collective *fitted = &cluster->fitted[i];
        if (strcmp(fitted->collective, collective) != 0) {
            continue;
        }
        if (strcmp(fitted->dtype, dtype) == 0) {
            return fitted;
        }
        first = first == NULL ? fitted : first;
        any = any == NULL && strcmp(fitted->dtype, "any") == 0 ? fitted : any;
    }
    return any != NULL ? any : first;
}

void cluster_use_constants(struct cluster *cluster, const char *collective, const char *dtype)
{
    const struct fitted_collective *fitted = cluster_constants(cluster, collective, dtype);
    cluster->fitted_used = fitted != NULL ? (int32_t)(fitted - cluster->fitted) + 1 : 0;
}
