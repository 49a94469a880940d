/* network_cli.c -- prints fits of exchanges. */
#include "cli/network_cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "calibrate_network.h"
#include "cli/cli.h"
#include "cli/print.h"
#include "validate.h"

static int parse_holdout(struct network_options *options, const char *text)
{
    char *end = NULL;
    if (text == NULL || strcmp(text, "ep") == 0) {
        options->holdout = NETWORK_BY_EP;
        return 0;
    }
    if (strcmp(text, "size") == 0) {
        options->holdout = NETWORK_BY_SIZE;
        return 0;
    }
    options->holdout = NETWORK_BY_CHANCE;
    if (strncmp(text, "random:", 7) == 0) {
        options->random_share = strtod(text + 7, &end);
        if (end != text + 7 && *end == '\0' && options->random_share > 0.0 &&
            options->random_share < 1.0) {
            return 0;
        }
    }
    return cli_usage("calibrate",
                     "with --alltoall, --holdout is ep, size or random:F with F between 0 and 1, "
                     "not '%s'",
                     text);
}

static void print_errors(const char *name, const struct error_summary *error)
{
    printf("%s %.1f / %.1f %%", name, 100.0 * error->median, 100.0 * error->p90);
}

static void print_set(const struct network_set *set)
{
    printf("%-13s %-24s %-6s %-21s %5d  ", set->cluster, set->collective->name, set->dtype,
           network_exchange_name(set->exchange), (int)set->num_rows);
    print_errors("", &set->held_out);
    for (int32_t fold = 0; fold < set->num_folds && set->fold[0].ep > 0; fold++) {
        char name[32];
        (void)snprintf(name, sizeof name, "%s EP%d", fold > 0 ? "," : "  by",
                       (int)set->fold[fold].ep);
        print_errors(name, &set->fold[fold].error);
    }
    putchar('\n');
}

static void print_calibration(const struct network_calibration *calibration,
                              const struct alltoall_rows *rows)
{
    int64_t skipped[ALLTOALL_SKIP_COUNT] = {0};
    puts("held-out error, median / 90th percentile\n");
    printf("%-13s %-24s %-6s %-21s %5s   %s\n", "cluster", "collective", "format", "exchange",
           "rows", "held out");
    for (int32_t i = 0; i < calibration->num_sets; i++) {
        print_set(&calibration->set[i]);
    }
    printf("\nall %d rows:", (int)calibration->held_out.num_rows);
    print_errors("", &calibration->held_out);
    if (calibration->held_out_largest.num_rows > 0) {
        printf("\nDeepEP at EP 32, from lower degrees, %d rows:",
               (int)calibration->held_out_largest.num_rows);
        print_errors("", &calibration->held_out_largest);
    }
    putchar('\n');
    for (int64_t i = 0; i < rows->num_rows; i++) {
        skipped[rows->row[i].skip]++;
    }
    for (int32_t skip = ALLTOALL_USED + 1; skip < ALLTOALL_SKIP_COUNT; skip++) {
        if (skipped[skip] > 0) {
            printf("skipped %lld: %s\n", (long long)skipped[skip],
                   alltoall_skip_reason((enum alltoall_skip)skip));
        }
    }
}

int network_calibrate(const char *path, const char *gpu, const char *holdout, int32_t num_bootstrap,
                      const char *out)
{
    struct network_options options = {
        .num_bootstrap = num_bootstrap, .gpu = gpu, .table = validate_table_name(path)};
    struct alltoall_rows rows = {0};
    int code = parse_holdout(&options, holdout);
    if (code != 0) {
        return code;
    }
    struct error *error = calloc(1, sizeof *error);
    struct network_calibration *calibration = calloc(1, sizeof *calibration);
    enum status status = error == NULL || calibration == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    if (status == STATUS_OK) {
        status = gpu_check_presets(error);
    }
    if (status == STATUS_OK) {
        status = alltoall_rows_read(&rows, path, error);
    }
    if (status == STATUS_OK) {
        status = calibrate_network(calibration, &rows, &options, error);
    }
    if (status == STATUS_OK) {
        print_calibration(calibration, &rows);
        print_odd_rows(&rows.odd);
        status =
            out != NULL ? calibrate_network_write(calibration, &options, out, error) : STATUS_OK;
    }
    code = status == STATUS_OK ? 0 : cli_fail(status, error != NULL ? error : &(struct error){0});
    alltoall_rows_free(&rows);
    if (calibration != NULL) {
        network_calibration_free(calibration);
    }
    free(calibration);
    free(error);
    return code;
}
