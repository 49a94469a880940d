/* store_serving.c -- what requests met: totals, latencies and their curves, levels over time. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "format.h"
#include "serve/deployment.h"
#include "store_internal.h"

static struct store_value null_unless(bool has_value, struct store_value value)
{
    value.kind = has_value ? value.kind : STORE_NULL;
    return value;
}

#define COUNT(array) ((int32_t)(sizeof(array) / sizeof(array)[0]))

static enum status write_pool(struct store *store, const struct deployment *deployment,
                              const struct serve_result *result, enum serve_pool_kind kind,
                              struct error *error)
{
    const struct serve_pool *pool = &deployment->options.pool[kind];
    const struct serve_totals *totals = &result->totals;
    struct step_time_error off = step_time_error(deployment->step_time[kind]);
    const struct store_value value[] = {
        text_value("pool", serve_pool_name(kind)),
        integer_value("num_gpus", cluster_num_gpus(&deployment->scenario[kind]->cluster)),
        integer_value("num_groups", pool->num_groups),
        integer_value("num_replicas", (int64_t)pool->num_groups * pool->replicas_per_group),
        integer_value("kv_tokens", deployment->kv_tokens[kind]),
        integer_value("step_runs", off.num_runs),
        real_value("step_error_median", off.median),
        real_value("step_error_max", off.max),
        integer_value("num_steps", totals->num_steps[kind]),
        real_value("busy", totals->busy[kind]),
        real_value("waiting_mean", totals->waiting_mean[kind]),
        real_value("running_mean", totals->running_mean[kind]),
        real_value("kv_fraction", totals->kv_fraction[kind]),
        real_value("kv_fraction_max", totals->kv_fraction_max[kind]),
        real_value("tokens_per_step", totals->tokens_per_step[kind]),
    };
    return store_insert(store, "serving", value, COUNT(value), error);
}

/* What users meet, in two sentences. */
static void write_verdict(char verdict[TEXT_BYTES], const struct deployment *deployment,
                          const struct serve_result *result)
{
    const struct serve_totals *totals = &result->totals;
    const struct serving_config *config = deployment->options.config;
    const double *first_s = result->latency[SERVE_TTFT].quantile_s;
    const double *further_s = result->latency[SERVE_TPOT].quantile_s;
    char text[6][FORMAT_BYTES];
    char met[128] = "";
    char loop[64] = "";
    char host[64] = "";
    if (deployment->options.concurrency > 0) {
        snprintf(loop, sizeof loop, ", %d outstanding at a time,",
                 (int)deployment->options.concurrency);
    }
    if (config->host_request_ms > 0.0) {
        snprintf(host, sizeof host, " (%s of it the host's)",
                 format_ns(text[0], config->host_request_ms * 1e6));
    }
    if (config->ttft_target_s > 0.0 || config->tpot_target_s > 0.0) {
        snprintf(met, sizeof met, "%s of all requests meet their targets. ",
                 format_percent(text[5], totals->met_fraction));
    }
    snprintf(verdict, TEXT_BYTES,
             "Of %s requests%s on %d GPUs, half get their first token within %s%s and 99 of 100 "
             "within %s; each further token takes %s, and at 99 of 100 no more than %s. %sWhat "
             "follows is about steps of one batch, the scenario's own.",
             format_count(text[0], (double)totals->num_requests), loop,
             (int)deployment_num_gpus(deployment), format_ns(text[1], first_s[0] * 1e9), host,
             format_ns(text[2], first_s[3] * 1e9), format_ns(text[3], further_s[0] * 1e9),
             format_ns(text[4], further_s[3] * 1e9), met);
}

static enum status write_totals(struct store *store, const struct deployment *deployment,
                                const struct serve_result *result, struct error *error)
{
    const struct serve_totals *totals = &result->totals;
    char verdict[TEXT_BYTES];
    char digest[RUN_ID_BYTES];
    snprintf(digest, sizeof digest, "%016" PRIx64, totals->digest);
    write_verdict(verdict, deployment, result);
    double usd = deployment_usd_per_hour(deployment) * totals->duration_s / 3600.0;
    const struct store_value total[] = {
        text_value("digest", digest),
        text_value("verdict", verdict),
        integer_value("num_requests", totals->num_requests),
        integer_value("num_refused", totals->num_refused),
        integer_value("concurrency", deployment->options.concurrency),
        real_value("host_request_ms", deployment->options.config->host_request_ms),
        real_value("host_error", deployment->options.config->host_error),
        integer_value("preemptions", totals->preemptions),
        integer_value("rebalances",
                      totals->rebalances[SERVE_MAIN] + totals->rebalances[SERVE_PREFILL]),
        real_value("stall_s", totals->stall_s[SERVE_MAIN] + totals->stall_s[SERVE_PREFILL]),
        integer_value("prompt_tokens", totals->prompt_tokens),
        integer_value("cached_tokens", totals->cached_tokens),
        integer_value("read_tokens", totals->read_tokens),
        integer_value("again_tokens", totals->again_tokens),
        integer_value("new_tokens", totals->new_tokens),
        real_value("duration_s", totals->duration_s),
        real_value("met_fraction", totals->met_fraction),
        real_value("goodput_per_s", totals->goodput_per_s),
        real_value("new_tokens_per_s", totals->new_tokens_per_s),
        real_value("read_tokens_per_s", totals->read_tokens_per_s),
        integer_value("num_gpus", deployment_num_gpus(deployment)),
        real_value("usd", usd),
    };
    enum status status = STATUS_OK;
    for (int32_t i = 0; i < COUNT(total) && status == STATUS_OK; i++) {
        struct store_value value[] = {text_value("name", total[i].column), total[i]};
        value[1].column = "value";
        status = store_insert(store, "serving_total", value, 2, error);
    }
    return status;
}

