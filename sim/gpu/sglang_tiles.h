/*
 * sglang_tiles.h -- the tiles of SGLang's Triton kernels of experts in bf16.
 */
#ifndef MOESIM_SGLANG_TILES_H
#define MOESIM_SGLANG_TILES_H

#include <stdint.h>

struct sglang_tile {
    int32_t rows;    /* 16, 32, 64, 128 or 256 */
    int32_t columns; /* of the weights */
    int32_t depth;   /* of a step along K */
};

/* What the engine looks a tile up by. */
struct sglang_lookup {
    const char *gpu; /* the preset's name; NULL: nothing was tuned for it */
    int32_t slots;   /* of the rank */
    int32_t ffn_dim; /* of one expert */
    double rows;     /* tokens that the rank reads */
};

/* The tile that somebody tuned for the GPU and the shape, else that of the engine's default. */
struct sglang_tile sglang_find_tile(const struct sglang_lookup *lookup);

/* The default's where a rank has more tokens than slots, whose steps along K are short. */
extern const struct sglang_tile sglang_default_tile;

#endif
