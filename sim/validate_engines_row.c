/*
 * validate_engines_row.c -- a row of a sample of engines, and the deployment that it is of.
 *
 * The sample gives degrees of some rows as their product; those contradict each other.
 */
#include "validate_engines.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_TOKENS 8192 /* what vLLM, SGLang and TensorRT-LLM set where nobody says */
#define KV_BLOCK     64
#define GPUS_MAX     1024
#define BATCH_MAX    65536
#define COUNT_MAX    (1 << 20)

static const char *const columns[] = {"backend",
                                      "model_path",
                                      "system",
                                      "mode",
                                      "isl",
                                      "osl",
                                      "gemm_quant_mode",
                                      "moe_quant_mode",
                                      "batch_size",
                                      "tp_size",
                                      "pp_size",
                                      "attention_dp_size",
                                      "moe_tp_size",
                                      "moe_ep_size",
                                      "silicon_ttft_ms",
                                      "silicon_tpot_ms",
                                      "silicon_data_source"};

static enum status read_row(struct sample *sample, struct sample_row *row, struct error *error)
{
    const struct {
        int32_t *value;
        enum sample_column column;
    } counts[] = {{&row->isl, SAMPLE_ISL},     {&row->osl, SAMPLE_OSL},
                  {&row->batch, SAMPLE_BATCH}, {&row->tp, SAMPLE_TP},
                  {&row->pp, SAMPLE_PP},       {&row->dp, SAMPLE_DP},
                  {&row->ep, SAMPLE_EP},       {&row->moe_tp, SAMPLE_MOE_TP}};
    const struct csv_table *table = &sample->table;
    struct error odd = {0};
    bool is_odd = false;
    row->tp = row->pp = row->dp = row->ep = row->moe_tp = 1;
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        is_odd |= csv_count(counts[i].value, table, row->index, (int32_t)counts[i].column, 0,
                            COUNT_MAX, &odd) != STATUS_OK;
    }
    is_odd |=
        csv_number(&row->ttft_ms, table, row->index, SAMPLE_TTFT, 1e-6, 1e9, &odd) != STATUS_OK;
    is_odd |=
        csv_number(&row->tpot_ms, table, row->index, SAMPLE_TPOT, 1e-6, 1e9, &odd) != STATUS_OK;
    if (is_odd) {
        row->reason = odd_cell_reason;
        row->words = odd_rows_add(&sample->odd, &odd);
        return row->words != NULL ? STATUS_OK : error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    return STATUS_OK;
}
bool sample_same_deployment(const struct sample *sample, const struct sample_row *a,
                            const struct sample_row *b)
{
    static const enum sample_column texts[] = {SAMPLE_ENGINE, SAMPLE_MODEL, SAMPLE_GPU,
                                               SAMPLE_GEMM_FORMAT, SAMPLE_MOE_FORMAT};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (strcmp(sample_cell(sample, a, texts[i]), sample_cell(sample, b, texts[i])) != 0) {
            return false;
        }
    }
    return a->tp == b->tp && a->dp == b->dp && a->ep == b->ep && a->moe_tp == b->moe_tp;
}

