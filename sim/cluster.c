/* cluster.c -- GPU presets. */
#include "cluster.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu_constants.h"
#include "preset.h"

#define GPUS_OF_NODE 8
#define GPUS_OF_RACK 72
#define RATE_MAX     1e18 /* flops or bytes a second */

/* A preset's file, and what data_find reads of it on its own. */
struct gpu_file {
    struct gpu_spec gpu; /* first: the tables count from its start */
    struct yaml_node *aliases;
    struct gpu_lists lists;
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
    {"l2_bytes", YAML_DOUBLE, offsetof(struct gpu_spec, l2_bytes), .max = 1e12},
    {"kernel_ns", YAML_DOUBLE, offsetof(struct gpu_spec, kernel_ns), .required = true, .max = 1e9},
    {"num_sms", YAML_INT32, offsetof(struct gpu_spec, num_sms), .required = true, .min = 1,
     .max = 65536},
    {"tdp_watts", YAML_DOUBLE, offsetof(struct gpu_spec, tdp_watts), .required = true, .min = 1.0,
     .max = 1e6},
    {"allin_watts", YAML_DOUBLE, offsetof(struct gpu_spec, allin_watts), .max = 1e6},
    {"scale_up", YAML_TABLE, .required = true, .table = scale_up_fields},
    {"scale_out", YAML_TABLE, .required = true, .table = scale_out_fields},
    {"host", YAML_TABLE, .table = host_fields},
    {"fitted", YAML_NODE, offsetof(struct gpu_file, lists.fitted), .size = 0},
    {"gemm", YAML_NODE, offsetof(struct gpu_file, lists.gemm), .size = 0},
    {"attention", YAML_NODE, offsetof(struct gpu_file, lists.attention), .size = 0},
    {.key = NULL},
};

enum status gpu_load(struct gpu_spec *gpu, const char *name_or_path, struct error *error)
{
    struct gpu_file file = {0};
    struct preset preset;
    enum status status = preset_open(&preset, "gpus", name_or_path, error);
    memcpy(file.gpu.name, preset.name, sizeof file.gpu.name);
    if (status == STATUS_OK) {
        status = yaml_fill(&file, preset.root, gpu_fields, error);
    }
    if (status == STATUS_OK) {
        status = gpu_constants_fill(&file.gpu, &file.lists, error);
    }
    *gpu = file.gpu;
    preset_close(&preset);
    return status;
}

int32_t gpu_usual_node(const struct gpu_spec *gpu)
{
    return strstr(gpu->name, "nvl72") != NULL ? GPUS_OF_RACK : GPUS_OF_NODE;
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
