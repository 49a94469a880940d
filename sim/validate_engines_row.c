/*
 * validate_engines_row.c -- a row of a sample of engines, and the deployment that it is of.
 *
 * The sample gives degrees of some rows as their product; those contradict each other.
 */
#include "validate_engines.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine_host.h"

#define KV_BLOCK          64
#define PREFILL_SEQUENCES 64    /* as serving.prefill.sequences is where nobody says */
#define GPUS_MAX          1024  /* of a worker */
#define POOL_GPUS_MAX     65536 /* GPUs of all of a kind */
#define CUT_MAX           8     /* listed with more: DeepEP's in NVIDIA/srt-slurm's recipes */
#define TRACE_TOKENS      65536 /* of a pool that only answers, at least */

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
    struct sample_pool *pool = &row->main;
    const struct {
        int32_t *value;
        enum sample_column column;
    } counts[] = {{&row->isl, SAMPLE_ISL},     {&row->osl, SAMPLE_OSL},
                  {&row->batch, SAMPLE_BATCH}, {&pool->tp, SAMPLE_TP},
                  {&pool->pp, SAMPLE_PP},      {&pool->dp, SAMPLE_DP},
                  {&pool->ep, SAMPLE_EP},      {&pool->moe_tp, SAMPLE_MOE_TP}};
    const struct csv_table *table = &sample->table;
    struct error odd = {0};
    bool is_odd = false;
    *pool = (struct sample_pool){1, 1, 1, 1, 1, 1};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        is_odd |= csv_count(counts[i].value, table, row->index, (int32_t)counts[i].column, 0,
                            SAMPLE_COUNT_MAX, &odd) != STATUS_OK;
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
    return memcmp(&a->main, &b->main, sizeof a->main) == 0 &&
           memcmp(&a->prefill, &b->prefill, sizeof a->prefill) == 0;
}

bool sample_same_measurement(const struct sample_row *a, const struct sample_row *b)
{
    return a->isl == b->isl && a->osl == b->osl && a->batch == b->batch &&
           a->ttft_ms == b->ttft_ms && a->tpot_ms == b->tpot_ms;
}

const char *sample_pool_reason(const struct sample_pool *pool)
{
    if (pool->pp > 1) {
        return "layers are dealt to GPUs in turn, which is not predicted";
    }
    if (pool->tp < 1 || pool->dp < 1 || pool->ep < 1 || pool->moe_tp < 1 ||
        (pool->tp > 1 && pool->dp > 1)) {
        return "its degrees of parallelism contradict each other";
    }
    const int64_t num_gpus = (int64_t)pool->tp * pool->dp;
    return num_gpus > GPUS_MAX ? "its step is too large to be simulated here"
           : num_gpus * pool->workers > POOL_GPUS_MAX
               ? "its workers are too many to be simulated here"
               : NULL;
}

/* Published with heads for multi-token prediction, which engines of the sample's time use. Rows out
 * of InferenceX's database are of runs without: of 490 of DeepSeek-R1, 198 are listed in its
 * configs (SemiAnalysisAI/InferenceX @ 843c6254f, nvidia-master.yaml from December 2025 to May
 * 2026) as runs that draft nothing alone, 138 as runs of both kinds, one as a run that drafts; none
 * stands in the sample twice, as it would with both. */
static bool is_drafting(const struct sample *sample, const struct sample_row *row)
{
    const char *model = sample_cell(sample, row, SAMPLE_MODEL);
    return strstr(sample_cell(sample, row, SAMPLE_SOURCE), "db-dump/") == NULL &&
           (strstr(model, "/DeepSeek-") != NULL || strstr(model, "/GLM-5") != NULL);
}

