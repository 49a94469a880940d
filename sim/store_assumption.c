/* store_assumption.c -- what a reader of a run has to believe, with its sources. */
#include <stdio.h>
#include <string.h>

#include "collective/exchange.h"
#include "gpu/measured.h"
#include "store_internal.h"

struct assumption {
    const char *name;
    const char *text; /* NULL: value is a number */
    double value;
    const char *unit;
    const char *source;
};

static enum status write_assumption(struct store *store, int32_t index,
                                    const struct assumption *assumption, struct error *error)
{
    const struct store_value value[] = {
        integer_value("assumption", index),
        text_value("name", assumption->name),
        assumption->text != NULL ? text_value("value", assumption->text)
                                 : real_value("value", assumption->value),
        text_value("unit", assumption->unit),
        text_value("source", assumption->source),
    };
    return store_insert(store, "assumption", value, 5, error);
}

static enum status write_fault(struct store *store, int32_t index, const struct fault *fault,
                               struct error *error)
{
    char name[NAME_BYTES];
    char shares[2 * NAME_BYTES];
    char until[32] = "the end";
    if (fault->until_step != INT64_MAX) {
        snprintf(until, sizeof until, "step %lld", (long long)fault->until_step - 1);
    }
    snprintf(name, sizeof name, "fault of rank %d, step %lld to %s", (int)fault->rank,
             (long long)fault->from_step, until);
    snprintf(shares, sizeof shares, "compute %g, scale-up %g, scale-out %g", fault->compute,
             fault->scale_up, fault->scale_out);
    const struct assumption assumption = {name, shares, 0.0, "share of its speed", "the scenario"};
    return write_assumption(store, index, &assumption, error);
}

/* Where experts live, and what moving them is taken to cost. */
static enum status write_offload(struct store *store, int32_t index, struct error *error)
{
    const struct scenario *scenario = &store->run.scenario;
    const struct offload_settings *offload = &scenario->offload;
    bool is_nvme = offload->home == OFFLOAD_NVME;
    const struct gpu_spec *gpu = &scenario->cluster.gpu;
    const char *said = "the scenario";
    bool is_gpus = offload->link_bytes_per_s == gpu->host.bytes_per_s * gpu->host.fraction;
    const struct assumption all[] = {
        {"experts live", is_nvme ? "on drives" : "in host memory", 0, "", said},
        {"host memory and drives", "in the price of a GPU-hour", 0, "", "moesim"},
        {"link from the host, one GPU", NULL, offload->link_bytes_per_s * 1e-9, "GB/s",
         is_gpus ? gpu->source : said},
        {"latency of a fetch", NULL, (offload->link_latency_ns + offload->home_latency_ns) * 1e-3,
         "us", said},
        {is_nvme ? "drives of a node" : "memory of a node, for its links", NULL,
         offload->home_bytes_per_s * 1e-9, "GB/s", said},
        {"CPUs of a node read experts", NULL, offload->cpu_bytes_per_s * 1e-9, "GB/s", said},
        {"CPUs of a node compute", NULL, offload->cpu_flops_per_s * 1e-12, "TFLOP/s", said},
    };
    enum status status = STATUS_OK;
    for (size_t i = 0; i < sizeof all / sizeof all[0] && status == STATUS_OK; i++) {
        bool is_said = all[i].text != NULL || all[i].value > 0.0;
        if (is_said) {
            status = write_assumption(store, index++, &all[i], error);
        }
    }
    return status;
}

static enum status write_table_share(struct store *store, int32_t index,
                                     const struct run_totals *totals, struct error *error)
{
    const struct assumption assumption = {"compute time that is out of a table of measurements",
                                          NULL, totals->table_share * 100, "%",
                                          store->run.scenario.cluster.gpu.measured->fitted_on};
    return write_assumption(store, index, &assumption, error);
}

