/* metrics_offload.c -- a run's lookups of offloaded experts in a few numbers. */
#include "metrics.h"

void offload_add(struct offload_counts *sum, const struct offload_counts *counts)
{
    sum->touches += counts->touches;
    sum->hits += counts->hits;
    sum->ahead += counts->ahead;
    sum->fetched += counts->fetched;
    sum->on_cpu += counts->on_cpu;
    sum->best_hits += counts->best_hits;
    sum->transfers += counts->transfers;
}

struct offload_counts offload_totals(const struct run_metrics *metrics)
{
    struct offload_counts totals = {0};
    int32_t num_layers = metrics->offload_layer != NULL ? metrics->num_layers : 0;
    for (int32_t layer = 0; layer < num_layers; layer++) {
        offload_add(&totals, &metrics->offload_layer[layer]);
    }
    return totals;
}

double offload_share(const struct offload_counts *counts, int64_t count)
{
    return counts->touches > 0 ? (double)count / (double)counts->touches : 0.0;
}
