/* cmd_run.c -- moesim run. */
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "cli/options.h"
#include "cli/print.h"
#include "cli/variant.h"
#include "directory.h"
#include "progress.h"
#include "timeline.h"

static const char help[] =
    "usage: moesim run SCENARIO [options]\n\n"
    "Simulates a scenario and stores the results.\n\n"
    "  -o, --output FILE     results file (SQLite), default results.db\n"
    "  -r, --report DIR      also make the page, as moesim report does\n"
    "      --set KEY=VALUE   override one key of the scenario; may be repeated\n"
    "      --seed N          the same as --set seed=N\n"
    "      --detail          also store every step x layer x expert\n"
    "      --threads N       threads for generating a trace, default all\n"
    "      --timeline FILE   also write what every rank does when, for ui.perfetto.dev\n"
    "      --timeline-steps A-B  steps of the timeline, counted from 0; default 0-1\n"
    "  -j, --json            print the results as JSON\n\n"
    "example:\n"
    "  moesim run router_lab_training_8xh100 \\\n"
    "      --set placement.strategy=eplb --set routing.capacity_factor=1.25\n";

struct watch {
    struct progress progress;
    struct store *store;
    struct timeline *timeline; /* NULL: not wanted */
};

static bool step_done(void *context, int64_t step, int64_t num_steps)
{
    struct watch *watch = context;
    progress_update(&watch->progress, step, num_steps);
    return watch->timeline == NULL || timeline_is_whole(watch->timeline);
}

static void time_booked(void *context, const struct booked_time *booked)
{
    timeline_time_booked(((struct watch *)context)->timeline, booked);
}

static void rebalanced(void *context, const struct rebalance_record *record, int64_t now_ns)
{
    timeline_rebalanced(((struct watch *)context)->timeline, record, now_ns);
}

static enum status layer_load(void *context, int64_t step, int32_t layer,
                              const int64_t *expert_tokens, int32_t num_experts,
                              struct error *error)
{
    return store_detail(((struct watch *)context)->store, step, layer, expert_tokens, num_experts,
                        error);
}

/* What would fail after the run is found before it, and before a results file is made. */
static enum status check_outputs(const struct variant *variant, const struct cli_options *options,
                                 struct error *error)
{
    int64_t num_steps = engine_metrics(variant->engine)->num_steps;
    enum status status = STATUS_OK;
    if (options->timeline != NULL && options->timeline_first >= num_steps) {
        status = error_add(error, STATUS_INVALID,
                           "--timeline-steps %lld-%lld: the run has %lld steps, counted from 0",
                           (long long)options->timeline_first, (long long)options->timeline_last,
                           (long long)num_steps);
    }
    if (options->report != NULL) {
        enum status made = directory_check(options->report, error);
        status = status == STATUS_OK ? made : status;
    }
    return status;
}

static enum status open_timeline(struct watch *watch, const struct variant *variant,
                                 const struct cli_options *options, struct error *error)
{
    struct timeline_options timeline = {options->timeline, options->timeline_first,
                                        options->timeline_last, &variant->scenario,
                                        variant->run_id};
    return timeline_open(&watch->timeline, &timeline, error);
}

/* Runs the engine under the eyes of progress bar, store and timeline. */
static enum status observe(struct variant *variant, struct watch *watch, bool detail,
                           struct error *error)
{
    bool timed = watch->timeline != NULL;
    struct engine_observer observer = {.context = watch,
                                       .step_done = step_done,
                                       .layer_load = detail ? layer_load : NULL,
                                       .time_booked = timed ? time_booked : NULL,
                                       .rebalanced = timed ? rebalanced : NULL};
    progress_begin(&watch->progress, "simulating", "steps");
    enum status status = variant_run(variant, &observer);
    progress_end(&watch->progress);
    if (timed && (status == STATUS_OK || !timeline_is_whole(watch->timeline))) {
        return timeline_finish(watch->timeline, engine_metrics(variant->engine)->digest, error);
    }
    if (status != STATUS_OK) {
        *error = variant->error;
    }
    return status;
}

static enum status simulate(struct variant *variant, struct store *store,
                            const struct cli_options *options, struct error *error)
{
    struct watch watch = {.store = store};
    enum status status = STATUS_OK;
    if (options->timeline != NULL) {
        status = open_timeline(&watch, variant, options, error);
    }
    if (status == STATUS_OK) {
        status = store_begin(store, variant->run_id, variant->label, &variant->scenario,
                             variant->trace, error);
    }
    if (status == STATUS_OK) {
        status = observe(variant, &watch, options->detail, error);
    }
    timeline_close(watch.timeline);
    if (status != STATUS_OK) {
        return status;
    }
    return store_finish(store, variant->metrics, &variant->totals, error);
}

static enum status run(struct variant *variant, const struct cli_options *options,
                       struct error *error)
{
    enum status status = scenario_load(&variant->scenario, options->scenario, options->override,
                                       options->num_overrides, error);
    if (status == STATUS_OK) {
        status = variant_open(variant, NULL, 0, cli_threads(options), error);
    }
    if (status == STATUS_OK) {
        status = check_outputs(variant, options, error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    struct store *store = NULL;
    status = store_open_guarded(&store, options->results, error);
    if (status == STATUS_OK) {
        status = simulate(variant, store, options, error);
    }
    store_close(store);
    return status == STATUS_OK
               ? cli_make_page(options->results, options->report, variant->run_id, error)
               : status;
}

static void print_next(const struct cli_options *options, const struct variant *variant)
{
    if (variant->metrics->num_rebalances > 0) {
        printf("beside a run that changes nothing: moesim compare %s --strategies static,%s\n",
               options->scenario, variant->scenario.strategy->name);
    }
    if (options->timeline != NULL) {
        printf("timeline in %s: open it in ui.perfetto.dev\n", options->timeline);
    }
    printf("stored in %s", options->results);
    if (options->report != NULL) {
        printf("; page: %s/index.html\n", options->report);
    } else {
        printf("; for the page: moesim report %s -o out/\n", options->results);
    }
}

int command_run(int argc, char **argv)
{
    struct cli_options options;
    int code = cli_parse(&options, argc, argv, help);
    if (code >= 0) {
        return code;
    }
    if (options.num_vary > 0 || options.strategies != NULL || options.sensitivity) {
        return cli_usage(argv[0],
                         "--vary, --strategies and --sensitivity belong to moesim compare");
    }
    struct variant *variant = calloc(1, sizeof *variant);
    struct error *error = calloc(1, sizeof *error);
    if (variant == NULL || error == NULL) {
        free(variant);
        free(error);
        fputs("moesim: out of memory\n", stderr);
        return 2;
    }
    enum status status = run(variant, &options, error);
    if (status != STATUS_OK) {
        code = cli_fail(status, error);
    } else if (options.json) {
        code = print_json(variant_json(variant));
    } else {
        print_summary(variant);
        print_next(&options, variant);
        code = 0;
    }
    variant_close(variant);
    free(variant);
    free(error);
    return code;
}