/* A reason that needs no preset; NULL: none. */
static const char *find_reason(const struct sample *sample, const struct sample_row *row)
{
    if (strcmp(sample_cell(sample, row, SAMPLE_MODE), "agg") != 0 && row->prefill.workers == 0) {
        return "prompts are read on other GPUs, of which it says too little";
    }
    if (row->isl < 2 || row->osl < 3 || row->batch < 1 || row->ttft_ms <= 0.0 ||
        row->tpot_ms <= 0.0) {
        return "lengths, requests outstanding, TTFT or TPOT is not stated";
    }
    if (is_drafting(sample, row)) {
        return "whether it drafted tokens is not said, and its model can";
    }
    if (row->batch > SAMPLE_BATCH_MAX) {
        return "its step is too large to be simulated here";
    }
    const char *reason = sample_pool_reason(&row->main);
    return reason == NULL && row->prefill.workers > 0 ? sample_pool_reason(&row->prefill) : reason;
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
    }
    if (status == STATUS_OK) {
        status = sample_read_pools(sample, error);
    }
    for (int64_t i = 0; i < table->num_rows && status == STATUS_OK; i++) {
        struct sample_row *row = &sample->row[i];
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

/* Kimi K2.5 is K2 behind an image encoder, with experts in other formats, which the row says. */
static bool find_model(struct moe_model *model, const char *path)
{
    char name[NAME_BYTES];
    struct error unknown = {0};
    strip(name, sizeof name, strcmp(path, "moonshotai/Kimi-K2.5") == 0 ? "kimi-k2" : path);
    return model_load(model, name, &unknown) == STATUS_OK;
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

/* A model whose preset has experts in MXFP4 is served as it was published: the sample's formats
 * have no name for it. NVIDIA's checkpoints, those in NVFP4 and Llama's, want KV entries in fp8.
 * Those of DeepSeek-R1 leave attention in bf16, in the second version all of it but its output
 * (model cards of nvidia/DeepSeek-R1-0528-FP4 and -v2); there is one format for all that is dense.
 */
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
    if (model->precision_expert == PRECISION_NVFP4 && model->attention == ATTENTION_MLA) {
        model->precision_dense = PRECISION_BF16;
    }
    return true;
}

/* KV entries of DeepSeek's models are in fp8 in InferenceX's scripts and NVIDIA's recipes (there),
 * but for SGLang on Hopper. */
static bool keeps_fp8(const struct moe_model *model, const char *engine, const char *system)
{
    const bool is_hopper = strncmp(system, "h100", 4) == 0 || strncmp(system, "h200", 4) == 0;
    return model->attention == ATTENTION_MLA && !(is_hopper && strcmp(engine, "sglang") == 0);
}

/* The preset of a node of these GPUs, or of the domain they are in. Groups of part of one are nodes
 * of their own. */
static bool find_nodes(struct cluster *cluster, const char *system, int32_t num_gpus,
                       int32_t num_nodes)
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
    cluster->num_nodes = num_nodes;
    cluster->gpus_per_node = num_gpus;
    cluster->spine_oversubscription = 1.0;
    return true;
}

/* Constants of the engine's own experts where the GPU has some in the format, best first. The
 * sample's vLLM is 0.19 at most, whose kernels in blocks are Triton's; on Blackwell experts in
 * MXFP4 take activations in mxfp8, by kernels that TensorRT-LLM has made and FlashInfer hands to
 * others (vLLM's recipe for gpt-oss). In NVFP4 TensorRT-LLM and SGLang take kernels for few tokens
 * where attention is cut, CUTLASS where it is data-parallel (InferenceX's scripts
 * dsr1_fp4_b200*.sh, recipes of NVIDIA/srt-slurm). Behind other exchanges those that were measured
 * there. Of a dense model there are no experts; in fp8 its checkpoints have one scale a tensor
 * (NVIDIA's, made by ModelOpt; MoE models that the sample calls fp8 were published in blocks), so
 * it takes GEMMs of that kind, which are named after. */
