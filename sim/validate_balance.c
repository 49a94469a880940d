/*
 * validate_balance.c -- published effects of imbalance, predicted by the GPU presets' constants.
 *
 * Two kinds of rows are ratios of times of the expert phase on the most loaded rank: under a power
 * law over under uniform routing, and with EPLB over without. Tokens are dealt as the collector of
 * the tables did (moe_rows_internal.h); its random numbers were not kept, so a ratio is predicted
 * by the mean of DRAWS routings. SGLang's prefill was handed the tokens of the whole group, those
 * of other ranks masked (collector/wideep/sglang/collect_deepep_moe.py), so its scatter and gather
 * go over all of them whatever the rank's load: it is what keeps the measured ratios of 131,072
 * tokens below those of the loads. With EPLB, our own eplb places the experts of each routing and
 * their replicas share tokens evenly. Which kernels stand for a row follows from its source; where
 * a GPU's preset has no constants for them, those of least held-out error do.
 */
#include <gsl/gsl_rng.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "balance/eplb.h"
#include "csv_table.h"
#include "gpu/fitted.h"
#include "model.h"
#include "moe_rows_internal.h"
#include "odd_rows.h"
#include "rng.h"
#include "validate.h"

#define DRAWS     16
#define NUM_KEYS  3
#define SLOTS_MAX 65536

static const char *const keys[NUM_KEYS] = {"model", "gpu", "metric"};
static const char *const columns[] = {"model", "hardware", "ep",        "slots", "metric",
                                      "value", "unit",     "condition", "source"};

enum column { MODEL, HARDWARE, EP, SLOTS, METRIC, VALUE, UNIT, CONDITION, SOURCE, NUM_COLUMNS };

/* What a ratio is between. */
enum kind { SKEWED_OVER_UNIFORM, EPLB_OVER_SKEWED };

struct balance_row {
    enum kind kind;
    double alpha;
    struct deal deal;
    int32_t num_slots;
    struct expert_shape shape;
    const struct fitted_kernels *fitted;
    bool has_all_tokens; /* of the group, those of other ranks masked */
    bool is_same_table;  /* fitted to rows of the table that the row's times are from */
};

/* What predictions work on. */
struct world {
    struct moe_model model;
    struct gpu_spec gpu;
    struct arena arena;
    gsl_rng *rng;
    struct odd_rows odd;
};

/* "power_law_1.2; 16384 global tokens" and "power law alpha=1.01, 16384 global tokens". */
static bool read_condition(struct balance_row *row, const char *text)
{
    const char *alpha = strstr(text, "power_law_");
    alpha = alpha != NULL ? alpha + strlen("power_law_") : strstr(text, "alpha=");
    if (alpha == NULL) {
        return false;
    }
    alpha += strncmp(alpha, "alpha=", 6) == 0 ? 6 : 0;
    char *end = NULL;
    row->alpha = strtod(alpha, &end);
    if (end == alpha || (*end != ';' && *end != ',') ||
        !(row->alpha >= 0.0 && row->alpha <= 10.0)) {
        return false;
    }
    row->alpha = fabs(row->alpha - 1.0) < 1e-6 ? 1.0 + 1e-6 : row->alpha; /* the formula's gap */
    const char *count = end + 1;
    long tokens = strtol(count, &end, 10);
    row->deal.tokens = tokens;
    return end != count && strncmp(end, " global tokens", 14) == 0 && tokens > 0 &&
           tokens <= 1 << 24;
}

/* Kernels by a part of the table that a row is from: of expert parallelism, they are fitted to
 * other rows of the same tables. */
static const struct {
    const char *part;
    const char *kernels;
} tables[] = {{"wideep_context", "sglang_deepep_prefill"},
              {"wideep_generation", "sglang_deepep_decode"},
              {"trtllm", "trtllm_wideep"}};

/* Those of the row's table in fp8, else of any. */
static const struct fitted_kernels *find_constants(const struct gpu_spec *gpu, const char *source,
                                                   bool *is_same_table)
{
    const struct fitted_kernels *any = NULL;
    *is_same_table = false;
    for (int32_t i = 0; i < gpu->num_fitted; i++) {
        const struct fitted_kernels *fitted = &gpu->fitted[i];
        for (size_t k = 0; k < sizeof tables / sizeof tables[0]; k++) {
            if (strstr(source, tables[k].part) != NULL &&
                strcmp(fitted->kernels, tables[k].kernels) == 0) {
                *is_same_table = true;
                return fitted;
            }
        }
        any = any == NULL && fitted->precision == PRECISION_FP8 ? fitted : any;
    }
    return any;
}

