/*
 * plan_read.h -- a PLAN.yaml under way: what plan_read.c and plan_look_up.c share.
 */
#ifndef MOESIM_PLAN_READ_H
#define MOESIM_PLAN_READ_H

#include "plan.h"
#include "yaml_file.h"

#define PLAN_REQUESTS_MAX 1e15 /* a day */

struct plan_file {
    struct plan plan; /* what is read; the rest is as written */
    int32_t version;
    char requests[NAME_BYTES];
    char output_per_s[NAME_BYTES];
    char input[NAME_BYTES];
    char output[NAME_BYTES];
    char ttft[NAME_BYTES];
    char tpot[NAME_BYTES];
    double peak_over_mean;
    struct yaml_node *hours;
    struct yaml_node *gpus;
    struct yaml_node *pools;
    struct yaml_node *ep[COST_POOLS];
    struct yaml_node *tokens[COST_POOLS];
    struct yaml_node *redundant;
    struct yaml_node *strategy;
    struct yaml_node *micro_batches;
    struct yaml_node *attention_tp;
    struct yaml_node *expert_tp;
    struct yaml_node *expert_precision;
    struct yaml_node *offload;
    char gpu_model[NAME_BYTES];
    char network[NAME_BYTES];

    struct yaml_node *root;
    const char *name; /* of the file */
    struct error *error;
    enum status status;
};

void plan_complain(struct plan_file *file, const char *key, const char *words);
void plan_complain_at(struct plan_file *file, const struct yaml_node *node, const char *key,
                      const char *words);

/* The first of node's items: a scalar is a list of one; NULL has none. */
const struct yaml_node *plan_items(const struct yaml_node *node);
const struct yaml_node *plan_next_item(const struct yaml_node *list, const struct yaml_node *item);

/* Each line of problems at the node. */
void plan_pass_on(struct plan_file *file, const struct yaml_node *node, const char *key,
                  const struct error *problems);

/* A path is tried as it is, beside the plan and in the data directory. */
bool plan_find_path(const struct plan_file *file, char path[PATH_BYTES]);

/* plan_read_arrivals.c: the command line's file takes the place of the plan's traffic, but for what
 * the command line says too. */
void plan_drop_traffic(struct plan_file *file);

/* plan_read_arrivals.c: the traffic of the file of requests, which amounts that are given replace.
 * Without a file: none. */
void plan_take_arrivals(struct plan_file *file);

/* plan_read_gpu.c, plan_read_offload.c */
void plan_take_gpus(struct plan_file *file);
void plan_take_host(struct plan_file *file, struct plan_host *host, const struct yaml_node *node);
void plan_take_offload(struct plan_file *file); /* after the GPUs */

/* What holds where the file says nothing. */
void plan_defaults(struct plan_file *file);

/* Names become presets and plug-ins; lists are read, and filled in where they are left out. */
void plan_look_up(struct plan_file *file);

#endif
