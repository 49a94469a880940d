/*
 * plan_read.c -- PLAN.yaml against its keys, all problems at once.
 *
 * Amounts may carry a unit ("1M", "50ms"), so they are read as text here and not by yaml_fill.
 */
#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data.h"
#include "plan_read.h"
#include "quantity.h"
#include "textfile.h"

static const struct yaml_field trace_fields[] = {
    {"path", YAML_TEXT, offsetof(struct plan_file, plan.trace_path), .size = PATH_BYTES},
    {"preset", YAML_TEXT, offsetof(struct plan_file, plan.trace_preset), .size = NAME_BYTES},
    {.key = NULL},
};

static const struct yaml_field traffic_fields[] = {
    {"path", YAML_TEXT, offsetof(struct plan_file, plan.arrivals.path), .size = PATH_BYTES},
    {"requests_per_day", YAML_TEXT, offsetof(struct plan_file, requests), .size = NAME_BYTES},
    {"output_tokens_per_s", YAML_TEXT, offsetof(struct plan_file, output_per_s),
     .size = NAME_BYTES},
    {"input_tokens", YAML_TEXT, offsetof(struct plan_file, input), .size = NAME_BYTES},
    {"output_tokens", YAML_TEXT, offsetof(struct plan_file, output), .size = NAME_BYTES},
    {"cached_share", YAML_DOUBLE, offsetof(struct plan_file, plan.traffic.cached_share),
     .max = 0.999},
    {"peak_over_mean", YAML_DOUBLE, offsetof(struct plan_file, peak_over_mean), .min = 1.0,
     .max = 2.0},
    {"hours", YAML_NODE, offsetof(struct plan_file, hours), .size = 0},
    {.key = NULL},
};

static const struct yaml_field slo_fields[] = {
    {"ttft", YAML_TEXT, offsetof(struct plan_file, ttft), .size = NAME_BYTES},
    {"tpot", YAML_TEXT, offsetof(struct plan_file, tpot), .size = NAME_BYTES},
    {.key = NULL},
};

static const struct yaml_field budget_fields[] = {
    {"usd_per_day", YAML_DOUBLE, offsetof(struct plan_file, plan.usd_per_day_max), .max = 1e12},
    {"gpus", YAML_INT32, offsetof(struct plan_file, plan.gpus_max), .min = 1, .max = 1e6},
    {.key = NULL},
};

static const struct yaml_field terms_fields[] = {
    {"spot_share", YAML_DOUBLE, offsetof(struct plan_file, plan.terms.spot_share), .max = 1.0},
    {"spot_usd_per_gpu_hour", YAML_DOUBLE,
     offsetof(struct plan_file, plan.terms.spot_usd_per_gpu_hour), .max = 1e6},
    {"spot_lost_share", YAML_DOUBLE, offsetof(struct plan_file, plan.terms.spot_lost_share),
     .max = 0.9},
    {"idle_paid", YAML_DOUBLE, offsetof(struct plan_file, plan.terms.idle_paid), .max = 1.0},
    {"energy_apart", YAML_BOOL, offsetof(struct plan_file, plan.terms.energy_apart), .size = 0},
    {"idle_watts_share", YAML_DOUBLE, offsetof(struct plan_file, plan.terms.idle_watts_share),
     .max = 1.0},
    {"pue", YAML_DOUBLE, offsetof(struct plan_file, plan.terms.pue), .min = 1.0, .max = 5.0},
    {"usd_per_kwh", YAML_DOUBLE, offsetof(struct plan_file, plan.terms.usd_per_kwh), .max = 10.0},
    {.key = NULL},
};

static const struct yaml_field prefill_fields[] = {
    {"ep", YAML_NODE, offsetof(struct plan_file, ep[COST_PREFILL]), .size = 0},
    {"tokens_per_rank", YAML_NODE, offsetof(struct plan_file, tokens[COST_PREFILL]), .size = 0},
    {.key = NULL},
};

static const struct yaml_field decode_fields[] = {
    {"ep", YAML_NODE, offsetof(struct plan_file, ep[COST_DECODE]), .size = 0},
    {"sequences_per_rank", YAML_NODE, offsetof(struct plan_file, tokens[COST_DECODE]), .size = 0},
    {.key = NULL},
};

