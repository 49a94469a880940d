/* plan_finalist.c -- writes a finalist's scenarios, opens them once, and serves loads with them. */
#include "plan_finalist.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "digest.h"
#include "plan_serve.h"
#include "serve/deployment.h"
#include "store_plan.h"

#define DIRECTORY_BYTES 256
#define LINE_BYTES      4096

/* A pool's step times and stalls in the store. */
struct kept_steps {
    struct step_store store;
    struct plan_store *plan_store;
    uint64_t digest;
};

struct finalist {
    struct scenario scenario;
    struct deployment deployment;
    struct kept_steps steps[SERVE_POOLS];
    const struct trace *trace; /* the search's; NULL for a dense model */
    const struct plan_options *options;
    bool is_open;
    bool shared;
    int64_t *done; /* engine runs and simulations of all finalists */
    uint64_t digest;
    double rate_per_s; /* of the requests in the scenario */
    char directory[DIRECTORY_BYTES];
};

/* Engine runs and simulations of finalists stand behind the points; of them as many are known to
 * be left as the table that is made still lacks. */
static bool report(void *context, int64_t done, int64_t total)
{
    struct finalist *finalist = context;
    const struct plan_options *options = finalist->options;
    ++*finalist->done;
    return options->progress == NULL ||
           options->progress(options->context, *finalist->done, *finalist->done + total - done);
}

#define FILES (SERVE_POOLS + 1)
static const char *const files[FILES] = {[SERVE_MAIN] = "serve.yaml",
                                         [SERVE_PREFILL] = "prefill.yaml",
                                         [SERVE_POOLS] = PLAN_SERVE_ARRIVALS};

/* Lines of a scenario that change no latency; and no step: how many groups there are, how full
 * their memory gets, and who comes. */
static const char *const no_latency[] = {"price:", "question:", "  targets:", NULL};
static const char *const no_step[] = {
    "price:", "question:", "cluster:", "memory_fraction:", "serving:", "  ", NULL};

static bool is_among(const char *const *keys, const char *line)
{
    while (*keys != NULL && strncmp(line, *keys, strlen(*keys)) != 0) {
        keys++;
    }
    return *keys != NULL;
}

/* Adds a file's lines but for those; nothing where there is no such file. */
static uint64_t digest_file(uint64_t digest, const char *directory, const char *name,
                            const char *const *left_out)
{
    char path[DIRECTORY_BYTES + 16], line[LINE_BYTES];
    (void)snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        digest = is_among(left_out, line) ? digest : digest_text(digest, line);
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return digest;
}

/* All that a finalist's latencies depend on but its load, and a pool's step times: its scenarios,
 * the requests that a file names, and what the presets in them hold. */
static void note_digests(struct finalist *finalist, const struct plan_deployment *deployment,
                         const struct plan_answer *answer, const struct plan_world *world)
{
    finalist->digest = DIGEST_START;
    for (int32_t pool = 0; pool < COST_POOLS; pool++) {
        const struct plan_point *point = &answer->point[deployment->point[pool]];
        enum serve_pool_kind kind = pool == COST_PREFILL ? SERVE_PREFILL : SERVE_MAIN;
        uint64_t digest = plan_point_digest(point, world);
        finalist->digest = digest_u64(finalist->digest, digest);
        finalist->steps[kind].digest =
            digest_file(digest, finalist->directory, files[kind], no_step);
    }
    for (int32_t i = 0; i < FILES; i++) {
        finalist->digest = digest_file(finalist->digest, finalist->directory, files[i], no_latency);
    }
}

/* A pool that reads and answers has two tables. */
static uint64_t table_of(const struct kept_steps *steps, const struct step_point *point)
{
    return point->reads ? digest_text(steps->digest, "reads") : steps->digest;
}

static enum status find_step(void *context, struct step_point *point, bool *found,
                             struct error *error)
{
    const struct kept_steps *steps = context;
    enum status status;
#pragma omp critical(plan_store)
    status = plan_store_get_step(steps->plan_store, table_of(steps, point), point, found, error);
    return status;
}

