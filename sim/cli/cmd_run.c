/* cmd_run.c -- moesim run. */
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "cli/options.h"
#include "cli/print.h"
#include "cli/variant.h"
#include "progress.h"
#include "report.h"

static const char help[] =
    "usage: moesim run SCENARIO [options]\n\n"
    "Simulates a scenario and stores the results.\n\n"
    "  -o, --output FILE     results file (SQLite), default results.db\n"
    "  -r, --report DIR      also make the page, as moesim report does\n"
    "      --set KEY=VALUE   override one key of the scenario; may be repeated\n"
    "      --seed N          the same as --set seed=N\n"
    "      --detail          also store every step x layer x expert\n"
    "      --threads N       threads for generating a trace, default all\n"
    "  -j, --json            print the results as JSON\n\n"
    "example:\n"
    "  moesim run scenarios/studies/gpt_oss_20b_decode_8xh100.yaml \\\n"
    "      --set placement.strategy=static --set routing.capacity_factor=1.25\n";

struct watch {
    struct progress progress;
    struct store *store;
};

static bool step_done(void *context, int64_t step, int64_t num_steps)
{
    progress_update(&((struct watch *)context)->progress, step, num_steps);
    return true;
}

static enum status layer_load(void *context, int64_t step, int32_t layer,
                              const int64_t *expert_tokens, int32_t num_experts,
                              struct error *error)
{
    return store_detail(((struct watch *)context)->store, step, layer, expert_tokens, num_experts,
                        error);
}

static enum status simulate(struct variant *variant, struct store *store, bool detail,
                            struct error *error)
{
    struct watch watch = {.store = store};
    struct engine_observer observer = {&watch, step_done, detail ? layer_load : NULL};
    enum status status = store_begin(store, variant->run_id, variant->label, &variant->scenario,
                                     variant->trace, error);
    if (status != STATUS_OK) {
        return status;
    }
    progress_begin(&watch.progress, "simulating", "steps");
    status = variant_run(variant, &observer);
    progress_end(&watch.progress);
    if (status != STATUS_OK) {
        *error = variant->error;
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
    if (status != STATUS_OK) {
        return status;
    }
    struct store *store = NULL;
    status = store_open(&store, options->results, true, error);
    if (status == STATUS_OK) {
        status = simulate(variant, store, options->detail, error);
    }
    store_close(store);
    if (status == STATUS_OK && options->report != NULL) {
        struct report_options report = {options->results, options->report, variant->run_id};
        status = report_write(&report, error);
    }
    return status;
}

static void print_next(const struct cli_options *options)
{
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
    if (options.num_vary > 0) {
        return cli_usage(argv[0], "--vary belongs to moesim compare");
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
        code = print_json(run_json(variant));
    } else {
        print_summary(variant);
        print_next(&options);
        code = 0;
    }
    variant_close(variant);
    free(variant);
    free(error);
    return code;
}