/* In the currency that it was given in. */
static enum status write_price(struct store *store, int32_t index, struct error *error)
{
    const struct price *price = &store->run.scenario.price;
    char unit[CURRENCY_BYTES + 2], source[SOURCE_BYTES + NAME_BYTES + 4];
    snprintf(unit, sizeof unit, "%s/h", currency_code(&price->currency));
    snprintf(source, sizeof source, "%s, %s", price->source, price->date);
    const struct assumption assumption = {
        "price of a GPU", NULL, price->usd_per_gpu_hour / currency_usd_per_unit(&price->currency),
        unit, source};
    return write_assumption(store, index, &assumption, error);
}

/* STORE_CURRENCY_SQL reads it back. */
static enum status write_rate(struct store *store, int32_t index, struct error *error)
{
    const struct price *price = &store->run.scenario.price;
    char unit[CURRENCY_BYTES + 4];
    snprintf(unit, sizeof unit, "USD/%s", currency_code(&price->currency));
    const struct assumption assumption = {
        "exchange rate", NULL, currency_usd_per_unit(&price->currency), unit, price->source};
    return write_assumption(store, index, &assumption, error);
}

/* What not every scenario has. */
static enum status write_choices(struct store *store, int32_t index,
                                 const struct run_totals *totals, struct error *error)
{
    const struct scenario *scenario = &store->run.scenario;
    enum status status = STATUS_OK;
    if (strcmp(currency_code(&scenario->price.currency), "USD") != 0) {
        status = write_rate(store, index++, error);
    }
    for (int32_t i = 0; i < scenario->num_faults && status == STATUS_OK; i++) {
        status = write_fault(store, index++, &scenario->fault[i], error);
    }
    if (status == STATUS_OK && scenario->cluster.gpu.measured != NULL) {
        status = write_table_share(store, index++, totals, error);
    }
    if (status == STATUS_OK && scenario->offload.home != OFFLOAD_NOTHING) {
        status = write_offload(store, index, error);
    }
    return status;
}

/* What predicts GEMMs and attention, where that differs from what predicts experts. */
static void describe_coverage(char *text, size_t bytes, const struct scenario *scenario)
{
    if (scenario->gpu_model->coverage == NULL) {
        snprintf(text, bytes, "%s", scenario->gpu_model->name);
        return;
    }
    scenario->gpu_model->coverage(text, bytes, &scenario->cluster.gpu, &scenario->model,
                                  scenario->phase == PHASE_PREFILL);
}

/* Where a GPU's preset says why: what is reached and what a start takes has other sources than the
 * data sheet, and they stand in comments. */
struct preset_places {
    char flops[NAME_BYTES + 40], hbm[NAME_BYTES + 40], kernel[NAME_BYTES + 40];
    char scale_up[NAME_BYTES + 40], scale_out[NAME_BYTES + 40];
};

static struct preset_places preset_places(const struct gpu_spec *gpu)
{
    struct preset_places places;
    snprintf(places.flops, sizeof places.flops, "%s.yaml, at flops_fraction", gpu->name);
    snprintf(places.hbm, sizeof places.hbm, "%s.yaml, at hbm_fraction", gpu->name);
    snprintf(places.kernel, sizeof places.kernel, "%s.yaml, at kernel_ns", gpu->name);
    snprintf(places.scale_up, sizeof places.scale_up, "%s.yaml, at scale_up", gpu->name);
    snprintf(places.scale_out, sizeof places.scale_out, "%s.yaml, at scale_out", gpu->name);
    return places;
}

