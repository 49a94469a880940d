/*
 * gate_nodes.h -- gates that know which experts are near.
 *
 *   fastermoe   two experts a token; when int(share T) first choices or more lie off the node, the
 *               highest int(share T) of them stay, as second experts, and all other choices are
 *               made on the node (He et al., PPoPP 2022; fastmoe faster_gate.py @ ee3c561)
 *   node_aware  choice by choice: the best expert left, unless one that is on a node which the
 *               token goes to anyway has a score of at least (1 - tolerance) of it: then the best
 *               of those. A token goes to its own node anyway. Ours.
 *
 * Of equals, the smaller id. Chosen experts come best first by affinity. Limits on num_experts and
 * top_k are gate.h's.
 */
#ifndef MOESIM_GATE_NODES_H
#define MOESIM_GATE_NODES_H

#include <stdbool.h>
#include <stdint.h>

#include "gate_batch.h"
#include "status.h"

/* Weights are softmax over the two; share within 0 and 1.
 *   expert       [num_tokens][2] out
 *   gate_weight  [num_tokens][2] out
 *   is_near      [num_experts] whether an expert is on the tokens' node
 *   work         [2 * num_tokens]
 * STATUS_INVALID unless top_k is 2 and two experts are near. */
MUST_CHECK enum status ref_fastermoe(struct gate_batch batch, int32_t *expert, float *gate_weight,
                                     const bool *is_near, double share, uint64_t *work);

/* Where experts are: bit n of its words says whether an expert has a copy on node n. */
struct gate_nodes {
    int32_t num_words;
    const uint64_t *of_expert; /* [num_experts][num_words] */
};

#define GATE_NODE_WORDS_MAX 128 /* 8,192 nodes */

/* All tokens are on one node, home_node. Weights are affinities over the sum of the chosen.
 *   expert       [num_tokens][top_k] out
 *   gate_weight  [num_tokens][top_k] out
 *   affinity     [num_tokens][num_experts], of ref_affinity; batch.logits is not read */
void ref_node_aware(struct gate_batch batch, int32_t *expert, float *gate_weight,
                    const float *affinity, struct gate_nodes nodes, int32_t home_node,
                    float tolerance);

#endif
