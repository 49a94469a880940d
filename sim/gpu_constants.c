/* gpu_constants.c -- reads the constants of experts, GEMMs and attention. */
#include "gpu_constants.h"

#include <string.h>

#include "gpu/library_picks.h"

#define RATE_MAX 1e18 /* flops or bytes a second */
#define TIME_MAX 1e9  /* ns */

const char *const tile_height_names[] = {"tuned", "16",       "32",      "64",     "128",  "256",
                                         "vllm",  "deepgemm", "choices", "sglang", "even", NULL};
const char *const tile_choice_names[] = {"tuned", "fewest_waves", "fewest_waves_swapped",
                                         "fixed", "tuned_whole",  NULL};
const char *const split_rule_names[] = {"filling", "flashinfer", "even", "xqa", NULL};
const char *const attention_phase_names[] = {
    "gqa_decode",        "gqa_prefill",        "mla_decode", "mla_prefill",
    "mla_module_decode", "mla_module_prefill", NULL};

#define RATE(type, name)                                                                           \
    {                                                                                              \
#name, YAML_DOUBLE, offsetof(type, name), .required = true, .min = 1.0, .max = RATE_MAX    \
    }
#define RATE_OPTIONAL(type, name)                                                                  \
    {                                                                                              \
#name, YAML_DOUBLE, offsetof(type, name), .max = RATE_MAX                                  \
    }
#define TIME(type, name)                                                                           \
    {                                                                                              \
#name, YAML_DOUBLE, offsetof(type, name), .required = true, .max = TIME_MAX                \
    }
#define TIME_OPTIONAL(type, name)                                                                  \
    {                                                                                              \
#name, YAML_DOUBLE, offsetof(type, name), .max = TIME_MAX                                  \
    }
#define BLEND_OPTIONAL(type, name)                                                                 \
    {                                                                                              \
#name, YAML_DOUBLE, offsetof(type, name), .max = 1e3                                       \
    }
#define NAMES(type)                                                                                \
    {"kernels", YAML_TEXT, offsetof(type, kernels), .size = NAME_BYTES, .required = true},         \
    {                                                                                              \
        "precision", YAML_CHOICE, offsetof(type, precision), .required = true,                     \
                                                             .choices = precision_choices          \
    }

#define EXPERTS struct fitted_kernels
static const struct yaml_field fitted_fields[] = {
    NAMES(EXPERTS),
    TIME(EXPERTS, t0_ns),
    RATE(EXPERTS, weight_bytes_per_s),
    RATE(EXPERTS, flops_per_s),
    RATE(EXPERTS, activation_bytes_per_s),
    RATE(EXPERTS, row_bytes_per_s),
    TIME(EXPERTS, slot_ns),
    TIME(EXPERTS, depth_ns),
    TIME(EXPERTS, tile_ns),
    {"few_rows_share", YAML_DOUBLE, offsetof(EXPERTS, few_rows_share), .max = 100.0},
    {"tile_rows_lost", YAML_DOUBLE, offsetof(EXPERTS, tile_rows_lost), .required = true,
     .max = 1e6},
    RATE_OPTIONAL(EXPERTS, choice_hidden_bytes_per_s),
    RATE_OPTIONAL(EXPERTS, choice_ffn_bytes_per_s),
    TIME_OPTIONAL(EXPERTS, slot_ffn_ns),
    TIME_OPTIONAL(EXPERTS, busiest_ns),
    {"depth_blend", YAML_DOUBLE, offsetof(EXPERTS, depth_blend), .max = 100.0},
    {"again_share", YAML_DOUBLE, offsetof(EXPERTS, again_share), .max = 100.0},
    RATE_OPTIONAL(EXPERTS, sustained_flops_per_s),
    {"loop_share", YAML_DOUBLE, offsetof(EXPERTS, loop_share), .max = 100.0},
    TIME_OPTIONAL(EXPERTS, sort_ns),
    RATE_OPTIONAL(EXPERTS, gather_bytes_per_s),
    RATE_OPTIONAL(EXPERTS, scatter_bytes_per_s),
    {"tile_rows", YAML_CHOICE, offsetof(EXPERTS, tile_rows), .choices = tile_height_names},
    {"blend", YAML_DOUBLE, offsetof(EXPERTS, blend), .required = true, .min = 1.0, .max = 100.0},
    {"many_rows", YAML_DOUBLE, offsetof(EXPERTS, many_rows), .max = 1e9},
    {"many_kernels", YAML_TEXT, offsetof(EXPERTS, many_kernels), .size = NAME_BYTES},
    FIT_EVIDENCE_FIELDS(EXPERTS),
    {.key = NULL},
};

