/*
 * plan_offload.h -- experts in host memory or on drives, as part of a plan's search.
 *
 *     gpus: [{gpu: rtx-4090, gpus_per_node: 1, host: {memory: 64e9, cpu_bytes_per_s: 60e9,
 *             cpu_flops_per_s: 1e12, nvme: 2e12, nvme_bytes_per_s: 7e9}}]
 *     search: {offload: {where: [nothing, host], share: [0, 0.25, 0.5], policy: lru,
 *                        misses: [fetch, cpu, faster]}}
 *
 * The host is a node's, with all of its GPUs; groups on one node share its rates and have a copy of
 * the experts each. Time and memory are the engine's (engine_offload.c, memory.h).
 */
#ifndef MOESIM_PLAN_OFFLOAD_H
#define MOESIM_PLAN_OFFLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "offload/offload.h"

#define PLAN_OFFLOAD_MAX 8 /* of each list */

struct plan;
struct plan_point;
struct scenario;

/* What stands around the GPUs of a node. 0: there is none, or it computes nothing. */
struct plan_host {
    double memory_bytes; /* for experts */
    double cpu_bytes_per_s;
    double cpu_flops_per_s;
    double cpu_latency_ns; /* a layer: see offload/offload.h */
    double nvme_bytes;
    double nvme_bytes_per_s; /* of all drives together */
    double nvme_latency_ns;
};

/* What is tried. */
struct plan_offloads {
    enum offload_home home[PLAN_OFFLOAD_MAX]; /* OFFLOAD_NOTHING: also without */
    int32_t num_homes;
    double share[PLAN_OFFLOAD_MAX]; /* of the experts that a GPU serves, which it keeps */
    int32_t num_shares;
    const struct offload_policy *policy[PLAN_OFFLOAD_MAX];
    int32_t num_policies;
    enum offload_misses misses[PLAN_OFFLOAD_MAX];
    int32_t num_misses;
};

/* Of a point. */
struct plan_offload {
    enum offload_home home;
    enum offload_misses misses;
    const struct offload_policy *policy; /* NULL without offload */
    int32_t num_slots;                   /* of each layer, on a GPU */
};

/* The weights lie alike; what happens to misses may differ, as it does between a prompt and an
 * answer in llama.cpp and KTransformers. */
bool plan_offload_same(const struct plan_offload *a, const struct plan_offload *b);

/* Whether a plan tries points without offload, and with it. */
bool plan_offload_none(const struct plan *plan);
int32_t plan_offload_count(const struct plan *plan);

/* The index'th of plan_offload_count ways, for a point that has its GPU and ep; false: it is none,
 * because all experts would stay on the GPU, or there is no slot to fetch into. */
bool plan_offload_take(struct plan_point *point, const struct plan *plan, int32_t index);

/* What the point's host cannot do, or has no room for; NULL: nothing. */
const char *plan_offload_objection(const struct plan *plan, const struct plan_point *point);
bool plan_offload_fits(const struct plan *plan, const struct plan_point *point);

/* Bytes of a layer's experts, all layers, of one group: what its homes hold on one node. */
double plan_offload_bytes(const struct plan *plan, const struct plan_point *point);

/* Fills scenario->offload; nothing without offload. */
void plan_offload_scenario(struct scenario *scenario, const struct plan *plan,
                           const struct plan_point *point);

uint64_t plan_offload_digest(uint64_t digest, const struct offload_settings *settings);

/* The scenario's `offload:` line; nothing without offload. */
void plan_offload_write(FILE *file, const struct plan *plan, const struct plan_point *point);

/* "; host: 2 a layer (lru), misses faster" for a table; "" without. */
void plan_offload_short(char *text, size_t bytes, const struct plan_point *point);

/* ", 2 experts a layer on the GPU (lru), others in host memory and fetched"; "" without. */
void plan_offload_words(char *text, size_t bytes, const struct plan_point *point);

#endif
