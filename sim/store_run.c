/* store_run.c -- the row of a run, and what it rests on: origin, memory. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

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
        integer_value("expert_tp", scenario->expert_tp),
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
        status = store_write_assumptions(store, totals, error);
    }
    if (status == STATUS_OK) {
        status = write_memory(store, error);
    }
    return status;
}