enum status store_write_assumptions(struct store *store, const struct run_totals *totals,
                                    struct error *error)
{
    const struct scenario *scenario = &store->run.scenario;
    const struct gpu_spec *gpu = &scenario->cluster.gpu;
    const struct gpu_model *gpu_model = scenario->gpu_model;
    const struct port_spec *up = &gpu->port[TIER_SCALE_UP];
    const struct port_spec *out = &gpu->port[TIER_SCALE_OUT];
    enum precision weights = scenario->model.precision_expert;
    /* A format that the GPU does not multiply is turned into bf16. */
    enum precision computed = gpu->flops_per_s[weights] > 0.0 ? weights : PRECISION_BF16;
    struct preset_places places = preset_places(gpu);
    char peak_unit[32];
    snprintf(peak_unit, sizeof peak_unit, "TFLOP/s %s", precision_name(computed));
    struct exchange_evidence exchange = exchange_evidence(&scenario->cluster);
    bool own_start = exchange.error_median < 0.0;
    struct gpu_evidence evidence = gpu_model_evidence(gpu_model, gpu);
    bool measured = evidence.error_median >= 0;
    const char *fitted_on =
        evidence.fitted_on[0] != '\0' ? evidence.fitted_on : "not fitted to measurements";
    char coverage[SOURCE_BYTES];
    describe_coverage(coverage, sizeof coverage, scenario);
    const struct assumption all[] = {
        {"share of the paid time in which the GPUs work", NULL, 100, "%", "moesim: no idle time"},
        {"throughput", NULL, totals->tokens_per_s_per_gpu, "tokens/s/GPU", "this run"},
        {"compute model", gpu_model->name, 0, "", gpu_model->source},
        {"median error of the compute model", measured ? NULL : "unknown",
         evidence.error_median * 100, measured ? "%" : "", fitted_on},
        {"attention and dense GEMMs", coverage, 0, "", gpu_model->summary},
        {"kernels of experts", evidence.kernels != NULL ? evidence.kernels : scenario->kernels, 0,
         "", gpu_model->summary},
        {"expert peak", NULL, gpu->flops_per_s[computed] * 1e-12, peak_unit, gpu->source},
        {"expert weights", precision_name(weights), 0, "", scenario->model.source},
        {"share of the peak that large GEMMs reach", NULL, gpu->flops_fraction * 100, "%",
         places.flops},
        {"memory bandwidth", NULL, gpu->hbm_bytes_per_s * 1e-9, "GB/s", gpu->source},
        {"share of the memory bandwidth that is reached", NULL, gpu->hbm_fraction * 100, "%",
         places.hbm},
        {"time of an empty kernel", NULL, gpu->kernel_ns * 1e-3, "us", places.kernel},
        {"scale-up port, one direction", NULL, up->bytes_per_s * up->fraction * 1e-9, "GB/s",
         places.scale_up},
        {"scale-up latency", NULL, up->latency_ns * 1e-3, "us", places.scale_up},
        {"scale-out port, one direction", NULL, out->bytes_per_s * out->fraction * 1e-9, "GB/s",
         places.scale_out},
        {"scale-out latency", NULL, out->latency_ns * 1e-3, "us", places.scale_out},
        {"network model", scenario->net->name, 0, "", scenario->net->summary},
        {"collective", scenario->collective->name, 0, "", scenario->collective->summary},
        {"median error of the exchange", exchange.error_median < 0.0 ? "unknown" : NULL,
         exchange.error_median * 100.0, exchange.error_median < 0.0 ? "" : "%",
         exchange.error_median < 0.0 ? "not fitted to measurements" : exchange.fitted_on},
        {"start of a dispatch", own_start ? NULL : "by the fit",
         scenario->collective->dispatch_startup_ns * 1e-3, own_start ? "us" : "",
         scenario->collective->source},
        {"start of a combine", own_start ? NULL : "by the fit",
         scenario->collective->combine_startup_ns * 1e-3, own_start ? "us" : "",
         scenario->collective->source},
    };
    enum status status = write_price(store, 0, error);
    int32_t count = (int32_t)(sizeof all / sizeof all[0]);
    for (int32_t i = 0; i < count && status == STATUS_OK; i++) {
        status = write_assumption(store, 1 + i, &all[i], error);
    }
    return status == STATUS_OK ? write_choices(store, 1 + count, totals, error) : status;
}
