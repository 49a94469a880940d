/* print_import.c -- what an import read, for people and as JSON. */
#include "cli/print_import.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/trace_cli.h"

#define PEAK_MAX 2.0 /* traffic.peak_over_mean of a plan is a cosine's: at most twice the mean */

/* Bytes of the reason's first word that one thing keeps: "responses" loses its s, "passes" es. */
static int singular_bytes(const char *reason, int word_bytes)
{
    bool is_plural = word_bytes > 1 && reason[word_bytes - 1] == 's';
    bool is_long = word_bytes > 4 && strncmp(reason + word_bytes - 4, "sses", 4) == 0;
    return word_bytes - (is_long ? 2 : is_plural ? 1 : 0);
}

static void print_drops(const struct import_summary *summary)
{
    char number[32];
    for (int32_t i = 0; i < summary->num_drops; i++) {
        const struct import_drop *drop = &summary->drop[i];
        int word_bytes = (int)strcspn(drop->reason, " ");
        int kept_bytes = drop->count == 1 ? singular_bytes(drop->reason, word_bytes) : word_bytes;
        printf("  left out            %s %.*s%s\n", trace_cli_grouped(number, drop->count),
               kept_bytes, drop->reason, drop->reason + word_bytes);
    }
}

static void print_loads(const struct import_summary *summary, const char *out)
{
    char number[32];
    char more[32];
    printf("imported loads of %s assignments: %d layer%s x %d experts, %s step%s, from %s\n",
           trace_cli_grouped(number, summary->num_assignments), summary->num_layers,
           summary->num_layers == 1 ? "" : "s", summary->num_experts,
           trace_cli_grouped(more, summary->num_steps), summary->num_steps == 1 ? "" : "s",
           summary->format);
    print_drops(summary);
    printf("loads: %s\n", out);
}

/* As the options of moesim plan. */
static void print_traffic(const struct import_summary *summary)
{
    char number[32];
    printf("  tokens a request    %.0f of prompt, %.0f of answer (means)\n",
           summary->prompt_tokens_mean, summary->decode_tokens_mean);
    if (summary->requests_per_day < 1.0) {
        return;
    }
    int64_t per_day = llround(summary->requests_per_day);
    printf("  requests a day      %s at this rate\n", trace_cli_grouped(number, per_day));
    if (summary->peak_over_mean > 0.0) {
        printf("  busiest hour        %.2f times the mean%s\n", summary->peak_over_mean,
               summary->peak_over_mean > PEAK_MAX ? " (moesim plan takes at most 2)" : "");
    }
    printf("  for moesim plan     --arrivals with the same file, or\n                      --input "
           "%.0f --output %.0f --requests-per-day %lld",
           summary->prompt_tokens_mean, summary->decode_tokens_mean, (long long)per_day);
    if (summary->peak_over_mean > 1.0) {
        printf(" \\\n                      --set traffic.peak_over_mean=%.2f",
               fmin(summary->peak_over_mean, PEAK_MAX));
    }
    putchar('\n');
}

static void print_arrivals(const struct import_options *options,
                           const struct import_summary *summary, const char *out)
{
    char number[32];
    printf("imported %s arrival%s over %.0f s, from %s\n",
           trace_cli_grouped(number, summary->num_arrivals), summary->num_arrivals == 1 ? "" : "s",
           summary->arrivals_end_s, summary->format);
    print_traffic(summary);
    print_drops(summary);
    if (options->attach_path != NULL) {
        printf("trace: %s, %s requests have their times\n", options->attach_path,
               trace_cli_grouped(number, summary->num_requests));
    } else {
        printf("arrivals: %s\n", out);
    }
}