static enum status keep_step(void *context, const struct step_point *point, struct error *error)
{
    const struct kept_steps *steps = context;
    enum status status;
#pragma omp critical(plan_store)
    status = plan_store_put_step(steps->plan_store, table_of(steps, point), point, error);
    return status;
}

static enum status find_stalls(void *context, struct rebalance_stalls *stalls, bool *found,
                               struct error *error)
{
    const struct kept_steps *steps = context;
    return plan_store_get_stalls(steps->plan_store, steps->digest, stalls, found, error);
}

static enum status keep_stalls(void *context, const struct rebalance_stalls *stalls,
                               struct error *error)
{
    const struct kept_steps *steps = context;
    return plan_store_put_stalls(steps->plan_store, steps->digest, stalls, error);
}

static enum status open_tables(struct finalist *finalist, struct error *error)
{
    char path[DIRECTORY_BYTES + 16];
    struct plan_store *store = finalist->options->store;
    struct deployment_progress progress = {
        .num_threads = finalist->options->num_threads, .point_done = report, .context = finalist};
    for (int32_t kind = 0; kind < SERVE_POOLS && store != NULL; kind++) {
        struct kept_steps *steps = &finalist->steps[kind];
        steps->plan_store = store;
        steps->store = (struct step_store){find_step, keep_step, find_stalls, keep_stalls, steps};
        progress.store[kind] = &steps->store;
    }
    (void)snprintf(path, sizeof path, "%s/serve.yaml", finalist->directory);
    enum status status = scenario_load(&finalist->scenario, path, NULL, 0, error);
    if (status == STATUS_OK) {
        status = deployment_open(&finalist->deployment, &finalist->scenario, finalist->trace,
                                 &progress, error);
    }
    finalist->is_open = status == STATUS_OK;
    return status;
}

static void take_latency(struct plan_latency *to, const struct serve_latency *from)
{
    for (int32_t i = 0; i < PLAN_PERCENTILES; i++) {
        to->percentile_s[i] = from->quantile_s[i];
    }
    to->mean_s = from->mean_s;
}

/* Those that the scenario has read, faster or slower. */
static enum status copy_arrivals(struct arrivals *arrivals, const struct finalist *finalist,
                                 const struct finalist_load *load)
{
    const struct arrivals *read = &finalist->deployment.arrivals;
    size_t bytes = (size_t)read->count * sizeof *arrivals->arrival;
    *arrivals = (struct arrivals){.count = read->count, .arrival = malloc(bytes)};
    if (arrivals->arrival == NULL) {
        return STATUS_NO_MEMORY;
    }
    memcpy(arrivals->arrival, read->arrival, bytes);
    for (int64_t i = 0; i < arrivals->count; i++) {
        arrivals->arrival[i].arrival_s *= finalist->rate_per_s / load->rate_per_s;
    }
    return STATUS_OK;
}

/* The scenario's requests at the load's rate. */
static enum status draw_arrivals(struct arrivals *arrivals, const struct finalist *finalist,
                                 const struct finalist_load *load, struct error *error)
{
    const struct serving_arrivals *said = &finalist->scenario.serving->arrivals;
    const struct arrivals_law law = {.rate_per_s = load->rate_per_s,
                                     .cv = said->cv,
                                     .duration_s = said->duration_s,
                                     .prompt_tokens = said->prompt_tokens,
                                     .prompt_cv = said->prompt_cv,
                                     .decode_tokens = said->decode_tokens,
                                     .decode_cv = said->decode_cv,
                                     .seed = finalist->scenario.seed};
    return said->path[0] != '\0' ? copy_arrivals(arrivals, finalist, load)
                                 : arrivals_generate(arrivals, &law, error);
}

