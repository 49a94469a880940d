/* generate_coupled.c -- walks through a request of a coupled law, token by token. */
#include "generate_coupled.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "npy.h"

#define UPDATE_TOKENS 4        /* tokens between two updates of a request's factors */
#define GRID          0x1p20   /* of what comes out of exp */
#define TAKEN         (-1e30f) /* the score of an expert that is chosen already */

void coupled_noise_init(struct coupled_noise *noise)
{
    for (int32_t i = 0; i < NORMAL_SIZE; i++) {
        double gumbel = -log(-log((i + 0.5) / NORMAL_SIZE));
        noise->value[i] = (float)round(gumbel * COUPLED_UNIT);
    }
}

double coupled_quantile(const double quantiles[COUPLED_QUANTILES], double at)
{
    double place = at * (COUPLED_QUANTILES - 1);
    int32_t below = (int32_t)place;
    below = below < COUPLED_QUANTILES - 2 ? below : COUPLED_QUANTILES - 2;
    return quantiles[below] + (place - below) * (quantiles[below + 1] - quantiles[below]);
}

bool coupled_walk_open(struct coupled_walk *walk, const struct coupled_law *law,
                       const struct coupled_noise *noise, const struct generate_normal *normal)
{
    assert(law->num_factors <= COUPLED_FACTORS_MAX);
    *walk = (struct coupled_walk){.law = law, .noise = noise, .normal = normal};
    size_t experts = (size_t)law->num_experts;
    size_t layers = (size_t)law->num_layers;
    size_t floats = (layers + 3) * experts;
    walk->memory = calloc(floats + layers * (size_t)law->top_k, sizeof(float));
    if (walk->memory == NULL) {
        return false;
    }
    walk->bias = walk->memory;
    walk->common = walk->bias + layers * experts;
    walk->score = walk->common + experts;
    walk->final = walk->score + experts;
    walk->before = (int32_t *)walk->memory + floats;
    for (int32_t i = 0; i < COUPLED_DRIFTS; i++) {
        double keep = round(exp(-UPDATE_TOKENS / law->drift_tokens[i]) * GRID) / GRID;
        walk->keep[i] = keep;
        walk->stir[i] = sqrt(1 - keep * keep) * law->drift_sigma[i];
    }
    return true;
}

void coupled_walk_close(struct coupled_walk *walk)
{
    free(walk->memory);
    *walk = (struct coupled_walk){0};
}

void coupled_walk_begin(struct coupled_walk *walk, int32_t domain, gsl_rng *rng)
{
    const struct coupled_law *law = walk->law;
    assert(domain < law->num_domains);
    const struct coupled_domain *from = &law->domain[domain];
    for (int32_t factor = 0; factor < law->num_factors; factor++) {
        walk->constant[factor] =
            from->mean[factor] + from->sigma[factor] * generate_normal_draw(walk->normal, rng);
        for (int32_t i = 0; i < COUPLED_DRIFTS; i++) {
            walk->drift[i][factor] = law->drift_sigma[i] * generate_normal_draw(walk->normal, rng);
        }
    }
    for (int32_t i = 0; i < law->num_layers * law->top_k; i++) {
        walk->before[i] = EXPERT_NOT_ROUTED;
    }
    walk->token = 0;
}

/* bias[e] = sum over factors of z request[e], one factor after the other. */
static void bias_set(struct coupled_walk *walk)
{
    const struct coupled_law *law = walk->law;
    const int32_t experts = law->num_experts;
    const int64_t layer_cells = (int64_t)coupled_first_row(law, COUPLED_ROW_KINDS) * experts;
    const int16_t *rows = law->table + (int64_t)coupled_first_row(law, COUPLED_REQUEST) * experts;
    float z[COUPLED_FACTORS_MAX];
    for (int32_t factor = 0; factor < law->num_factors; factor++) {
        double sum = walk->constant[factor] + walk->drift[0][factor] + walk->drift[1][factor];
        z[factor] = (float)(floor(sum * COUPLED_UNIT + 0.5) / COUPLED_UNIT);
    }
    memset(walk->bias, 0, (size_t)(law->num_layers * experts) * sizeof walk->bias[0]);
    for (int64_t layer = 0; layer < law->num_layers; layer++) {
        float *bias = walk->bias + layer * experts;
        for (int32_t factor = 0; factor < law->num_factors; factor++) {
            const int16_t *row = rows + layer * layer_cells + (int64_t)factor * experts;
#pragma omp simd
            for (int32_t expert = 0; expert < experts; expert++) {
                bias[expert] += z[factor] * (float)row[expert];
            }
        }
    }
}

