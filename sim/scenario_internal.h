/*
 * scenario_internal.h -- what the scenario*.c files share and nobody else includes.
 */
#ifndef MOESIM_SCENARIO_INTERNAL_H
#define MOESIM_SCENARIO_INTERNAL_H

#include "registry.h"
#include "scenario.h"
#include "yaml_file.h"

#define SCENARIO_UNSET (-1) /* of choices without a fixed default */

/* A scenario as written, before names are looked up. 0, "" and SCENARIO_UNSET: not given. */
struct scenario_file {
    int32_t version;
    char question[TEXT_BYTES];
    char model[PATH_BYTES];
    char cluster[PATH_BYTES]; /* preset */
    char gpu[PATH_BYTES];
    int32_t nodes;
    int32_t gpus_per_node;
    double node_uplink_bytes_per_s;
    int32_t fabric; /* enum fabric */
    int32_t nodes_per_leaf;
    double spine_oversubscription;
    int32_t ep;
    int32_t attention; /* 0: dp, 1: tp */
    int32_t tp;
    int32_t expert_tp;
    int32_t phase; /* enum phase */
    int32_t context_tokens;
    int32_t precision_dense; /* enum precision, as are the next two */
    int32_t precision_expert;
    int32_t precision_kv;
    char trace_path[PATH_BYTES];
    char trace_preset[NAME_BYTES];
    int64_t trace_tokens;
    int32_t tokens_per_rank;
    int32_t batching; /* enum batching */
    int64_t steps;
    char router[NAME_BYTES];
    double capacity_factor;
    int32_t capacity_scope; /* enum capacity_scope */
    char drop[NAME_BYTES];
    struct route_settings routing; /* but for capacity, ranks and seed */
    char strategy[NAME_BYTES];
    char initial[PATH_BYTES];
    char initial_digest[NAME_BYTES];
    int32_t redundant_experts;
    int32_t rebalance_interval_steps;
    int32_t window_steps;
    char replica[NAME_BYTES];
    char collective[NAME_BYTES];
    char prefill_collective[NAME_BYTES];
    int32_t num_sms;
    int32_t dispatch_dtype; /* enum precision */
    int32_t combine_dtype;
    int32_t micro_batches;
    int32_t chunks;
    int32_t shared_tokens;
    char network[NAME_BYTES];
    char gpu_model[NAME_BYTES];
    char kernels[NAME_BYTES];
    char measured_kernels[PATH_BYTES];
    char measured_moe[PATH_BYTES];
    char measured_bench[PATH_BYTES];
    char measured_digest[NAME_BYTES];
    double memory_fraction;
    struct yaml_node *faults;
    struct yaml_node *offload;
    struct yaml_node *serving;
    char price[PATH_BYTES];
    uint64_t seed;
};

/* A scenario being loaded. */
struct scenario_loader {
    struct scenario *scenario;
    struct scenario_file file;
    const char *path; /* of the scenario */
    struct yaml_node *root;
    struct arena *arena; /* holds root */
    struct error *error;
    enum status status; /* of the worst problem so far */
    bool has_model;     /* looked up without a problem, as are the next two */
    bool has_gpu;
    bool has_price;
};

/* Defaults of every key, and the table that fills a scenario_file. */
extern const struct scenario_file scenario_defaults;
extern const struct yaml_field scenario_fields[];

/* Reads and checks the list of faults; ep must be known. */
void scenario_read_faults(struct scenario_loader *loader);

/* Reports a problem of a key ("placement.strategy"), with file and line where the key stands. */
void scenario_complain(struct scenario_loader *loader, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Finds a relative path beside the file that says it (an override: beside the scenario), in the
 * data directory, in the working directory. Returns false, and the path as written, if it is in
 * none of them. */
bool scenario_find_path(const struct scenario_loader *loader, char path[PATH_BYTES],
                        const char *key, const char *written);

/* Problems of what a key names, told again as problems of the key. */
void scenario_pass_on(struct scenario_loader *loader, const char *key,
                      const struct error *problems);

/* Checks the parallel section. */
void scenario_check_parallel(struct scenario_loader *loader);

/* Reads and checks the offload keys, once model, GPU and plug-ins are known. */
void scenario_read_offload(struct scenario_loader *loader);

/* A name that no plug-in of the kind has: says which there are, and which may be meant. */
void scenario_complain_plugin(struct scenario_loader *loader, const char *key, const char *name,
                              enum registry_kind kind);

/* Reads and checks the serving keys. */
void scenario_read_serving(struct scenario_loader *loader);

/* Reads placement.initial, once all that it must fit is known. */
void scenario_read_placement(struct scenario_loader *loader);

/* Reads compute.measured, once GPU, model and kernels are known. */
void scenario_read_measured(struct scenario_loader *loader);

/* A cluster's GPU and a preset, which has one, are two ways to say the same; so are a trace's path
 * and a preset with its tokens. What a later file has, or an override "key=value" where later is
 * NULL, takes the place of what root has. */
void scenario_drop_rivals(struct yaml_node *root, const struct yaml_node *later,
                          const char *override);

/* Reads cluster.preset, where it is given, and fills in what follows from it. */
void scenario_read_cluster(struct scenario_loader *loader);

/* Chooses the constants of the collective, where the cluster has some. */
void scenario_choose_exchange(struct scenario_loader *loader);

/* A name with a slash or a suffix is a path, and relative ones are looked up like the trace's; so
 * is a model's, where it is a directory with a config.json. */
void scenario_resolve_preset(const struct scenario_loader *loader, char path[PATH_BYTES],
                             const char *key, const char *name);

/* Looks up every name the file gives: presets, plug-ins, the trace. */
void scenario_look_up(struct scenario_loader *loader);

/* Checks that router and drop policy can do what they are asked. */
void scenario_check_routing(struct scenario_loader *loader);

/* Checks how the keys fit together, as far as each was given without a problem. */
void scenario_cross_check(struct scenario_loader *loader);

#endif
