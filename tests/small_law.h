/*
 * small_law.h -- a coupled law that fits on a page, for the tests of generator and fit.
 */
#ifndef MOESIM_SMALL_LAW_H
#define MOESIM_SMALL_LAW_H

#include "generate_coupled.h"

#define SMALL_LAYERS  3
#define SMALL_EXPERTS 8
#define SMALL_TOP_K   2
#define SMALL_FACTORS 2
#define SMALL_SURE    (40 * COUPLED_UNIT) /* log-odds no noise makes up for */

/* A preset of one domain "only" with requests of 100 rows, everything else zero. Release with
 * generate_preset_free. */
void small_law_init(struct generate_preset *preset);

/* A row of a layer's table: [SMALL_EXPERTS]. */
int16_t *small_law_row(struct generate_preset *preset, int32_t layer, enum coupled_row kind,
                       int32_t index);

/* Fills the table with numbers drawn by seed, as a fitted one might have, and gives factors and
 * drifts a sigma of 0.5. */
void small_law_stir(struct generate_preset *preset, uint64_t seed);

/* Generates in memory; asserts that it works. Release with trace_close. */
struct trace small_law_trace(const struct generate_preset *preset, int64_t num_tokens,
                             uint64_t seed, int32_t num_threads);

#endif
