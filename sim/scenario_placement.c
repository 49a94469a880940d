/*
 * scenario_placement.c -- placement.initial: the placement a run starts from, out of a file.
 *
 * Equal scenarios are one run in the results, so the scenario's text must say what the file holds:
 * placement.initial_digest is filled in, and a scenario that has it already (from results) is
 * refused when the file is no longer the same.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "digest.h"
#include "place.h"
#include "placement_file.h"
#include "scenario_internal.h"

#define KEY "placement.initial"

/* Writes the digest into the scenario's text, or compares it with what stands there. */
static void seal(struct scenario_loader *loader, const int32_t *expert_of_slot, size_t count)
{
    char text[NAME_BYTES];
    char assignment[2 * NAME_BYTES];
    const char *said = loader->file.initial_digest;
    uint64_t digest = DIGEST_START;
    for (size_t i = 0; i < count; i++) {
        digest = digest_u64(digest, (uint64_t)expert_of_slot[i]);
    }
    (void)snprintf(text, sizeof text, "%016llx", (unsigned long long)digest);
    if (said[0] != '\0' && strcmp(said, text) != 0) {
        scenario_complain(loader, KEY "_digest",
                          "%s is not the placement it was: its digest is %s; take the key out if "
                          "that is meant",
                          loader->file.initial, text);
        return;
    }
    (void)snprintf(assignment, sizeof assignment, KEY "_digest=\"%s\"", text);
    enum status status = yaml_override(loader->root, assignment, loader->arena, loader->error);
    loader->status = status != STATUS_OK ? status : loader->status;
}

/* Reads and keeps the placement of all MoE layers. */
static void read_file(struct scenario_loader *loader, const char *path, struct error *problems)
{
    struct scenario *scenario = loader->scenario;
    const struct moe_model *model = &scenario->model;
    int32_t num_slots = model->num_experts + scenario->redundant_experts;
    const struct place_options options = {
        .strategy = balance_find("eplb"),
        .num_slots = num_slots,
        .num_ranks = scenario_expert_groups(scenario),
        .num_nodes = scenario_group_nodes(scenario),
        .num_groups = model->num_expert_groups > 0 ? model->num_expert_groups : 1,
    };
    int32_t *expert_of_slot = NULL;
    enum status status =
        placement_file_of_model(&expert_of_slot, path, model, &options, loader->arena, problems);
    if (status != STATUS_OK) {
        scenario_pass_on(loader, KEY, problems);
        return;
    }
    size_t count = (size_t)model_num_moe_layers(model) * (size_t)num_slots;
    scenario->initial_expert_of_slot = malloc(count * sizeof *expert_of_slot);
    if (scenario->initial_expert_of_slot == NULL) {
        loader->status = error_add(loader->error, STATUS_NO_MEMORY, "out of memory");
        return;
    }
    memcpy(scenario->initial_expert_of_slot, expert_of_slot, count * sizeof *expert_of_slot);
    seal(loader, expert_of_slot, count);
}

void scenario_read_placement(struct scenario_loader *loader)
{
    const struct scenario *scenario = loader->scenario;
    const char *name = loader->file.initial;
    char path[PATH_BYTES];
    int32_t num_slots = scenario->model.num_experts + scenario->redundant_experts;
    if (name[0] == '\0' || !loader->has_model || scenario->ep < 1 ||
        scenario->cluster.gpus_per_node < 1 || scenario->ep % scenario->expert_tp != 0 ||
        num_slots % scenario_expert_groups(scenario) != 0) {
        return; /* what is wrong has been told */
    }
    if (scenario->model.num_experts == 0) {
        scenario_complain(loader, KEY, "%s has no experts", scenario->model.name);
        return;
    }
    if (!scenario_find_path(loader, path, KEY, name)) {
        scenario_complain(
            loader, KEY,
            "there is no '%s' beside the file that names it, in the data directory or "
            "here; moesim place makes one",
            name);
        return;
    }
    struct error *problems = calloc(1, sizeof *problems);
    if (problems == NULL) {
        loader->status = error_add(loader->error, STATUS_NO_MEMORY, "out of memory");
        return;
    }
    read_file(loader, path, problems);
    free(problems);
}