static const struct yaml_field search_fields[] = {
    {"pools", YAML_NODE, offsetof(struct plan_file, pools), .size = 0},
    {"prefill", YAML_TABLE, .table = prefill_fields},
    {"decode", YAML_TABLE, .table = decode_fields},
    {"redundant_experts", YAML_NODE, offsetof(struct plan_file, redundant), .size = 0},
    {"strategy", YAML_NODE, offsetof(struct plan_file, strategy), .size = 0},
    {"micro_batches", YAML_NODE, offsetof(struct plan_file, micro_batches), .size = 0},
    {"attention_tp", YAML_NODE, offsetof(struct plan_file, attention_tp), .size = 0},
    {"expert_tp", YAML_NODE, offsetof(struct plan_file, expert_tp), .size = 0},
    {"expert_precision", YAML_NODE, offsetof(struct plan_file, expert_precision), .size = 0},
    {"offload", YAML_NODE, offsetof(struct plan_file, offload), .size = 0},
    {.key = NULL},
};

static const struct yaml_field compute_fields[] = {
    {"model", YAML_TEXT, offsetof(struct plan_file, gpu_model), .size = NAME_BYTES},
    {"kernels", YAML_TEXT, offsetof(struct plan_file, plan.kernels), .size = NAME_BYTES},
    {.key = NULL},
};

static const struct yaml_field reference_fields[] = {
    {"name", YAML_TEXT, offsetof(struct plan_file, plan.reference.name), .size = NAME_BYTES},
    {"prefill_ep", YAML_INT32, offsetof(struct plan_file, plan.reference.prefill_ep),
     .required = true, .min = 1, .max = 65536},
    {"decode_ep", YAML_INT32, offsetof(struct plan_file, plan.reference.decode_ep),
     .required = true, .min = 1, .max = 65536},
    {"redundant_experts", YAML_INT32, offsetof(struct plan_file, plan.reference.redundant_experts),
     .max = 65536},
    {.key = NULL},
};

static const struct yaml_field plan_fields[] = {
    {"version", YAML_INT32, offsetof(struct plan_file, version), .required = true, .min = 1,
     .max = 1},
    {"question", YAML_TEXT, offsetof(struct plan_file, plan.question), .size = TEXT_BYTES},
    {"model", YAML_TEXT, offsetof(struct plan_file, plan.model_written), .size = PATH_BYTES,
     .required = true},
    {"trace", YAML_TABLE, .table = trace_fields},
    {"traffic", YAML_TABLE, .required = true, .table = traffic_fields},
    {"slo", YAML_TABLE, .table = slo_fields},
    {"budget", YAML_TABLE, .table = budget_fields},
    {"gpus", YAML_NODE, offsetof(struct plan_file, gpus), .required = true},
    {"terms", YAML_TABLE, .table = terms_fields},
    {"search", YAML_TABLE, .table = search_fields},
    {"utilisation_max", YAML_DOUBLE, offsetof(struct plan_file, plan.utilisation_max), .min = 0.05,
     .max = 0.99},
    {"memory_fraction", YAML_DOUBLE, offsetof(struct plan_file, plan.memory_fraction), .min = 0.05,
     .max = 1.0},
    {"compute", YAML_TABLE, .table = compute_fields},
    {"engine", YAML_TEXT, offsetof(struct plan_file, plan.engine), .size = PATH_BYTES},
    {"network", YAML_TEXT, offsetof(struct plan_file, network), .size = NAME_BYTES},
    {"reference", YAML_TABLE, .table = reference_fields},
    {"seed", YAML_UINT64, offsetof(struct plan_file, plan.seed), .size = 0},
    {.key = NULL},
};

void plan_complain(struct plan_file *file, const char *key, const char *words)
{
    char part[NAME_BYTES];
    const struct yaml_node *node = file->root;
    const char *rest = key;
    bool found = true;
    while (found && rest != NULL) {
        const char *dot = strchr(rest, '.');
        (void)snprintf(part, sizeof part, "%.*s",
                       dot != NULL ? (int)(dot - rest) : (int)strlen(rest), rest);
        const struct yaml_node *child = yaml_get(node, part);
        found = child != NULL;
        node = found ? child : node;
        rest = dot != NULL ? dot + 1 : NULL;
    }
    plan_complain_at(file, node, key, words);
}

