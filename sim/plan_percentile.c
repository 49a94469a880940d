/*
 * plan_percentile.c -- targets that are percentiles: finalists in the serving simulator.
 *
 * Finalists are the winner by means and what is on the front behind it, the cheapest first; the
 * first that meets all targets wins. Each is written as moesim serve would have it (plan_serve.h)
 * and simulated through its busiest hour. Of many groups a few stand for all, in the ratio that is
 * nearest to the pools' own, at the load of the busier pool: queues of fewer groups are a little
 * longer, so percentiles err to the safe side.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "digest.h"
#include "plan_internal.h"
#include "plan_serve.h"
#include "serve/deployment.h"
#include "simulate.h"
#include "store_plan.h"

#define FINALISTS       6
#define GROUPS_MAX      4 /* of the decode pool that are simulated */
#define DIRECTORY_BYTES 256
#define LINE_BYTES      4096

/* One finalist in the simulator. */
struct final {
    struct scenario scenario;
    struct trace trace;
    struct deployment deployment;
    struct serve_result result;
    const struct plan_options *options;
    int64_t done; /* before it, for the progress */
    char directory[DIRECTORY_BYTES];
};

/* Fewer groups in nearly the same ratio; returns the share of all requests that they get. */
static double scale_down(struct plan_deployment *deployment)
{
    int32_t prefill = deployment->groups[COST_PREFILL];
    int32_t decode = deployment->groups[COST_DECODE];
    int32_t best[COST_POOLS] = {prefill, decode};
    double least = HUGE_VAL;
    if (deployment->shared) {
        int32_t groups = prefill < GROUPS_MAX ? prefill : GROUPS_MAX;
        deployment->groups[COST_PREFILL] = deployment->groups[COST_DECODE] = groups;
        return (double)groups / (double)prefill;
    }
    for (int32_t count = 1; count <= GROUPS_MAX && decode > GROUPS_MAX; count++) {
        double wanted = (double)count * (double)prefill / (double)decode;
        double off = fabs(fmax(round(wanted), 1.0) / wanted - 1.0);
        if (off < least) {
            least = off;
            best[COST_PREFILL] = (int32_t)fmax(round(wanted), 1.0);
            best[COST_DECODE] = count;
        }
    }
    double share[COST_POOLS] = {(double)best[COST_PREFILL] / (double)prefill,
                                (double)best[COST_DECODE] / (double)decode};
    deployment->groups[COST_PREFILL] = best[COST_PREFILL];
    deployment->groups[COST_DECODE] = best[COST_DECODE];
    bool prefill_is_busier = deployment->load[COST_PREFILL] > deployment->load[COST_DECODE];
    return prefill_is_busier ? share[COST_PREFILL] : share[COST_DECODE];
}

static void take_latency(struct plan_latency *to, const struct serve_latency *from)
{
    for (int32_t i = 0; i < PLAN_PERCENTILES; i++) {
        to->percentile_s[i] = from->quantile_s[i];
    }
    to->mean_s = from->mean_s;
}

/* Engine runs and requests of finalists stand behind the points that were simulated. */
static bool report(void *context, int64_t done, int64_t total)
{
    struct final *final = context;
    const struct plan_options *options = final->options;
    return options->progress == NULL ||
           options->progress(options->context, final->done + done, final->done + total);
}

static enum status serve_it(struct final *final, struct error *error)
{
    char path[DIRECTORY_BYTES + 16];
    const struct trace *trace = NULL;
    int32_t num_threads = final->options->num_threads;
    const struct deployment_progress progress = {
        .num_threads = num_threads, .point_done = report, .context = final};
    (void)snprintf(path, sizeof path, "%s/serve.yaml", final->directory);
    enum status status = scenario_load(&final->scenario, path, NULL, 0, error);
    if (status == STATUS_OK && model_num_moe_layers(&final->scenario.model) > 0) {
        status = simulate_open_trace(&final->trace, &final->scenario, num_threads, error);
        trace = &final->trace;
    }
    if (status == STATUS_OK) {
        status = deployment_open(&final->deployment, &final->scenario, trace, &progress, error);
    }
    if (status == STATUS_OK) {
        status = serve_run(&final->result, &final->deployment.arrivals, &final->deployment.options,
                           error);
    }
    return status;
}

static const char *const scenarios[] = {"serve.yaml", "prefill.yaml"};

static void leave(struct final *final)
{
    char path[DIRECTORY_BYTES + 16];
    serve_result_free(&final->result);
    deployment_close(&final->deployment);
    trace_close(&final->trace);
    scenario_free(&final->scenario);
    for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", final->directory, scenarios[i]);
        (void)unlink(path);
    }
    (void)rmdir(final->directory);
    free(final);
}

/* Lines of a scenario that change no latency. */
static bool is_no_matter(const char *line)
{
    static const char *const keys[] = {"price:", "question:", "  targets:"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (strncmp(line, keys[i], strlen(keys[i])) == 0) {
            return true;
        }
    }
    return false;
}

