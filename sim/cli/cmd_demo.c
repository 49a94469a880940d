/* cmd_demo.c -- moesim demo: DeepSeek-V3 decoding on 32 H800, with and without balancing. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/compare.h"
#include "data.h"
#include "directory.h"

static const char help[] =
    "usage: moesim demo [-o DIR]\n\n"
    "Simulates DeepSeek-V3 decoding on 32 H800 three times, with the experts where the checkpoint\n"
    "puts them, with EPLB, and with EPLB and 32 redundant experts, and makes the page.\n\n"
    "  -o, --output DIR   where index.html and results.db go, default out/demo\n"
    "      --threads N    simulations at a time, default all cores\n\n"
    "example:\n"
    "  moesim demo -o out/demo\n";

static const struct {
    const char *label;
    const char *override[4];
    int32_t num_overrides;
} demo_variants[] = {
    {"static", {0}, 0},
    {"eplb", {"placement.strategy=eplb", "placement.rebalance_interval_steps=40"}, 2},
    {"eplb, 32 redundant experts",
     {"placement.strategy=eplb", "placement.rebalance_interval_steps=40",
      "placement.redundant_experts=32"},
     3},
};

#define NUM_VARIANTS ((int32_t)(sizeof demo_variants / sizeof demo_variants[0]))

static enum status load(struct variant *variants, struct error *error)
{
    char scenario[PATH_BYTES];
    snprintf(scenario, sizeof scenario, "%s/scenarios/studies/deepseek_v3_decode_32xh800.yaml",
             data_directory());
    enum status status = STATUS_OK;
    for (int32_t index = 0; index < NUM_VARIANTS && status == STATUS_OK; index++) {
        snprintf(variants[index].label, LABEL_BYTES, "%s", demo_variants[index].label);
        status = scenario_load(&variants[index].scenario, scenario, demo_variants[index].override,
                               demo_variants[index].num_overrides, error);
    }
    return status;
}

/* Returns the exit code. */
static int demo(const struct cli_options *options, struct variant *variants, struct error *error)
{
    enum status status = directory_make(options->report, error);
    if (status == STATUS_OK) {
        status = load(variants, error);
    }
    if (status != STATUS_OK) {
        return cli_fail(status, error);
    }
    return compare_run(variants, NUM_VARIANTS, options, error);
}

int command_demo(int argc, char **argv)
{
    char results[PATH_BYTES];
    struct cli_options options = {.report = "out/demo"};
    static const struct option long_options[] = {{"output", required_argument, NULL, 'o'},
                                                 {"threads", required_argument, NULL, 't'},
                                                 {"help", no_argument, NULL, 'h'},
                                                 {NULL, 0, NULL, 0}};
    int option;
    opterr = 0;
    while ((option = getopt_long(argc, argv, "o:h", long_options, NULL)) != -1) {
        if (option == 'h') {
            fputs(help, stdout);
            return 0;
        }
        if (option == 'o') {
            options.report = optarg;
        } else if (option == 't' && atoi(optarg) > 0) {
            options.num_threads = (int32_t)atoi(optarg);
        } else {
            return cli_usage(argv[0], "option not understood");
        }
    }
    if (optind < argc) {
        return cli_usage(argv[0], "'%s' is not expected here", argv[optind]);
    }
    if (strlen(options.report) + sizeof "/results.db" > sizeof results) {
        return cli_usage(argv[0], "the path of the output directory is too long");
    }
    snprintf(results, sizeof results, "%s/results.db", options.report);
    options.results = results;
    struct variant *variants = calloc((size_t)NUM_VARIANTS, sizeof *variants);
    struct error *error = calloc(1, sizeof *error);
    int code = 2;
    if (variants != NULL && error != NULL) {
        code = demo(&options, variants, error);
    }
    for (int32_t index = NUM_VARIANTS - 1; variants != NULL && index >= 0; index--) {
        variant_close(&variants[index]);
    }
    free(variants);
    free(error);
    return code;
}
