/*
 * scenario_faults.c -- faults: a list of ranks that are slow for some steps.
 *
 *     faults:
 *       - {rank: 3, compute: 0.8}                                # a GPU whose clock sank
 *       - {rank: 9, from_step: 100, until_step: 200, scale_out: 0.5} # a NIC at half its rate
 */
#include <stdio.h>
#include <stdlib.h>

#include "scenario_internal.h"

static const struct fault fault_defaults = {
    .rank = -1, .until_step = INT64_MAX, .compute = 1.0, .scale_up = 1.0, .scale_out = 1.0};

static const struct yaml_field fault_fields[] = {
    {"rank", YAML_INT32, offsetof(struct fault, rank), .required = true, .min = 0, .max = 65535},
    {"from_step", YAML_INT64, offsetof(struct fault, from_step), .max = 1e12},
    {"until_step", YAML_INT64, offsetof(struct fault, until_step), .min = 1, .max = 1e12},
    {"compute", YAML_DOUBLE, offsetof(struct fault, compute), .min = 0.01, .max = 1.0},
    {"scale_up", YAML_DOUBLE, offsetof(struct fault, scale_up), .min = 0.01, .max = 1.0},
    {"scale_out", YAML_DOUBLE, offsetof(struct fault, scale_out), .min = 0.01, .max = 1.0},
    {.key = NULL},
};

static void check_fault(struct scenario_loader *loader, const struct yaml_node *node,
                        const struct fault *fault)
{
    const char *problem = NULL;
    char ranks[64];
    if (loader->scenario->ep > 0 && fault->rank >= loader->scenario->ep) {
        (void)snprintf(ranks, sizeof ranks, "there is no rank %d: ranks are 0 to %d",
                       (int)fault->rank, (int)loader->scenario->ep - 1);
        problem = ranks;
    } else if (fault->until_step <= fault->from_step) {
        problem = "until_step, the first step without the fault, must lie behind from_step";
    } else if (fault->compute * fault->scale_up * fault->scale_out == 1.0) {
        problem = "nothing is slow: give compute, scale_up or scale_out as a share below 1";
    }
    if (problem != NULL && node->line == 0) { /* of an override */
        loader->status =
            error_add(loader->error, STATUS_INVALID, "%s faults: %s", node->file, problem);
    } else if (problem != NULL) {
        loader->status = error_add(loader->error, STATUS_INVALID, "%s:%d: faults: %s", node->file,
                                   (int)node->line, problem);
    }
}

void scenario_read_faults(struct scenario_loader *loader)
{
    const struct yaml_node *list = loader->file.faults;
    struct scenario *scenario = loader->scenario;
    if (list == NULL) {
        return;
    }
    if (list->kind != YAML_SEQUENCE) {
        scenario_complain(loader, "faults", "expected a list, as [{rank: 3, compute: 0.8}]");
        return;
    }
    int32_t count = yaml_count(list);
    scenario->fault = calloc((size_t)count + 1, sizeof *scenario->fault);
    if (scenario->fault == NULL) {
        loader->status = error_add(loader->error, STATUS_NO_MEMORY, "out of memory");
        return;
    }
    for (const struct yaml_node *node = list->child; node != NULL; node = node->next) {
        struct fault *fault = &scenario->fault[scenario->num_faults++];
        *fault = fault_defaults;
        enum status status = yaml_fill(fault, node, fault_fields, loader->error);
        if (status != STATUS_OK) {
            loader->status = status;
        } else {
            check_fault(loader, node, fault);
        }
    }
}
