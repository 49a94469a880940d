/*
 * fitted_tiles.h -- tiles of rows of the fitted model's grouped GEMMs.
 */
#ifndef MOESIM_FITTED_TILES_H
#define MOESIM_FITTED_TILES_H

#include "gpu/fitted.h"

#define TILE_COLUMNS  128.0
#define VLLM_FEW_ROWS 64.0 /* up to which vLLM's pipelines are short */

/* Rows of a tile, by the index that expert_load counts tiles with. */
extern const double fitted_tile_rows[FITTED_TILE_SIZES];

/* Seconds of arithmetic of all tiles of a GEMM of depth K, column_tiles wide, at the height that is
 * taken, whose index is *height. */
double fitted_tiles_s(int32_t *height, const struct fitted_kernels *fitted,
                      const struct expert_shape *shape, const struct expert_load *load,
                      double column_tiles, double depth);

#endif