static enum status serve_load(struct plan_deployment *served, struct finalist *finalist,
                              const struct finalist_load *load, struct error *error)
{
    struct arrivals arrivals = {0};
    struct serve_result result = {0};
    struct serve_options options = finalist->deployment.options;
    options.pool[SERVE_MAIN].num_groups =
        load->groups[finalist->shared ? COST_PREFILL : COST_DECODE];
    options.pool[SERVE_PREFILL].num_groups = finalist->shared ? 0 : load->groups[COST_PREFILL];
    enum status status = draw_arrivals(&arrivals, finalist, load, error);
    if (status == STATUS_OK) {
        status = serve_run(&result, &arrivals, &options, error);
    }
    if (status == STATUS_OK) {
        const struct serve_totals *totals = &result.totals;
        take_latency(&served->ttft, &result.latency[SERVE_TTFT]);
        take_latency(&served->tpot, &result.latency[SERVE_TPOT]);
        served->refused_share = (double)totals->num_refused / (double)totals->num_requests;
        if (!report(finalist, 0, 0)) {
            status = error_add(error, STATUS_INVALID, "interrupted");
        }
    }
    serve_result_free(&result);
    arrivals_free(&arrivals);
    return status;
}

enum status finalist_serve(struct plan_deployment *served, struct finalist *finalist,
                           const struct finalist_load *load, struct error *error)
{
    struct plan_store *store = finalist->options->store;
    uint64_t digest = finalist->digest;
    bool found = false;
    enum status status = STATUS_OK;
    for (int32_t pool = 0; pool < COST_POOLS; pool++) {
        digest = digest_u64(digest, (uint64_t)load->groups[pool]);
    }
    uint64_t rate_bits = 0;
    memcpy(&rate_bits, &load->rate_per_s, sizeof rate_bits);
    digest = digest_u64(digest, rate_bits);
    if (store != NULL) {
        status = plan_store_get_served(store, digest, served, &found, error);
    }
    if (status != STATUS_OK || found) {
        return status;
    }
    if (!finalist->is_open) {
        status = open_tables(finalist, error);
    }
    if (status == STATUS_OK) {
        status = serve_load(served, finalist, load, error);
    }
    if (status == STATUS_OK && store != NULL) {
        status = plan_store_put_served(store, digest, served, error);
    }
    return status;
}

enum status finalist_open(struct finalist **finalist, const struct plan_deployment *deployment,
                          double share, const struct plan_answer *answer,
                          const struct plan_world *world, const struct plan_options *options,
                          int64_t *done, struct error *error)
{
    const char *directory = getenv("TMPDIR");
    struct finalist *fresh = calloc(1, sizeof *fresh);
    *finalist = fresh;
    if (fresh == NULL) {
        return STATUS_NO_MEMORY;
    }
    fresh->options = options;
    fresh->trace = world->has_trace ? &world->trace : NULL;
    fresh->shared = deployment->shared;
    fresh->done = done;
    fresh->rate_per_s = share * plan_peak_requests_per_s(&world->plan->traffic);
    int length = snprintf(fresh->directory, DIRECTORY_BYTES, "%s/moesim-plan-XXXXXX",
                          directory != NULL && directory[0] != '\0' ? directory : "/tmp");
    if (length >= DIRECTORY_BYTES || mkdtemp(fresh->directory) == NULL) {
        fresh->directory[0] = '\0';
        return error_add(error, STATUS_IO, "no directory for temporary files: %s", strerror(errno));
    }
    enum status status =
        plan_serve_write(fresh->directory, world->plan, answer, deployment, share, error);
    note_digests(fresh, deployment, answer, world);
    return status;
}

void finalist_close(struct finalist *finalist)
{
    char path[DIRECTORY_BYTES + 16];
    if (finalist == NULL) {
        return;
    }
    deployment_close(&finalist->deployment);
    scenario_free(&finalist->scenario);
    for (int32_t i = 0; i < FILES; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", finalist->directory, files[i]);
        (void)unlink(path);
    }
    (void)rmdir(finalist->directory);
    free(finalist);
}
