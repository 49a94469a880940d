/*
 * plan_look_up.c -- names in a plan become presets and plug-ins, and what is left out is filled in.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "data.h"
#include "plan_read.h"
#include "quantity.h"

#define EP_MAX     65536
#define TOKENS_MAX 65536

void plan_defaults(struct plan_file *file)
{
    file->plan.terms = (struct cost_terms){.idle_paid = 1.0, .idle_watts_share = 1.0, .pue = 1.0};
    file->plan.utilisation_max = 0.9;
    file->plan.memory_fraction = 0.9;
    file->plan.seed = 1;
    file->peak_over_mean = 1.0;
    (void)snprintf(file->gpu_model, sizeof file->gpu_model, "fitted");
    (void)snprintf(file->plan.kernels, sizeof file->plan.kernels, "any");
    (void)snprintf(file->network, sizeof file->network, "alpha_beta");
    (void)snprintf(file->plan.reference.name, sizeof file->plan.reference.name, "reference");
}

const struct yaml_node *plan_items(const struct yaml_node *node)
{
    return node == NULL ? NULL : node->kind == YAML_SEQUENCE ? node->child : node;
}

const struct yaml_node *plan_next_item(const struct yaml_node *list, const struct yaml_node *item)
{
    return list->kind == YAML_SEQUENCE ? item->next : NULL;
}

static void take_list(struct plan_file *file, struct plan_list *list, const char *key,
                      const struct yaml_node *node, int32_t min, int32_t max)
{
    char words[96];
    for (const struct yaml_node *item = plan_items(node); item != NULL;
         item = plan_next_item(node, item)) {
        double value = 0.0;
        if (item->kind != YAML_SCALAR || !quantity_count(&value, item->text) || value < min ||
            value > max || value != (double)(int32_t)value) {
            (void)snprintf(words, sizeof words, "whole numbers in %d ... %d are expected", (int)min,
                           (int)max);
            plan_complain_at(file, item, key, words);
        } else if (list->count == PLAN_LIST_MAX) {
            (void)snprintf(words, sizeof words, "at most %d", PLAN_LIST_MAX);
            plan_complain_at(file, item, key, words);
            return;
        } else {
            list->value[list->count++] = (int32_t)value;
        }
    }
    if (node != NULL && plan_items(node) == NULL) {
        plan_complain_at(file, node, key, "an empty list leaves nothing to try");
    }
}

static void fill_list(struct plan_list *list, const int32_t *value, int32_t count)
{
    if (list->count == 0) {
        memcpy(list->value, value, (size_t)count * sizeof *value);
        list->count = count;
    }
}

/* Powers of two of nodes, and what gives each GPU a whole number of slots with a group's worth of
 * redundant experts more: 72 and 144 with 256 + 32. */
static void default_ep(struct plan_list *list, const struct plan *plan, bool is_decode)
{
    static const int32_t prefill[] = {1, 2, 4, 8, 16, 32, 64};
    static const int32_t decode[] = {1, 2, 4, 8, 16, 32, 64, 72, 96, 128, 144, 256};
    if (plan->model.num_experts == 0) {
        static const int32_t alone[] = {1, 2, 4, 8};
        fill_list(list, alone, 4);
    } else if (is_decode) {
        fill_list(list, decode, sizeof decode / sizeof decode[0]);
    } else {
        fill_list(list, prefill, sizeof prefill / sizeof prefill[0]);
    }
}

static void fill_lists(struct plan *plan)
{
    static const int32_t chunks[] = {2048, 4096, 8192};
    static const int32_t sequences[] = {16, 32, 64, 96, 128, 192, 256};
    static const int32_t parts[] = {1, 2};
    static const int32_t one[] = {1};
    static const int32_t dense_tp[] = {1, 2, 4, 8};
    int32_t redundant[] = {0, plan->model.num_experts / 8};
    int32_t precision = (int32_t)plan->model.precision_expert;
    bool has_experts = plan->model.num_experts > 0;
    default_ep(&plan->space[COST_PREFILL].ep, plan, false);
    default_ep(&plan->space[COST_DECODE].ep, plan, true);
    fill_list(&plan->space[COST_PREFILL].tokens_per_rank, chunks, 3);
    fill_list(&plan->space[COST_DECODE].tokens_per_rank, sequences, 7);
    fill_list(&plan->redundant_experts, redundant, has_experts ? 2 : 1);
    fill_list(&plan->micro_batches, parts, has_experts ? 2 : 1);
    fill_list(&plan->attention_tp, has_experts ? one : dense_tp, has_experts ? 1 : 4);
    fill_list(&plan->expert_tp, one, 1);
    fill_list(&plan->expert_precision, &precision, 1);
    if (plan->num_strategies == 0) {
        plan->strategy[plan->num_strategies++] = balance_find(has_experts ? "eplb" : "static");
    }
}

