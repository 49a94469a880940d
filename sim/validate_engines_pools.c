/*
 * validate_engines_pools.c -- rows of a sample whose prompts are read on other GPUs.
 *
 * Such a row says how many workers read prompts, how many answer, how each kind is spread over its
 * GPUs, and how many requests a replica that answers has. Their product is the number outstanding:
 * it equals the concurrency that the row's source names in all 267 rows of aiconfigurator's sample
 * @ 095f58a that name one. How tokens come to experts, and how KV entries are kept, follows the
 * recipes of those runs (NVIDIA/srt-slurm, recipes/ and recipes/trtllm/).
 *
 * Not said, and left out: how many requests a replica may answer at a time. Many recipes allow
 * fewer than come, so that requests wait for a place once they are read; TTFT of such rows is
 * longer.
 */
#include <string.h>

#include "validate_engines.h"

enum pool_column { WORKERS, TP, PP, DP, MOE_TP, EP, POOL_COLUMNS };

#define DECODE       POOL_COLUMNS
#define DECODE_BATCH (2 * POOL_COLUMNS)
#define NUM_COLUMNS  (DECODE_BATCH + 1)

static const char *const columns[NUM_COLUMNS] = {
    "prefill_num_workers",       "prefill_tp_size",     "prefill_pp_size",
    "prefill_attention_dp_size", "prefill_moe_tp_size", "prefill_moe_ep_size",
    "decode_num_workers",        "decode_tp_size",      "decode_pp_size",
    "decode_attention_dp_size",  "decode_moe_tp_size",  "decode_moe_ep_size",
    "decode_batch_size"};

static bool read_pool(struct sample_pool *pool, const struct csv_table *table, int64_t index,
                      int32_t first, struct error *odd)
{
    int32_t *const value[POOL_COLUMNS] = {&pool->workers, &pool->tp,     &pool->pp,
                                          &pool->dp,      &pool->moe_tp, &pool->ep};
    bool is_odd = false;
    *pool = (struct sample_pool){0, 1, 1, 1, 1, 1};
    for (int32_t i = 0; i < POOL_COLUMNS; i++) {
        is_odd |=
            csv_count(value[i], table, index, first + i, 0, SAMPLE_COUNT_MAX, odd) != STATUS_OK;
    }
    return !is_odd;
}

static enum status read_row(struct sample *sample, struct sample_row *row,
                            const struct csv_table *table, struct error *error)
{
    struct error odd = {0};
    int32_t batch = 0; /* of a replica */
    bool is_read = read_pool(&row->prefill, table, row->index, 0, &odd);
    is_read &= read_pool(&row->main, table, row->index, DECODE, &odd);
    is_read &=
        csv_count(&batch, table, row->index, DECODE_BATCH, 0, SAMPLE_BATCH_MAX, &odd) == STATUS_OK;
    if (!is_read) {
        row->reason = odd_cell_reason;
        row->words = odd_rows_add(&sample->odd, &odd);
        return row->words != NULL ? STATUS_OK : error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    if (row->prefill.workers < 1 || row->main.workers < 1 || batch < 1) {
        row->reason = "how many workers read prompts, how many answer or how many requests is not "
                      "stated";
        return STATUS_OK;
    }
    const int64_t outstanding = (int64_t)batch * row->main.workers * row->main.dp;
    row->batch = outstanding > SAMPLE_BATCH_MAX ? SAMPLE_BATCH_MAX + 1 : (int32_t)outstanding;
    return STATUS_OK;
}

enum status sample_read_pools(struct sample *sample, struct error *error)
{
    struct csv_table table = {0};
    struct error missing = {0};
    enum status status =
        csv_table_read(&table, sample->table.path, columns, NUM_COLUMNS, &sample->arena, &missing);
    if (status == STATUS_INVALID) { /* it could be read, so it lacks these columns */
        return STATUS_OK;
    }
    if (status != STATUS_OK) {
        return error_add(error, status, "%s", missing.text);
    }
    for (int64_t i = 0; i < sample->table.num_rows && status == STATUS_OK; i++) {
        struct sample_row *row = &sample->row[i];
        if (row->reason == NULL && strcmp(sample_cell(sample, row, SAMPLE_MODE), "disagg") == 0) {
            status = read_row(sample, row, &table, error);
        }
    }
    return status;
}

/* Where attention is data-parallel, TensorRT-LLM takes its all-to-all over NVLink in racks, the
 * two-sided one for fp8, and gathers all tokens in nodes; SGLang takes DeepEP in racks, but for
 * prompts of models in NVFP4, and gathers in nodes. Where it is tensor-parallel, or experts are
 * cut, all have the tokens already: adding results up costs what gathering and scattering does. */
static const char *find_exchange(const struct scenario *scenario, const char *engine,
                                 const struct sample_pool *pool)
{
    const bool is_rack =
        scenario->expert_tp == 1 && strstr(scenario->cluster.preset, "nvl72") != NULL;
    const bool is_fp4 = scenario->model.precision_expert == PRECISION_NVFP4;
    const bool is_prefill = scenario->phase == PHASE_PREFILL;
    if (is_rack && pool->dp > 1 && strcmp(engine, "trtllm") == 0) {
        return is_fp4 ? "one_sided" : "two_sided";
    }
    if (is_rack && pool->dp > 1 && strcmp(engine, "sglang") == 0 && !(is_prefill && is_fp4)) {
        return is_prefill ? "deepep_normal" : "deepep_low_latency";
    }
    return "allgather_reducescatter";
}

void sample_set_exchange(struct scenario *scenario, const char *engine,
                         const struct sample_pool *pool)
{
    scenario->collective = collective_find(find_exchange(scenario, engine, pool));
    scenario->combine_precision = PRECISION_BF16;
    scenario->dispatch_precision = PRECISION_BF16;
    if (strcmp(scenario->collective->name, "allgather_reducescatter") != 0) {
        scenario->dispatch_precision = scenario->model.precision_expert;
    }
    cluster_use_constants(&scenario->cluster, scenario->collective->name,
                          precision_name(scenario->dispatch_precision));
}

const char *sample_prefill_scenario(struct scenario *prefill, const struct scenario *main,
                                    const struct sample *sample, const struct sample_row *row)
{
    *prefill = *main;
    prefill->serving = NULL;
    prefill->phase = PHASE_PREFILL;
    prefill->context_tokens = row->isl;
    return sample_set_pool(prefill, sample, row, &row->prefill);
}
