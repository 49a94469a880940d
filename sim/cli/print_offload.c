/* print_offload.c -- hit rates, bytes and stalls of offloaded experts, for people. */
#include "cli/print_offload.h"

#include <stdio.h>

#include "format.h"
#include "run_json.h"

static double bytes_per_step(const struct scenario *scenario, const struct run_metrics *metrics,
                             const struct offload_counts *counts)
{
    return (double)counts->transfers * (double)model_expert_bytes(&scenario->model) /
           (double)metrics->num_steps;
}

void print_offload(const struct variant *variant)
{
    const struct scenario *scenario = &variant->scenario;
    const struct offload_settings *offload = &scenario->offload;
    const struct run_metrics *metrics = variant->metrics;
    if (metrics->offload_layer == NULL) {
        return;
    }
    struct offload_counts counts = offload_totals(metrics);
    char text[FORMAT_BYTES];
    char more[FORMAT_BYTES];
    printf("  offload        %d of %d experts a layer kept by %s, all of them %s, %s/s away\n",
           (int)offload->num_slots, (int)scenario_experts_per_rank(scenario), offload->policy->name,
           offload->home == OFFLOAD_HOST ? "in host memory" : "on drives",
           format_bytes(text, offload_bytes_per_s(offload)));
    printf("                 hit rate %s, of any policy at most %s; ",
           format_percent(text, offload_share(&counts, counts.hits)),
           format_percent(more, offload_share(&counts, counts.best_hits)));
    if (counts.ahead > 0) {
        printf("%s fetched ahead, ", format_percent(text, offload_share(&counts, counts.ahead)));
    }
    if (counts.on_cpu > 0) {
        printf("%s computed by CPUs, ",
               format_percent(text, offload_share(&counts, counts.on_cpu)));
    }
    printf("%s fetched\n", format_percent(text, offload_share(&counts, counts.fetched)));
    printf("                 %s over the link a step\n",
           format_bytes(text, bytes_per_step(scenario, metrics, &counts)));
}

static void print_row(const struct study_run *run, int width)
{
    struct offload_counts counts = offload_totals(run->metrics);
    char text[7][FORMAT_BYTES];
    if (counts.touches == 0) {
        return;
    }
    printf("%-*s %8s %8s %8s %8s %8s %9s %8s\n", width, run->name,
           format_percent(text[0], offload_share(&counts, counts.hits)),
           format_percent(text[1], offload_share(&counts, counts.best_hits)),
           format_percent(text[2], offload_share(&counts, counts.ahead)),
           format_percent(text[3], offload_share(&counts, counts.on_cpu)),
           format_percent(text[4], offload_share(&counts, counts.fetched)),
           format_bytes(text[5], bytes_per_step(run->scenario, run->metrics, &counts)),
           format_percent(text[6], phase_share(run->metrics, STEP_FETCH)));
}

void print_offload_study(const struct study *study, int width)
{
    bool offloads = false;
    for (int32_t index = 0; index < study->num_runs; index++) {
        offloads |= study->run[index].metrics->offload_layer != NULL;
    }
    if (!offloads) {
        return;
    }
    printf("\n%-*s %8s %8s %8s %8s %8s %9s %8s\n", width, "offloaded experts", "hits", "at most",
           "ahead", "by CPUs", "fetched", "a step", "stall");
    for (int32_t index = 0; index < study->num_runs; index++) {
        print_row(&study->run[index], width);
    }
}
