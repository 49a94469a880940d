/* cmd_validate.c -- moesim validate. */
#include <cjson/cJSON.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/print.h"
#include "validate.h"

static const char help[] =
    "usage: moesim validate --kernels-moe FILE.csv [--json]\n\n"
    "Predicts every measured MoE operation it can with the constants in the GPU presets and "
    "prints\n"
    "the absolute relative error by GPU, format, kernels and routing, and what was skipped and "
    "why.\n\n"
    "      --kernels-moe FILE   measurements, in the columns of aiconfigurator's MoE tables\n"
    "  -j, --json               print total and groups as JSON; errors are fractions\n\n"
    "example:\n"
    "  moesim validate --kernels-moe kernels_moe.csv --json\n";

/* Returns -1 to go on, else the exit code. */
static int parse(const char **table, bool *as_json, int argc, char **argv)
{
    static const struct option known[] = {{"kernels-moe", required_argument, NULL, 'k'},
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
            *table = optarg;
        } else if (option == 'j') {
            *as_json = true;
        } else {
            return cli_usage(argv[0], "unknown option or missing value: %s", argv[optind - 1]);
        }
    }
    if (optind < argc) {
        return cli_usage(argv[0], "what is '%s'?", argv[optind]);
    }
    if (*table == NULL) {
        return cli_usage(argv[0], "--kernels-moe FILE.csv is missing");
    }
    return -1;
}

static void add_errors(cJSON *object, const struct error_summary *summary, int64_t num_skipped)
{
    cJSON_AddNumberToObject(object, "n", summary->num_rows);
    cJSON_AddNumberToObject(object, "skipped", (double)num_skipped);
    cJSON_AddNumberToObject(object, "median", summary->median);
    cJSON_AddNumberToObject(object, "p90", summary->p90);
    cJSON_AddNumberToObject(object, "max", summary->max);
}

static cJSON *validation_json(const struct validation *validation)
{
    cJSON *object = cJSON_CreateObject();
    cJSON *total = cJSON_AddObjectToObject(object, "total");
    add_errors(total, &validation->total, validation->num_skipped);
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
        add_errors(item, &group->error, group->num_skipped);
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
    const char *path = NULL;
    bool as_json = false;
    int code = parse(&path, &as_json, argc, argv);
    if (code >= 0) {
        return code;
    }
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
    } else if (as_json) {
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