#define GEMM struct gemm_constants
static const struct yaml_field gemm_fields[] = {
    NAMES(GEMM),
    {"tiles", YAML_CHOICE, offsetof(GEMM, tiles), .required = true, .choices = tile_choice_names},
    {"picks", YAML_CHOICE, offsetof(GEMM, picks), .choices = library_picks_names},
    TIME(GEMM, t0_ns),
    RATE(GEMM, weight_bytes_per_s),
    RATE(GEMM, flops_per_s),
    RATE(GEMM, feed_bytes_per_s),
    RATE(GEMM, prepare_bytes_per_s),
    RATE(GEMM, output_bytes_per_s),
    TIME(GEMM, tile_ns),
    TIME_OPTIONAL(GEMM, split_ns),
    TIME_OPTIONAL(GEMM, depth_ns),
    TIME_OPTIONAL(GEMM, uneven_share),
    TIME_OPTIONAL(GEMM, pad_ns),
    RATE_OPTIONAL(GEMM, sustained_flops_per_s),
    RATE_OPTIONAL(GEMM, cache_bytes),
    {"sink_share", YAML_DOUBLE, offsetof(GEMM, sink_share), .max = 10.0},
    {"blend", YAML_DOUBLE, offsetof(GEMM, blend), .required = true, .min = 1.0, .max = 1e3},
    FIT_EVIDENCE_FIELDS(GEMM),
    {.key = NULL},
};

#define ATTENTION struct attention_constants
static const struct yaml_field attention_fields[] = {
    NAMES(ATTENTION),
    {"phase", YAML_CHOICE, offsetof(ATTENTION, phase), .required = true,
     .choices = attention_phase_names},
    {"splits", YAML_CHOICE, offsetof(ATTENTION, splits), .choices = split_rule_names},
    {"heads_min", YAML_DOUBLE, offsetof(ATTENTION, heads_min), .max = 1e5},
    TIME(ATTENTION, t0_ns),
    TIME_OPTIONAL(ATTENTION, floor_ns),
    RATE_OPTIONAL(ATTENTION, kv_bytes_per_s),
    RATE_OPTIONAL(ATTENTION, flops_per_s),
    TIME(ATTENTION, tile_ns),
    TIME_OPTIONAL(ATTENTION, split_share),
    RATE_OPTIONAL(ATTENTION, sm_bytes_per_s),
    TIME_OPTIONAL(ATTENTION, alone_share),
    RATE_OPTIONAL(ATTENTION, sum_bytes_per_s),
    TIME_OPTIONAL(ATTENTION, merge_ns),
    TIME_OPTIONAL(ATTENTION, sequence_ns),
    BLEND_OPTIONAL(ATTENTION, blend),
    BLEND_OPTIONAL(ATTENTION, wave_blend),
    TIME_OPTIONAL(ATTENTION, dim_ns),
    TIME_OPTIONAL(ATTENTION, single_tile_ns),
    RATE_OPTIONAL(ATTENTION, single_sm_bytes_per_s),
    {"group_min", YAML_DOUBLE, offsetof(ATTENTION, group_min), .max = 1e5},
    {"group_max", YAML_DOUBLE, offsetof(ATTENTION, group_max), .max = 1e5},
    TIME_OPTIONAL(ATTENTION, single_t0_ns),
    TIME_OPTIONAL(ATTENTION, single_merge_ns),
    BLEND_OPTIONAL(ATTENTION, single_overlap),
    BLEND_OPTIONAL(ATTENTION, overlap),
    TIME_OPTIONAL(ATTENTION, part_ns),
    TIME_OPTIONAL(ATTENTION, row_tile_ns),
    RATE_OPTIONAL(ATTENTION, cache_bytes),
    TIME_OPTIONAL(ATTENTION, miss_ns),
    RATE_OPTIONAL(ATTENTION, exps_per_s),
    RATE_OPTIONAL(ATTENTION, kv_row_bytes_per_s),
    RATE_OPTIONAL(ATTENTION, weight_bytes_per_s),
    RATE_OPTIONAL(ATTENTION, gemm_flops_per_s),
    RATE_OPTIONAL(ATTENTION, row_bytes_per_s),
    TIME_OPTIONAL(ATTENTION, narrow_ns),
    RATE_OPTIONAL(ATTENTION, head_row_bytes_per_s),
    BLEND_OPTIONAL(ATTENTION, floor_blend),
    TIME_OPTIONAL(ATTENTION, slow_share),
    TIME_OPTIONAL(ATTENTION, slow_ns),
    FIT_EVIDENCE_FIELDS(ATTENTION),
    {.key = NULL},
};

