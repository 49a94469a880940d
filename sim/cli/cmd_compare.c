/* cmd_compare.c -- moesim compare: variants of one scenario, side by side. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"
#include "cli/compare.h"
#include "cli/compare_plan.h"
#include "cli/options.h"
#include "cli/print.h"
#include "cli/print_study.h"
#include "study.h"

static const char help[] =
    "usage: moesim compare SCENARIO --strategies all [options]\n"
    "       moesim compare SCENARIO --vary KEY=A,B,C [--vary ...] [options]\n\n"
    "Simulates every combination of what varies. Balancing strategies are ranked by what is left\n"
    "of a step net of the weights they move, with a verdict in words; of other keys the first\n"
    "value is the one the others are compared with.\n\n"
    "      --strategies A,B  balancing strategies; all: every one that moesim list strategies\n"
    "                        has, those left out that cannot serve this scenario\n"
    "      --sensitivity     once more with each of redundancy, interval, tokens a rank and EP\n"
    "                        changed, one at a time\n"
    "      --vary KEY=A,B,C  values of one key; several --vary make all combinations\n"
    "  -o, --output FILE     results file (SQLite), default results.db\n"
    "  -r, --report DIR      also make the page with the comparison figures\n"
    "      --set KEY=VALUE   override one key in all variants; may be repeated\n"
    "      --seed N          the same as --set seed=N\n"
    "      --threads N       simulations at a time, default all cores\n"
    "  -j, --json            print the results as JSON\n\n"
    "examples:\n"
    "  moesim compare router_lab_traffic_shift_8xh100 \\\n"
    "      --strategies all --report out/strategies\n"
    "  moesim compare router_lab_training_8xh100 \\\n"
    "      --vary routing.capacity_factor=1,1.25,1.5\n";

static void print_left_out(const struct variant *variants, int32_t count)
{
    for (int32_t index = 0; index < count; index++) {
        if (variants[index].left_out) {
            printf("\nleft out: %s\n    %s", variants[index].label, variants[index].error.text);
        }
    }
}

static int print_all(const struct study *study, const struct variant *variants, int32_t count,
                     const struct cli_options *options)
{
    if (options->json) {
        cJSON *json = study_json(study);
        cJSON *runs = cJSON_AddArrayToObject(json, "runs");
        cJSON *left_out = cJSON_AddArrayToObject(json, "left_out");
        for (int32_t index = 0; index < count; index++) {
            if (variants[index].left_out) {
                cJSON_AddItemToArray(left_out, cJSON_CreateString(variants[index].label));
            } else {
                cJSON_AddItemToArray(runs, variant_json(&variants[index]));
            }
        }
        return print_json(json);
    }
    printf("%s\n\n", variants[0].scenario.question);
    print_study(study);
    print_left_out(variants, count);
    printf("\nstored in %s", options->results);
    if (options->report != NULL) {
        printf("; page: %s/index.html\n", options->report);
    } else {
        printf("; for the page: moesim report %s -o out/\n", options->results);
    }
    return 0;
}

int compare_run(struct variant *variants, int32_t count, const struct cli_options *options,
                struct error *error)
{
    struct study study = {0};
    enum status status = compare_judge(&study, variants, count, options, error);
    if (status == STATUS_OK) {
        status = compare_store(&study, variants, count, options->results, error);
    }
    if (status == STATUS_OK) {
        status = cli_make_page(options->results, options->report, compare_winner(&study), error);
    }
    int code =
        status == STATUS_OK ? print_all(&study, variants, count, options) : cli_fail(status, error);
    free(study.run);
    study_free(&study);
    return code;
}

/* Loads and compares what was planned; returns the exit code. */
static int compare_planned(const struct compare_plan *plan, const struct cli_options *options,
                           struct error *error)
{
    struct variant *variants = NULL;
    enum status status = compare_load(&variants, plan, options, error);
    int code = status == STATUS_OK ? compare_run(variants, plan->count, options, error)
                                   : cli_fail(status, error);
    compare_close(variants, plan->count);
    return code;
}

/* A results file that cannot take the runs is refused before they are simulated. */
static enum status check_results(const struct cli_options *options, struct error *error)
{
    struct store *store = NULL;
    struct stat entry;
    if (stat(options->results, &entry) != 0) {
        return STATUS_OK; /* made when there is something to store */
    }
    enum status status = store_open(&store, options->results, true, error);
    store_close(store);
    return status;
}

int command_compare(int argc, char **argv)
{
    struct cli_options options;
    int code = cli_parse(&options, argc, argv, help);
    struct error *error = calloc(1, sizeof *error);
    if (code >= 0 || error == NULL) {
        free(error);
        return code >= 0 ? code : 2;
    }
    struct compare_plan plan = {0};
    struct scenario base = {0};
    enum status status = compare_plan_base(&base, &options, error);
    if (status == STATUS_OK) {
        status = check_results(&options, error);
    }
    code = status == STATUS_OK ? compare_plan_make(&plan, &options, argv[0], &base)
                               : cli_fail(status, error);
    scenario_free(&base);
    if (code < 0) {
        code = compare_planned(&plan, &options, error);
    }
    compare_plan_free(&plan);
    free(error);
    return code;
}