static void choose_kernels(struct scenario *scenario, const char *engine, const char *gemm)
{
    const struct gpu_spec *gpu = &scenario->cluster.gpu;
    const char *const own = strcmp(engine, "vllm") == 0 ? "vllm_triton"
                            : scenario->tp > 1          ? "trtllm_min_latency"
                                                        : engine;
    const bool is_tensor_wide =
        model_num_moe_layers(&scenario->model) == 0 && strcmp(gemm, "fp8") == 0;
    char wide[NAME_BYTES];
    (void)snprintf(wide, sizeof wide, "%s_%s_fp8_tensor", engine,
                   strcmp(engine, "trtllm") == 0 ? "static" : "linear");
    const char *const names[] = {is_tensor_wide ? wide : "trtllm_mxfp8", own, engine};
    const size_t count = sizeof names / sizeof names[0];
    const bool is_gathered = scenario->collective == collective_find("allgather_reducescatter");
    bool is_found = false;
    for (size_t name = 0; name < count && is_gathered && !is_found; name++) {
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

const char *sample_set_pool(struct scenario *scenario, const struct sample *sample,
                            const struct sample_row *row, const struct sample_pool *pool)
{
    const bool is_moe = model_num_moe_layers(&scenario->model) > 0;
    if (is_moe && pool->moe_tp > 1 && pool->moe_tp == pool->ep) {
        return "experts are cut and dealt alike, as where degrees are given as their product";
    }
    if (is_moe && pool->moe_tp > CUT_MAX) {
        return "experts are said to be cut over more than 8 GPUs, but runs of such rows dealt them";
    }
    if (is_moe && pool->ep * pool->moe_tp != pool->tp * pool->dp) {
        return "its degrees of parallelism contradict each other";
    }
    scenario->ep = pool->tp * pool->dp;
    scenario->expert_tp = is_moe ? pool->moe_tp : 1;
    scenario->tp = pool->tp;
    if (!find_nodes(&scenario->cluster, sample_cell(sample, row, SAMPLE_GPU), scenario->ep,
                    pool->workers)) {
        return "no preset of a cluster has so many of these GPUs in a node";
    }
    const bool only_answers = pool == &row->main && row->prefill.workers > 0;
    const int32_t tokens = only_answers ? TRACE_TOKENS / pool->dp : SAMPLE_BATCH_TOKENS;
    scenario->tokens_per_rank = (tokens + pool->tp - 1) / pool->tp;
    sample_set_exchange(scenario, sample_cell(sample, row, SAMPLE_ENGINE), pool);
    choose_kernels(scenario, sample_cell(sample, row, SAMPLE_ENGINE),
                   sample_cell(sample, row, SAMPLE_GEMM_FORMAT));
    return NULL;
}

/* As the engine's preset says that rows of other models have it; no preset, no time. */
static void set_host(struct serving_config *serving, const char *engine, const char *model)
{
    struct engine_host host;
    struct error unknown = {0};
    if (engine_host_load(&host, engine, model, &unknown) == STATUS_OK) {
        serving->host_request_ms = host.request_ms;
    }
}

const char *sample_scenario(struct scenario *scenario, struct serving_config *serving,
                            const struct sample *sample, const struct sample_row *row)
{
    if (!find_model(&scenario->model, sample_cell(sample, row, SAMPLE_MODEL))) {
        return "there is no preset of its model";
    }
    if (!set_formats(&scenario->model, sample_cell(sample, row, SAMPLE_GEMM_FORMAT),
                     sample_cell(sample, row, SAMPLE_MOE_FORMAT))) {
        return "its number format is not one that is predicted here";
    }
    (void)snprintf(scenario->name, sizeof scenario->name, "%s", sample->table.path);
    if (keeps_fp8(&scenario->model, sample_cell(sample, row, SAMPLE_ENGINE),
                  sample_cell(sample, row, SAMPLE_GPU))) {
        scenario->model.precision_kv = PRECISION_FP8;
    }
    scenario->phase = PHASE_DECODE;
    scenario->context_tokens = row->isl + row->osl / 2;
    scenario->batching = BATCHING_CONSECUTIVE;
    scenario->router = route_find("trace");
    scenario->drop = drop_find("position");
    scenario->strategy = balance_find("static");
    scenario->replica = dispatch_find("round_robin");
    scenario->micro_batches = 1;
    scenario->chunks = 1;
    scenario->shared_tokens = engine_shared_tokens(sample_cell(sample, row, SAMPLE_ENGINE));
    scenario->net = net_find("alpha_beta");
    scenario->memory_fraction = 0.9;
    scenario->price.usd_per_gpu_hour = 1.0;
    scenario->seed = SAMPLE_SEED;
    *serving = (struct serving_config){
        .arrivals = {.speed = 1.0,
                     .concurrency = 1,
                     .requests_max = 1,
                     .prompt_tokens = row->isl,
                     .decode_tokens = row->osl},
        .batch = {.tokens = SAMPLE_BATCH_TOKENS},
        .prefill_batch = {.tokens = SAMPLE_BATCH_TOKENS, .sequences = PREFILL_SEQUENCES},
        .router = SERVING_LEAST_LOADED,
        .block_tokens = KV_BLOCK};
    set_host(serving, sample_cell(sample, row, SAMPLE_ENGINE), scenario->model.name);
    scenario->serving = serving;
    return sample_set_pool(scenario, sample, row, &row->main);
}