void plan_complain_at(struct plan_file *file, const struct yaml_node *node, const char *key,
                      const char *words)
{
    file->status = STATUS_INVALID;
    if (node != NULL && node->line > 0) {
        (void)error_add(file->error, STATUS_INVALID, "%s:%d: %s: %s", node->file, (int)node->line,
                        key, words);
    } else {
        (void)error_add(file->error, STATUS_INVALID, "%s: %s: %s", file->name, key, words);
    }
}

static void take_amount(struct plan_file *file, double *amount, const char *key, const char *text,
                        double min, double max)
{
    char words[NAME_BYTES + 80];
    if (text[0] == '\0') {
        return; /* not given; told where it is required */
    }
    if (!quantity_count(amount, text) || *amount < min || *amount > max) {
        (void)snprintf(words, sizeof words, "'%s' is not a number in %g ... %g (1M, 600B, 4096)",
                       text, min, max);
        plan_complain(file, key, words);
    }
}

const int32_t plan_percentiles[PLAN_PERCENTILES] = {50, 90, 95, 99};

/* "2s", or "2s at p90". */
static void take_time(struct plan_file *file, double *seconds, int32_t *percentile, const char *key,
                      const char *text)
{
    static const char mark[] = " at p";
    char words[NAME_BYTES + 128], time[NAME_BYTES + 1];
    const char *at = strstr(text, mark);
    bool is_known = at == NULL;
    (void)snprintf(time, sizeof time, "%.*s", at == NULL ? NAME_BYTES : (int)(at - text), text);
    for (int32_t i = 0; i < PLAN_PERCENTILES && !is_known; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "%d", (int)plan_percentiles[i]);
        is_known = strcmp(at + sizeof mark - 1, name) == 0;
        *percentile = is_known ? plan_percentiles[i] : 0;
    }
    if (text[0] != '\0' && (!is_known || !quantity_seconds(seconds, time) || *seconds <= 0.0)) {
        (void)snprintf(words, sizeof words,
                       "'%s' is not a time above 0 with its unit (2s, 50ms), nor one at a "
                       "percentile (2s at p90; p50, p90, p95, p99)",
                       text);
        plan_complain(file, key, words);
    }
}

static void take_hours(struct plan_file *file)
{
    struct cost_traffic *traffic = &file->plan.traffic;
    const struct yaml_node *hours = file->hours;
    double sum = 0.0;
    int32_t count = 0;
    bool has_peak = yaml_get(yaml_get(file->root, "traffic"), "peak_over_mean") != NULL;
    if (hours == NULL && !has_peak && file->plan.arrivals.file.count > 0) {
        return; /* the file's */
    }
    if (hours == NULL) {
        cost_cosine_day(traffic, fmin(fmax(file->peak_over_mean, 1.0), 2.0));
        return;
    }
    if (file->peak_over_mean > 1.0) {
        plan_complain(file, "traffic.hours", "give either hours or peak_over_mean");
    }
    for (const struct yaml_node *item = hours->kind == YAML_SEQUENCE ? hours->child : NULL;
         item != NULL; item = item->next) {
        double weight = -1.0;
        if (item->kind != YAML_SCALAR || !quantity_count(&weight, item->text) || weight < 0.0 ||
            weight > 1e12) {
            plan_complain_at(file, item, "traffic.hours", "a number of 0 or more is expected");
            weight = 1.0;
        }
        if (count < HOURS_A_DAY) {
            traffic->hour_weight[count] = weight;
            sum += weight;
        }
        count++;
    }
    if (count != HOURS_A_DAY || sum <= 0.0) {
        plan_complain(file, "traffic.hours", "24 numbers are expected, not all of them 0");
        cost_flat_day(traffic);
    }
}

/* Tokens a second of all answers, in place of requests a day. */
static void take_rate(struct plan_file *file)
{
    struct cost_traffic *traffic = &file->plan.traffic;
    double tokens_per_s = 0.0;
    bool has_requests = file->requests[0] != '\0';
    bool has_rate = file->output_per_s[0] != '\0';
    bool has_file = file->plan.arrivals.path[0] != '\0';
    if (has_requests ? has_rate : !has_rate && !has_file) {
        plan_complain(file, "traffic.requests_per_day",
                      "give either requests_per_day or output_tokens_per_s, the mean of a day");
        return;
    }
    take_amount(file, &tokens_per_s, "traffic.output_tokens_per_s", file->output_per_s, 1e-3, 1e12);
    if (tokens_per_s > 0.0 && traffic->output_tokens > 0.0) {
        traffic->requests_per_day = tokens_per_s * SECONDS_A_DAY / traffic->output_tokens;
        if (traffic->requests_per_day < 1.0 || traffic->requests_per_day > PLAN_REQUESTS_MAX) {
            plan_complain(file, "traffic.output_tokens_per_s",
                          "makes less than a request a day, or more than 1e15");
        }
    }
}

