/* print_serve.c -- what requests met, for people and for scripts. */
#include "cli/print_serve.h"

#include <inttypes.h>
#include <stdio.h>

#include "cli/print.h"
#include "format.h"
#include "run_json.h"

/* What of the first token's time is no GPU's. */
static void print_host(const struct serving_config *config)
{
    char time[FORMAT_BYTES];
    char off[FORMAT_BYTES];
    if (config->engine[0] == '\0' && config->host_request_ms <= 0.0) {
        puts("  host           none: the first token is the GPUs' alone (serving.engine, "
             "serving.host.request_ms)");
        return;
    }
    printf("  host           %s of each first token",
           format_ns(time, config->host_request_ms * 1e6));
    if (config->host_error > 0.0) {
        printf("; with it first tokens of %s were %s off in the median", config->engine,
               format_percent(off, config->host_error));
    }
    putchar('\n');
}

static void print_latencies(const struct serve_result *result, const struct serving_config *config)
{
    static const char *const names[] = {[SERVE_TTFT] = "first token",
                                        [SERVE_TPOT] = "each further",
                                        [SERVE_ITL] = "gaps between",
                                        [SERVE_E2E] = "whole answer"};
    puts("\nlatency              mean    median       p90       p95       p99       max");
    for (int32_t measure = 0; measure < SERVE_MEASURES; measure++) {
        const struct serve_latency *latency = &result->latency[measure];
        char text[FORMAT_BYTES];
        printf("  %-12s %9s", names[measure], format_ns(text, latency->mean_s * 1e9));
        for (int32_t i = 0; i < SERVE_QUANTILES; i++) {
            printf(" %9s", format_ns(text, latency->quantile_s[i] * 1e9));
        }
        putchar('\n');
    }
    print_host(config);
    if (config->ttft_target_s > 0.0 || config->tpot_target_s > 0.0) {
        char met[FORMAT_BYTES];
        printf("  targets met    %s of requests, %.3g a second\n",
               format_percent(met, result->totals.met_fraction), result->totals.goodput_per_s);
    }
}

static void print_exchange(const struct deployment *deployment, const struct serve_totals *totals,
                           enum serve_pool_kind kind)
{
    const struct scenario *scenario = deployment->scenario[kind];
    double steps = (double)totals->num_steps[kind];
    char share[FORMAT_BYTES];
    if (scenario->model.num_experts == 0 || deployment_prefill_collective(deployment) == NULL) {
        return;
    }
    format_percent(share, steps > 0.0 ? (double)totals->num_reading_steps[kind] / steps : 0.0);
    printf("  exchange       %s; ", scenario->collective->name);
    printf("%s in the %s of steps that read prompts\n",
           deployment_prefill_collective(deployment)->name, share);
}

static void print_pool(const struct deployment *deployment, const struct serve_result *result,
                       enum serve_pool_kind kind)
{
    const struct serve_pool *pool = &deployment->options.pool[kind];
    const struct serve_totals *totals = &result->totals;
    struct step_time_error off = step_time_error(deployment->step_time[kind]);
    char busy[FORMAT_BYTES];
    char full[FORMAT_BYTES];
    char most[FORMAT_BYTES];
    char tokens[FORMAT_BYTES];
    char median[FORMAT_BYTES];
    char max[FORMAT_BYTES];
    printf("\n%s pool: %d group%s of %d replica%s, KV cache of %s tokens each\n",
           serve_pool_name(kind), (int)pool->num_groups, pool->num_groups == 1 ? "" : "s",
           (int)pool->replicas_per_group, pool->replicas_per_group == 1 ? "" : "s",
           format_count(tokens, (double)deployment->kv_tokens[kind]));
    printf("  busy           %s of the time, %.1f tokens a replica and step\n",
           format_percent(busy, totals->busy[kind]), totals->tokens_per_step[kind]);
    print_exchange(deployment, totals, kind);
    printf("  requests       %.1f waiting, %.1f running, means over time\n",
           totals->waiting_mean[kind], totals->running_mean[kind]);
    printf("  KV cache       %s full, at most %s\n",
           format_percent(full, totals->kv_fraction[kind]),
           format_percent(most, totals->kv_fraction_max[kind]));
    printf("  step times     from %d engine runs; lines between them are off by %s (median) and "
           "%s (most)\n",
           (int)off.num_runs, format_percent(median, off.median), format_percent(max, off.max));
    print_model_error(deployment->scenario[kind]);
    print_exchange_error(deployment->scenario[kind]);
}

