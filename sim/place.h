/*
 * place.h -- one placement from one load: what a strategy answers, how good it is, and its export.
 */
#ifndef MOESIM_PLACE_H
#define MOESIM_PLACE_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "balance/balance.h"
#include "load_file.h"
#include "status.h"

struct place_options {
    const struct balance_strategy *strategy;
    int32_t num_slots;
    int32_t num_ranks;
    int32_t num_nodes;
    int32_t num_groups;
    int64_t expert_bytes;             /* what a strategy that prices moves is told */
    const bool *rank_is_lost;         /* [num_ranks] or NULL: none */
    const int32_t *pair_tokens;       /* as in balance_input; NULL: not known */
    const int32_t *transition_tokens; /* as in balance_input; NULL: not known */
};

/* Of the ranks that are left. Replicas share evenly. A utilisation is mean / max tokens a rank, 1
 * for a layer without any; its mean over layers is SGLang's balancedness. */
struct place_quality {
    double balancedness;      /* of the window's sums */
    double balancedness_step; /* mean over steps too */
    double max_over_mean;     /* mean over layers, of the window's sums */
    double max_over_mean_max; /* worst layer */
    int32_t duplicates;       /* slots whose rank holds the expert in an earlier slot already */
    int32_t homeless;         /* experts that no rank holds which is left, over layers */
};

struct place_result {
    int32_t *expert_of_slot; /* [num_layers][num_slots], the arena's */
    struct place_quality before;
    struct place_quality after;
    int32_t moves;         /* weights of one expert sent to one rank */
    int32_t slots_changed; /* by id, renamed within a rank or not */
    int32_t layers_changed;
};

/* Counts in a trace what the strategy needs beside loads, into options; nothing if it needs no
 * such. STATUS_INVALID when path is no trace: loads do not tell which experts tokens choose
 * together. Errors else as trace_open; STATUS_NO_MEMORY. */
MUST_CHECK enum status place_count_pairs(struct place_options *options, const char *path,
                                         struct arena *arena, struct error *error);

/* previous [num_layers][num_slots] is what is in force, or NULL: slot s holds expert s % experts.
 * STATUS_INVALID when the shape does not fit the loads or the strategy; STATUS_NO_MEMORY. */
MUST_CHECK enum status place(struct place_result *result, const struct place_options *options,
                             const struct load_file *load, const int32_t *previous,
                             struct arena *arena, struct error *error);

enum place_format {
    PLACE_CSV,    /* one row a layer, expert of every slot */
    PLACE_SGLANG, /* JSON for --init-expert-location */
    PLACE_TRTLLM, /* YAML for moe_load_balancer */
    PLACE_ASCEND, /* JSON expert_map, rank by rank */
    PLACE_FORMAT_COUNT,
};

const char *place_format_name(enum place_format format); /* "csv", ... */

/* Writes PATH.partial and renames it: an old file stays until the new one is whole. first_layer is
 * the model's number of the first layer, for formats that name layers. STATUS_IO. */
MUST_CHECK enum status place_write(const char *path, enum place_format format,
                                   const int32_t *expert_of_slot,
                                   const struct place_options *options, int32_t num_layers,
                                   int32_t first_layer, struct error *error);

#endif