static void take_strategies(struct plan_file *file)
{
    struct plan *plan = &file->plan;
    const struct yaml_node *list = file->strategy;
    char words[NAME_BYTES + 80];
    for (const struct yaml_node *item = plan_items(list); item != NULL;
         item = plan_next_item(list, item)) {
        const struct balance_strategy *strategy =
            item->kind == YAML_SCALAR ? balance_find(item->text) : NULL;
        if (strategy == NULL) {
            (void)snprintf(words, sizeof words, "'%.*s' is no strategy (moesim list strategies)",
                           NAME_BYTES, item->kind == YAML_SCALAR ? item->text : "");
            plan_complain_at(file, item, "search.strategy", words);
        } else if (plan->num_strategies < PLAN_LIST_MAX) {
            plan->strategy[plan->num_strategies++] = strategy;
        }
    }
}

static void take_precisions(struct plan_file *file)
{
    struct plan_list *list = &file->plan.expert_precision;
    const struct yaml_node *node = file->expert_precision;
    for (const struct yaml_node *item = plan_items(node); item != NULL;
         item = plan_next_item(node, item)) {
        enum precision precision;
        if (item->kind != YAML_SCALAR || !precision_parse(&precision, item->text)) {
            plan_complain_at(file, item, "search.expert_precision",
                             "one of fp32, bf16, fp8, int8, mxfp4, nvfp4 is expected");
        } else if (list->count < PLAN_LIST_MAX) {
            list->value[list->count++] = (int32_t)precision;
        }
    }
}

static void take_pools(struct plan_file *file)
{
    struct plan *plan = &file->plan;
    const struct yaml_node *list = file->pools;
    for (const struct yaml_node *item = plan_items(list); item != NULL;
         item = plan_next_item(list, item)) {
        bool is_text = item->kind == YAML_SCALAR;
        if (is_text && strcmp(item->text, "disaggregated") == 0) {
            plan->disaggregated = true;
        } else if (is_text && strcmp(item->text, "shared") == 0) {
            plan->shared = true;
        } else {
            plan_complain_at(file, item, "search.pools", "disaggregated or shared is expected");
        }
    }
    if (list == NULL) {
        plan->disaggregated = true;
        plan->shared = true;
    }
}

void plan_pass_on(struct plan_file *file, const struct yaml_node *node, const char *key,
                  const struct error *problems)
{
    char words[512];
    for (const char *line = problems->text; *line != '\0';) {
        int length = (int)strcspn(line, "\n");
        (void)snprintf(words, sizeof words, "%.*s", length, line);
        plan_complain_at(file, node, key, words);
        line += length + (line[length] == '\n');
    }
}

bool plan_find_path(const struct plan_file *file, char path[PATH_BYTES])
{
    char tried[PATH_BYTES];
    struct stat entry;
    const char *slash = strrchr(file->name, '/');
    int length = snprintf(tried, sizeof tried, "%s", path);
    if (stat(path, &entry) == 0 || path[0] == '/') {
        return stat(path, &entry) == 0;
    }
    if (slash != NULL) {
        length =
            snprintf(tried, sizeof tried, "%.*s/%s", (int)(slash - file->name), file->name, path);
        if (length < PATH_BYTES && stat(tried, &entry) == 0) {
            memcpy(path, tried, PATH_BYTES);
            return true;
        }
    }
    length = snprintf(tried, sizeof tried, "%s/%s", data_directory(), path);
    if (length < PATH_BYTES && stat(tried, &entry) == 0) {
        memcpy(path, tried, PATH_BYTES);
        return true;
    }
    return false;
}

static void look_up_trace(struct plan_file *file)
{
    struct plan *plan = &file->plan;
    char path[PATH_BYTES];
    bool has_path = plan->trace_path[0] != '\0';
    bool has_preset = plan->trace_preset[0] != '\0';
    if (plan->model.num_experts == 0) {
        return;
    }
    if (has_path && has_preset) {
        plan_complain(file, "trace.preset", "give either a preset or a path");
    } else if (has_path && !plan_find_path(file, plan->trace_path)) {
        plan_complain(file, "trace.path", "there is no such trace; moesim trace makes one");
    } else if (has_preset &&
               data_find(path, sizeof path, "traces", plan->trace_preset, NULL) != STATUS_OK) {
        plan_complain(file, "trace.preset", "there is no such preset (moesim list traces)");
    } else if (!has_path && !has_preset) {
        (void)snprintf(plan->trace_preset, sizeof plan->trace_preset, "%s", plan->model.name);
        if (data_find(path, sizeof path, "traces", plan->trace_preset, NULL) != STATUS_OK) {
            plan_complain(file, "trace",
                          "there is no preset of this model's routing (moesim list traces); give "
                          "trace.path, a recorded one, or trace.preset, a file like "
                          "scenarios/traces/kimi-k2.yaml, which assumes how even it is");
        }
    }
}

