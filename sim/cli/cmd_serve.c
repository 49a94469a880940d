/* cmd_serve.c -- moesim serve. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "cli/options.h"
#include "cli/print.h"
#include "cli/print_serve.h"
#include "cli/variant.h"
#include "progress.h"
#include "serve/deployment.h"

static const char help[] =
    "usage: moesim serve SCENARIO [options]\n\n"
    "Simulates requests: they arrive, wait, are read and answered in batches. The scenario's\n"
    "`serving:` keys say who comes and how batches are made. Times of steps come from engine\n"
    "runs of the deployment with the routing of its trace. With arrivals.concurrency so many\n"
    "requests are outstanding, as in benchmarks: the next comes when one is answered.\n\n"
    "  -o, --output FILE     results file (SQLite), default results.db\n"
    "  -r, --report DIR      also make the page, as moesim report does\n"
    "      --set KEY=VALUE   override one key of the scenario; may be repeated\n"
    "      --seed N          the same as --set seed=N\n"
    "      --detail          also store every request\n"
    "      --threads N       threads for trace and step times, default all\n"
    "  -j, --json            print the results as JSON\n\n"
    "examples:\n"
    "  moesim serve gpt_oss_20b_chat_8xh100 \\\n"
    "      --set serving.arrivals.rate_per_s=8 --report out/serve\n"
    "  moesim serve gpt_oss_20b_chat_8xh100 --set serving.arrivals.concurrency=64 \\\n"
    "      --set serving.arrivals.requests=640\n";

struct serve_command {
    struct variant variant;
    struct scenario placed; /* the variant's with the experts as serving has them; borrows */
    struct deployment deployment;
    struct serve_result result;
    struct error error;
};

static bool show(void *context, int64_t done, int64_t total)
{
    progress_update(context, done, total);
    return true;
}

static enum status simulate(struct serve_command *command, const struct cli_options *options)
{
    struct progress bar;
    struct deployment *deployment = &command->deployment;
    const struct deployment_progress progress = {
        .point_done = show, .context = &bar, .num_threads = cli_threads(options)};
    progress_begin(&bar, "timing steps", "engine runs");
    enum status status = deployment_open(deployment, &command->variant.scenario,
                                         command->variant.trace, &progress, &command->error);
    progress_end(&bar);
    if (status != STATUS_OK) {
        return status;
    }
    deployment->options.progress = show;
    deployment->options.context = &bar;
    progress_begin(&bar, "serving", "requests");
    status =
        serve_run(&command->result, &deployment->arrivals, &deployment->options, &command->error);
    progress_end(&bar);
    return status;
}

/* The page's other figures are of a run of the deployment, with the scenario's own batch and, where
 * a strategy placed them, experts as they lay while it served. */
static enum status run_steps(struct serve_command *command)
{
    struct variant *variant = &command->variant;
    int32_t *placement = step_time_placement(command->deployment.step_time[SERVE_MAIN]);
    enum status status = STATUS_OK;
    if (placement != variant->scenario.initial_expert_of_slot) {
        command->placed = variant->scenario;
        command->placed.initial_expert_of_slot = placement;
        command->placed.rebalance_interval_steps = 0;
        engine_close(variant->engine);
        variant->engine = NULL;
        status = engine_open(&variant->engine, &command->placed, variant->trace, &variant->error);
    }
    status = status == STATUS_OK ? variant_run(variant, NULL) : status;
    if (status != STATUS_OK) {
        command->error = variant->error;
    }
    return status;
}

static enum status store(struct serve_command *command, const struct cli_options *options)
{
    struct variant *variant = &command->variant;
    struct store *store = NULL;
    enum status status = store_open_guarded(&store, options->results, &command->error);
    if (status == STATUS_OK) {
        status = run_steps(command);
    }
    if (status == STATUS_OK) {
        status = store_begin(store, variant->run_id, variant->label, &variant->scenario,
                             variant->trace, &command->error);
    }
    if (status == STATUS_OK) {
        status = store_serving(store, &command->deployment, &command->result, options->detail,
                               &command->error);
    }
    if (status == STATUS_OK) {
        status = store_finish(store, variant->metrics, &variant->totals, &command->error);
    }
    store_close(store);
    return status == STATUS_OK
               ? cli_make_page(options->results, options->report, variant->run_id, &command->error)
               : status;
}

static enum status run(struct serve_command *command, const struct cli_options *options)
{
    struct variant *variant = &command->variant;
    enum status status = scenario_load(&variant->scenario, options->scenario, options->override,
                                       options->num_overrides, &command->error);
    if (status == STATUS_OK && variant->scenario.serving == NULL) {
        return error_add(&command->error, STATUS_INVALID,
                         "%s: has no `serving:` keys that say who comes; add at least\n"
                         "serving: {arrivals: {rate_per_s: 1, duration_s: 600, prompt_tokens: "
                         "1000, decode_tokens: 200}}",
                         options->scenario);
    }
    if (status == STATUS_OK) {
        status = variant_open(variant, NULL, 0, cli_threads(options), &command->error);
    }
    if (status == STATUS_OK) {
        status = simulate(command, options);
    }
    return status == STATUS_OK ? store(command, options) : status;
}

static int print_results(const struct serve_command *command, const struct cli_options *options)
{
    if (options->json) {
        cJSON *json = serve_json(&command->deployment, &command->result);
        cJSON_AddStringToObject(json, "run_id", command->variant.run_id);
        return print_json(json);
    }
    print_serve(&command->deployment, &command->result);
    printf("\nrun %s, digest %016" PRIx64 "\nstored in %s", command->variant.run_id,
           command->result.totals.digest, options->results);
    if (options->report != NULL) {
        printf("; page: %s/index.html\n", options->report);
    } else {
        printf("; for the page: moesim report %s -o out/\n", options->results);
    }
    return 0;
}

int command_serve(int argc, char **argv)
{
    struct cli_options options;
    int code = cli_parse(&options, argc, argv, help);
    if (code >= 0) {
        return code;
    }
    if (options.num_vary > 0) {
        return cli_usage(argv[0], "--vary belongs to moesim compare");
    }
    if (options.timeline != NULL) {
        return cli_usage(argv[0], "--timeline belongs to moesim run");
    }
    struct serve_command *command = calloc(1, sizeof *command);
    if (command == NULL) {
        fputs("moesim: out of memory\n", stderr);
        return 2;
    }
    enum status status = run(command, &options);
    code =
        status == STATUS_OK ? print_results(command, &options) : cli_fail(status, &command->error);
    serve_result_free(&command->result);
    deployment_close(&command->deployment);
    variant_close(&command->variant);
    free(command);
    return code;
}