/* What a form divides by, or takes as a norm's exponent. */
struct needed_constant {
    const char *name;
    double value;
    double min;
};

static enum status check_needed(const struct attention_constants *constants,
                                const struct needed_constant *needed, int32_t count,
                                const struct yaml_node *node, struct error *error)
{
    enum status status = STATUS_OK;
    for (int32_t i = 0; i < count; i++) {
        if (needed[i].value < needed[i].min) {
            status = error_add(error, STATUS_INVALID,
                               "%s:%d: attention: %s of %s (splits: %s) needs %s of at least %g",
                               node->file, (int)node->line, attention_phase_names[constants->phase],
                               constants->kernels, split_rule_names[constants->splits],
                               needed[i].name, needed[i].min);
        }
    }
    return status;
}

#define COUNT(array) ((int32_t)(sizeof(array) / sizeof(array)[0]))
#define NEEDED(name, m)                                                                            \
    {                                                                                              \
#name, constants->name, m                                                                  \
    }

/* Every form has constants of its own; without one a prediction would divide by nothing. */
static enum status check_attention(const void *entry, const struct yaml_node *node,
                                   struct error *error)
{
    const struct attention_constants *constants = entry;
    const struct needed_constant usual[] = {NEEDED(kv_bytes_per_s, 1.0), NEEDED(flops_per_s, 1.0),
                                            NEEDED(blend, 1.0)};
    const struct needed_constant module[] = {NEEDED(weight_bytes_per_s, 1.0),
                                             NEEDED(gemm_flops_per_s, 1.0),
                                             NEEDED(row_bytes_per_s, 1.0)};
    const struct needed_constant prompts[] = {NEEDED(head_row_bytes_per_s, 1.0),
                                              NEEDED(floor_blend, 1.0), NEEDED(slow_ns, 1.0)};
    const struct needed_constant flashinfer[] = {NEEDED(sum_bytes_per_s, 1.0)};
    const struct needed_constant decode[] = {NEEDED(kv_bytes_per_s, 1.0),
                                             NEEDED(sm_bytes_per_s, 1.0),
                                             NEEDED(single_sm_bytes_per_s, 1.0),
                                             NEEDED(row_bytes_per_s, 1.0),
                                             NEEDED(blend, 1.0),
                                             NEEDED(wave_blend, 1.0)};
    const struct needed_constant prefill[] = {
        NEEDED(flops_per_s, 1.0), NEEDED(exps_per_s, 1.0), NEEDED(row_bytes_per_s, 1.0),
        NEEDED(kv_row_bytes_per_s, 1.0), NEEDED(wave_blend, 1.0)};
    bool is_module =
        constants->phase == PHASE_MODULE_DECODE || constants->phase == PHASE_MODULE_PREFILL;
    bool is_gqa = constants->phase == PHASE_GQA_DECODE || constants->phase == PHASE_GQA_PREFILL;
    bool is_engine = constants->splits == SPLITS_EVEN || constants->splits == SPLITS_XQA;
    if (is_engine && !is_gqa) {
        return error_add(error, STATUS_INVALID,
                         "%s:%d: attention: splits: %s of %s is of gqa_decode or gqa_prefill",
                         node->file, (int)node->line, split_rule_names[constants->splits],
                         constants->kernels);
    }
    if (is_engine) {
        return constants->phase == PHASE_GQA_DECODE
                   ? check_needed(constants, decode, COUNT(decode), node, error)
                   : check_needed(constants, prefill, COUNT(prefill), node, error);
    }
    enum status status = check_needed(constants, usual, COUNT(usual), node, error);
    if (is_module && check_needed(constants, module, COUNT(module), node, error) != STATUS_OK) {
        status = STATUS_INVALID;
    }
    if (constants->phase == PHASE_MODULE_PREFILL &&
        check_needed(constants, prompts, COUNT(prompts), node, error) != STATUS_OK) {
        status = STATUS_INVALID;
    }
    if (constants->splits == SPLITS_FLASHINFER &&
        check_needed(constants, flashinfer, COUNT(flashinfer), node, error) != STATUS_OK) {
        status = STATUS_INVALID;
    }
    return status;
}

