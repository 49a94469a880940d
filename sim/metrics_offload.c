/* metrics_offload.c -- a run's lookups of offloaded experts in a few numbers. */
#include "metrics.h"

struct offload_counts offload_totals(const struct run_metrics *metrics)
{
    struct offload_counts totals = {0};
    for (int32_t layer = 0; layer < metrics->num_layers && metrics->offload_layer != NULL;
         layer++) {
        const struct offload_counts *counts = &metrics->offload_layer[layer];
        totals.touches += counts->touches;
        totals.hits += counts->hits;
        totals.ahead += counts->ahead;
        totals.fetched += counts->fetched;
        totals.on_cpu += counts->on_cpu;
        totals.best_hits += counts->best_hits;
        totals.transfers += counts->transfers;
    }
    return totals;
}

double offload_share(const struct offload_counts *counts, int64_t count)
{
    return counts->touches > 0 ? (double)count / (double)counts->touches : 0.0;
}