/* Distinct tokens of a rank: each of its experts is missed by the others' share; or all. */
static void close_load(struct expert_load *load, const struct balance_row *row)
{
    const struct deal *deal = &row->deal;
    if (row->has_all_tokens) {
        load->rows = (double)deal->tokens;
        return;
    }
    double mean = load->copies / (double)deal->tokens; /* chosen experts of a token there */
    double slots = load->slots > 0.0 ? load->slots : 1.0;
    load->rows = (double)deal->tokens * (1.0 - pow(1.0 - fmin(mean / slots, 1.0), slots));
}

static double rank_ns(const struct balance_row *row, const int64_t *tokens_of, int32_t count)
{
    struct expert_load load = {0};
    for (int32_t i = 0; i < count; i++) {
        expert_load_add(&load, tokens_of[i], 1.0);
    }
    close_load(&load, row);
    return fitted_expert_ns(row->fitted, &row->shape, &load);
}

/* The slowest rank once eplb has placed the experts, replicas sharing evenly. */
static enum status balanced_ns(double *ns, const struct balance_row *row, const int64_t *tokens_of,
                               struct arena *arena)
{
    const struct eplb_shape shape = {.num_experts = row->deal.num_experts,
                                     .num_slots = row->num_slots,
                                     .num_groups = 1,
                                     .num_nodes = 1,
                                     .num_ranks = row->deal.ep};
    arena_reset(arena);
    size_t slots = (size_t)row->num_slots;
    int32_t *expert_of_slot = arena_alloc(arena, slots, sizeof *expert_of_slot);
    int64_t *slot_tokens = arena_alloc(arena, slots, sizeof *slot_tokens);
    int32_t *replicas = arena_alloc(arena, (size_t)row->deal.num_experts, sizeof *replicas);
    if (expert_of_slot == NULL || slot_tokens == NULL || replicas == NULL ||
        eplb_layer(expert_of_slot, tokens_of, &shape, arena) != STATUS_OK) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t slot = 0; slot < row->num_slots; slot++) {
        replicas[expert_of_slot[slot]]++;
    }
    int32_t per_rank = row->num_slots / row->deal.ep;
    *ns = 0.0;
    for (int32_t slot = 0; slot < row->num_slots; slot++) {
        int32_t expert = expert_of_slot[slot];
        slot_tokens[slot] = tokens_of[expert] / replicas[expert];
    }
    for (int32_t rank = 0; rank < row->deal.ep; rank++) {
        *ns = fmax(*ns, rank_ns(row, slot_tokens + (int64_t)rank * per_rank, per_rank));
    }
    return STATUS_OK;
}

static enum status predict(double *ratio, const struct balance_row *row, struct world *world,
                           uint64_t index)
{
    int64_t tokens_of[DEAL_EXPERTS_MAX];
    int32_t local = row->deal.num_experts / row->deal.ep;
    double sum_ns = 0.0;
    double skewed_ns = 0.0;
    rng_restream(world->rng, index, "validate balance", 0);
    for (int32_t draw = 0; draw < DRAWS; draw++) {
        double ns = 0.0;
        moe_deal_power_law(tokens_of, &row->deal, row->alpha, world->rng);
        skewed_ns += rank_ns(row, tokens_of, local);
        if (row->kind == EPLB_OVER_SKEWED) {
            if (balanced_ns(&ns, row, tokens_of, &world->arena) != STATUS_OK) {
                return STATUS_NO_MEMORY;
            }
            sum_ns += ns;
        }
    }
    if (row->kind == EPLB_OVER_SKEWED) {
        *ratio = sum_ns / skewed_ns;
        return STATUS_OK;
    }
    moe_deal_balanced(tokens_of, row->deal.tokens, row->deal.num_experts, row->deal.top_k);
    *ratio = skewed_ns / DRAWS / rank_ns(row, tokens_of, local);
    return STATUS_OK;
}

