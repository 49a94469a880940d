/*
 * generate_draw.h -- between generate.c, which opens a generator and puts away what it draws, and
 * generate_draw.c, which draws a block of tokens.
 */
#ifndef MOESIM_GENERATE_DRAW_H
#define MOESIM_GENERATE_DRAW_H

#include <gsl/gsl_rng.h>
#include <stdint.h>

#include "generate_coupled.h"

/* One thread's memory. */
struct generate_worker {
    gsl_rng *rng;
    struct generate_table table;
    uint32_t factor[GENERATE_EXPERTS_MAX];
    struct coupled_walk walk; /* of a coupled law */
    int32_t *skipped;         /* [num_layers][COUPLED_BLOCK][top_k] tokens drawn for the next */
};

struct generator {
    struct generate_options options;
    const struct generate_preset *preset;
    struct generate_normal normal;
    struct coupled_noise noise;
    struct generate_factors factors;
    char source[SOURCE_BYTES];
    int32_t model_layer[GENERATE_LAYERS_MAX];
    uint32_t *base_weight;          /* [num_layers][num_experts] */
    struct generate_worker *worker; /* [num_threads] */
    struct generate_requests requests;
    int64_t block_tokens;
    int32_t *expert;    /* [num_layers][tokens of the block][top_k] */
    float *gate_weight; /* the same, or NULL */
    float *score;       /* [num_layers][tokens of the block][num_experts], or NULL */
};

/* Draws all tokens of the block that begins with row first into expert, gate_weight and score.
 * first_request holds the first row; returns the request that holds the row after the last. */
int64_t generate_block_draw(struct generator *generator, int64_t first_request, int64_t first,
                            int64_t count);

#endif