static void print_imported(const struct import_summary *summary, const char *out)
{
    char number[32];
    char more[32];
    printf("imported %s token%s x %d layer%s, top-%d of %d experts (%s), from %s\n",
           trace_cli_grouped(number, summary->num_tokens), summary->num_tokens == 1 ? "" : "s",
           summary->num_layers, summary->num_layers == 1 ? "" : "s", summary->top_k,
           summary->num_experts, summary->model, summary->format);
    if (summary->num_tokens < summary->num_tokens_in_file) {
        printf("  tokens left out     %s\n",
               trace_cli_grouped(number, summary->num_tokens_in_file - summary->num_tokens));
    }
    if (summary->num_dense_layers_dropped > 0) {
        printf("  dense layers left out %d\n", summary->num_dense_layers_dropped);
    }
    print_drops(summary);
    printf("  shards              %s of at most %s tokens\n",
           trace_cli_grouped(number, summary->num_shards),
           trace_cli_grouped(more, summary->tokens_per_shard));
    printf("  requests            %s\n", trace_cli_grouped(number, summary->num_requests));
    printf("  pads                %s\n", trace_cli_grouped(number, summary->num_pads));
    if (summary->num_rows_reordered > 0) {
        printf("  rows put in order   %s, best expert first\n",
               trace_cli_grouped(number, summary->num_rows_reordered));
    }
    if (summary->num_tokens_alike > 0) {
        printf("  identical tokens    %s stand in runs of 32 or more: profiling or padding? Leave\n"
               "                      them out with --strip-dummy if they are no traffic\n",
               trace_cli_grouped(number, summary->num_tokens_alike));
    }
    printf("trace: %s\n", out);
}

static cJSON *drops_json(const struct import_summary *summary)
{
    cJSON *drops = cJSON_CreateArray();
    for (int32_t i = 0; i < summary->num_drops; i++) {
        cJSON *drop = cJSON_CreateObject();
        cJSON_AddStringToObject(drop, "reason", summary->drop[i].reason);
        cJSON_AddNumberToObject(drop, "count", (double)summary->drop[i].count);
        cJSON_AddItemToArray(drops, drop);
    }
    return drops;
}

cJSON *import_json(const struct import_summary *summary, const char *out)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "trace", out);
    cJSON_AddStringToObject(object, "format", summary->format);
    cJSON_AddStringToObject(object, "model", summary->model);
    cJSON_AddNumberToObject(object, "num_files", summary->num_files);
    cJSON_AddNumberToObject(object, "num_experts", summary->num_experts);
    cJSON_AddNumberToObject(object, "top_k", summary->top_k);
    cJSON_AddNumberToObject(object, "num_layers", summary->num_layers);
    cJSON_AddNumberToObject(object, "num_dense_layers_dropped", summary->num_dense_layers_dropped);
    cJSON_AddNumberToObject(object, "num_arrivals", (double)summary->num_arrivals);
    cJSON_AddNumberToObject(object, "arrivals_end_s", summary->arrivals_end_s);
    cJSON_AddNumberToObject(object, "prompt_tokens_mean", summary->prompt_tokens_mean);
    cJSON_AddNumberToObject(object, "decode_tokens_mean", summary->decode_tokens_mean);
    cJSON_AddNumberToObject(object, "requests_per_day", summary->requests_per_day);
    cJSON_AddNumberToObject(object, "peak_over_mean", summary->peak_over_mean);
    cJSON_AddNumberToObject(object, "num_steps", (double)summary->num_steps);
    cJSON_AddNumberToObject(object, "num_assignments", (double)summary->num_assignments);
    cJSON_AddNumberToObject(object, "num_tokens", (double)summary->num_tokens);
    cJSON_AddNumberToObject(object, "num_tokens_in_file", (double)summary->num_tokens_in_file);
    cJSON_AddNumberToObject(object, "num_shards", (double)summary->num_shards);
    cJSON_AddNumberToObject(object, "tokens_per_shard", (double)summary->tokens_per_shard);
    cJSON_AddNumberToObject(object, "num_requests", (double)summary->num_requests);
    cJSON_AddNumberToObject(object, "num_pads", (double)summary->num_pads);
    cJSON_AddNumberToObject(object, "num_rows_reordered", (double)summary->num_rows_reordered);
    cJSON_AddNumberToObject(object, "num_tokens_alike", (double)summary->num_tokens_alike);
    cJSON_AddBoolToObject(object, "has_gate_weights", summary->has_gate_weights);
    cJSON_AddBoolToObject(object, "has_scores", summary->has_scores);
    cJSON_AddItemToObject(object, "dropped", drops_json(summary));
    return object;
}

void print_import(const struct import_options *options, const struct import_summary *summary,
                  const char *out)
{
    if (summary->num_arrivals > 0) {
        print_arrivals(options, summary, out);
    } else if (summary->num_assignments > 0) {
        print_loads(summary, out);
    } else {
        print_imported(summary, out);
    }
}
