/* store_run.c -- the row of a run, and what it rests on: origin, assumptions, memory. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "collective/exchange.h"
#include "gpu/measured.h"
#include "store_internal.h"

#define COMMAND_BYTES 4096

static const char *const phase_names[] = {[PHASE_DECODE] = "decode", [PHASE_PREFILL] = "prefill"};
static const char *const scope_names[] = {[CAPACITY_RANK] = "rank", [CAPACITY_GLOBAL] = "global"};

static struct store_value error_value(struct gpu_evidence evidence)
{
    struct store_value value = real_value("error_median", evidence.error_median);
    value.kind = evidence.error_median < 0 ? STORE_NULL : STORE_REAL;
    return value;
}

/* What was asked. Returns the number of values. */
static int32_t scenario_values(struct store_value *value, const struct scenario *scenario)
{
    struct gpu_evidence evidence = gpu_model_evidence(scenario->gpu_model, &scenario->cluster.gpu);
    const struct store_value all[] = {
        text_value("scenario", scenario->name),
        text_value("question", scenario->question),
        text_value("scenario_text", scenario->text),
        text_value("model", scenario->model.name),
        integer_value("num_experts", scenario->model.num_experts),
        integer_value("top_k", scenario->model.top_k),
        text_value("gpu", scenario->cluster.gpu.name),
        integer_value("num_gpus", cluster_num_gpus(&scenario->cluster)),
        integer_value("num_nodes", scenario->cluster.num_nodes),
        integer_value("ep", scenario->ep),
        integer_value("tp", scenario->tp),
        text_value("phase", phase_names[scenario->phase]),
        integer_value("tokens_per_rank", scenario->tokens_per_rank),
        integer_value("context_tokens", scenario->context_tokens),
        text_value("router", scenario->router == NULL ? "" : scenario->router->name),
        real_value("capacity_factor", scenario->capacity_factor),
        text_value("capacity_scope", scope_names[scenario->capacity_scope]),
        text_value("drop_policy", scenario->drop == NULL ? "" : scenario->drop->name),
        text_value("strategy", scenario->strategy->name),
        integer_value("redundant_experts", scenario->redundant_experts),
        integer_value("rebalance_interval_steps", scenario->rebalance_interval_steps),
        text_value("replica", scenario->replica->name),
        text_value("collective", scenario->collective->name),
        text_value("dispatch_precision", precision_name(scenario->dispatch_precision)),
        text_value("combine_precision", precision_name(scenario->combine_precision)),
        text_value("network", scenario->net->name),
        text_value("gpu_model", scenario->gpu_model->name),
        text_value("kernels", scenario->kernels),
        text_value("fitted_on", evidence.fitted_on),
        error_value(evidence),
        real_value("usd_per_gpu_hour", scenario->price.usd_per_gpu_hour),
        text_value("price", scenario->price.name),
        text_value("price_source", scenario->price.source),
        text_value("price_date", scenario->price.date),
    };
    memcpy(value, all, sizeof all);
    return (int32_t)(sizeof all / sizeof all[0]);
}

/* What came out. */
static int32_t result_values(struct store_value *value, const struct run_metrics *metrics,
                             const struct run_totals *totals)
{
    const struct store_value all[] = {
        integer_value("num_moe_layers", metrics->num_layers),
        integer_value("tokens", totals->tokens),
        integer_value("assignments", totals->assignments),
        integer_value("dropped_assignments", totals->dropped_assignments),
        integer_value("num_steps", metrics->num_steps),
        integer_value("rows_left_out", metrics->rows_left_out),
        real_value("step_ns_mean", totals->step_ns_mean),
        real_value("tokens_per_s_per_gpu", totals->tokens_per_s_per_gpu),
        real_value("usd_per_million_tokens", totals->usd_per_million_tokens),
        real_value("rank_tokens_max_over_mean", totals->rank_tokens_max_over_mean),
        real_value("balancedness", totals->balancedness),
        real_value("balancedness_vllm", totals->balance.balancedness_vllm),
        real_value("rank_imbalance", totals->balance.imbalance),
        real_value("rank_variation", totals->balance.variation),
        real_value("settled_balancedness", totals->balance.balancedness),
        real_value("interval_balancedness", totals->interval_balancedness),
        integer_value("dispatch_bytes", metrics->dispatch_bytes),
        integer_value("dispatch_cross_node_bytes", metrics->dispatch_cross_node_bytes),
        integer_value("rebalance_ns", totals->rebalance_ns),
        integer_value("first_steps", metrics->first_steps),
        integer_value("first_ns", metrics->first_ns),
        integer_value("messages", metrics->messages),
        integer_value("bytes_sent", metrics->bytes_sent),
        integer_value("bytes_received", metrics->bytes_received),
        integer_value("events", metrics->events),
    };
    memcpy(value, all, sizeof all);
    return (int32_t)(sizeof all / sizeof all[0]);
}