/* Without a file of requests both are needed. */
static void want_lengths(struct plan_file *file)
{
    static const char words[] = "is missing; or give traffic.path, a file of requests";
    bool has_file = file->plan.arrivals.path[0] != '\0';
    if (file->input[0] == '\0' && !has_file) {
        plan_complain(file, "traffic.input_tokens", words);
    }
    if (file->output[0] == '\0' && !has_file) {
        plan_complain(file, "traffic.output_tokens", words);
    }
}

static void take_amounts(struct plan_file *file)
{
    struct cost_traffic *traffic = &file->plan.traffic;
    want_lengths(file);
    plan_take_arrivals(file);
    take_amount(file, &traffic->requests_per_day, "traffic.requests_per_day", file->requests, 1.0,
                PLAN_REQUESTS_MAX);
    take_amount(file, &traffic->input_tokens, "traffic.input_tokens", file->input, 1.0, 1e7);
    take_amount(file, &traffic->output_tokens, "traffic.output_tokens", file->output, 1.0, 1e7);
    struct plan *plan = &file->plan;
    take_rate(file);
    take_time(file, &plan->ttft_s, &plan->ttft_percentile, "slo.ttft", file->ttft);
    take_time(file, &plan->tpot_s, &plan->tpot_percentile, "slo.tpot", file->tpot);
    take_hours(file);
}

static enum status read_tree(struct plan_file *file, const char *path, const char *const *overrides,
                             int32_t num_overrides, struct arena *arena)
{
    enum status status =
        path != NULL ? yaml_load(&file->root, path, arena, file->error)
                     : yaml_parse(&file->root, "version: 1\n", file->name, arena, file->error);
    for (int32_t i = 0; i < num_overrides && status == STATUS_OK; i++) {
        status = yaml_override(file->root, overrides[i], arena, file->error);
    }
    if (status == STATUS_OK) {
        plan_drop_traffic(file);
    }
    if (status == STATUS_OK && file->root->kind != YAML_MAPPING) {
        status =
            error_add(file->error, STATUS_INVALID, "%s: keys and values are expected", file->name);
    }
    if (status == STATUS_OK && path == NULL) {
        for (struct yaml_node *node = file->root->child; node != NULL; node = node->next) {
            node->line = 0; /* of no file */
        }
        if (yaml_get(file->root, "traffic") == NULL || yaml_get(file->root, "gpus") == NULL) {
            status = error_add(file->error, STATUS_INVALID,
                               "%s: --gpu and --arrivals are needed, or --gpu, --input, --output "
                               "and --requests-per-day, or the name of a PLAN.yaml",
                               file->name);
        }
    }
    return status;
}

enum status plan_load(struct plan *plan, const char *path, const char *const *overrides,
                      int32_t num_overrides, struct error *error)
{
    struct arena arena = {0};
    char found[FILE_PATH_BYTES];
    struct plan_file *file = calloc(1, sizeof *file);
    *plan = (struct plan){0};
    if (file == NULL) {
        return STATUS_NO_MEMORY;
    }
    enum status status = STATUS_OK;
    if (path != NULL) {
        status = data_find(found, sizeof found, "plans", path, error);
        path = found;
    }
    file->error = error;
    file->name = path != NULL ? path : "command line";
    plan_defaults(file);
    if (status == STATUS_OK) {
        status = read_tree(file, path, overrides, num_overrides, &arena);
    }
    if (status == STATUS_OK) {
        file->status = yaml_fill(file, file->root, plan_fields, error);
        take_amounts(file);
        plan_look_up(file);
        char *text = yaml_write(file->root, &arena);
        file->plan.text = text == NULL ? NULL : strdup(text);
        status = file->plan.text == NULL ? STATUS_NO_MEMORY : file->status;
    }
    data_stem(file->plan.name, sizeof file->plan.name, path != NULL ? path : "plan");
    *plan = file->plan;
    free(file);
    arena_free(&arena);
    return status;
}

void plan_free(struct plan *plan)
{
    free(plan->text);
    plan->text = NULL;
    plan_arrivals_free(&plan->arrivals);
}
