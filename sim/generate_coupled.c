/*
 * generate_coupled.c -- walks through a request of a coupled law.
 *
 * Random numbers are drawn token by token, so that how many tokens are walked at once changes
 * nothing. What they mean is then worked out layer by layer, all tokens in each: the table of one
 * layer stays in the core's cache, which that of all layers (10 MB for 94 of 128 experts) does not
 * fit.
 */
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

/* Random numbers of a token in a layer: two experts' noise is from one. */
static size_t noise_numbers(const struct coupled_law *law)
{
    return ((size_t)law->num_experts + 1) / 2;
}

bool coupled_walk_open(struct coupled_walk *walk, const struct coupled_law *law,
                       const struct coupled_noise *noise, const struct generate_normal *normal)
{
    assert(law->num_factors <= COUPLED_FACTORS_MAX);
    *walk = (struct coupled_walk){.law = law, .noise = noise, .normal = normal};
    size_t experts = (size_t)law->num_experts;
    size_t layers = (size_t)law->num_layers;
    size_t numbers = COUPLED_BLOCK * layers * noise_numbers(law);
    walk->memory = calloc(numbers + 4 * experts + layers * (size_t)law->top_k, sizeof(float));
    if (walk->memory == NULL) {
        return false;
    }
    walk->random = walk->memory;
    walk->bias = (float *)walk->memory + numbers;
    walk->common = walk->bias + experts;
    walk->score = walk->common + experts;
    walk->final = walk->score + experts;
    walk->before = (int32_t *)walk->memory + numbers + 4 * experts;
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

static void factors_update(struct coupled_walk *walk, gsl_rng *rng)
{
    for (int32_t factor = 0; factor < walk->law->num_factors; factor++) {
        for (int32_t i = 0; i < COUPLED_DRIFTS; i++) {
            walk->drift[i][factor] = walk->keep[i] * walk->drift[i][factor] +
                                     walk->stir[i] * generate_normal_draw(walk->normal, rng);
        }
    }
}

static void factors_round(struct coupled_walk *walk)
{
    for (int32_t factor = 0; factor < walk->law->num_factors; factor++) {
        double sum = walk->constant[factor] + walk->drift[0][factor] + walk->drift[1][factor];
        walk->now[factor] = (float)(floor(sum * COUPLED_UNIT + 0.5) / COUPLED_UNIT);
    }
}

/* All that is random about the next tokens, in the order in which they come. */
static void numbers_draw(struct coupled_walk *walk, int32_t count, gsl_rng *rng)
{
    uint32_t *random = walk->random;
    const size_t numbers = (size_t)walk->law->num_layers * noise_numbers(walk->law);
    for (int32_t i = 0; i < count; i++) {
        if ((walk->token + i) % UPDATE_TOKENS == 0) {
            if (walk->token + i > 0) {
                factors_update(walk, rng);
            }
            factors_round(walk);
        }
        memcpy(walk->z[i], walk->now, sizeof walk->now);
        for (size_t number = 0; number < numbers; number++) {
            *random++ = (uint32_t)gsl_rng_get(rng);
        }
    }
}

/* bias[e] = sum over factors of z request[e], one factor after the other. table: of the layer. */
static void bias_set(struct coupled_walk *walk, const int16_t *table, const float *z)
{
    const struct coupled_law *law = walk->law;
    const int32_t experts = law->num_experts;
    const int16_t *row = table + (int64_t)coupled_first_row(law, COUPLED_REQUEST) * experts;
    memset(walk->bias, 0, (size_t)experts * sizeof walk->bias[0]);
    for (int32_t factor = 0; factor < law->num_factors; factor++) {
#pragma omp simd
        for (int32_t expert = 0; expert < experts; expert++) {
            walk->bias[expert] += z[factor] * (float)row[expert];
        }
        row += experts;
    }
}

static void add_row(float *sum, const int16_t *row, int32_t num_experts)
{
#pragma omp simd
    for (int32_t expert = 0; expert < num_experts; expert++) {
        sum[expert] += (float)row[expert];
    }
}

/* Request and noise, two experts' from one number. */
static void common_begin(struct coupled_walk *walk, const uint32_t *random)
{
    const int32_t experts = walk->law->num_experts;
    const float *noise = walk->noise->value;
    for (int32_t expert = 0; expert < experts; expert += 2) {
        uint32_t bits = *random++;
        walk->common[expert] = walk->bias[expert] + noise[bits >> (32 - NORMAL_BITS)];
        if (expert + 1 < experts) {
            walk->common[expert + 1] =
                walk->bias[expert + 1] + noise[bits >> (32 - 2 * NORMAL_BITS) & (NORMAL_SIZE - 1)];
        }
    }
}

/* By lanes that do not wait for each other: gcc 12 keeps what a reduction has found in memory,
 * which takes three times as long. */
float coupled_best_score(const float *score, int32_t num_experts)
{
    enum { LANES = 8 };
    float lane[LANES];
    int32_t expert = 0;
    for (int32_t i = 0; i < LANES; i++) {
        lane[i] = score[0];
    }
    for (; expert + LANES <= num_experts; expert += LANES) {
#pragma omp simd
        for (int32_t i = 0; i < LANES; i++) {
            lane[i] = score[expert + i] > lane[i] ? score[expert + i] : lane[i];
        }
    }
    float best = lane[0];
    for (int32_t i = 1; i < LANES; i++) {
        best = lane[i] > best ? lane[i] : best;
    }
    for (; expert < num_experts; expert++) {
        best = score[expert] > best ? score[expert] : best;
    }
    return best;
}

/* The expert with the largest score, of equals the lowest. */
static int32_t best_expert(const float *score, int32_t num_experts)
{
    float best = coupled_best_score(score, num_experts);
    int32_t expert = 0;
    while (expert < num_experts - 1 && score[expert] < best) {
        expert++;
    }
    return expert;
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
}

/* Those that were not chosen keep the score of the last choice. */
static void final_fill(struct coupled_walk *walk)
{
    for (int32_t e = 0; e < walk->law->num_experts; e++) {
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

/* What all choices of a token in a layer have in common. at: the token's number in the request. */
static void common_set(struct coupled_walk *walk, const int16_t *table, const uint32_t *random,
                       int64_t at, const int32_t *below, const int32_t *before)
{
    const struct coupled_law *law = walk->law;
    const int64_t experts = law->num_experts;
    const int32_t opening = coupled_opening(at);
    const int16_t *repeat = table + coupled_first_row(law, COUPLED_REPEAT) * experts;
    common_begin(walk, random);
    if (opening >= 0) {
        add_row(walk->common, table + (coupled_first_row(law, COUPLED_OPENING) + opening) * experts,
                law->num_experts);
    }
    for (int32_t k = 0; k < law->top_k && before != NULL; k++) {
        walk->common[before[k]] += (float)repeat[before[k]];
    }
    for (int32_t k = 0; k < law->top_k && below != NULL; k++) {
        add_row(walk->common, table + (coupled_first_row(law, COUPLED_BELOW) + below[k]) * experts,
                law->num_experts);
    }
}

/* Writes token i of those walked at once in a layer, whose choice is made. */
static void token_write(const struct coupled_tokens *tokens, struct coupled_walk *walk,
                        int64_t layer, int64_t i)
{
    const int64_t top_k = walk->law->top_k;
    const int32_t *expert = tokens->expert + layer * tokens->stride + i * top_k;
    if (tokens->gate_weight != NULL || tokens->score != NULL) {
        final_fill(walk);
        final_sort(walk, expert);
    }
    if (tokens->gate_weight != NULL) {
        gate_weights_write(tokens->gate_weight + layer * tokens->stride + i * top_k, walk, expert);
    }
    if (tokens->score != NULL) {
        scores_write(tokens->score + layer * tokens->score_stride + i * walk->law->num_experts,
                     walk, expert);
    }
}

static void layer_walk(struct coupled_walk *walk, const struct coupled_tokens *tokens,
                       int64_t layer)
{
    const struct coupled_law *law = walk->law;
    const int16_t *table =
        law->table + layer * coupled_first_row(law, COUPLED_ROW_KINDS) * law->num_experts;
    int32_t *kept = walk->before + layer * law->top_k;
    const int32_t *before = walk->token > 0 ? kept : NULL;
    int32_t *expert = tokens->expert + layer * tokens->stride;
    for (int64_t i = 0; i < tokens->count; i++) {
        const int32_t *below = layer > 0 ? expert - tokens->stride : NULL;
        if (i == 0 || (walk->token + i) % UPDATE_TOKENS == 0) {
            bias_set(walk, table, walk->z[i]);
        }
        common_set(walk, table,
                   walk->random + (size_t)(i * law->num_layers + layer) * noise_numbers(law),
                   walk->token + i, below, before);
        layer_choose(walk, expert, table, below, before);
        token_write(tokens, walk, layer, i);
        before = expert;
        expert += law->top_k;
    }
    memcpy(kept, before, (size_t)law->top_k * sizeof kept[0]);
}

void coupled_walk_tokens(struct coupled_walk *walk, const struct coupled_tokens *tokens,
                         gsl_rng *rng)
{
    assert(tokens->count >= 1 && tokens->count <= COUPLED_BLOCK);
    numbers_draw(walk, tokens->count, rng);
    for (int64_t layer = 0; layer < walk->law->num_layers; layer++) {
        layer_walk(walk, tokens, layer);
    }
    walk->token += tokens->count;
}