static void print_cost(const struct deployment *deployment, const struct serve_totals *totals)
{
    double usd = deployment_usd_per_hour(deployment) * totals->duration_s / 3600.0;
    char each[FORMAT_BYTES];
    char all[FORMAT_BYTES];
    char note[MONEY_NOTE_BYTES];
    struct money money = deployment_money(deployment);
    if (totals->new_tokens > 0) {
        printf("  cost           %s a million answer tokens, %s a million of all; idle time is "
               "paid\n",
               format_money(each, usd / (double)totals->new_tokens * 1e6, &money.shown),
               format_money(all, usd / (double)(totals->new_tokens + totals->prompt_tokens) * 1e6,
                            &money.shown));
        if (money_note(note, &money)[0] != '\0') {
            printf("  money          %s\n", note);
        }
    }
}

void print_serve(const struct deployment *deployment, const struct serve_result *result)
{
    const struct serve_totals *totals = &result->totals;
    char prompt[FORMAT_BYTES];
    char cached[FORMAT_BYTES];
    char answers[FORMAT_BYTES];
    char rate[FORMAT_BYTES];
    char time[FORMAT_BYTES];
    printf("%lld requests", (long long)totals->num_requests);
    if (deployment->options.concurrency > 0) {
        printf(", %d outstanding at a time,", (int)deployment->options.concurrency);
    }
    printf(" in %s on %d GPUs", format_ns(time, totals->duration_s * 1e9),
           (int)deployment_num_gpus(deployment));
    if (totals->num_refused > 0) {
        printf(", %lld refused: their tokens fit into no KV cache", (long long)totals->num_refused);
    }
    printf("\n  tokens         %s of prompts, %s answered; %s/s answered\n",
           format_count(prompt, (double)totals->prompt_tokens),
           format_count(answers, (double)totals->new_tokens),
           format_count(rate, totals->new_tokens_per_s));
    if (totals->cached_tokens > 0) {
        printf("  prefix cache   %s of prompt tokens were there\n",
               format_percent(cached, (double)totals->cached_tokens /
                                          (double)(totals->cached_tokens + totals->read_tokens)));
    }
    if (totals->preemptions > 0) {
        printf("  preemptions    %lld: the KV cache was full; %s tokens were read again\n",
               (long long)totals->preemptions, format_count(prompt, (double)totals->again_tokens));
    }
    for (int32_t kind = 0; kind < SERVE_POOLS; kind++) {
        if (totals->rebalances[kind] > 0) {
            double group_s = totals->duration_s * deployment->options.pool[kind].num_groups;
            printf(
                "  rebalancing    %lld times%s; weights that move stop a group for %s, %s of the "
                "time\n",
                (long long)totals->rebalances[kind], kind == SERVE_PREFILL ? " (prefill)" : "",
                format_ns(time, totals->stall_s[kind] / (double)totals->rebalances[kind] * 1e9),
                format_percent(prompt, totals->stall_s[kind] / group_s));
        }
    }
    print_cost(deployment, totals);
    print_latencies(result, deployment->options.config);
    for (int32_t kind = 0; kind < SERVE_POOLS; kind++) {
        if (deployment->scenario[kind] != NULL) {
            print_pool(deployment, result, (enum serve_pool_kind)kind);
        }
    }
}

static void add_latency(cJSON *parent, const char *name, const struct serve_latency *latency)
{
    static const char *const names[SERVE_QUANTILES] = {"p50_s", "p90_s", "p95_s", "p99_s", "max_s"};
    cJSON *json = cJSON_AddObjectToObject(parent, name);
    cJSON_AddNumberToObject(json, "num_values", (double)latency->count);
    cJSON_AddNumberToObject(json, "mean_s", latency->mean_s);
    for (int32_t i = 0; i < SERVE_QUANTILES; i++) {
        cJSON_AddNumberToObject(json, names[i], latency->quantile_s[i]);
    }
}

