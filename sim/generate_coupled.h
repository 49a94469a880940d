/*
 * generate_coupled.h -- the law of presets that were fitted to a trace: for generate*.c and
 * trace_fit*.c only.
 *
 * A token chooses its experts one after the other, layer by layer. The log-odds of expert e for
 * choice number k of a layer are a sum of table rows, each [num_experts]:
 *
 *     base[k]                                       how popular, for this choice
 *   + sum over f of z[f] request[f]                 what the request is about
 *   + opening[how far the request is]              its first 256 tokens alone
 *   + repeat[0][e] if the token before chose e here
 *   + sum over experts c of the layer below of below[c]
 *   + repeat[1][e] if e was the best of the token before, and
 *     first[the best expert of the layer below]     for the first choice only
 *   + sum over experts c chosen so far of together[c]
 *
 * and the choice is the largest of log-odds plus Gumbel noise, which is a draw by odds (Yellott
 * 1977, J. Math. Psychology 15); one noise serves all choices of a token in a layer, so that
 * without the last row the experts are the top k of one score. The factors z[f] of a request are
 * normal around its domain's mean and drift: each is the sum of a constant and of two
 * autoregressive processes, a quick and a slow one.
 *
 * Everything that decides is float or double under + and *, each expert's sum in the order above,
 * over numbers on a grid of 1/256.
 */
#ifndef MOESIM_GENERATE_COUPLED_H
#define MOESIM_GENERATE_COUPLED_H

#include <gsl/gsl_rng.h>
#include <stdbool.h>
#include <stdint.h>

#include "generate_internal.h"
#include "yaml_file.h"

#define COUPLED_FACTORS_MAX 32
#define COUPLED_DOMAINS_MAX 64
#define COUPLED_QUANTILES   9   /* 0, 1/8, ... 1 */
#define COUPLED_DRIFTS      2   /* quick, slow */
#define COUPLED_OPENINGS    24  /* stretches of a request's first tokens, at first of one token */
#define COUPLED_UNIT        256 /* of a table: 1/256 of a natural logarithm */
#define COUPLED_BLOCK       64  /* tokens walked at once, at most */

/* Requests that follow each other and are alike. */
struct coupled_domain {
    char tag[NAME_BYTES];
    double requests; /* in a row in each cycle through all domains; on average, so 0.3 will do */
    double rows[COUPLED_QUANTILES]; /* quantiles of a request's recorded rows */
    double prompt_tokens[COUPLED_QUANTILES];
    double mean[COUPLED_FACTORS_MAX];
    double sigma[COUPLED_FACTORS_MAX];
};

struct coupled_law {
    int32_t num_layers;
    int32_t num_experts;
    int32_t top_k;
    int32_t num_factors;
    int32_t num_domains;
    double drift_tokens[COUPLED_DRIFTS]; /* in which a drift forgets all but 1/e */
    double drift_sigma[COUPLED_DRIFTS];
    double gate_scale; /* gate weight = softmax(gate_scale * score) over the chosen */
    int16_t *table;    /* [num_layers][coupled_num_rows][num_experts] in 1/COUPLED_UNIT; owned */
    struct coupled_domain domain[COUPLED_DOMAINS_MAX];
};

/* The kinds of rows of a layer's table, in order. */
enum coupled_row {
    COUPLED_BASE,     /* top_k rows */
    COUPLED_REQUEST,  /* num_factors rows */
    COUPLED_OPENING,  /* COUPLED_OPENINGS rows */
    COUPLED_REPEAT,   /* two rows */
    COUPLED_TOGETHER, /* num_experts rows */
    COUPLED_BELOW,    /* num_experts rows; of the lowest layer zero */
    COUPLED_FIRST,    /* num_experts rows; of the lowest layer zero */
    COUPLED_ROW_KINDS,
};

/* The first row of a kind; of COUPLED_ROW_KINDS: how many rows a layer has. */
static inline int32_t coupled_first_row(const struct coupled_law *law, enum coupled_row kind)
{
    const int32_t count[COUPLED_ROW_KINDS] = {
        law->top_k,       law->num_factors, COUPLED_OPENINGS, 2,
        law->num_experts, law->num_experts, law->num_experts};
    int32_t first = 0;
    for (int32_t before = 0; before < (int32_t)kind; before++) {
        first += count[before];
    }
    return first;
}