static void factors_update(struct coupled_walk *walk, gsl_rng *rng)
{
    for (int32_t factor = 0; factor < walk->law->num_factors; factor++) {
        for (int32_t i = 0; i < COUPLED_DRIFTS; i++) {
            walk->drift[i][factor] = walk->keep[i] * walk->drift[i][factor] +
                                     walk->stir[i] * generate_normal_draw(walk->normal, rng);
        }
    }
}

static void add_row(float *sum, const int16_t *row, int32_t num_experts)
{
#pragma omp simd
    for (int32_t expert = 0; expert < num_experts; expert++) {
        sum[expert] += (float)row[expert];
    }
}

/* Request and noise: two experts' noise from one number. */
static void common_begin(struct coupled_walk *walk, const float *bias, gsl_rng *rng)
{
    const int32_t experts = walk->law->num_experts;
    const float *noise = walk->noise->value;
    for (int32_t expert = 0; expert < experts; expert += 2) {
        unsigned long bits = gsl_rng_get(rng);
        walk->common[expert] = bias[expert] + noise[bits >> (32 - NORMAL_BITS)];
        if (expert + 1 < experts) {
            walk->common[expert + 1] =
                bias[expert + 1] + noise[bits >> (32 - 2 * NORMAL_BITS) & (NORMAL_SIZE - 1)];
        }
    }
}

/* The expert with the largest score, of equals the lowest. */
static int32_t best_expert(const float *score, int32_t num_experts)
{
    int32_t best = 0;
    for (int32_t expert = 1; expert < num_experts; expert++) {
        best = score[expert] > score[best] ? expert : best;
    }
    return best;
}

/* Chooses top_k experts. below: those of the layer below, before: of the token before; or NULL. */
static void layer_choose(struct coupled_walk *walk, int32_t *expert, const int16_t *table,
                         const int32_t *below, const int32_t *before)
{
    const struct coupled_law *law = walk->law;
    const int64_t experts = law->num_experts;
    for (int32_t k = 0; k < law->top_k; k++) {
        memcpy(walk->score, walk->common, (size_t)experts * sizeof walk->score[0]);
        add_row(walk->score, table + (coupled_first_row(law, COUPLED_BASE) + k) * experts,
                law->num_experts);
        if (k == 0 && before != NULL) {
            walk->score[before[0]] +=
                (float)table[(coupled_first_row(law, COUPLED_REPEAT) + 1) * experts + before[0]];
        }
        if (k == 0 && below != NULL) {
            add_row(walk->score,
                    table + (coupled_first_row(law, COUPLED_FIRST) + below[0]) * experts,
                    law->num_experts);
        }
        expert[k] = best_expert(walk->score, law->num_experts);
        walk->final[expert[k]] = walk->score[expert[k]];
        add_row(walk->common,
                table + (coupled_first_row(law, COUPLED_TOGETHER) + expert[k]) * experts,
                law->num_experts);
        walk->common[expert[k]] = TAKEN;
    }
    for (int32_t e = 0; e < law->num_experts; e++) {
        walk->final[e] = walk->common[e] == TAKEN ? walk->final[e] : walk->score[e];
    }
}

/* What was chosen before may raise a later choice above an earlier one; then the chosen experts
 * share out their scores anew, the best score to the first. */
static void final_sort(struct coupled_walk *walk, const int32_t *expert)
{
    for (int32_t k = 1; k < walk->law->top_k; k++) {
        float score = walk->final[expert[k]];
        int32_t place = k;
        while (place > 0 && walk->final[expert[place - 1]] < score) {
            walk->final[expert[place]] = walk->final[expert[place - 1]];
            place--;
        }
        walk->final[expert[place]] = score;
    }
}

