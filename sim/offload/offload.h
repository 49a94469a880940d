/*
 * offload.h -- which experts a GPU keeps, when the home of all of them is host memory or a drive.
 *
 * A rank has num_slots slots a layer for the experts that it serves, here numbered 0 ..
 * num_experts - 1 in the order of its placement. A lookup is one layer of one step (or of a part of
 * a step that travels alone): the rank's experts that have tokens. Those that are not there are
 * fetched; the policy says what leaves for them. It sees the past alone: what comes next it may
 * guess, never know.
 */
#ifndef MOESIM_OFFLOAD_H
#define MOESIM_OFFLOAD_H

#include <stdbool.h>
#include <stdint.h>

enum offload_home {
    OFFLOAD_NOTHING, /* experts live in GPU memory */
    OFFLOAD_HOST,
    OFFLOAD_NVME,
};

/* What happens to an expert that a GPU needs and does not have. */
enum offload_misses {
    OFFLOAD_FETCH,  /* its weights are fetched, and wait for nothing but the link */
    OFFLOAD_CPU,    /* the host's CPUs compute it where it lies */
    OFFLOAD_FASTER, /* whichever of the two is done sooner */
};

struct offload_policy;

/* A deployment's offload. Rates are what payload reaches. */
struct offload_settings {
    enum offload_home home;
    const struct offload_policy *policy;
    int32_t num_slots; /* of a layer and GPU */
    int32_t prefetch;  /* experts of the next MoE layer that are looked for ahead; 0: none */
    enum offload_misses misses;
    int64_t profile_steps;   /* that pinned counts */
    double link_bytes_per_s; /* into one GPU */
    double link_latency_ns;
    double home_bytes_per_s; /* of a node's drives or memory for all of its GPUs together; 0: as
                                fast as their links */
    double home_latency_ns;
    double cpu_bytes_per_s; /* a node's CPUs read weights so fast; 0: they compute none */
    double cpu_flops_per_s;
    double cpu_latency_ns; /* of a layer's work for the CPUs: waking their threads, and the GPU
                              again */
    int64_t home_bytes;    /* of a node's memory or drives for experts; 0: enough */
};

/* What is known of one rank's experts of one layer. */
struct offload_view {
    int32_t num_experts;
    const int64_t *last_lookup; /* [num_experts] that touched it; lookups count from 1; 0: none */
    const int64_t *touches;     /* [num_experts] lookups that touched it */
    const int64_t *profile_touches; /* [num_experts] of them, those of the profile: the first
                                       lookups */
    const double *recent;           /* [num_experts] touches, each halved in weight every
                                       OFFLOAD_HALF_LIFE lookups */
    const double *chance;           /* [num_experts] that the next lookup touches it, as predicted
                                       from the experts of the present one (offload_predict.h); of
                                       policies that predict, else NULL */
};

#define OFFLOAD_HALF_LIFE 32

struct offload_policy {
    const char *name;
    const char *summary;
    const char *source;
    bool predicts;   /* worth looks at chance */
    bool may_refuse; /* an expert worth less than all that are there is used and not kept */
    /* What keeping an expert is worth, against others of its layer: the least leaves; of equals,
     * the highest number. */
    double (*worth)(const struct offload_view *view, int32_t expert);
};

const struct offload_policy *const *offload_all(int32_t *count);
const struct offload_policy *offload_find(const char *name); /* NULL: no such */

#endif
