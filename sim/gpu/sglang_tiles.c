/*
 * sglang_tiles.c -- which shapes SGLang has tuned tiles for, and what it takes where it has none.
 *
 * The engine looks for a file by GPU, slots of the rank and ffn_dim, takes the entry whose count of
 * tokens is closest to the rank's, and without a file its default: 16 x 32 x 64 (rows x columns x
 * step along K) while a rank has no more tokens than slots, then 64 x 64 x 32 (get_moe_configs and
 * get_default_config, sglang 0.5.14, layers/moe/moe_runner/triton_utils; 0.5.10 has the same rules
 * and, for the A100, the same files). A tuned tile is up to 2.6 times as fast as the default's.
 *
 * Listed are, of the files of both releases (Apache-2.0), those of whole experts of published
 * models, since moesim does not split experts. Left out: what tiles of as many rows differ in
 * from one count of tokens to the next (the commonest stands for the run), warps and stages.
 */
#include "gpu/sglang_tiles.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define STEPS_MAX 10

struct step {
    int32_t rows_max; /* of the rank; 0: without end */
    struct sglang_tile tile;
};

static const struct tuned {
    const char *gpu;
    int32_t slots;
    int32_t ffn_dim;
    struct step step[STEPS_MAX];
} tuned[] = {
    {"h100-sxm",
     1,
     3072,
     {{20, {16, 64, 256}}, {28, {32, 64, 256}}, {192, {64, 64, 128}}, {0, {128, 256, 64}}}},
    {"h100-sxm",
     8,
     2048,
     {{20, {16, 32, 256}},
      {28, {32, 64, 128}},
      {40, {16, 128, 128}},
      {112, {32, 128, 128}},
      {768, {64, 128, 128}},
      {0, {128, 256, 64}}}},
    {"h100-sxm",
     16,
     1024,
     {{1, {16, 32, 128}},
      {3, {32, 64, 128}},
      {6, {64, 64, 256}},
      {192, {16, 128, 128}},
      {1280, {64, 64, 64}},
      {0, {128, 256, 64}}}},
    {"h100-sxm",
     16,
     2048,
     {{20, {16, 64, 128}},
      {40, {32, 32, 128}},
      {80, {16, 128, 256}},
      {112, {32, 128, 128}},
      {192, {16, 64, 128}},
      {384, {32, 128, 128}},
      {768, {64, 64, 64}},
      {2560, {128, 128, 64}},
      {3584, {256, 128, 64}},
      {0, {128, 256, 64}}}},
    {"h100-sxm",
     20,
     2048,
     {{28, {16, 128, 256}},
      {56, {32, 128, 128}},
      {80, {16, 128, 256}},
      {112, {64, 128, 64}},
      {192, {16, 64, 128}},
      {384, {32, 128, 128}},
      {1280, {64, 128, 128}},
      {3584, {128, 128, 64}},
      {0, {256, 128, 64}}}},
    {"h100-sxm",
     24,
     1024,
     {{20, {16, 64, 256}},
      {28, {32, 128, 128}},
      {192, {16, 64, 256}},
      {768, {32, 128, 128}},
      {1280, {64, 64, 64}},
      {0, {128, 128, 64}}}},
    {"h100-sxm",
     64,
     768,
     {{40, {16, 64, 128}},
      {56, {32, 64, 64}},
      {192, {16, 64, 128}},
      {384, {32, 64, 128}},
      {1280, {64, 64, 64}},
      {0, {128, 256, 64}}}},
    {"h100-sxm",
     64,
     1536,
     {{192, {16, 64, 128}}, {384, {32, 128, 128}}, {768, {64, 64, 64}}, {0, {128, 256, 64}}}},
    {"h100-sxm",
     65,
     1536,
     {{80, {16, 256, 128}}, {192, {32, 256, 128}}, {384, {64, 64, 64}}, {0, {128, 256, 64}}}},
    {"h100-sxm",
     128,
     704,
     {{56, {16, 32, 128}},
      {80, {32, 32, 256}},
      {192, {16, 64, 128}},
      {384, {32, 64, 128}},
      {768, {64, 64, 64}},
      {0, {128, 256, 64}}}},
    {"h100-sxm",
     128,
     768,
     {{192, {16, 128, 128}}, {384, {32, 256, 128}}, {1280, {64, 128, 128}}, {0, {128, 256, 64}}}},
    {"h200-sxm", 8, 2048, {{40, {16, 128, 128}}, {192, {64, 128, 64}}, {0, {128, 256, 64}}}},
    {"h200-sxm",
     8,
     14336,
     {{1, {16, 128, 128}},
      {3, {32, 64, 128}},
      {40, {16, 128, 128}},
      {112, {32, 128, 128}},
      {192, {64, 128, 128}},
      {0, {128, 256, 64}}}},
    {"h200-sxm",
     16,
     1024,
     {{192, {16, 128, 128}}, {384, {32, 128, 128}}, {1280, {64, 128, 64}}, {0, {128, 256, 64}}}},
    {"h200-sxm",
     20,
     1536,
     {{40, {16, 64, 128}}, {80, {32, 128, 128}}, {192, {64, 128, 64}}, {0, {128, 256, 64}}}},
    {"h200-sxm",
     64,
     2560,
     {{80, {16, 128, 128}}, {192, {32, 128, 128}}, {384, {64, 64, 64}}, {0, {128, 256, 64}}}},
    {"h200-sxm", 128, 704, {{192, {16, 64, 128}}, {384, {32, 128, 128}}, {0, {64, 128, 64}}}},
    {"h200-sxm",
     128,
     768,
     {{192, {16, 64, 128}}, {384, {32, 256, 128}}, {768, {64, 128, 64}}, {0, {128, 256, 64}}}},
    {"a100-sxm-80gb",
     1,
     14336,
     {{20, {16, 64, 256}},
      {56, {32, 64, 128}},
      {80, {64, 64, 128}},
      {112, {32, 256, 64}},
      {192, {64, 128, 64}},
      {0, {128, 128, 64}}}},
    {"a100-sxm-80gb",
     8,
     2048,
     {{56, {16, 128, 128}}, {192, {32, 128, 128}}, {1792, {64, 256, 64}}, {0, {128, 128, 64}}}},
    {"a100-sxm-80gb",
     16,
     14336,
     {{3, {16, 64, 256}},
      {6, {32, 64, 64}},
      {80, {16, 64, 256}},
      {192, {32, 128, 256}},
      {384, {64, 256, 128}},
      {768, {128, 128, 64}},
      {1280, {64, 256, 128}},
      {0, {128, 256, 64}}}},
};

const struct sglang_tile sglang_default_tile = {64, 64, 32};
static const struct sglang_tile few_rows_tile = {16, 32, 64};

static bool is_tuned_for(const struct tuned *shape, const struct sglang_lookup *lookup)
{
    return lookup->gpu != NULL && shape->slots == lookup->slots &&
           shape->ffn_dim == lookup->ffn_dim && strcmp(shape->gpu, lookup->gpu) == 0;
}

struct sglang_tile sglang_find_tile(const struct sglang_lookup *lookup)
{
    for (size_t i = 0; i < sizeof tuned / sizeof tuned[0]; i++) {
        if (is_tuned_for(&tuned[i], lookup)) {
            const struct step *step = tuned[i].step;
            while (step->rows_max > 0 && lookup->rows > step->rows_max) {
                step++;
            }
            return step->tile;
        }
    }
    return lookup->rows <= lookup->slots ? few_rows_tile : sglang_default_tile;
}