bool sample_same_measurement(const struct sample_row *a, const struct sample_row *b)
{
    return a->isl == b->isl && a->osl == b->osl && a->batch == b->batch &&
           a->ttft_ms == b->ttft_ms && a->tpot_ms == b->tpot_ms;
}
/* A reason that needs no preset; NULL: none. */
static const char *find_reason(const struct sample *sample, const struct sample_row *row)
{
    if (strcmp(sample_cell(sample, row, SAMPLE_MODE), "agg") != 0) {
        return "prompts are read on other GPUs, of which it says too little";
    }
    if (row->isl < 2 || row->osl < 3 || row->batch < 1 || row->ttft_ms <= 0.0 ||
        row->tpot_ms <= 0.0) {
        return "lengths, requests outstanding, TTFT or TPOT is not stated";
    }
    if (row->pp > 1) {
        return "layers are dealt to GPUs in turn, which is not predicted";
    }
    if (row->tp < 1 || row->dp < 1 || row->ep < 1 || row->moe_tp < 1 ||
        (row->tp > 1 && row->dp > 1)) {
        return "its degrees of parallelism contradict each other";
    }
    if ((int64_t)row->tp * row->dp > GPUS_MAX || row->batch > BATCH_MAX) {
        return "its step is too large to be simulated here";
    }
    return NULL;
}
enum status sample_read(struct sample *sample, const char *path, struct error *error)
{
    struct csv_table *table = &sample->table;
    enum status status =
        csv_table_read(table, path, columns, SAMPLE_COLUMNS, &sample->arena, error);
    if (status != STATUS_OK) {
        return status;
    }
    sample->row = calloc((size_t)table->num_rows + 1, sizeof *sample->row);
    if (sample->row == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    for (int64_t i = 0; i < table->num_rows && status == STATUS_OK; i++) {
        struct sample_row *row = &sample->row[i];
        row->index = i;
        status = read_row(sample, row, error);
        row->reason = row->reason == NULL ? find_reason(sample, row) : row->reason;
    }
    return status;
}

void sample_free(struct sample *sample)
{
    free(sample->row);
    odd_rows_free(&sample->odd);
    arena_free(&sample->arena);
}

/* A quantised checkpoint's name without what says so. */
static void strip(char *name, size_t bytes, const char *path)
{
    static const char *const suffix[] = {"-FP8", "-NVFP4", "-FP4"};
    (void)snprintf(name, bytes, "%s", path);
    for (size_t i = 0; i < sizeof suffix / sizeof suffix[0]; i++) {
        size_t length = strlen(name);
        size_t tail = strlen(suffix[i]);
        if (length > tail && strcmp(name + length - tail, suffix[i]) == 0) {
            name[length - tail] = '\0';
        }
    }
}

static bool find_format(enum precision *format, const char *name)
{
    static const struct {
        const char *name;
        enum precision format;
    } known[] = {{"fp8", PRECISION_FP8},
                 {"fp8_block", PRECISION_FP8},
                 {"nvfp4", PRECISION_NVFP4},
                 {"", PRECISION_BF16}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(name, known[i].name) == 0) {
            *format = known[i].format;
            return true;
        }
    }
    return false;
}

/* Published with heads for multi-token prediction, which engines of the sample's time use. */
static bool is_drafting(const char *model)
{
    return strstr(model, "/DeepSeek-") != NULL || strstr(model, "/GLM-5") != NULL;
}

/* A model whose preset has experts in MXFP4 is served as it was published: the sample's formats
 * have no name for it. NVIDIA's checkpoints, those in NVFP4 and Llama's, want KV entries in fp8. */
static bool set_formats(struct moe_model *model, const char *gemm, const char *moe)
{
    const bool is_moe = model_num_moe_layers(model) > 0;
    if (model->precision_expert == PRECISION_MXFP4) {
        return true;
    }
    if (!find_format(&model->precision_dense, gemm) ||
        !find_format(&model->precision_expert, is_moe ? moe : gemm)) {
        return false;
    }
    if (model->precision_expert == PRECISION_NVFP4 ||
        (!is_moe && model->precision_dense == PRECISION_FP8)) {
        model->precision_kv = PRECISION_FP8;
    }
    return true;
}

/* The preset of a node of these GPUs, or of the domain they are in. */
static bool find_node(struct cluster *cluster, const char *system, int32_t num_gpus)
{
    char gpu[NAME_BYTES];
    char preset[NAME_BYTES + 8];
    struct error unknown = {0};
    (void)snprintf(gpu, sizeof gpu, "%s", system);
    for (char *c = gpu; *c != '\0'; c++) {
        *c = *c == '_' ? '-' : *c;
    }
    if (gpu_load(&cluster->gpu, gpu, &unknown) != STATUS_OK) {
        return false;
    }
    static const char *const kinds[] = {"nvl72", "nvlink"};
    int family = (int)strcspn(cluster->gpu.name, "-");
    bool is_found = false;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0] && !is_found; i++) {
        struct error none = {0};
        (void)snprintf(preset, sizeof preset, "%.*s-%s", family, cluster->gpu.name, kinds[i]);
        is_found = cluster_load(cluster, preset, &none) == STATUS_OK;
    }
    if (!is_found || num_gpus > cluster->gpus_per_node) {
        return false;
    }
    cluster->num_nodes = 1;
    cluster->gpus_per_node = num_gpus;
    cluster->spine_oversubscription = 1.0;
    return true;
}