static enum status write_latency(struct store *store, const struct serving_config *config,
                                 enum serve_measure measure, const struct serve_latency *latency,
                                 struct error *error)
{
    const char *name = serve_measure_name(measure);
    double target_s = measure == SERVE_TTFT   ? config->ttft_target_s
                      : measure == SERVE_TPOT ? config->tpot_target_s
                                              : 0.0;
    const struct store_value value[] = {
        text_value("measure", name),
        integer_value("num_values", latency->count),
        null_unless(target_s > 0.0, real_value("target_s", target_s)),
        real_value("mean_s", latency->mean_s),
        real_value("p50_s", latency->quantile_s[0]),
        real_value("p90_s", latency->quantile_s[1]),
        real_value("p95_s", latency->quantile_s[2]),
        real_value("p99_s", latency->quantile_s[3]),
        real_value("max_s", latency->quantile_s[4]),
    };
    static_assert(SERVE_QUANTILES == 5, "a column for each");
    enum status status = store_insert(store, "serving_latency", value, COUNT(value), error);
    for (int32_t i = 0; i < SERVE_CURVE_POINTS && latency->count > 0 && status == STATUS_OK; i++) {
        const struct store_value point[] = {
            text_value("measure", name),
            real_value("fraction", (double)i / (SERVE_CURVE_POINTS - 1)),
            real_value("value_s", latency->curve_s[i]),
        };
        status = store_insert(store, "serving_curve", point, COUNT(point), error);
    }
    return status;
}

static enum status write_windows(struct store *store, const struct serve_result *result,
                                 enum serve_pool_kind kind, struct error *error)
{
    enum status status = STATUS_OK;
    for (int32_t i = 0; i < result->num_windows && status == STATUS_OK; i++) {
        const struct serve_window *window = &result->window[kind][i];
        double end_s = (i + 1) * result->window_s;
        end_s = end_s < result->totals.duration_s ? end_s : result->totals.duration_s;
        const struct store_value value[] = {
            text_value("pool", serve_pool_name(kind)),
            integer_value("window", i),
            real_value("begin_s", i * result->window_s),
            real_value("end_s", end_s),
            real_value("waiting", window->waiting),
            real_value("running", window->running),
            real_value("kv_fraction", window->kv_fraction),
            real_value("busy", window->busy),
            integer_value("arrivals", window->arrivals),
            integer_value("read_tokens", window->read_tokens),
            integer_value("new_tokens", window->new_tokens),
        };
        status = store_insert(store, "serving_window", value, COUNT(value), error);
    }
    return status;
}

static enum status write_requests(struct store *store, const struct serve_result *result,
                                  struct error *error)
{
    enum status status = STATUS_OK;
    for (int64_t i = 0; i < result->totals.num_requests && status == STATUS_OK; i++) {
        const struct serve_request *request = &result->request[i];
        bool is_served = request->end_ns >= 0;
        const struct store_value value[] = {
            integer_value("request", i),
            real_value("arrival_s", (double)request->arrival_ns * 1e-9),
            integer_value("prompt_tokens", request->prompt_tokens),
            integer_value("decode_tokens", request->decode_tokens),
            integer_value("cached_tokens", request->cached_tokens),
            null_unless(request->replica >= 0, integer_value("replica", request->replica)),
            integer_value("preemptions", request->preemptions),
            null_unless(is_served,
                        real_value("first_token_s", (double)request->first_token_ns * 1e-9)),
            null_unless(is_served, real_value("end_s", (double)request->end_ns * 1e-9)),
        };
        status = store_insert(store, "request", value, COUNT(value), error);
    }
    return status;
}

enum status store_serving(struct store *store, const struct deployment *deployment,
                          const struct serve_result *result, bool detail, struct error *error)
{
    assert(store->run.begun);
    enum status status = store_begin_transaction(store, error);
    for (int32_t kind = 0; kind < SERVE_POOLS && status == STATUS_OK; kind++) {
        if (deployment->scenario[kind] != NULL) {
            status = write_pool(store, deployment, result, (enum serve_pool_kind)kind, error);
            if (status == STATUS_OK) {
                status = write_windows(store, result, (enum serve_pool_kind)kind, error);
            }
        }
    }
    if (status == STATUS_OK) {
        status = write_totals(store, deployment, result, error);
    }
    for (int32_t i = 0; i < SERVE_MEASURES && status == STATUS_OK; i++) {
        status = write_latency(store, deployment->options.config, (enum serve_measure)i,
                               &result->latency[i], error);
    }
    return status == STATUS_OK && detail ? write_requests(store, result, error) : status;
}
