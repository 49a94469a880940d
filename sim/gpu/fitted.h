/*
 * fitted.h -- the expert phase in numbers that a fit can turn, for the GPU model and for calibrate.
 *
 * What the form needs to know of the tokens per slot is few sums, so a row of a table of
 * measurements is counted once and evaluated thousands of times.
 */
#ifndef MOESIM_FITTED_H
#define MOESIM_FITTED_H

#include <stdbool.h>
#include <stdint.h>

#include "cluster.h"

#define FITTED_TILE_SIZES 5
#define FITTED_BINS       16 /* of slots with 1, 2, 3 to 4, 5 to 8, ... tokens */

/* Zero-initialise the load, then add slots. */
struct expert_load {
    double slots;                        /* with tokens or without */
    double active;                       /* slots with tokens */
    double copies;                       /* token copies, over all slots */
    double squares;                      /* sum over slots of their copies squared */
    double span;                         /* rows that those of a slot lie between */
    double busiest;                      /* most tokens of a slot */
    double rows;                         /* distinct tokens read and written */
    double choices;                      /* of those tokens, other ranks' too; copies at least */
    double experts;                      /* that the choices fall on, other ranks' too; 0: slots */
    double group_rows;                   /* tokens of the whole group; 0: rows */
    double row_tiles[FITTED_TILE_SIZES]; /* sum over slots of ceil(tokens / tile rows) */
    double bin_active[FITTED_BINS];      /* the same by busyness */
    double bin_tiles[FITTED_BINS][FITTED_TILE_SIZES];
};

struct expert_shape {
    const char *gpu; /* the preset's name, for tiles tuned on it; NULL: none are */
    double hidden_dim;
    double ffn_dim;      /* of one expert, gated: three matrices */
    double weight_bytes; /* a weight, scales included */
    double num_sms;      /* left for compute */
    double gpu_sms;      /* all of them: what flops_per_s is of */
    bool is_looped;      /* a loop of measurements meets its weights again */
    double l2_bytes;     /* where it may meet them; 0: nowhere */
    double hbm_taken;    /* share of the HBM's bandwidth that is not left for compute */
};

/* Adds slots that have so many tokens each. */
void expert_load_add(struct expert_load *load, int64_t slot_tokens, double slots);

/* |x, y| of the form: (x^p + y^p)^(1/p). */
double fitted_norm(double x, double y, double p);

/* Amount over rate; 0 where the rate is 0, which costs nothing. */
double fitted_quotient(double amount, double amount_per_s);

/* What a cache does not keep of so many bytes that come again, and how soon beyond its size. */
double fitted_lost_share(double bytes, double cache_bytes, double steep);

/* Bytes of the weights of all slots with tokens. */
double fitted_active_bytes(const struct expert_shape *shape, const struct expert_load *load);

/* One grouped GEMM of the phase, in seconds: columns x depth weights a slot. */
double fitted_gemm_s(const struct fitted_kernels *fitted, const struct expert_shape *shape,
                     const struct expert_load *load, double columns, double depth);

/* Time of the phase in ns; 0 where nothing is to be done. */
double fitted_expert_ns(const struct fitted_kernels *fitted, const struct expert_shape *shape,
                        const struct expert_load *load);

#endif