static void add_pool(cJSON *parent, const struct deployment *deployment,
                     const struct serve_result *result, enum serve_pool_kind kind)
{
    const struct serve_pool *pool = &deployment->options.pool[kind];
    const struct serve_totals *totals = &result->totals;
    struct step_time_error off = step_time_error(deployment->step_time[kind]);
    cJSON *json = cJSON_AddObjectToObject(parent, serve_pool_name(kind));
    cJSON_AddNumberToObject(json, "num_groups", pool->num_groups);
    cJSON_AddNumberToObject(json, "replicas_per_group", pool->replicas_per_group);
    cJSON_AddNumberToObject(json, "kv_tokens", (double)deployment->kv_tokens[kind]);
    cJSON_AddNumberToObject(json, "num_steps", (double)totals->num_steps[kind]);
    cJSON_AddNumberToObject(json, "num_reading_steps", (double)totals->num_reading_steps[kind]);
    cJSON_AddStringToObject(json, "collective", deployment->scenario[kind]->collective->name);
    if (deployment_prefill_collective(deployment) != NULL) {
        cJSON_AddStringToObject(json, "prefill_collective",
                                deployment_prefill_collective(deployment)->name);
    }
    cJSON_AddNumberToObject(json, "busy", totals->busy[kind]);
    cJSON_AddNumberToObject(json, "waiting_mean", totals->waiting_mean[kind]);
    cJSON_AddNumberToObject(json, "running_mean", totals->running_mean[kind]);
    cJSON_AddNumberToObject(json, "kv_fraction", totals->kv_fraction[kind]);
    cJSON_AddNumberToObject(json, "kv_fraction_max", totals->kv_fraction_max[kind]);
    cJSON_AddNumberToObject(json, "tokens_per_step", totals->tokens_per_step[kind]);
    cJSON_AddNumberToObject(json, "rebalances", (double)totals->rebalances[kind]);
    cJSON_AddNumberToObject(json, "stall_s", totals->stall_s[kind]);
    cJSON_AddNumberToObject(json, "step_runs", off.num_runs);
    cJSON_AddNumberToObject(json, "step_error_median", off.median);
    cJSON_AddNumberToObject(json, "step_error_max", off.max);
    errors_json(json, deployment->scenario[kind]);
}

cJSON *serve_json(const struct deployment *deployment, const struct serve_result *result)
{
    const struct serve_totals *totals = &result->totals;
    double usd = deployment_usd_per_hour(deployment) * totals->duration_s / 3600.0;
    struct money money = deployment_money(deployment);
    char digest[17];
    snprintf(digest, sizeof digest, "%016" PRIx64, totals->digest);
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "digest", digest);
    cJSON_AddNumberToObject(json, "num_gpus", deployment_num_gpus(deployment));
    cJSON_AddNumberToObject(json, "num_requests", (double)totals->num_requests);
    cJSON_AddNumberToObject(json, "num_refused", (double)totals->num_refused);
    cJSON_AddNumberToObject(json, "concurrency", deployment->options.concurrency);
    cJSON_AddNumberToObject(json, "host_request_ms", deployment->options.config->host_request_ms);
    if (deployment->options.config->host_error > 0.0) {
        cJSON_AddNumberToObject(json, "host_error_median", deployment->options.config->host_error);
    } else {
        cJSON_AddNullToObject(json, "host_error_median");
    }
    cJSON_AddNumberToObject(json, "duration_s", totals->duration_s);
    cJSON_AddNumberToObject(json, "prompt_tokens", (double)totals->prompt_tokens);
    cJSON_AddNumberToObject(json, "cached_tokens", (double)totals->cached_tokens);
    cJSON_AddNumberToObject(json, "read_tokens", (double)totals->read_tokens);
    cJSON_AddNumberToObject(json, "again_tokens", (double)totals->again_tokens);
    cJSON_AddNumberToObject(json, "new_tokens", (double)totals->new_tokens);
    cJSON_AddNumberToObject(json, "preemptions", (double)totals->preemptions);
    cJSON_AddNumberToObject(json, "met_fraction", totals->met_fraction);
    cJSON_AddNumberToObject(json, "goodput_per_s", totals->goodput_per_s);
    cJSON_AddNumberToObject(json, "new_tokens_per_s", totals->new_tokens_per_s);
    cJSON_AddNumberToObject(json, "read_tokens_per_s", totals->read_tokens_per_s);
    cJSON_AddNumberToObject(json, "usd", usd);
    money_json(json, &money.shown);
    cJSON *latency = cJSON_AddObjectToObject(json, "latency");
    for (int32_t i = 0; i < SERVE_MEASURES; i++) {
        add_latency(latency, serve_measure_name((enum serve_measure)i), &result->latency[i]);
    }
    cJSON *pools = cJSON_AddObjectToObject(json, "pools");
    for (int32_t kind = 0; kind < SERVE_POOLS; kind++) {
        if (deployment->scenario[kind] != NULL) {
            add_pool(pools, deployment, result, (enum serve_pool_kind)kind);
        }
    }
    return json;
}
