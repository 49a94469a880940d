/* cluster.c -- GPU and price presets. */
#include "cluster.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data.h"
#include "gpu_constants.h"
#include "yaml_file.h"

#define FILE_PATH_BYTES 4096
#define RATE_MAX        1e18 /* flops or bytes a second */

/* Preset files: the struct, and what data_find reads on its own. */
struct gpu_file {
    struct gpu_spec gpu; /* first: the tables count from its start */
    struct yaml_node *aliases;
    struct yaml_node *fitted; /* a list, as are the next two */
    struct yaml_node *gemm;
    struct yaml_node *attention;
};

struct price_file {
    struct price price; /* first, as above */
    struct yaml_node *aliases;
};

static const struct yaml_field flops_fields[] = {
    {"fp32", YAML_DOUBLE, offsetof(struct gpu_spec, flops_per_s[PRECISION_FP32]), .max = RATE_MAX},
    {"bf16", YAML_DOUBLE, offsetof(struct gpu_spec, flops_per_s[PRECISION_BF16]), .required = true,
     .min = 1.0, .max = RATE_MAX},
    {"fp8", YAML_DOUBLE, offsetof(struct gpu_spec, flops_per_s[PRECISION_FP8]), .max = RATE_MAX},
    {"int8", YAML_DOUBLE, offsetof(struct gpu_spec, flops_per_s[PRECISION_INT8]), .max = RATE_MAX},
    {"mxfp4", YAML_DOUBLE, offsetof(struct gpu_spec, flops_per_s[PRECISION_MXFP4]),
     .max = RATE_MAX},
    {"nvfp4", YAML_DOUBLE, offsetof(struct gpu_spec, flops_per_s[PRECISION_NVFP4]),
     .max = RATE_MAX},
    {.key = NULL},
};

static const struct yaml_field scale_up_fields[] = {
    {"bytes_per_s", YAML_DOUBLE, offsetof(struct gpu_spec, port[TIER_SCALE_UP].bytes_per_s),
     .required = true, .min = 1.0, .max = RATE_MAX},
    {"fraction", YAML_DOUBLE, offsetof(struct gpu_spec, port[TIER_SCALE_UP].fraction),
     .required = true, .min = 0.01, .max = 1.0},
    {"latency_ns", YAML_DOUBLE, offsetof(struct gpu_spec, port[TIER_SCALE_UP].latency_ns),
     .required = true, .max = 1e9},
    {.key = NULL},
};

static const struct yaml_field scale_out_fields[] = {
    {"bytes_per_s", YAML_DOUBLE, offsetof(struct gpu_spec, port[TIER_SCALE_OUT].bytes_per_s),
     .required = true, .min = 1.0, .max = RATE_MAX},
    {"fraction", YAML_DOUBLE, offsetof(struct gpu_spec, port[TIER_SCALE_OUT].fraction),
     .required = true, .min = 0.01, .max = 1.0},
    {"latency_ns", YAML_DOUBLE, offsetof(struct gpu_spec, port[TIER_SCALE_OUT].latency_ns),
     .required = true, .max = 1e9},
    {.key = NULL},
};

static const struct yaml_field host_fields[] = {
    {"bytes_per_s", YAML_DOUBLE, offsetof(struct gpu_spec, host.bytes_per_s), .required = true,
     .min = 1.0, .max = RATE_MAX},
    {"fraction", YAML_DOUBLE, offsetof(struct gpu_spec, host.fraction), .required = true,
     .min = 0.01, .max = 1.0},
    {"latency_ns", YAML_DOUBLE, offsetof(struct gpu_spec, host.latency_ns), .required = true,
     .max = 1e9},
    {.key = NULL},
};

const char *const tile_height_names[] = {"tuned", "16", "32", "64", "128", "256", NULL};

