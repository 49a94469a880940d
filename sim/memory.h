/*
 * memory.h -- what a deployment keeps on its fullest GPU, and how much more would fit.
 *
 *   attention, dense FFN, embedding   divided by tp
 *   router, shared experts            whole on every rank; shared experts divided by tp where
 *                  routed ones are cut
 *   routed experts, redundant ones    ceil((num_experts + redundant_experts) / (ep / expert_tp))
 *                  slots a layer, each 1 / expert_tp of an expert; offloaded: cached_slots a layer
 *                  and buffer_slots in all
 *   KV cache       entries of the tp ranks that share sequences, divided by the KV heads they split
 *                  (MLA's latent is on every rank); layers with a sliding window keep that many
 *                  tokens a sequence
 *   activations    bf16, 8 hidden_dim and 3 times the widest dense FFN a token of a step
 *   logits         fp32, of the tokens that are sampled in a step
 *   copies         top_k of each token for dispatch and combine, sent and received, twice for
 *                  double buffering
 *
 * Embeddings and router are bf16 at least, whatever precision_dense says. What else a process keeps
 * (CUDA context, graphs, NCCL, fragmentation) is what memory_fraction leaves free: 10 % by default.
 */
#ifndef MOESIM_MEMORY_H
#define MOESIM_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "cluster.h"
#include "model.h"
#include "precision.h"

/* A deployment as far as its memory goes. Pointers are borrowed. */
struct memory_layout {
    const struct moe_model *model; /* its precisions count */
    const struct gpu_spec *gpu;
    int32_t ep;                /* ranks that share the experts */
    int32_t expert_tp;         /* of them, those that each expert is cut over; 1: none */
    int32_t tp;                /* ranks that share attention and dense FFN; 1: data-parallel */
    bool cuts_shared;          /* shared experts lie on these ranks together, as they do wherever
                                  experts are cut */
    int32_t redundant_experts; /* a layer */
    bool prefill;
    int32_t tokens_per_rank; /* of a step; decode: sequences */
    int32_t context_tokens;  /* prefill: prompt length, for how many sequences a step samples */
    enum precision dispatch_precision;
    enum precision combine_precision;
    double memory_fraction; /* of HBM that may be filled */
    bool is_offloaded;      /* experts live in host memory or on drives */
    int32_t cached_slots;   /* of a layer, then */
    int32_t buffer_slots;   /* for experts that arrive, then */
};

#define MEMORY_OFFLOAD_BUFFERS                                                                     \
    2 /* one computes while another arrives, beside what is prefetched                             \
       */

/* Bytes on one GPU, the fullest. */
struct memory_use {
    int64_t dense_bytes;  /* attention to router, below, and shared experts */
    int64_t expert_bytes; /* routed and redundant */
    int64_t kv_bytes;
    int64_t buffer_bytes; /* activations, logits, copies */
    int64_t total_bytes;
    int64_t limit_bytes; /* memory_fraction of HBM */
};

/* The same in detail; parts of one sum may miss it by a byte. */
struct memory_parts {
    int64_t attention_bytes;
    int64_t dense_ffn_bytes;
    int64_t embedding_bytes;
    int64_t router_bytes;
    int64_t shared_expert_bytes;
    int64_t routed_expert_bytes;
    int64_t redundant_expert_bytes; /* with what rounding up to whole slots adds */
    int64_t activation_bytes;
    int64_t logits_bytes;
    int64_t copy_bytes;
};

/* kv_tokens is the sum over one rank's sequences. */
struct memory_use memory_use(const struct memory_layout *layout, int64_t kv_tokens);
struct memory_parts memory_parts(const struct memory_layout *layout);

/* Bytes of the model's weights, every one once, whatever the number of GPUs. */
double memory_weight_bytes(const struct moe_model *model);

/* Of them, those of routed experts. */
double memory_expert_bytes(const struct moe_model *model);

/* KV cache bytes one token leaves, summed over layers, while no sliding window is full. */
double memory_kv_bytes_per_token(const struct moe_model *model);

/* The layout with so many decoding sequences on its tp ranks together; tokens_per_rank and prefill
 * are set. */
struct memory_layout memory_with_batch(const struct memory_layout *layout, int32_t batch);

/* KV tokens a rank of it holds, for memory_use. */
int64_t memory_kv_tokens(const struct memory_layout *layout, int32_t batch, int32_t context_tokens);

/* The most decoding sequences of context_tokens that fit on the tp ranks that share attention;
 * 0: not one; -1: not even the weights. */
int32_t memory_batch_max(const struct memory_layout *layout, int32_t context_tokens);

/* The fewest redundant experts, redundant_experts or more, that give num_gpus equal slots. */
int32_t memory_redundant_for(const struct moe_model *model, int32_t redundant_experts,
                             int32_t num_gpus);

#endif
