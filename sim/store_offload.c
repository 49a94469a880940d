/* store_offload.c -- what became of offloaded experts, by layer and by window. */
#include "store_internal.h"

#define COUNT(array) ((int32_t)(sizeof(array) / sizeof(array)[0]))

static enum status write_settings(struct store *store, struct error *error)
{
    const struct scenario *scenario = &store->run.scenario;
    const struct offload_settings *offload = &scenario->offload;
    const struct store_value value[] = {
        text_value("home", offload_home_name(offload->home)),
        text_value("policy", offload->policy->name),
        integer_value("slots", offload->num_slots),
        integer_value("experts", scenario_experts_per_rank(scenario)),
        integer_value("prefetch", offload->prefetch),
        text_value("misses", offload_misses_name(offload->misses)),
        integer_value("expert_bytes", model_expert_bytes(&scenario->model)),
        real_value("link_bytes_per_s", offload_bytes_per_s(offload)),
        real_value("cpu_bytes_per_s", offload->cpu_bytes_per_s),
    };
    return store_insert(store, "offload", value, COUNT(value), error);
}

static enum status write_counts(struct store *store, const char *table, struct store_value key,
                                const struct offload_counts *counts, struct error *error)
{
    const struct store_value value[] = {
        key,
        integer_value("touches", counts->touches),
        integer_value("hits", counts->hits),
        integer_value("ahead", counts->ahead),
        integer_value("fetched", counts->fetched),
        integer_value("on_cpu", counts->on_cpu),
        integer_value("best_hits", counts->best_hits),
        integer_value("transfers", counts->transfers),
    };
    return store_insert(store, table, value, COUNT(value), error);
}

enum status store_write_offload(struct store *store, const struct run_metrics *metrics,
                                struct error *error)
{
    if (metrics->offload_layer == NULL) {
        return STATUS_OK;
    }
    enum status status = write_settings(store, error);
    for (int32_t layer = 0; layer < metrics->num_layers && status == STATUS_OK; layer++) {
        status = write_counts(store, "offload_layer",
                              integer_value("layer", metrics->layer[layer].model_layer),
                              &metrics->offload_layer[layer], error);
    }
    for (int32_t window = 0; window < metrics->num_windows && status == STATUS_OK; window++) {
        status = write_counts(store, "offload_window", integer_value("window", window),
                              &metrics->offload_window[window], error);
    }
    return status;
}
