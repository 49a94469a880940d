/* print_advise.c -- advice for people: a paragraph a topic; and for scripts, with its numbers. */
#include "cli/print_advise.h"

#include <stdio.h>
#include <string.h>

#include "cli/print.h"
#include "cli/print_study.h"
#include "cli/trace_cli.h"

#define TOPIC_COLUMNS 13

int print_advise(const struct advise *advise, const struct study *study)
{
    const struct scenario *scenario = advise_reference(study, 0)->scenario;
    const struct trace *trace = &advise->trace;
    char number[32];
    printf("%s, %s on %d x %s%s%s%s, %d node%s, %d %s a GPU\n", scenario->model.name,
           advise->prefill ? "prefill" : "decode", (int)scenario->ep, scenario->cluster.gpu.name,
           scenario->cluster.preset[0] != '\0' ? " (" : "", scenario->cluster.preset,
           scenario->cluster.preset[0] != '\0' ? ")" : "", (int)scenario->cluster.num_nodes,
           scenario->cluster.num_nodes == 1 ? "" : "s", (int)scenario->tokens_per_rank,
           advise->prefill ? "tokens" : "sequences");
    printf("%s%s: %s tokens (%s), %d layers, top-%d of %d experts; ", advise->trace_path,
           advise->is_reused ? " (as imported before)" : "",
           trace_cli_grouped(number, trace->num_tokens), trace->origin, (int)trace->num_layers,
           (int)trace->top_k, (int)trace->num_experts);
    printf("%lld of %lld steps, %d simulations\n\n", (long long)advise->num_steps,
           (long long)advise->num_steps_there, (int)study->num_runs);
    for (int32_t i = 0; i < advise->num_lines; i++) {
        printf("%-*s", TOPIC_COLUMNS, advise->line[i].topic);
        print_wrapped(advise->line[i].text, TOPIC_COLUMNS);
    }
    printf("\npage: %s/index.html; scenario to edit: %s/scenario.yaml; results: %s/results.db\n"
           "next:\n",
           advise->out, advise->out, advise->out);
    for (int32_t i = 0; i < ADVISE_NEXT; i++) {
        printf("  %s:\n    %s\n", advise->next[i].purpose, advise->next[i].command);
    }
    return 0;
}

static cJSON *layers_json(const struct run_metrics *metrics)
{
    cJSON *layers = cJSON_CreateArray();
    for (int32_t i = 0; i < metrics->num_layers; i++) {
        struct advise_layer layer = advise_layer_of(metrics, i);
        cJSON *object = cJSON_CreateObject();
        cJSON_AddNumberToObject(object, "layer", layer.model_layer);
        cJSON_AddNumberToObject(object, "busiest_rank_of_step_over_mean", layer.step_over_mean);
        cJSON_AddNumberToObject(object, "busiest_rank_of_run_over_mean", layer.run_over_mean);
        cJSON_AddNumberToObject(object, "busiest_expert", layer.expert);
        cJSON_AddNumberToObject(object, "busiest_expert_over_mean", layer.expert_over_mean);
        cJSON_AddItemToArray(layers, object);
    }
    return layers;
}

static cJSON *replication_json(const struct study *study)
{
    cJSON *groups = cJSON_CreateArray();
    for (int32_t group = 0; group < study->num_groups; group++) {
        struct advise_replicas replicas = advise_replicas_of(study, group);
        cJSON *object = cJSON_CreateObject();
        cJSON_AddNumberToObject(object, "redundant_experts",
                                replicas.best->scenario->redundant_experts);
        cJSON_AddStringToObject(object, "best", replicas.best->name);
        cJSON_AddNumberToObject(object, "gain", replicas.gain);
        cJSON_AddNumberToObject(object, "bytes_per_gpu", (double)replicas.bytes);
        cJSON_AddNumberToObject(object, "kv_tokens_per_gpu", replicas.kv_tokens);
        cJSON_AddItemToArray(groups, object);
    }
    return groups;
}

static cJSON *capacity_json(const struct study_run *plain)
{
    cJSON *factors = cJSON_CreateArray();
    int32_t first = (int32_t)plain->scenario->capacity_scope * DROP_FACTORS;
    for (int32_t i = 0; i < DROP_FACTORS; i++) {
        cJSON *object = cJSON_CreateObject();
        cJSON_AddNumberToObject(object, "capacity_factor", drop_factors[i]);
        cJSON_AddNumberToObject(object, "dropped_share",
                                (double)plain->metrics->dropped_at[first + i] /
                                    (double)plain->totals->assignments);
        cJSON_AddItemToArray(factors, object);
    }
    return factors;
}

static void add_paths(cJSON *object, const struct advise *advise)
{
    char path[2 * PATH_BYTES];
    cJSON_AddStringToObject(object, "trace", advise->trace_path);
    cJSON_AddBoolToObject(object, "trace_reused", advise->is_reused);
    (void)snprintf(path, sizeof path, "%s/scenario.yaml", advise->out);
    cJSON_AddStringToObject(object, "scenario", path);
    (void)snprintf(path, sizeof path, "%s/results.db", advise->out);
    cJSON_AddStringToObject(object, "results", path);
    (void)snprintf(path, sizeof path, "%s/index.html", advise->out);
    cJSON_AddStringToObject(object, "page", path);
}

cJSON *advise_json(const struct advise *advise, const struct study *study)
{
    const struct study_run *plain = advise_reference(study, 0);
    cJSON *object = cJSON_CreateObject();
    add_paths(object, advise);
    cJSON_AddStringToObject(object, "model", plain->scenario->model.name);
    cJSON_AddStringToObject(object, "gpu", plain->scenario->cluster.gpu.name);
    cJSON_AddStringToObject(object, "cluster", plain->scenario->cluster.preset);
    cJSON_AddNumberToObject(object, "ep", plain->scenario->ep);
    cJSON_AddNumberToObject(object, "tokens_per_rank", plain->scenario->tokens_per_rank);
    cJSON_AddNumberToObject(object, "num_steps", (double)advise->num_steps);
    cJSON_AddNumberToObject(object, "num_steps_there", (double)advise->num_steps_there);
    cJSON_AddStringToObject(object, "strategies", advise->strategies);
    cJSON_AddNumberToObject(object, "step_ns_mean", plain->totals->step_ns_mean);
    cJSON_AddNumberToObject(object, "cross_node_share", plain->totals->cross_node_share);
    cJSON *advice = cJSON_AddArrayToObject(object, "advice");
    for (int32_t i = 0; i < advise->num_lines; i++) {
        cJSON *line = cJSON_CreateObject();
        cJSON_AddStringToObject(line, "topic", advise->line[i].topic);
        cJSON_AddStringToObject(line, "text", advise->line[i].text);
        cJSON_AddItemToArray(advice, line);
    }
    cJSON_AddItemToObject(object, "layers", layers_json(plain->metrics));
    cJSON_AddItemToObject(object, "replication", replication_json(study));
    cJSON_AddItemToObject(object, "capacity", capacity_json(plain));
    cJSON_AddItemToObject(object, "study", study_json(study));
    cJSON *next = cJSON_AddArrayToObject(object, "next");
    for (int32_t i = 0; i < ADVISE_NEXT; i++) {
        cJSON_AddItemToArray(next, cJSON_CreateString(advise->next[i].command));
    }
    return object;
}
