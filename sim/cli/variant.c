/* variant.c -- open, run, store, close. */
#include "cli/variant.h"

#include "simulate.h"

enum status variant_open(struct variant *variant, const struct variant *earlier,
                         int32_t num_earlier, int32_t num_threads, struct error *error)
{
    enum status status = STATUS_OK;
    for (int32_t index = 0; index < num_earlier && variant->trace == NULL; index++) {
        if (simulate_same_trace(&variant->scenario, &earlier[index].scenario)) {
            variant->trace = earlier[index].trace;
        }
    }
    if (variant->trace == NULL && model_num_moe_layers(&variant->scenario.model) > 0) {
        status = simulate_open_trace(&variant->own_trace, &variant->scenario, num_threads, error);
        variant->trace = &variant->own_trace;
    }
    if (status != STATUS_OK) {
        return status;
    }
    store_run_id(variant->run_id, &variant->scenario, variant->trace, variant->label);
    return engine_open(&variant->engine, &variant->scenario, variant->trace, error);
}

enum status variant_run(struct variant *variant, const struct engine_observer *observer)
{
    variant->status = engine_run(variant->engine, observer, &variant->error);
    if (variant->status == STATUS_OK) {
        variant->metrics = engine_metrics(variant->engine);
        variant->totals = run_totals(variant->metrics, &variant->scenario);
    }
    return variant->status;
}

enum status variant_store(struct variant *variant, struct store *store, struct error *error)
{
    enum status status = store_begin(store, variant->run_id, variant->label, &variant->scenario,
                                     variant->trace, error);
    if (status != STATUS_OK) {
        return status;
    }
    return store_finish(store, variant->metrics, &variant->totals, error);
}

void variant_close(struct variant *variant)
{
    engine_close(variant->engine);
    trace_close(&variant->own_trace);
    scenario_free(&variant->scenario);
}