/* Constants of the engine's own experts where the GPU has some in the format, best first. The
 * sample's vLLM is 0.19 at most, whose kernels in blocks are Triton's; on Blackwell experts in
 * MXFP4 take activations in mxfp8, by kernels that TensorRT-LLM has made and FlashInfer hands to
 * others (vLLM's recipe for gpt-oss). */
static void choose_kernels(struct scenario *scenario, const char *engine)
{
    const struct gpu_spec *gpu = &scenario->cluster.gpu;
    const bool is_vllm = strcmp(engine, "vllm") == 0;
    const char *const names[] = {"trtllm_mxfp8", is_vllm ? "vllm_triton" : engine, engine};
    const size_t count = sizeof names / sizeof names[0];
    bool is_found = false;
    for (size_t name = 0; name < count && !is_found; name++) {
        (void)snprintf(scenario->kernels, sizeof scenario->kernels, "%s", names[name]);
        is_found = scenario_choose_kernels(scenario);
    }
    if (!is_found) {
        (void)snprintf(scenario->kernels, sizeof scenario->kernels, "any");
        (void)scenario_choose_kernels(scenario);
    }
    const struct gpu_model *fitted = gpu_find("fitted");
    scenario->gpu_model = gpu_model_applies(fitted, gpu) ? fitted : gpu_find("roofline");
}

const char *sample_scenario(struct scenario *scenario, struct serving_config *serving,
                            const struct sample *sample, const struct sample_row *row)
{
    char model[NAME_BYTES];
    struct error unknown = {0};
    strip(model, sizeof model, sample_cell(sample, row, SAMPLE_MODEL));
    if (model_load(&scenario->model, model, &unknown) != STATUS_OK) {
        return "there is no preset of its model";
    }
    if (is_drafting(model)) {
        return "whether it drafted tokens is not said, and its model can";
    }
    const bool is_moe = model_num_moe_layers(&scenario->model) > 0;
    if (is_moe && row->moe_tp > 1 && row->moe_tp == row->ep) {
        return "experts are cut and dealt alike, as where degrees are given as their product";
    }
    if (is_moe && row->ep * row->moe_tp != row->tp * row->dp) {
        return "its degrees of parallelism contradict each other";
    }
    if (!set_formats(&scenario->model, sample_cell(sample, row, SAMPLE_GEMM_FORMAT),
                     sample_cell(sample, row, SAMPLE_MOE_FORMAT))) {
        return "its number format is not one that is predicted here";
    }
    scenario->ep = row->tp * row->dp;
    if (!find_node(&scenario->cluster, sample_cell(sample, row, SAMPLE_GPU), scenario->ep)) {
        return "no preset of a cluster has so many of these GPUs in a node";
    }
    (void)snprintf(scenario->name, sizeof scenario->name, "%s", sample->table.path);
    scenario->expert_tp = is_moe ? row->moe_tp : 1;
    scenario->tp = row->tp;
    scenario->phase = PHASE_DECODE;
    scenario->context_tokens = row->isl + row->osl / 2;
    scenario->tokens_per_rank = (BATCH_TOKENS + row->tp - 1) / row->tp;
    scenario->batching = BATCHING_CONSECUTIVE;
    scenario->router = route_find("trace");
    scenario->drop = drop_find("position");
    scenario->strategy = balance_find("static");
    scenario->replica = dispatch_find("round_robin");
    scenario->collective = collective_find("allgather_reducescatter");
    scenario->dispatch_precision = PRECISION_BF16;
    scenario->combine_precision = PRECISION_BF16;
    scenario->micro_batches = 1;
    scenario->chunks = 1;
    scenario->net = net_find("alpha_beta");
    scenario->memory_fraction = 0.9;
    scenario->price.usd_per_gpu_hour = 1.0;
    scenario->seed = SAMPLE_SEED;
    cluster_use_constants(&scenario->cluster, scenario->collective->name, "bf16");
    choose_kernels(scenario, sample_cell(sample, row, SAMPLE_ENGINE));
    *serving = (struct serving_config){.arrivals = {.speed = 1.0,
                                                    .concurrency = 1,
                                                    .requests_max = 1,
                                                    .prompt_tokens = row->isl,
                                                    .decode_tokens = row->osl},
                                       .batch = {.tokens = BATCH_TOKENS},
                                       .router = SERVING_LEAST_LOADED,
                                       .block_tokens = KV_BLOCK};
    scenario->serving = serving;
    return NULL;
}