/* softmax over the chosen of gate_scale times score; the best first. */
static void gate_weights_write(float *gate_weight, const struct coupled_walk *walk,
                               const int32_t *expert)
{
    double weight[GENERATE_TOP_K_MAX];
    double sum = 0;
    double best = (double)walk->final[expert[0]];
    for (int32_t k = 0; k < walk->law->top_k; k++) {
        double apart = ((double)walk->final[expert[k]] - best) / COUPLED_UNIT;
        weight[k] = round(exp(walk->law->gate_scale * apart) * GRID) / GRID;
        sum += weight[k];
    }
    for (int32_t k = 0; k < walk->law->top_k; k++) {
        gate_weight[k] = (float)(weight[k] / sum);
    }
}

/* The next smaller number that float16 can hold. */
static float half_below(float value)
{
    uint16_t half = npy_float_to_half(value);
    if (half == 0) {
        half = 0x8001; /* the smallest below zero */
    } else {
        half = (half & 0x8000) != 0 ? (uint16_t)(half + 1) : (uint16_t)(half - 1);
    }
    return npy_half_to_float(half);
}

/* Scores in natural logarithms, so that the largest top_k are the chosen ones in their order: where
 * rounding or what was chosen would have it otherwise, a score is lowered by as little as float16
 * can. */
static void scores_write(float *score, const struct coupled_walk *walk, const int32_t *expert)
{
    const struct coupled_law *law = walk->law;
    for (int32_t e = 0; e < law->num_experts; e++) {
        score[e] = npy_half_to_float(npy_float_to_half(walk->final[e] / COUPLED_UNIT));
    }
    for (int32_t k = 1; k < law->top_k; k++) {
        float limit = half_below(score[expert[k - 1]]);
        score[expert[k]] = score[expert[k]] < limit ? score[expert[k]] : limit;
    }
    float limit = half_below(score[expert[law->top_k - 1]]);
    for (int32_t e = 0; e < law->num_experts; e++) {
        if (walk->common[e] != TAKEN && score[e] > limit) {
            score[e] = limit;
        }
    }
}

void coupled_walk_token(struct coupled_walk *walk, const struct coupled_token *token, gsl_rng *rng)
{
    const struct coupled_law *law = walk->law;
    const int64_t experts = law->num_experts;
    const int64_t layer_cells = coupled_first_row(law, COUPLED_ROW_KINDS) * experts;
    const int32_t opening = coupled_opening(walk->token);
    if (walk->token % UPDATE_TOKENS == 0) {
        if (walk->token > 0) {
            factors_update(walk, rng);
        }
        bias_set(walk);
    }
    for (int64_t layer = 0; layer < law->num_layers; layer++) {
        const int16_t *table = law->table + layer * layer_cells;
        const int16_t *repeat = table + coupled_first_row(law, COUPLED_REPEAT) * experts;
        const int32_t *below = layer > 0 ? token->expert + (layer - 1) * token->stride : NULL;
        int32_t *expert = token->expert + layer * token->stride;
        int32_t *before = walk->before + layer * law->top_k;
        common_begin(walk, walk->bias + layer * experts, rng);
        if (opening >= 0) {
            add_row(walk->common,
                    table + (coupled_first_row(law, COUPLED_OPENING) + opening) * experts,
                    law->num_experts);
        }
        for (int32_t k = 0; k < law->top_k && walk->token > 0; k++) {
            walk->common[before[k]] += (float)repeat[before[k]];
        }
        for (int32_t k = 0; k < law->top_k && below != NULL; k++) {
            add_row(walk->common,
                    table + (coupled_first_row(law, COUPLED_BELOW) + below[k]) * experts,
                    law->num_experts);
        }
        layer_choose(walk, expert, table, below, walk->token > 0 ? before : NULL);
        memcpy(before, expert, (size_t)law->top_k * sizeof before[0]);
        if (token->gate_weight != NULL || token->score != NULL) {
            final_sort(walk, expert);
        }
        if (token->gate_weight != NULL) {
            gate_weights_write(token->gate_weight + layer * token->stride, walk, expert);
        }
        if (token->score != NULL) {
            scores_write(token->score + layer * token->score_stride, walk, expert);
        }
    }
    walk->token++;
}