/* Adds a scenario's lines that matter; nothing where there is no such file. */
static uint64_t digest_scenario(uint64_t digest, const char *directory, const char *name)
{
    char path[DIRECTORY_BYTES + 16], line[LINE_BYTES];
    (void)snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        digest = is_no_matter(line) ? digest : digest_text(digest, line);
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return digest;
}

/* All that a finalist's latencies depend on: its scenarios, and what the presets in them hold. */
static uint64_t digest_of(const struct final *final, const struct plan_deployment *deployment,
                          const struct plan_answer *answer, const struct plan_world *world)
{
    uint64_t digest = DIGEST_START;
    for (int32_t pool = 0; pool < COST_POOLS; pool++) {
        const struct plan_point *point = &answer->point[deployment->point[pool]];
        digest = digest_u64(digest, plan_point_digest(point, world));
    }
    for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++) {
        digest = digest_scenario(digest, final->directory, scenarios[i]);
    }
    return digest;
}

static enum status serve_or_find(struct final *final, struct plan_deployment *deployment,
                                 const struct plan_answer *answer, const struct plan_world *world,
                                 const struct plan_options *options, struct error *error)
{
    uint64_t digest = digest_of(final, deployment, answer, world);
    enum status status = STATUS_OK;
    if (options->store != NULL) {
        status = plan_store_get_served(options->store, digest, deployment, &deployment->is_served,
                                       error);
    }
    if (status != STATUS_OK || deployment->is_served) {
        return status;
    }
    status = serve_it(final, error);
    if (status == STATUS_OK) {
        const struct serve_totals *totals = &final->result.totals;
        take_latency(&deployment->ttft, &final->result.latency[SERVE_TTFT]);
        take_latency(&deployment->tpot, &final->result.latency[SERVE_TPOT]);
        deployment->refused_share = (double)totals->num_refused / (double)totals->num_requests;
        deployment->is_served = true;
    }
    if (status == STATUS_OK && options->store != NULL) {
        status = plan_store_put_served(options->store, digest, deployment, error);
    }
    return status;
}

/* Fills the latencies of one deployment. */
static enum status simulate(struct plan_deployment *deployment, const struct plan_answer *answer,
                            const struct plan_world *world, const struct plan_options *options,
                            struct error *error)
{
    const char *directory = getenv("TMPDIR");
    struct final *final = calloc(1, sizeof *final);
    if (final == NULL) {
        return STATUS_NO_MEMORY;
    }
    int length = snprintf(final->directory, DIRECTORY_BYTES, "%s/moesim-plan-XXXXXX",
                          directory != NULL && directory[0] != '\0' ? directory : "/tmp");
    if (length >= DIRECTORY_BYTES || mkdtemp(final->directory) == NULL) {
        free(final);
        return error_add(error, STATUS_IO, "no directory for temporary files: %s", strerror(errno));
    }
    struct plan_deployment small = *deployment;
    double share = scale_down(&small);
    final->options = options;
    final->done = answer->fates[PLAN_SIMULATED];
    enum status status =
        plan_serve_write(final->directory, world->plan, answer, &small, share, error);
    if (status == STATUS_OK) {
        status = serve_or_find(final, deployment, answer, world, options, error);
    }
    leave(final);
    return status;
}

/* The latency that a target is about. */
static double latency_s(const struct plan_latency *latency, int32_t percentile)
{
    for (int32_t i = 0; i < PLAN_PERCENTILES; i++) {
        if (plan_percentiles[i] == percentile) {
            return latency->percentile_s[i];
        }
    }
    return latency->mean_s;
}

static bool meets_targets(const struct plan_deployment *deployment, const struct plan *plan)
{
    return deployment->refused_share < REFUSED_MAX &&
           (plan->ttft_s <= 0.0 ||
            latency_s(&deployment->ttft, plan->ttft_percentile) <= plan->ttft_s) &&
           (plan->tpot_s <= 0.0 ||
            latency_s(&deployment->tpot, plan->tpot_percentile) <= plan->tpot_s);
}

enum status plan_serve_finalists(struct plan_answer *answer, const struct plan_world *world,
                                 const struct plan_options *options, struct error *error)
{
    const struct plan *plan = world->plan;
    int32_t first = answer->winner;
    int32_t num_served = 0;
    answer->winner = -1;
    for (int32_t i = first; i < answer->num_deployments && num_served < FINALISTS; i++) {
        struct plan_deployment *deployment = &answer->deployment[i];
        if (!deployment->meets_targets || (i != first && !deployment->on_front)) {
            continue;
        }
        enum status status = simulate(deployment, answer, world, options, error);
        if (status != STATUS_OK) {
            return status;
        }
        num_served++;
        deployment->meets_targets = meets_targets(deployment, plan);
        if (deployment->meets_targets) {
            answer->winner = i;
            break;
        }
        answer->num_feasible--;
    }
    answer->num_served = num_served;
    return STATUS_OK;
}