static const struct yaml_field fitted_fields[] = {
    {"kernels", YAML_TEXT, offsetof(struct fitted_kernels, kernels), .size = NAME_BYTES,
     .required = true},
    {"precision", YAML_CHOICE, offsetof(struct fitted_kernels, precision), .required = true,
     .choices = precision_choices},
    {"t0_ns", YAML_DOUBLE, offsetof(struct fitted_kernels, t0_ns), .required = true, .max = 1e9},
    {"weight_bytes_per_s", YAML_DOUBLE, offsetof(struct fitted_kernels, weight_bytes_per_s),
     .required = true, .min = 1.0, .max = RATE_MAX},
    {"flops_per_s", YAML_DOUBLE, offsetof(struct fitted_kernels, flops_per_s), .required = true,
     .min = 1.0, .max = RATE_MAX},
    {"activation_bytes_per_s", YAML_DOUBLE, offsetof(struct fitted_kernels, activation_bytes_per_s),
     .required = true, .min = 1.0, .max = RATE_MAX},
    {"row_bytes_per_s", YAML_DOUBLE, offsetof(struct fitted_kernels, row_bytes_per_s),
     .required = true, .min = 1.0, .max = RATE_MAX},
    {"slot_ns", YAML_DOUBLE, offsetof(struct fitted_kernels, slot_ns), .required = true,
     .max = 1e9},
    {"depth_ns", YAML_DOUBLE, offsetof(struct fitted_kernels, depth_ns), .required = true,
     .max = 1e9},
    {"tile_ns", YAML_DOUBLE, offsetof(struct fitted_kernels, tile_ns), .required = true,
     .max = 1e9},
    {"few_rows_share", YAML_DOUBLE, offsetof(struct fitted_kernels, few_rows_share), .max = 100.0},
    {"tile_rows_lost", YAML_DOUBLE, offsetof(struct fitted_kernels, tile_rows_lost),
     .required = true, .max = 1e6},
    {"choice_hidden_bytes_per_s", YAML_DOUBLE,
     offsetof(struct fitted_kernels, choice_hidden_bytes_per_s), .max = RATE_MAX},
    {"choice_ffn_bytes_per_s", YAML_DOUBLE, offsetof(struct fitted_kernels, choice_ffn_bytes_per_s),
     .max = RATE_MAX},
    {"slot_ffn_ns", YAML_DOUBLE, offsetof(struct fitted_kernels, slot_ffn_ns), .max = 1e9},
    {"busiest_ns", YAML_DOUBLE, offsetof(struct fitted_kernels, busiest_ns), .max = 1e9},
    {"depth_blend", YAML_DOUBLE, offsetof(struct fitted_kernels, depth_blend), .max = 100.0},
    {"tile_rows", YAML_CHOICE, offsetof(struct fitted_kernels, tile_rows),
     .choices = tile_height_names},
    {"blend", YAML_DOUBLE, offsetof(struct fitted_kernels, blend), .required = true, .min = 1.0,
     .max = 100.0},
    {"fitted_on", YAML_TEXT, offsetof(struct fitted_kernels, fitted_on), .size = SOURCE_BYTES,
     .required = true},
    {"holdout", YAML_TEXT, offsetof(struct fitted_kernels, holdout), .size = HOLDOUT_BYTES,
     .required = true},
    {"num_rows", YAML_INT32, offsetof(struct fitted_kernels, num_rows), .required = true,
     .min = 1.0, .max = 1e9},
    {"error_median", YAML_DOUBLE, offsetof(struct fitted_kernels, error_median), .required = true,
     .max = 1e3},
    {"error_p90", YAML_DOUBLE, offsetof(struct fitted_kernels, error_p90), .required = true,
     .max = 1e3},
    {.key = NULL},
};

static const struct yaml_field gpu_fields[] = {
    {"aliases", YAML_NODE, offsetof(struct gpu_file, aliases), .size = 0},
    {"source", YAML_TEXT, offsetof(struct gpu_spec, source), .size = SOURCE_BYTES,
     .required = true},
    {"flops_per_s", YAML_TABLE, .required = true, .table = flops_fields},
    {"flops_fraction", YAML_DOUBLE, offsetof(struct gpu_spec, flops_fraction), .required = true,
     .min = 0.01, .max = 1.0},
    {"hbm_bytes", YAML_INT64, offsetof(struct gpu_spec, hbm_bytes), .required = true, .min = 1e6,
     .max = 1e15},
    {"hbm_bytes_per_s", YAML_DOUBLE, offsetof(struct gpu_spec, hbm_bytes_per_s), .required = true,
     .min = 1.0, .max = RATE_MAX},
    {"hbm_fraction", YAML_DOUBLE, offsetof(struct gpu_spec, hbm_fraction), .required = true,
     .min = 0.01, .max = 1.0},
    {"kernel_ns", YAML_DOUBLE, offsetof(struct gpu_spec, kernel_ns), .required = true, .max = 1e9},
    {"num_sms", YAML_INT32, offsetof(struct gpu_spec, num_sms), .required = true, .min = 1,
     .max = 65536},
    {"tdp_watts", YAML_DOUBLE, offsetof(struct gpu_spec, tdp_watts), .required = true, .min = 1.0,
     .max = 1e6},
    {"allin_watts", YAML_DOUBLE, offsetof(struct gpu_spec, allin_watts), .max = 1e6},
    {"scale_up", YAML_TABLE, .required = true, .table = scale_up_fields},
    {"scale_out", YAML_TABLE, .required = true, .table = scale_out_fields},
    {"host", YAML_TABLE, .table = host_fields},
    {"fitted", YAML_NODE, offsetof(struct gpu_file, fitted), .size = 0},
    {"gemm", YAML_NODE, offsetof(struct gpu_file, gemm), .size = 0},
    {"attention", YAML_NODE, offsetof(struct gpu_file, attention), .size = 0},
    {.key = NULL},
};