static bool is_same_name(const char *kernels, enum precision precision, const char *other_kernels,
                         enum precision other_precision)
{
    return precision == other_precision && strcmp(kernels, other_kernels) == 0;
}

const struct fitted_kernels *gpu_experts_of(const struct gpu_spec *gpu,
                                            const struct fitted_kernels *fitted, double rows)
{
    if (!(fitted->many_rows > 0.0) || rows < fitted->many_rows) {
        return fitted;
    }
    for (int32_t i = 0; i < gpu->num_fitted; i++) {
        const struct fitted_kernels *other = &gpu->fitted[i];
        if (is_same_name(other->kernels, other->precision, fitted->many_kernels,
                         fitted->precision)) {
            return other;
        }
    }
    return fitted;
}

static bool is_same_fitted(const void *a, const void *b)
{
    const struct fitted_kernels *x = a;
    const struct fitted_kernels *y = b;
    return is_same_name(x->kernels, x->precision, y->kernels, y->precision);
}

static bool is_same_gemm(const void *a, const void *b)
{
    const struct gemm_constants *x = a;
    const struct gemm_constants *y = b;
    return is_same_name(x->kernels, x->precision, y->kernels, y->precision);
}

static bool is_same_attention(const void *a, const void *b)
{
    const struct attention_constants *x = a;
    const struct attention_constants *y = b;
    return is_same_name(x->kernels, x->precision, y->kernels, y->precision) &&
           x->phase == y->phase && !(x->heads_min < y->heads_min) && !(x->heads_min > y->heads_min);
}

struct constants_list {
    const char *key;
    const struct yaml_node *node; /* NULL: the file has no such list */
    const struct yaml_field *fields;
    bool (*is_same)(const void *a, const void *b);
    enum status (*check)(const void *entry, const struct yaml_node *node,
                         struct error *error); /* NULL: the fields say it all */
    char *first;                               /* of the array */
    size_t bytes;                              /* of an entry */
    int32_t max;
    int32_t *count;
};

