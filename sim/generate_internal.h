/*
 * generate_internal.h -- the parts of the generator: for generate*.c only.
 *
 * Presets hold one of two laws. Where shares are known and no more, tokens are independent:
 * preset (what was measured) -> layout (which expert is how popular, drawn by seed) -> law (base
 * weights whose draws give those popularities) -> table (one request's own law) -> tokens.
 * Where a trace was fitted, choices depend on each other: generate_coupled.h.
 *
 * Every step is integers, or doubles under + - * / and sqrt, which IEEE 754 fixes. What libm gives
 * (exp, normal quantiles) is tabulated once and rounded to a grid far coarser than its error.
 */
#ifndef MOESIM_GENERATE_INTERNAL_H
#define MOESIM_GENERATE_INTERNAL_H

#include <gsl/gsl_rng.h>
#include <stdbool.h>
#include <stdint.h>

#include "generate.h"
#include "model.h"
#include "status.h"

#define GENERATE_EXPERTS_MAX 1024
#define GENERATE_LAYERS_MAX  512
#define GENERATE_TOP_K_MAX   64
#define GENERATE_GROUPS_MAX  64 /* one bit each of a mask */
#define GENERATE_HEAD        32 /* experts in top32_percent */
#define NORMAL_BITS          12 /* random bits that choose a normal quantile */
#define NORMAL_SIZE          (1 << NORMAL_BITS)
#define WEIGHT_ONE           (1u << 30) /* sum of a layer's base weights, or a little less */
#define FACTOR_ONE           (1u << 20) /* a request's factor of 1 */

/* What was measured in one layer, over all requests. */
struct generate_layer {
    int32_t model_layer;
    double hottest_percent; /* of all activations: the expert with the most */
    double top32_percent;   /* of all activations: the 32 experts with the most */
};

/* Normal quantiles: z[i] of probability (i + 1/2) / NORMAL_SIZE. */
struct generate_normal {
    double z[NORMAL_SIZE];
};

/* A lognormal law of whole numbers. */
struct generate_lengths {
    double median;
    double sigma; /* of the natural logarithm */
    int32_t max;  /* longer ones are cut to this */
};

struct coupled_law; /* generate_coupled.h */

/* scenarios/traces/NAME.yaml: of one of two laws. A token's experts depend on the layer, the
 * request and nothing else (hottest and top-32 shares are then known), or on what the token and the
 * one before it chose as well (coupled is then set, and the fields marked * are not used). */
struct generate_preset {
    char name[NAME_BYTES];
    char model[NAME_BYTES];
    char licence[NAME_BYTES];
    char tag[NAME_BYTES]; /* * */
    char source[SOURCE_BYTES];
    int32_t num_experts;
    int32_t top_k;
    int32_t num_expert_groups;             /* * */
    int32_t topk_groups;                   /* * */
    double request_sigma;                  /* * of ln(request's preference / everybody's) */
    int32_t neighbour_experts;             /* * experts in a row whose popularity is alike */
    double neighbour_correlation;          /* * of their ranks, 0 to below 1 */
    struct generate_lengths rows;          /* * recorded tokens of a request */
    struct generate_lengths prompt_tokens; /* * */
    double arrivals_per_s;
    int32_t num_layers;
    struct generate_layer layer[GENERATE_LAYERS_MAX]; /* of a coupled law: model_layer alone */
    struct coupled_law *coupled;                      /* owned, or NULL */
};

/* Reads and checks a preset, zeroed before, by name or path. All problems are reported; an unknown
 * name lists the known ones. Release with generate_preset_free, also after a failure. */
MUST_CHECK enum status generate_preset_load(struct generate_preset *preset, const char *name,
                                            struct error *error);

void generate_preset_free(struct generate_preset *preset); /* safe on a zeroed struct, and twice */

/* As generate_in_memory for a preset that is not in a file; options->preset is not looked at. */
MUST_CHECK enum status generate_from_preset(struct trace *trace,
                                            const struct generate_preset *preset,
                                            const struct generate_options *options,
                                            struct error *error);

/* The requests of a trace. */
struct generate_requests {
    struct trace_request *request; /* [count], from malloc */
    int32_t *domain;               /* [count] of a coupled law, or 0 */
    int64_t count;
};

/* Draws requests from the stream "generate.requests" until they hold num_tokens; the last one is
 * cut to fit. Release with generate_requests_free, also after a failure. */
MUST_CHECK enum status generate_requests_draw(struct generate_requests *requests,
                                              const struct generate_preset *preset,
                                              const struct generate_options *options,
                                              const struct generate_normal *normal, gsl_rng *rng,
                                              struct error *error);
void generate_requests_free(struct generate_requests *requests); /* safe on a zeroed struct */

void generate_normal_init(struct generate_normal *normal);

/* One normal number from NORMAL_BITS bits of the generator. */
double generate_normal_draw(const struct generate_normal *normal, gsl_rng *rng);

/* Popularity by rank: share[num_experts] descends and adds up to 1, share[0] is the layer's hottest
 * share and the first GENERATE_HEAD add up to its top-32 share. False if no such law exists. */
MUST_CHECK bool generate_shares(double *share, const struct generate_layer *layer,
                                int32_t num_experts);

/* Draws which expert has which rank: target_share[num_experts] by expert id, from the stream
 * "generate.layout" of the layer. */
void generate_layout(double *target_share, const struct generate_preset *preset, int32_t layer,
                     uint64_t seed, const struct generate_normal *normal, gsl_rng *rng);

/* One request's law in one layer, as Walker's alias table: column c, which each draw hits with
 * equal chance, holds expert c below its threshold and other[c] above. */
struct generate_table {
    int32_t num_experts;
    int32_t top_k;
    int32_t topk_groups;
    int32_t group_experts; /* experts in a group */
    uint32_t weight[GENERATE_EXPERTS_MAX];
    uint32_t threshold[GENERATE_EXPERTS_MAX];
    uint16_t other[GENERATE_EXPERTS_MAX];
    uint8_t group[GENERATE_EXPERTS_MAX];
    uint32_t token_of[GENERATE_EXPERTS_MAX]; /* the last token that chose each expert */
    uint32_t token;                          /* tokens begun since the law was set */
};

/* What one token has chosen so far. */
struct generate_choice {
    uint64_t groups; /* groups it may still choose from */
    uint64_t groups_seen;
    int32_t num_groups_seen;
};

void generate_table_init(struct generate_table *table, const struct generate_preset *preset);

/* Derives a law: weight[e] = base_weight[e] * factor[e] / FACTOR_ONE. */
void generate_table_set(struct generate_table *table, const uint32_t *base_weight,
                        const uint32_t *factor);

/* Starts a token that has chosen nothing. */
struct generate_choice generate_token_begin(struct generate_table *table);

/* The token's next expert: drawn by weight among those not chosen yet, and, once topk_groups
 * groups are seen, among those of the groups seen. */
int32_t generate_token_next(struct generate_table *table, struct generate_choice *choice,
                            gsl_rng *rng);

/* Lognormal factors around 1 (mean 1), by the random bits that choose them. */
struct generate_factors {
    uint32_t factor[NORMAL_SIZE]; /* in 1/FACTOR_ONE */
};

void generate_factors_init(struct generate_factors *factors, const struct generate_normal *normal,
                           double sigma);

/* Base weights of every layer: base_weight[num_layers][num_experts]. Runs on num_threads threads;
 * the result does not depend on it. */
MUST_CHECK enum status generate_calibrate(uint32_t *base_weight,
                                          const struct generate_preset *preset, uint64_t seed,
                                          int32_t num_threads, struct error *error);

#endif
