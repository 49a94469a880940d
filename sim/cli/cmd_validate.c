/* cmd_validate.c -- moesim validate. */
#include <cjson/cJSON.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench_cli.h"
#include "cli/cli.h"
#include "cli/print.h"
#include "validate.h"

static const char help[] =
    "usage: moesim validate --kernels-moe FILE.csv [--json]\n"
    "       moesim validate --fit FILE.csv --bench FILE.csv [--json]\n"
    "       moesim validate --device cpu [--routing FILE.npy] [--json]\n\n"
    "Predicts measurements and prints the absolute relative error by group, and what was skipped\n"
    "and why.\n\n"
    "      --kernels-moe FILE   whole MoE operations, in the columns of aiconfigurator's MoE "
    "tables,\n"
    "                           by the constants in the GPU presets\n"
    "      --bench FILE         phases and layers as moe-bench forward measured them\n"
    "      --fit FILE           measured likewise: what the constants for --bench are fitted to\n"
    "      --device cpu         measure both on this machine, with moe-bench: other shapes, "
    "skewed\n"
    "                           routing, and two MPI ranks where mpirun is there\n"
    "      --routing FILE       with --device: recorded choices, [layers][tokens][4] of 32 "
    "experts\n"
    "  -j, --json               print total and groups as JSON; errors are fractions\n\n"
    "example:\n"
    "  moesim validate --kernels-moe kernels_moe.csv --json\n";

struct options {
    const char *table;
    const char *bench;
    const char *fit;
    const char *device;
    const char *routing;
    bool as_json;
};

static int check(const struct options *options, const char *command)
{
    int num_sources =
        (options->table != NULL) + (options->bench != NULL) + (options->device != NULL);
    if (num_sources != 1) {
        return cli_usage(command, "one of --kernels-moe FILE.csv, --bench FILE.csv and --device "
                                  "cpu is needed");
    }
    if ((options->bench == NULL) != (options->fit == NULL)) {
        return cli_usage(command, "--bench FILE.csv and --fit FILE.csv go together");
    }
    if (options->device != NULL && strcmp(options->device, "cpu") != 0) {
        return cli_usage(command,
                         "--device is cpu, not '%s'; of a GPU, take the files that "
                         "moe-bench forward wrote: --fit and --bench",
                         options->device);
    }
    if (options->routing != NULL && options->device == NULL) {
        return cli_usage(command, "--routing goes with --device cpu");
    }
    return -1;
}

