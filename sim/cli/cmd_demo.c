/*
 * cmd_demo.c -- moesim demo: recorded routing of a small trained router on 8 H100, then DeepSeek-V3
 * decoding on 32 H800, with and without balancing.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/compare.h"
#include "data.h"

static const char help[] =
    "usage: moesim demo [-o DIR]\n\n"
    "Replays what a small trained router chose, with the experts of a larger model on 8 H100: the\n"
    "same model trained without balancing, with an auxiliary loss, with a loss-free bias. Then\n"
    "simulates DeepSeek-V3 decoding on 32 H800 three times, with the experts where the checkpoint\n"
    "puts them, with EPLB, and with EPLB and 32 redundant experts. Makes a page of each.\n\n"
    "  -o, --output DIR   where index.html, results.db and router/ go, default out/demo\n"
    "      --threads N    simulations at a time, default all cores\n\n"
    "example:\n"
    "  moesim demo -o out/demo\n";

#define NUM_DEMOS     2
#define VARIANTS_EACH 4

struct demo_variant {
    const char *label; /* NULL: no more */
    const char *override[4];
    int32_t num_overrides;
};

static const struct demo {
    const char *study;
    const char *folder; /* below the output directory */
    struct demo_variant variant[VARIANTS_EACH];
} demos[NUM_DEMOS] = {
    {"router_lab_training_8xh100",
     "/router",
     {{"trained without balancing", {0}, 0},
      {"with an auxiliary loss", {"trace.path=../traces/router-lab/aux_loss"}, 1},
      {"with a loss-free bias", {"trace.path=../traces/router-lab/loss_free"}, 1},
      {"without balancing, eplb", {"placement.strategy=eplb"}, 1}}},
    {"deepseek_v3_decode_32xh800",
     "",
     {{"static", {0}, 0},
      {"eplb", {"placement.strategy=eplb", "placement.rebalance_interval_steps=40"}, 2},
      {"eplb, 32 redundant experts",
       {"placement.strategy=eplb", "placement.rebalance_interval_steps=40",
        "placement.redundant_experts=32"},
       3}}},
};

static enum status load(struct variant *variants, int32_t *count, const struct demo *demo,
                        struct error *error)
{
    char scenario[PATH_BYTES];
    snprintf(scenario, sizeof scenario, "%s/scenarios/studies/%s.yaml", data_directory(),
             demo->study);
    enum status status = STATUS_OK;
    for (*count = 0; *count < VARIANTS_EACH && status == STATUS_OK; (*count)++) {
        const struct demo_variant *variant = &demo->variant[*count];
        if (variant->label == NULL) {
            break;
        }
        snprintf(variants[*count].label, LABEL_BYTES, "%s", variant->label);
        status = scenario_load(&variants[*count].scenario, scenario, variant->override,
                               variant->num_overrides, error);
    }
    return status;
}

/* Runs one demo into its folder of directory; returns the exit code. */
static int run_demo(const char *directory, int32_t num_threads, const struct demo *demo,
                    struct variant *variants, struct error *error)
{
    char report[PATH_BYTES];
    char results[PATH_BYTES];
    snprintf(report, sizeof report, "%s%s", directory, demo->folder);
    snprintf(results, sizeof results, "%s%s/results.db", directory, demo->folder);
    struct cli_options options = {.report = report, .results = results, .num_threads = num_threads};
    int32_t count = 0;
    enum status status = load(variants, &count, demo, error);
    int code = status == STATUS_OK ? compare_run(variants, count, &options, error)
                                   : cli_fail(status, error);
    for (int32_t index = VARIANTS_EACH - 1; index >= 0; index--) {
        variant_close(&variants[index]);
    }
    memset(variants, 0, VARIANTS_EACH * sizeof *variants);
    return code;
}

int command_demo(int argc, char **argv)
{
    struct cli_options options = {.report = "out/demo"};
    static const struct option long_options[] = {{"output", required_argument, NULL, 'o'},
                                                 {"threads", required_argument, NULL, 't'},
                                                 {"help", no_argument, NULL, 'h'},
                                                 {NULL, 0, NULL, 0}};
    static const struct cli_grammar grammar = {"demo", ":o:h", long_options, help};
    int option;
    int code = -1;
    optind = 1;
    while (code < 0 && (option = cli_next(&code, &grammar, argc, argv)) > 0) {
        if (option == 'o') {
            options.report = optarg;
        } else {
            code = cli_take_threads(&options.num_threads, argv[0], optarg);
        }
    }
    if (code >= 0) {
        return code;
    }
    if (optind < argc) {
        return cli_usage(argv[0], "'%s' is not expected here", argv[optind]);
    }
    if (strlen(options.report) + sizeof "/router/results.db" > PATH_BYTES) {
        return cli_usage(argv[0], "the path of the output directory is too long");
    }
    struct variant *variants = calloc(VARIANTS_EACH, sizeof *variants);
    struct error *error = calloc(1, sizeof *error);
    code = 2;
    for (int32_t index = 0; variants != NULL && error != NULL && index < NUM_DEMOS; index++) {
        if (index > 0) {
            putchar('\n');
        }
        code = run_demo(options.report, options.num_threads, &demos[index], variants, error);
        if (code != 0) {
            break;
        }
    }
    free(variants);
    free(error);
    return code;
}