/* The stretch that token number token of a request lies in, or -1 behind the last. */
static inline int32_t coupled_opening(int64_t token)
{
    if (token < 16) {
        return (int32_t)token;
    }
    if (token < 32) {
        return 16 + (int32_t)(token - 16) / 4;
    }
    if (token < 64) {
        return 20 + (int32_t)(token - 32) / 16;
    }
    return token < 128 ? 22 : token < 256 ? 23 : -1;
}

/* Gumbel noise of 12 random bits, in 1/COUPLED_UNIT, whole numbers. */
struct coupled_noise {
    float value[NORMAL_SIZE];
};

void coupled_noise_init(struct coupled_noise *noise);

/* A request under way. All arrays are one block of memory. */
struct coupled_walk {
    const struct coupled_law *law;
    const struct coupled_noise *noise;
    const struct generate_normal *normal;
    double constant[COUPLED_FACTORS_MAX];
    double drift[COUPLED_DRIFTS][COUPLED_FACTORS_MAX];
    double keep[COUPLED_DRIFTS];    /* of a drift, from one update to the next */
    double stir[COUPLED_DRIFTS];    /* times a normal number makes up for what is lost */
    int64_t token;                  /* of the request, from 0 */
    float now[COUPLED_FACTORS_MAX]; /* z of the token drawn last */
    float z[COUPLED_BLOCK][COUPLED_FACTORS_MAX]; /* of the tokens walked at once */
    uint32_t *random; /* [COUPLED_BLOCK][num_layers][(num_experts + 1) / 2] their noise */
    float *bias;      /* [num_experts] of the request, in the layer */
    float *common;    /* [num_experts] of a token's score, that is for all choices */
    float *score;     /* [num_experts] */
    float *final;     /* [num_experts] scores as chosen, the others' last */
    int32_t *before;  /* [num_layers][top_k] the token before */
    void *memory;
};

/* What tokens are written to; gate_weight and scores may be NULL. */
struct coupled_tokens {
    int32_t *expert;    /* [num_layers] at stride, [count][top_k] each */
    float *gate_weight; /* the same */
    float *score;       /* [num_layers] at score_stride, [count][num_experts], exact as float16 */
    int64_t stride;
    int64_t score_stride;
    int32_t count; /* 1 to COUPLED_BLOCK */
};

/* Borrows the three for the walk's life. False: no memory. Release with coupled_walk_close, also
 * after a failure. */
MUST_CHECK bool coupled_walk_open(struct coupled_walk *walk, const struct coupled_law *law,
                                  const struct coupled_noise *noise,
                                  const struct generate_normal *normal);
void coupled_walk_close(struct coupled_walk *walk);

/* Starts a request of a domain: its factors are the first numbers drawn from rng. */
void coupled_walk_begin(struct coupled_walk *walk, int32_t domain, gsl_rng *rng);

/* Draws the request's next tokens. The numbers drawn do not depend on what is written, nor on how
 * many tokens are walked at once. */
void coupled_walk_tokens(struct coupled_walk *walk, const struct coupled_tokens *tokens,
                         gsl_rng *rng);

/* The largest of score[num_experts], none of them NaN. */
float coupled_best_score(const float *score, int32_t num_experts);

/* Value at a quantile from 0 to 1, between the points on a straight line. */
double coupled_quantile(const double quantiles[COUPLED_QUANTILES], double at);

/* Reads the parts of a preset file that make a coupled law: root is the file's mapping. preset gets
 * the rest, with its law from malloc. Errors as generate_preset_load. */
MUST_CHECK enum status coupled_read(struct generate_preset *preset, const struct yaml_node *root,
                                    const char *path, struct error *error);

/* Writes path and, beside it, the table as .npy (int16 [num_layers][rows][num_experts]). comment is
 * put first, each line begun with "# ". STATUS_IO: cannot be written; nothing half-written stays.
 */
MUST_CHECK enum status coupled_write(const struct generate_preset *preset, const char *path,
                                     const char *comment, struct error *error);

#endif
