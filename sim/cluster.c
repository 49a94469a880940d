/* cluster.c -- GPU presets. */
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

/* A preset's file, and what data_find reads of it on its own. */
struct gpu_file {
    struct gpu_spec gpu; /* first: the tables count from its start */
    struct yaml_node *aliases;
    struct yaml_node *fitted; /* a list, as are the next two */
    struct yaml_node *gemm;
    struct yaml_node *attention;
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
    struct yaml_node *root = NULL;
    char path[FILE_PATH_BYTES];
    enum status status = data_find(path, sizeof path, "gpus", name_or_path, error);
    if (status == STATUS_OK) {
        data_stem(file.gpu.name, NAME_BYTES, path);
        status = yaml_load(&root, path, &arena, error);
    }
    if (status == STATUS_OK) {
        status = yaml_fill(&file, root, gpu_fields, error);
    }
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

enum status gpu_check_presets(struct error *error)
{
    const char *const *name = NULL;
    struct arena arena = {0};
    struct gpu_spec *gpu = calloc(1, sizeof *gpu);
    int32_t count = data_list(&name, "gpus", &arena);
    enum status status = gpu == NULL || count == DATA_NO_MEMORY ? STATUS_NO_MEMORY : STATUS_OK;
    for (int32_t i = 0; i < count && status != STATUS_NO_MEMORY; i++) {
        enum status outcome = gpu_load(gpu, name[i], error);
        status = outcome != STATUS_OK ? outcome : status;
    }
    arena_free(&arena);
    free(gpu);
    return status;
}
