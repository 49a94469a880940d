/*
 * library_picks.h -- how much longer a library's GEMM takes than the best tiles of a menu would.
 *
 * The form of gpu/fitted_gemm.h takes the tiles that are fastest by its constants. A library goes
 * by heuristics of its own: its time is a function of rows, columns and depth that is smooth in
 * columns and depth, has steps in rows, and is the same on GPUs of a generation. Each table here
 * is that function over the form's at the starts of `moesim calibrate`, in percent, by classes of
 * rows and nodes of columns and depth: what scenarios/gpus/aiconfigurator_picks.py fits to the
 * tables of aiconfigurator @ 095f58a51c4c (TensorRT-LLM 1.3.0rc20, on A100 1.0.0), of all n x k
 * from 32 to 65536 but 7168 x 16384, 7168 x 2048, 4096 x 7168 and 256 x 7168. With 15 % of all
 * n x k held out, median and p90 of the error sink so:
 *
 *     Blackwell bf16           5.4 / 16.6 %  to  3.7 / 11.8 %
 *               fp8, tensors   3.8 /  9.9    to  2.7 /  7.3
 *               fp8, blocks    3.4 /  9.5    to  2.4 /  6.3
 *               nvfp4          2.2 /  8.3    to  1.3 /  3.6
 *     Hopper    bf16           3.7 / 11.2    to  2.5 /  8.9
 *               fp8, tensors   2.6 /  8.8    to  1.7 /  5.0
 *               fp8, blocks    3.8 / 12.3    to  2.2 /  7.3
 *     Ampere    bf16           6.6 / 24.0    to  3.4 / 14.5
 *               int8, weights  9.6 / 23.4    to  4.6 / 16.6
 *               int4, weights  9.2 / 27.1    to  5.4 / 19.5
 *               SmoothQuant    7.8 / 30.8    to  4.4 / 21.5
 *
 * Left out: products beyond the nodes, which count as the nearest, and grouped ones.
 */
#ifndef MOESIM_LIBRARY_PICKS_H
#define MOESIM_LIBRARY_PICKS_H

#include <stdint.h>

#define PICKS_CLASSES 40 /* of rows */
#define PICKS_COLUMNS 19
#define PICKS_DEPTHS  9

/* Every table, by the name that it has in a preset. */
#define LIBRARY_PICKS(ENTRY)                                                                       \
    ENTRY(blackwell_bf16)                                                                          \
    ENTRY(blackwell_fp8_tensor)                                                                    \
    ENTRY(blackwell_fp8_block)                                                                     \
    ENTRY(blackwell_nvfp4)                                                                         \
    ENTRY(hopper_bf16)                                                                             \
    ENTRY(hopper_fp8_tensor)                                                                       \
    ENTRY(hopper_fp8_block)                                                                        \
    ENTRY(ampere_bf16)                                                                             \
    ENTRY(ampere_int8_weights)                                                                     \
    ENTRY(ampere_int4_weights)                                                                     \
    ENTRY(ampere_smoothquant)

#define LIBRARY_PICKS_ENUM(name) PICKS_##name,
enum library_picks { PICKS_none, LIBRARY_PICKS(LIBRARY_PICKS_ENUM) PICKS_COUNT };
#undef LIBRARY_PICKS_ENUM

extern const char *const library_picks_names[]; /* [PICKS_COUNT], ended by NULL */

/* Percent, [PICKS_CLASSES][PICKS_COLUMNS][PICKS_DEPTHS] flat: a file each, gpu/picks_*.c. */
#define LIBRARY_PICKS_TABLE(name)                                                                  \
    extern const int8_t picks_##name[PICKS_CLASSES * PICKS_COLUMNS * PICKS_DEPTHS];
LIBRARY_PICKS(LIBRARY_PICKS_TABLE)
#undef LIBRARY_PICKS_TABLE

/* The library's time over the form's, for rows x depth times depth x columns, all above 0. */
double library_picks_ratio(enum library_picks picks, double rows, double columns, double depth);

#endif