/* Returns -1 to go on, else the exit code. */
static int parse(struct options *options, int argc, char **argv)
{
    static const struct option known[] = {{"kernels-moe", required_argument, NULL, 'k'},
                                          {"bench", required_argument, NULL, 'B'},
                                          {"fit", required_argument, NULL, 'f'},
                                          {"device", required_argument, NULL, 'd'},
                                          {"routing", required_argument, NULL, 'r'},
                                          {"json", no_argument, NULL, 'j'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    int option = 0;
    optind = 1;
    opterr = 0;
    while ((option = getopt_long(argc, argv, "jh", known, NULL)) != -1) {
        if (option == 'h') {
            fputs(help, stdout);
            return 0;
        } else if (option == 'k') {
            options->table = optarg;
        } else if (option == 'B') {
            options->bench = optarg;
        } else if (option == 'f') {
            options->fit = optarg;
        } else if (option == 'd') {
            options->device = optarg;
        } else if (option == 'r') {
            options->routing = optarg;
        } else if (option == 'j') {
            options->as_json = true;
        } else {
            return cli_usage(argv[0], "unknown option or missing value: %s", argv[optind - 1]);
        }
    }
    if (optind < argc) {
        return cli_usage(argv[0], "what is '%s'?", argv[optind]);
    }
    return check(options, argv[0]);
}

static cJSON *validation_json(const struct validation *validation)
{
    cJSON *object = cJSON_CreateObject();
    cJSON *total = cJSON_AddObjectToObject(object, "total");
    bench_errors_json(total, &validation->total, validation->num_skipped);
    cJSON *groups = cJSON_AddArrayToObject(object, "groups");
    for (int32_t i = 0; i < validation->num_groups; i++) {
        const struct validate_group *group = &validation->group[i];
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "gpu", group->gpu);
        cJSON_AddStringToObject(item, "dtype", group->dtype);
        cJSON_AddStringToObject(item, "kernels", group->kernels);
        cJSON_AddStringToObject(item, "distribution", group->distribution);
        cJSON_AddBoolToObject(item, "ep", group->is_ep);
        cJSON_AddBoolToObject(item, "part_of_fit", group->is_fitted);
        bench_errors_json(item, &group->error, group->num_skipped);
        cJSON_AddItemToArray(groups, item);
    }
    cJSON *reasons = cJSON_AddObjectToObject(object, "skipped_reasons");
    for (int32_t reason = MOE_USED + 1; reason < MOE_SKIP_COUNT; reason++) {
        if (validation->skipped[reason] > 0) {
            cJSON_AddNumberToObject(reasons, moe_skip_reason((enum moe_skip)reason),
                                    (double)validation->skipped[reason]);
        }
    }
    return object;
}

static void print_errors(const struct error_summary *summary, int64_t num_skipped)
{
    printf("%7d %7lld", (int)summary->num_rows, (long long)num_skipped);
    if (summary->num_rows > 0) {
        printf(" %7.1f %% %7.1f %% %8.1f %%", 100.0 * summary->median, 100.0 * summary->p90,
               100.0 * summary->max);
    }
}

static void print_validation(const struct validation *validation)
{
    printf("%-14s %-9s %-19s %-21s %7s %7s %9s %9s %10s\n", "GPU", "format", "kernels", "routing",
           "rows", "skipped", "median", "p90", "max");
    for (int32_t i = 0; i < validation->num_groups; i++) {
        const struct validate_group *group = &validation->group[i];
        char routing[64];
        (void)snprintf(routing, sizeof routing, "%.40s%s", group->distribution,
                       group->is_ep ? " EP > 1" : "");
        printf("%-14.14s %-9s %-19s %-21s ", group->gpu, group->dtype, group->kernels, routing);
        print_errors(&group->error, group->num_skipped);
        puts(group->is_fitted ? "  part of the fit" : "");
    }
    printf("%-66s ", "total");
    print_errors(&validation->total, validation->num_skipped);
    puts("\n\nRows that are part of the fit show its calibrated error, all others a predicted one. "
         "What\nthe fits are worth on model shapes they have not seen stands in the GPU presets "
         "(holdout).");
    for (int32_t reason = MOE_USED + 1; reason < MOE_SKIP_COUNT; reason++) {
        if (validation->skipped[reason] > 0) {
            printf("skipped %lld: %s\n", (long long)validation->skipped[reason],
                   moe_skip_reason((enum moe_skip)reason));
        }
    }
}

int command_validate(int argc, char **argv)
{
    struct options options = {0};
    int code = parse(&options, argc, argv);
    if (code >= 0) {
        return code;
    }
    if (options.bench != NULL) {
        return bench_validate(options.fit, options.bench, options.as_json);
    }
    if (options.device != NULL) {
        return bench_validate_cpu(options.routing, options.as_json);
    }
    const char *path = options.table;
    const char *slash = strrchr(path, '/');
    const char *table = slash != NULL ? slash + 1 : path;
    struct moe_rows rows = {0};
    struct error *error = calloc(1, sizeof *error);
    struct validation *validation = calloc(1, sizeof *validation);
    enum status status = error == NULL || validation == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    if (status == STATUS_OK) {
        status = moe_rows_read(&rows, path, error);
    }
    if (status == STATUS_OK) {
        status = validate_rows(validation, &rows, table, error);
    }
    if (status != STATUS_OK) {
        code = cli_fail(status, error != NULL ? error : &(struct error){0});
    } else if (options.as_json) {
        code = print_json(validation_json(validation));
    } else {
        print_validation(validation);
        code = 0;
    }
    moe_rows_free(&rows);
    free(validation);
    free(error);
    return code;
}