static enum status fill_entry(const struct constants_list *list, const struct yaml_node *item,
                              struct error *error)
{
    char *entry = list->first + (size_t)*list->count * list->bytes;
    if (item->kind != YAML_MAPPING) {
        return error_add(error, STATUS_INVALID, "%s:%d: %s: keys and values are expected",
                         item->file, (int)item->line, list->key);
    }
    enum status status = yaml_fill(entry, item, list->fields, error);
    if (status == STATUS_OK && list->check != NULL) {
        status = list->check(entry, item, error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    for (const char *other = list->first; other < entry; other += list->bytes) {
        if (list->is_same(entry, other)) {
            return error_add(error, STATUS_INVALID, "%s:%d: %s: %s in %s stands twice", item->file,
                             (int)item->line, list->key, yaml_get(item, "kernels")->text,
                             yaml_get(item, "precision")->text);
        }
    }
    (*list->count)++;
    return STATUS_OK;
}

static enum status fill_list(const struct constants_list *list, struct error *error)
{
    const struct yaml_node *node = list->node;
    enum status status = STATUS_OK;
    if (node == NULL) {
        return STATUS_OK;
    }
    if (node->kind != YAML_SEQUENCE) {
        return error_add(error, STATUS_INVALID, "%s:%d: %s: a list is expected", node->file,
                         (int)node->line, list->key);
    }
    for (const struct yaml_node *item = node->child; item != NULL; item = item->next) {
        if (*list->count == list->max) {
            return error_add(error, STATUS_INVALID, "%s:%d: %s: at most %d entries", item->file,
                             (int)item->line, list->key, (int)list->max);
        }
        enum status outcome = fill_entry(list, item, error);
        status = outcome != STATUS_OK ? outcome : status;
    }
    return status;
}

/* Kernels that take over have to be there, or the wrong ones would go on without a word. */
static enum status check_many(const struct gpu_spec *gpu, const struct yaml_node *list,
                              struct error *error)
{
    enum status status = STATUS_OK;
    const struct yaml_node *item = gpu->num_fitted > 0 ? list->child : NULL;
    for (int32_t i = 0; i < gpu->num_fitted; i++, item = item->next) {
        const struct fitted_kernels *fitted = &gpu->fitted[i];
        bool is_asked = fitted->many_rows > 0.0 || fitted->many_kernels[0] != '\0';
        if (is_asked && gpu_experts_of(gpu, fitted, fitted->many_rows) == fitted) {
            status =
                error_add(error, STATUS_INVALID,
                          "%s:%d: fitted: many_rows and many_kernels of %s: a number of tokens "
                          "and another entry of its precision are expected, not %g and '%s'",
                          item->file, (int)item->line, fitted->kernels, fitted->many_rows,
                          fitted->many_kernels);
        }
    }
    return status;
}

enum status gpu_constants_fill(struct gpu_spec *gpu, const struct gpu_lists *lists,
                               struct error *error)
{
    const struct constants_list all[] = {
        {"fitted", lists->fitted, fitted_fields, is_same_fitted, NULL, (char *)gpu->fitted,
         sizeof gpu->fitted[0], FITTED_MAX, &gpu->num_fitted},
        {"gemm", lists->gemm, gemm_fields, is_same_gemm, NULL, (char *)gpu->gemm,
         sizeof gpu->gemm[0], GEMM_CONSTANTS_MAX, &gpu->num_gemm},
        {"attention", lists->attention, attention_fields, is_same_attention, check_attention,
         (char *)gpu->attention, sizeof gpu->attention[0], ATTENTION_CONSTANTS_MAX,
         &gpu->num_attention},
    };
    enum status status = STATUS_OK;
    for (int32_t i = 0; i < COUNT(all); i++) {
        enum status outcome = fill_list(&all[i], error);
        status = outcome != STATUS_OK ? outcome : status;
    }
    return status == STATUS_OK ? check_many(gpu, lists->fitted, error) : status;
}
