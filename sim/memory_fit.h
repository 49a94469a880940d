/*
 * memory_fit.h -- on how many GPUs does a model fit, and what is left for sequences?
 *
 * All GPUs share the experts, whole ones or a part of each, and tensor parallelism of attention,
 * where it is asked for, spans all of them. One GPU more or less at a time: where the experts do
 * not divide evenly, the fewest redundant ones that make them do are added, because they take
 * memory too.
 */
#ifndef MOESIM_MEMORY_FIT_H
#define MOESIM_MEMORY_FIT_H

#include "memory.h"

struct memory_question {
    const struct moe_model *model; /* its precisions count */
    const struct gpu_spec *gpu;
    bool tensor_parallel;      /* attention and dense FFN; otherwise data-parallel */
    bool cuts_experts;         /* every expert is cut over all GPUs; otherwise they are dealt out */
    int32_t redundant_experts; /* a layer, at least */
    int32_t context_tokens;    /* of every decoding sequence */
    double memory_fraction;
    bool is_offloaded;     /* experts live in host memory or on drives, and a GPU keeps: */
    int32_t offload_slots; /* of each layer; as many as it serves, if that is fewer */
};

struct memory_fit {
    int32_t num_gpus;
    bool divides; /* false: the GPUs do not divide attention heads, dense FFN or experts' width */
    int32_t redundant_experts;
    int32_t batch_max;         /* sequences of ranks that share attention; 0 or less: none fits */
    int64_t sequences_max;     /* on all GPUs together */
    struct memory_use use;     /* with batch_max sequences, or one where not even that fits */
    struct memory_parts parts; /* likewise */
};

struct memory_fit memory_fit(const struct memory_question *question, int32_t num_gpus);

/* The fewest GPUs, up to num_gpus_max, on which at least one sequence fits; with powers_of_two only
 * those are tried. 0: none does. */
int32_t memory_gpus_min(const struct memory_question *question, int32_t num_gpus_max,
                        bool powers_of_two);

#endif
