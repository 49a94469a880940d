/*
 * random_layer.h -- MoE layers for tests: out of golden vectors, or random.
 */
#ifndef MOESIM_RANDOM_LAYER_H
#define MOESIM_RANDOM_LAYER_H

#include "arena.h"
#include "forward.h"

/* A layer of any shape with random weights, quantised to its dtype. shape: dtype, gate, expert,
 * shared_ffn_dim, weigh_input; biases: router and experts have some. Asserts that there is memory,
 * which is the arena's. */
void fill_random_layer(struct moe_layer *layer, bool biases, struct arena *arena);

/* The fp32 layer of tests/golden/NAME: weights and biases as far as there are files. The rest of
 * the gate's rule is the caller's. */
void fill_golden_layer(struct moe_layer *layer, const char *name, struct arena *arena);

/* [rows][columns] normal numbers rounded to the dtype (fp32 or bf16). */
struct matrix random_tokens(enum dtype dtype, int64_t rows, int32_t columns, struct arena *arena);

#endif
