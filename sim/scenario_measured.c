/*
 * scenario_measured.c -- compute.measured: files of measurements for the compute model of the name.
 *
 * As with placement.initial, the scenario's text says what the files hold: compute.measured.digest
 * is filled in, and a scenario that has it already is refused when they are no longer the same.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "measured_read.h"
#include "scenario_internal.h"

#define KEY "compute.measured"

enum layout { LAYOUT_KERNELS, LAYOUT_MOE, LAYOUT_BENCH, LAYOUT_COUNT };

static const char *const keys[LAYOUT_COUNT] = {KEY ".kernels", KEY ".kernels_moe", KEY ".bench"};

/* Writes the digest into the scenario's text, or compares it with what stands there. */
static void seal(struct scenario_loader *loader, uint64_t digest)
{
    char text[NAME_BYTES];
    char assignment[2 * NAME_BYTES];
    const char *said = loader->file.measured_digest;
    (void)snprintf(text, sizeof text, "%016llx", (unsigned long long)digest);
    if (said[0] != '\0' && strcmp(said, text) != 0) {
        scenario_complain(loader, KEY ".digest",
                          "the files are not what they were: their digest is %s; take the key out "
                          "if that is meant",
                          text);
        return;
    }
    (void)snprintf(assignment, sizeof assignment, KEY ".digest=\"%s\"", text);
    enum status status = yaml_override(loader->root, assignment, loader->arena, loader->error);
    loader->status = status != STATUS_OK ? status : loader->status;
}

static void read_table(struct scenario_loader *loader, const struct measured_files *files,
                       const char *key)
{
    struct scenario *scenario = loader->scenario;
    struct error *problems = calloc(1, sizeof *problems);
    uint64_t digest = 0;
    scenario->measured = calloc(1, sizeof *scenario->measured);
    if (problems == NULL || scenario->measured == NULL) {
        loader->status = error_add(loader->error, STATUS_NO_MEMORY, "out of memory");
        free(problems);
        return;
    }
    enum status status = measured_read(scenario->measured, files, &scenario->cluster.gpu, problems);
    if (status == STATUS_OK) {
        status = measured_digest(&digest, files, problems);
    }
    if (status == STATUS_OK) {
        scenario->cluster.gpu.measured = scenario->measured;
        seal(loader, digest);
    } else {
        scenario_pass_on(loader, key, problems);
    }
    free(problems);
}

/* The paths of the files that are named; false: one is not there. */
static bool find_files(struct scenario_loader *loader, char path[LAYOUT_COUNT][PATH_BYTES])
{
    const char *const name[LAYOUT_COUNT] = {loader->file.measured_kernels,
                                            loader->file.measured_moe, loader->file.measured_bench};
    bool all_found = true;
    for (int32_t i = 0; i < LAYOUT_COUNT; i++) {
        path[i][0] = '\0';
        if (name[i][0] != '\0' && !scenario_find_path(loader, path[i], keys[i], name[i])) {
            scenario_complain(loader, keys[i],
                              "there is no '%s' beside the file that names it, in the data "
                              "directory or here",
                              name[i]);
            all_found = false;
        }
    }
    return all_found;
}

void scenario_read_measured(struct scenario_loader *loader)
{
    const struct scenario *scenario = loader->scenario;
    char path[LAYOUT_COUNT][PATH_BYTES];
    bool is_wanted =
        scenario->gpu_model != NULL && strcmp(scenario->gpu_model->name, "measured") == 0;
    if (!find_files(loader, path)) {
        return;
    }
    const struct measured_files files = {
        .kernels = path[LAYOUT_KERNELS][0] != '\0' ? path[LAYOUT_KERNELS] : NULL,
        .moe = path[LAYOUT_MOE][0] != '\0' ? path[LAYOUT_MOE] : NULL,
        .bench = path[LAYOUT_BENCH][0] != '\0' ? path[LAYOUT_BENCH] : NULL};
    bool has_any = files.kernels != NULL || files.moe != NULL || files.bench != NULL;
    if (scenario->gpu_model == NULL || !loader->has_gpu || !loader->has_model) {
        return; /* what is wrong has been told */
    }
    if (has_any && !is_wanted) {
        scenario_complain(loader, KEY, "is read by compute.model: measured, not by %s",
                          scenario->gpu_model->name);
    } else if (!has_any && is_wanted) {
        scenario_complain(loader, "compute.model",
                          "measured needs a file of measurements: " KEY ".kernels, .kernels_moe or "
                          ".bench");
    } else if (files.moe != NULL && files.bench != NULL) {
        scenario_complain(loader, keys[LAYOUT_BENCH],
                          "and kernels_moe both hold experts; name one of them");
    } else if (has_any && gpu_model_applies(scenario->gpu_model, &scenario->cluster.gpu)) {
        read_table(loader, &files,
                   files.kernels != NULL ? keys[LAYOUT_KERNELS]
                   : files.moe != NULL   ? keys[LAYOUT_MOE]
                                         : keys[LAYOUT_BENCH]);
    }
}