static const struct yaml_field price_fields[] = {
    {"aliases", YAML_NODE, offsetof(struct price_file, aliases), .size = 0},
    {"source", YAML_TEXT, offsetof(struct price, source), .size = SOURCE_BYTES, .required = true},
    {"date", YAML_TEXT, offsetof(struct price, date), .size = NAME_BYTES, .required = true},
    {"gpu", YAML_TEXT, offsetof(struct price, gpu), .size = NAME_BYTES, .required = true},
    {"usd_per_gpu_hour", YAML_DOUBLE, offsetof(struct price, usd_per_gpu_hour), .required = true,
     .min = 0.001, .max = 1e6},
    {.key = NULL},
};

/* Finds the file of a preset, fills target from it and names it after the file. */
static enum status load_preset(void *target, char name[NAME_BYTES], const char *kind,
                               const char *name_or_path, const struct yaml_field *fields,
                               struct arena *arena, struct error *error)
{
    char path[FILE_PATH_BYTES];
    struct yaml_node *root = NULL;
    enum status status = data_find(path, sizeof path, kind, name_or_path, error);
    if (status == STATUS_OK) {
        data_stem(name, NAME_BYTES, path);
        status = yaml_load(&root, path, arena, error);
    }
    if (status == STATUS_OK) {
        status = yaml_fill(target, root, fields, error);
    }
    return status;
}

/* Also a second entry for the same kernels and format is a mistake: which one would count? */
static enum status fill_fitted(struct gpu_spec *gpu, const struct yaml_node *list,
                               struct error *error)
{
    enum status status = STATUS_OK;
    if (list == NULL) {
        return STATUS_OK;
    }
    if (list->kind != YAML_SEQUENCE) {
        return error_add(error, STATUS_INVALID, "%s:%d: fitted: a list is expected", list->file,
                         (int)list->line);
    }
    for (const struct yaml_node *item = list->child; item != NULL; item = item->next) {
        if (gpu->num_fitted == FITTED_MAX) {
            return error_add(error, STATUS_INVALID, "%s:%d: fitted: at most %d entries", item->file,
                             (int)item->line, FITTED_MAX);
        }
        struct fitted_kernels *fitted = &gpu->fitted[gpu->num_fitted];
        if (item->kind != YAML_MAPPING) {
            return error_add(error, STATUS_INVALID, "%s:%d: fitted: keys and values are expected",
                             item->file, (int)item->line);
        }
        if (yaml_fill(fitted, item, fitted_fields, error) != STATUS_OK) {
            status = STATUS_INVALID;
            continue;
        }
        for (int32_t other = 0; other < gpu->num_fitted; other++) {
            if (gpu->fitted[other].precision == fitted->precision &&
                strcmp(gpu->fitted[other].kernels, fitted->kernels) == 0) {
                status = error_add(error, STATUS_INVALID, "%s:%d: fitted: %s in %s stands twice",
                                   item->file, (int)item->line, fitted->kernels,
                                   precision_name(fitted->precision));
            }
        }
        gpu->num_fitted++;
    }
    return status;
}

enum status gpu_load(struct gpu_spec *gpu, const char *name_or_path, struct error *error)
{
    struct gpu_file file = {0};
    struct arena arena = {0};
    enum status status =
        load_preset(&file, file.gpu.name, "gpus", name_or_path, gpu_fields, &arena, error);
    if (status == STATUS_OK) {
        status = fill_fitted(&file.gpu, file.fitted, error);
    }
    if (status == STATUS_OK) {
        status = gpu_constants_fill(&file.gpu, file.gemm, file.attention, error);
    }
    *gpu = file.gpu;
    arena_free(&arena);
    return status;
}

enum status price_load(struct price *price, const char *name_or_path, struct error *error)
{
    struct price_file file = {0};
    struct arena arena = {0};
    enum status status =
        load_preset(&file, file.price.name, "prices", name_or_path, price_fields, &arena, error);
    *price = file.price;
    arena_free(&arena);
    return status;
}

enum status price_load_for(struct price *price, const char *name, const struct gpu_spec *gpu,
                           struct error *error)
{
    char path[FILE_PATH_BYTES];
    char of_gpu[2 * NAME_BYTES];
    char *end = NULL;
    double usd_per_gpu_hour = strtod(name, &end);
    if (*end == '\0' && usd_per_gpu_hour > 0.0 && usd_per_gpu_hour < 1e6) {
        *price = (struct price){.name = "own price",
                                .source = "the scenario",
                                .date = "as given",
                                .usd_per_gpu_hour = usd_per_gpu_hour};
        (void)snprintf(price->gpu, sizeof price->gpu, "%s", gpu != NULL ? gpu->name : "");
        return STATUS_OK;
    }
    if (gpu != NULL) {
        int family = (int)strcspn(gpu->name, "-");
        (void)snprintf(of_gpu, sizeof of_gpu, "%.*s-%.*s", family, gpu->name, NAME_BYTES - 1, name);
        bool has_family = strncmp(name, of_gpu, (size_t)family + 1) == 0; /* "h100-neocloud" */
        if (!has_family && data_find(path, sizeof path, "prices", of_gpu, NULL) == STATUS_OK) {
            name = path;
        }
    }
    return price_load(price, name, error);
}