static void look_up_plugins(struct plan_file *file)
{
    struct plan *plan = &file->plan;
    plan->net = net_find(file->network);
    plan->gpu_model = gpu_find(file->gpu_model);
    if (plan->net == NULL) {
        plan_complain(file, "network", "is no network model (moesim list networks)");
    }
    if (plan->gpu_model == NULL) {
        plan_complain(file, "compute.model", "is no compute model (moesim list gpu-models)");
    } else if (plan->gpu_model->table_share != NULL) {
        plan_complain(file, "compute.model", "reads the table of a scenario; a plan takes fitted");
    }
}

/* A plan of one kind of GPU may say what its preemptible hours cost among the terms. */
static void take_spot_prices(struct plan_file *file)
{
    struct plan *plan = &file->plan;
    double of_all = plan->terms.spot_usd_per_gpu_hour;
    bool lacks = false;
    for (int32_t i = 0; i < plan->num_gpus; i++) {
        double *own = &plan->gpu[i].spot_usd_per_gpu_hour;
        *own = *own <= 0.0 && plan->num_gpus == 1 ? of_all : *own;
        lacks = lacks || *own <= 0.0;
    }
    if (lacks && plan->terms.spot_share > 0.0) {
        plan_complain(file, "terms.spot_share",
                      plan->num_gpus == 1 ? "needs spot_usd_per_gpu_hour"
                                          : "needs spot_usd_per_gpu_hour in each of gpus");
    }
}

static void check_terms(struct plan_file *file)
{
    const struct cost_terms *terms = &file->plan.terms;
    take_spot_prices(file);
    if (terms->energy_apart && terms->usd_per_kwh <= 0.0) {
        plan_complain(file, "terms.energy_apart", "needs usd_per_kwh");
    }
}

void plan_look_up(struct plan_file *file)
{
    struct plan *plan = &file->plan;
    struct error *problems = calloc(1, sizeof *problems);
    bool has_model = false;
    if (problems == NULL) {
        file->status = STATUS_NO_MEMORY;
        return;
    }
    if (plan->model_written[0] != '\0') {
        has_model = model_load(&plan->model, plan->model_written, problems) == STATUS_OK;
        plan_pass_on(file, yaml_get(file->root, "model"), "model", problems);
    }
    *problems = (struct error){0};
    if (plan->engine[0] != '\0' &&
        engine_host_load(&plan->host, plan->engine, "", problems) != STATUS_OK) {
        plan_pass_on(file, yaml_get(file->root, "engine"), "engine", problems);
    }
    free(problems);
    plan_take_gpus(file);
    take_list(file, &plan->space[COST_PREFILL].ep, "search.prefill.ep", file->ep[COST_PREFILL], 1,
              EP_MAX);
    take_list(file, &plan->space[COST_DECODE].ep, "search.decode.ep", file->ep[COST_DECODE], 1,
              EP_MAX);
    take_list(file, &plan->space[COST_PREFILL].tokens_per_rank, "search.prefill.tokens_per_rank",
              file->tokens[COST_PREFILL], 1, TOKENS_MAX);
    take_list(file, &plan->space[COST_DECODE].tokens_per_rank, "search.decode.sequences_per_rank",
              file->tokens[COST_DECODE], 1, TOKENS_MAX);
    take_list(file, &plan->redundant_experts, "search.redundant_experts", file->redundant, 0,
              EP_MAX);
    take_list(file, &plan->micro_batches, "search.micro_batches", file->micro_batches, 1, 4);
    take_list(file, &plan->attention_tp, "search.attention_tp", file->attention_tp, 1, 1024);
    take_list(file, &plan->expert_tp, "search.expert_tp", file->expert_tp, 1, 1024);
    take_strategies(file);
    take_precisions(file);
    take_pools(file);
    plan_take_offload(file);
    look_up_plugins(file);
    check_terms(file);
    plan->reference.given = plan->reference.prefill_ep > 0;
    if (has_model) {
        look_up_trace(file);
        fill_lists(plan);
    }
}