/* Why a row cannot be predicted; NULL: it can, and row is filled. */
static const char *read_row(struct balance_row *row, struct world *world,
                            const struct csv_table *table, int64_t index)
{
    const char *metric = csv_cell(table, index, METRIC);
    struct error unknown = {0};
    bool is_skew = strncmp(metric, "MoE compute latency on hottest rank / uniform", 45) == 0;
    bool is_eplb = strncmp(metric, "MoE compute latency with EPLB / without", 39) == 0;
    if (strcmp(csv_cell(table, index, UNIT), "x") != 0 ||
        csv_cell(table, index, VALUE)[0] == '\0') {
        return "it states no ratio";
    }
    if (strstr(metric, "fused dispatch+MoE+combine") != NULL) {
        return "the fused kernel and the dimensions of its model are not published";
    }
    if (!is_skew && !is_eplb) {
        return "its traffic or configuration is not published";
    }
    if (strncmp(csv_cell(table, index, MODEL), "DeepSeek-V3", 11) != 0) {
        return "no model preset stands for it";
    }
    const struct moe_model *model = &world->model;
    row->kind = is_skew ? SKEWED_OVER_UNIFORM : EPLB_OVER_SKEWED;
    row->deal.num_experts = model->num_experts;
    row->deal.top_k = model->top_k;
    if (!read_condition(row, csv_cell(table, index, CONDITION))) {
        return "its condition is not a power law of a number of tokens";
    }
    if (row->deal.ep < 1 || model->num_experts % row->deal.ep != 0 ||
        row->num_slots < model->num_experts || row->num_slots % row->deal.ep != 0) {
        return "ranks do not divide experts and slots";
    }
    if (gpu_load(&world->gpu, csv_cell(table, index, HARDWARE), &unknown) != STATUS_OK) {
        return "no GPU preset has this GPU's name as an alias";
    }
    row->fitted = find_constants(&world->gpu, csv_cell(table, index, SOURCE), &row->is_same_table);
    row->has_all_tokens = strstr(csv_cell(table, index, SOURCE), "wideep_context") != NULL;
    row->shape = (struct expert_shape){.hidden_dim = model->hidden_dim,
                                       .ffn_dim = model->expert_ffn_dim,
                                       .weight_bytes = precision_weight_bytes(PRECISION_FP8),
                                       .num_sms = world->gpu.num_sms,
                                       .gpu_sms = world->gpu.num_sms};
    return row->fitted != NULL ? NULL : "the GPU's preset has no constants for fp8";
}

static enum status add_row(struct error_report *report, struct world *world,
                           const struct csv_table *table, int64_t index, struct error *error)
{
    struct balance_row row = {0};
    double value = 0.0;
    double ratio = 0.0;
    const char *metric = csv_cell(table, index, METRIC);
    const char *const values[NUM_KEYS] = {csv_cell(table, index, MODEL),
                                          csv_cell(table, index, HARDWARE), metric};
    struct error odd = {0};
    enum status status = STATUS_OK;
    const char *reason = NULL;
    const char *words = NULL;
    bool is_read = csv_count(&row.deal.ep, table, index, EP, 1, 65536, &odd) == STATUS_OK &&
                   csv_count(&row.num_slots, table, index, SLOTS, 1, SLOTS_MAX, &odd) == STATUS_OK;
    reason = is_read ? read_row(&row, world, table, index) : NULL;
    is_read = is_read && (reason != NULL ||
                          csv_number(&value, table, index, VALUE, 1e-6, 1e6, &odd) == STATUS_OK);
    if (!is_read) {
        reason = odd_cell_reason;
        words = odd_rows_add(&world->odd, &odd);
        status = words != NULL ? STATUS_OK : error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    if (status == STATUS_OK && reason != NULL) {
        return error_report_skip_odd(report, table->line[index], values, reason, words, error);
    }
    if (status == STATUS_OK && predict(&ratio, &row, world, (uint64_t)index) != STATUS_OK) {
        status = error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    return status == STATUS_OK
               ? error_report_add(report, table->line[index], values, ratio, value, false, error)
               : status;
}

enum status validate_balance(struct error_report *report, const char *path, struct error *error)
{
    struct csv_table table = {0};
    struct arena arena = {0};
    struct world *world = calloc(1, sizeof *world);
    enum status status = STATUS_OK;
    error_report_keys(report, keys, NUM_KEYS);
    if (world == NULL || (world->rng = rng_stream(0, "validate balance", 0)) == NULL) {
        status = error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    if (status == STATUS_OK) {
        status = csv_table_read(&table, path, columns, NUM_COLUMNS, &arena, error);
    }
    if (status == STATUS_OK) {
        status = model_load(&world->model, "deepseek-v3", error);
    }
    for (int64_t i = 0; i < table.num_rows && status == STATUS_OK; i++) {
        status = add_row(report, world, &table, i, error);
    }
    if (world != NULL) {
        gsl_rng_free(world->rng);
        arena_free(&world->arena);
        odd_rows_free(&world->odd);
    }
    free(world);
    arena_free(&arena);
    return status;
}
