/* bench_cli.c -- fits and predictions of moe-bench's phases, as text and JSON. */
#include "cli/bench_cli.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "cli/print.h"
#include "validate_bench.h"

static void print_errors(const struct error_summary *summary)
{
    if (summary->num_rows > 0) {
        printf("%6d %7.1f %% %7.1f %% %7.1f %%", (int)summary->num_rows, 100.0 * summary->median,
               100.0 * summary->p90, 100.0 * summary->max);
    }
}

static void print_constants(const struct bench_model *model)
{
    puts("error on model shapes that a fit has not seen\n");
    printf("%-32s %-6s %-8s %-9s %6s %9s %9s %9s\n", "device", "format", "ranks", "phase", "rows",
           "median", "p90", "max");
    for (int32_t i = 0; i < model->num_constants; i++) {
        const struct bench_constants *constants = &model->constants[i];
        printf("%-32.32s %-6s %-8s %-9s ", constants->device, constants->dtype,
               constants->is_parallel ? "several" : "one", bench_phase_name(constants->phase));
        if (constants->held_out.num_rows > 0) {
            print_errors(&constants->held_out);
            putchar('\n');
        } else {
            printf("%6d  of one shape: nothing to hold out\n", (int)constants->fitted.fit.num_rows);
        }
    }
    puts("\nconstants\n");
    printf("%-8s %-9s %10s %12s %12s %12s %10s %6s\n", "ranks", "phase", "t0 us", "weights GB/s",
           "GFLOP/s", "rows GB/s", "item ns", "blend");
    for (int32_t i = 0; i < model->num_constants; i++) {
        const struct fitted_kernels *fitted = &model->constants[i].fitted;
        printf("%-8s %-9s %10.3f %12.4g %12.4g %12.4g %10.4g %6.2f\n",
               model->constants[i].is_parallel ? "several" : "one",
               bench_phase_name(model->constants[i].phase), fitted->t0_ns * 1e-3,
               fitted->weight_bytes_per_s * 1e-9, fitted->flops_per_s * 1e-9,
               fitted->activation_bytes_per_s * 1e-9, fitted->slot_ns, fitted->blend);
    }
}

int bench_calibrate(const char *path)
{
    struct bench_rows rows = {0};
    struct error *error = calloc(1, sizeof *error);
    struct bench_model *model = calloc(1, sizeof *model);
    enum status status = error == NULL || model == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    if (status == STATUS_OK) {
        status = bench_rows_read(&rows, path, error);
    }
    if (status == STATUS_OK) {
        status = bench_model_fit(model, &rows, error);
    }
    if (status == STATUS_OK) {
        print_constants(model);
    }
    int code = status == STATUS_OK ? 0 : cli_fail(status, error ? error : &(struct error){0});
    bench_rows_free(&rows);
    free(model);
    free(error);
    return code;
}

void bench_errors_json(cJSON *object, const struct error_summary *summary, int64_t num_skipped)
{
    cJSON_AddNumberToObject(object, "n", summary->num_rows);
    cJSON_AddNumberToObject(object, "skipped", (double)num_skipped);
    cJSON_AddNumberToObject(object, "median", summary->median);
    cJSON_AddNumberToObject(object, "p90", summary->p90);
    cJSON_AddNumberToObject(object, "max", summary->max);
}

static cJSON *validation_json(const struct bench_validation *validation)
{
    cJSON *object = cJSON_CreateObject();
    bench_errors_json(cJSON_AddObjectToObject(object, "total"), &validation->total,
                      validation->num_skipped);
    bench_errors_json(cJSON_AddObjectToObject(object, "layers"), &validation->layers, 0);
    cJSON *groups = cJSON_AddArrayToObject(object, "groups");
    for (int32_t i = 0; i < validation->num_groups; i++) {
        const struct bench_group *group = &validation->group[i];
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "device", group->device);
        cJSON_AddStringToObject(item, "dtype", group->dtype);
        cJSON_AddStringToObject(item, "phase", bench_phase_name(group->phase));
        cJSON_AddBoolToObject(item, "ep", group->is_parallel);
        bench_errors_json(item, &group->error, group->num_skipped);
        cJSON_AddItemToArray(groups, item);
    }
    cJSON *reasons = cJSON_AddObjectToObject(object, "skipped_reasons");
    for (int32_t reason = BENCH_USED + 1; reason < BENCH_SKIP_COUNT; reason++) {
        if (validation->skipped[reason] > 0) {
            cJSON_AddNumberToObject(reasons, bench_skip_reason((enum bench_skip)reason),
                                    (double)validation->skipped[reason]);
        }
    }
    if (validation->no_constants > 0) {
        cJSON_AddNumberToObject(reasons, "nothing was fitted for it",
                                (double)validation->no_constants);
    }
    return object;
}

static void print_validation(const struct bench_validation *validation)
{
    bool has_wall = false;
    printf("%-32s %-6s %-8s %-9s %6s %9s %9s %9s\n", "device", "format", "ranks", "phase", "rows",
           "median", "p90", "max");
    for (int32_t i = 0; i < validation->num_groups; i++) {
        const struct bench_group *group = &validation->group[i];
        has_wall = has_wall || group->phase == BENCH_WALL;
        printf("%-32.32s %-6s %-8s %-9s ", group->device, group->dtype,
               group->is_parallel ? "several" : "one", bench_phase_name(group->phase));
        print_errors(&group->error);
        if (group->num_skipped > 0) {
            printf("  skipped %lld", (long long)group->num_skipped);
        }
        putchar('\n');
    }
    printf("%-58s ", "whole layers");
    print_errors(&validation->layers);
    printf("\n%-58s ", "total");
    print_errors(&validation->total);
    putchar('\n');
    if (has_wall) {
        puts(
            "wall: the layer by the wall clock, other programs' share in it too; not in the total");
    }
    for (int32_t reason = BENCH_USED + 1; reason < BENCH_SKIP_COUNT; reason++) {
        if (validation->skipped[reason] > 0) {
            printf("skipped %lld: %s\n", (long long)validation->skipped[reason],
                   bench_skip_reason((enum bench_skip)reason));
        }
    }
    if (validation->no_constants > 0) {
        printf("skipped %lld: nothing was fitted for it\n", (long long)validation->no_constants);
    }
}

int bench_validate(const char *fit_path, const char *path, bool as_json)
{
    struct bench_rows fit_rows = {0};
    struct bench_rows rows = {0};
    struct error *error = calloc(1, sizeof *error);
    struct bench_model *model = calloc(1, sizeof *model);
    struct bench_validation *validation = calloc(1, sizeof *validation);
    enum status status =
        error == NULL || model == NULL || validation == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    if (status == STATUS_OK) {
        status = bench_rows_read(&fit_rows, fit_path, error);
    }
    if (status == STATUS_OK) {
        status = bench_rows_read(&rows, path, error);
    }
    if (status == STATUS_OK) {
        status = bench_model_fit(model, &fit_rows, error);
    }
    if (status == STATUS_OK) {
        status = validate_bench(validation, &rows, model, error);
    }
    int code = 0;
    if (status != STATUS_OK) {
        code = cli_fail(status, error != NULL ? error : &(struct error){0});
    } else if (as_json) {
        code = print_json(validation_json(validation));
    } else {
        print_validation(validation);
    }
    bench_rows_free(&fit_rows);
    bench_rows_free(&rows);
    free(validation);
    free(model);
    free(error);
    return code;
}