static enum status write_row(struct store *store, const struct run_metrics *metrics,
                             const struct run_totals *totals, struct error *error)
{
    const struct pending_run *run = &store->run;
    char seed[24], digest[RUN_ID_BYTES], trace_digest[RUN_ID_BYTES];
    snprintf(seed, sizeof seed, "%" PRIu64, run->scenario.seed);
    snprintf(digest, sizeof digest, "%016" PRIx64, metrics->digest);
    snprintf(trace_digest, sizeof trace_digest, "%016" PRIx64, run->trace_digest);
    struct store_value value[96];
    const struct store_value own[] = {
        integer_value("complete", 0), /* store_finish sets it when all else is written */
        text_value("label", run->label),
        text_value("seed", seed),
        text_value("trace", run->trace),
        text_value("trace_origin", run->trace_origin),
        text_value("trace_source", run->trace_source),
        text_value("trace_digest", run->trace_digest == 0 ? "" : trace_digest),
        text_value("commit_id", store_commit()),
        text_value("digest", digest),
    };
    memcpy(value, own, sizeof own);
    int32_t count = (int32_t)(sizeof own / sizeof own[0]);
    count += scenario_values(value + count, &run->scenario);
    count += result_values(value + count, metrics, totals);
    return store_insert(store, "run", value, count, error);
}

/* The command that runs this process, arguments parted by spaces; "" where /proc is missing. */
static void command_line(char command[COMMAND_BYTES])
{
    size_t bytes = 0;
    FILE *file = fopen("/proc/self/cmdline", "rb");
    if (file != NULL) {
        bytes = fread(command, 1, COMMAND_BYTES - 1, file);
        fclose(file);
    }
    for (size_t i = 0; i + 1 < bytes; i++) {
        if (command[i] == '\0') {
            command[i] = ' ';
        }
    }
    command[bytes] = '\0';
}

static enum status write_origin(struct store *store, struct error *error)
{
    char hostname[256] = "", command[COMMAND_BYTES], finished_utc[32] = "";
    gethostname(hostname, sizeof hostname - 1);
    command_line(command);
    time_t now = time(NULL);
    struct tm utc;
    if (gmtime_r(&now, &utc) != NULL) {
        strftime(finished_utc, sizeof finished_utc, "%Y-%m-%dT%H:%M:%SZ", &utc);
    }
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    double wall_s = (double)(end.tv_sec - store->run.begin_time.tv_sec) +
                    (double)(end.tv_nsec - store->run.begin_time.tv_nsec) * 1e-9;
    const struct store_value value[] = {
        text_value("finished_utc", finished_utc),
        text_value("hostname", hostname),
        text_value("command", command),
        real_value("wall_s", wall_s),
    };
    return store_insert(store, "run_origin", value, 4, error);
}

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

/* What not every scenario has. */
static enum status write_choices(struct store *store, int32_t index,
                                 const struct run_totals *totals, struct error *error)
{
    const struct scenario *scenario = &store->run.scenario;
    enum status status = STATUS_OK;
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

/* Everything a reader has to believe before believing a time or a price. */
static enum status write_assumptions(struct store *store, const struct run_totals *totals,
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
    char price_source[SOURCE_BYTES + NAME_BYTES + 4];
    snprintf(price_source, sizeof price_source, "%s, %s", scenario->price.source,
             scenario->price.date);
    const struct assumption all[] = {
        {"price of a GPU", NULL, scenario->price.usd_per_gpu_hour, "USD/h", price_source},
        {"share of the paid time in which the GPUs work", NULL, 100, "%", "moesim: no idle time"},
        {"throughput", NULL, totals->tokens_per_s_per_gpu, "tokens/s/GPU", "this run"},
        {"compute model", gpu_model->name, 0, "", gpu_model->source},
        {"median error of the compute model", measured ? NULL : "unknown",
         evidence.error_median * 100, measured ? "%" : "", fitted_on},
        {"attention and dense GEMMs", coverage, 0, "", gpu_model->summary},
        {"kernels", scenario->kernels, 0, "", gpu_model->summary},
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
    enum status status = STATUS_OK;
    int32_t count = (int32_t)(sizeof all / sizeof all[0]);
    for (int32_t i = 0; i < count && status == STATUS_OK; i++) {
        status = write_assumption(store, i, &all[i], error);
    }
    return status == STATUS_OK ? write_choices(store, count, totals, error) : status;
}

static enum status write_memory(struct store *store, struct error *error)
{
    struct memory_use use = scenario_memory(&store->run.scenario, store->run.kv_tokens_per_rank);
    const struct {
        const char *part;
        int64_t bytes;
    } all[] = {
        {"dense", use.dense_bytes},    {"experts", use.expert_bytes}, {"kv_cache", use.kv_bytes},
        {"buffers", use.buffer_bytes}, {"total", use.total_bytes},    {"limit", use.limit_bytes},
    };
    enum status status = STATUS_OK;
    for (size_t i = 0; i < sizeof all / sizeof all[0] && status == STATUS_OK; i++) {
        const struct store_value value[] = {
            text_value("part", all[i].part),
            integer_value("bytes", all[i].bytes),
        };
        status = store_insert(store, "memory", value, 2, error);
    }
    return status;
}

enum status store_write_run(struct store *store, const struct run_metrics *metrics,
                            const struct run_totals *totals, struct error *error)
{
    enum status status = write_row(store, metrics, totals, error);
    if (status == STATUS_OK) {
        status = write_origin(store, error);
    }
    if (status == STATUS_OK) {
        status = write_assumptions(store, totals, error);
    }
    if (status == STATUS_OK) {
        status = write_memory(store, error);
    }
    return status;
}
