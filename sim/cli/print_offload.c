/* print_offload.c -- what became of offloaded experts, for people. */
#include <stdio.h>

#include "cli/print.h"
#include "format.h"

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
    double steps = (double)metrics->num_steps;
    double bytes = (double)counts.transfers * (double)model_expert_bytes(&scenario->model);
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
    printf("                 %s over the link a step\n", format_bytes(text, bytes / steps));
}
