/*
 * generate_calibrate.c -- base weights whose draws give each expert its target share.
 *
 * Drawing without repeats, within few groups and under each request's own factors flattens and
 * bends popularity, the more the hotter an expert is. So weights are corrected until a simulated
 * sample gives the targets: weight *= target / observed.
 *
 * Observed shares are not counts but the sum of every step's chances: at each step an expert that
 * may still be chosen has chance weight / (weight of all that may). The sum over the sample is
 *     weight[e] * (sum over steps of 1/W, if e's group is allowed
 *                  - the same over steps after e was chosen)
 * which costs no more than the draws and leaves far less noise. Noise of the factors is kept low by
 * strata: over the sampled requests each expert sees every NORMAL_SIZE / REQUESTS-quantile once.
 */
#include "generate_internal.h"

#include <assert.h>
#include <omp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "rng.h"

#define REQUESTS   32 /* of the sample; a power of two */
#define TOKENS     32 /* of each */
#define ITERATIONS 10

/* One thread's memory. */
struct calibration {
    gsl_rng *rng;
    struct generate_table table;
    double target_share[GENERATE_EXPERTS_MAX];
    double weight[GENERATE_EXPERTS_MAX];   /* relative */
    double observed[GENERATE_EXPERTS_MAX]; /* choices of the sample, expected */
    double step_sum[GENERATE_GROUPS_MAX];  /* of 1/W, over a request's steps that allowed a group */
    double chosen_sum[GENERATE_EXPERTS_MAX]; /* of 1/W, over steps after an expert was chosen */
    uint16_t stratum_first[GENERATE_EXPERTS_MAX];
    uint16_t stratum_step[GENERATE_EXPERTS_MAX]; /* odd: REQUESTS steps visit every stratum */
    uint32_t factor[GENERATE_EXPERTS_MAX];
};

static void strata_draw(struct calibration *calibration, int32_t num_experts)
{
    for (int32_t expert = 0; expert < num_experts; expert++) {
        unsigned long bits = gsl_rng_get(calibration->rng);
        calibration->stratum_first[expert] = (uint16_t)(bits & 0xffff);
        calibration->stratum_step[expert] = (uint16_t)(bits >> 16 | 1);
    }
}

static void factors_of_request(struct calibration *calibration,
                               const struct generate_factors *factors, int32_t num_experts,
                               int32_t request)
{
    const int32_t width = NORMAL_SIZE / REQUESTS;
    for (int32_t expert = 0; expert < num_experts; expert++) {
        int32_t stratum =
            (calibration->stratum_first[expert] + request * calibration->stratum_step[expert]) %
            REQUESTS;
        calibration->factor[expert] = factors->factor[stratum * width + width / 2];
    }
}

/* Draws one token and adds each step's 1/W to the sums. group_weight[groups] is of all experts. */
static void token_observe(struct calibration *calibration, const double *group_weight,
                          int32_t num_groups)
{
    struct generate_table *table = &calibration->table;
    double left[GENERATE_GROUPS_MAX]; /* weight of each group's experts that are not chosen */
    double inverse[GENERATE_TOP_K_MAX];
    int32_t chosen[GENERATE_TOP_K_MAX];
    memcpy(left, group_weight, (size_t)num_groups * sizeof left[0]);
    struct generate_choice choice = generate_token_begin(table);
    for (int32_t k = 0; k < table->top_k; k++) {
        double allowed = 0;
        for (int32_t group = 0; group < num_groups; group++) {
            allowed += (choice.groups >> group & 1) != 0 ? left[group] : 0;
        }
        inverse[k] = 1 / allowed;
        for (int32_t group = 0; group < num_groups; group++) {
            calibration->step_sum[group] += (choice.groups >> group & 1) != 0 ? inverse[k] : 0;
        }
        chosen[k] = generate_token_next(table, &choice, calibration->rng);
        left[table->group[chosen[k]]] -= table->weight[chosen[k]];
    }
    double after = 0;
    for (int32_t k = table->top_k - 1; k >= 0; k--) {
        calibration->chosen_sum[chosen[k]] += after; /* a chosen expert's group stays allowed */
        after += inverse[k];
    }
}

static void request_observe(struct calibration *calibration, int32_t num_groups)
{
    struct generate_table *table = &calibration->table;
    double group_weight[GENERATE_GROUPS_MAX] = {0};
    for (int32_t expert = 0; expert < table->num_experts; expert++) {
        group_weight[table->group[expert]] += table->weight[expert];
    }
    /* Not in the loop above: clang 14 with -mavx2 vectorizes the two together, and wrongly. */
    memset(calibration->chosen_sum, 0, sizeof calibration->chosen_sum);
    memset(calibration->step_sum, 0, sizeof calibration->step_sum);
    for (int32_t token = 0; token < TOKENS; token++) {
        token_observe(calibration, group_weight, num_groups);
    }
    for (int32_t expert = 0; expert < table->num_experts; expert++) {
        double sum = calibration->step_sum[table->group[expert]] - calibration->chosen_sum[expert];
        calibration->observed[expert] += table->weight[expert] * sum;
    }
}

/* Scales the weights to integers that add up to about WEIGHT_ONE. */
static void weights_round(uint32_t *base_weight, const double *weight, int32_t num_experts)
{
    double sum = 0;
    for (int32_t expert = 0; expert < num_experts; expert++) {
        sum += weight[expert];
    }
    for (int32_t expert = 0; expert < num_experts; expert++) {
        base_weight[expert] = (uint32_t)(weight[expert] / sum * WEIGHT_ONE);
    }
}

static void layer_calibrate(struct calibration *calibration, uint32_t *base_weight,
                            const struct generate_preset *preset, int32_t layer, uint64_t seed,
                            const struct generate_normal *normal,
                            const struct generate_factors *factors)
{
    const int32_t num_experts = preset->num_experts;
    const double choices = (double)REQUESTS * TOKENS * preset->top_k;
    generate_table_init(&calibration->table, preset);
    generate_layout(calibration->target_share, preset, layer, seed, normal, calibration->rng);
    memcpy(calibration->weight, calibration->target_share, sizeof calibration->weight);
    for (int32_t iteration = 0; iteration < ITERATIONS; iteration++) {
        /* The same random numbers in each iteration: what changes is the weights' doing. */
        rng_restream(calibration->rng, seed, "generate.calibrate", (uint64_t)layer);
        weights_round(base_weight, calibration->weight, num_experts);
        memset(calibration->observed, 0, sizeof calibration->observed);
        strata_draw(calibration, num_experts);
        for (int32_t request = 0; request < REQUESTS; request++) {
            factors_of_request(calibration, factors, num_experts, request);
            generate_table_set(&calibration->table, base_weight, calibration->factor);
            request_observe(calibration, preset->num_expert_groups);
        }
        for (int32_t expert = 0; expert < num_experts; expert++) {
            double target = calibration->target_share[expert] * choices;
            calibration->weight[expert] *= target / calibration->observed[expert];
        }
    }
    weights_round(base_weight, calibration->weight, num_experts);
}

enum status generate_calibrate(uint32_t *base_weight, const struct generate_preset *preset,
                               uint64_t seed, int32_t num_threads, struct error *error)
{
    enum status status = STATUS_OK;
    struct generate_normal *normal = malloc(sizeof *normal);
    struct generate_factors *factors = malloc(sizeof *factors);
    struct calibration *calibration = calloc((size_t)num_threads, sizeof *calibration);
    bool complete = normal != NULL && factors != NULL && calibration != NULL;
    for (int32_t thread = 0; complete && thread < num_threads; thread++) {
        calibration[thread].rng = rng_stream(seed, "generate.layout", 0);
        complete = calibration[thread].rng != NULL;
    }
    if (!complete) {
        status = error_add(error, STATUS_NO_MEMORY, "generate: out of memory");
        goto done;
    }
    generate_normal_init(normal);
    generate_factors_init(factors, normal, preset->request_sigma);
#pragma omp parallel for num_threads(num_threads) schedule(dynamic)
    for (int32_t layer = 0; layer < preset->num_layers; layer++) {
        layer_calibrate(&calibration[omp_get_thread_num()],
                        base_weight + (int64_t)layer * preset->num_experts, preset, layer, seed,
                        normal, factors);
    }
done:
    for (int32_t thread = 0; calibration != NULL && thread < num_threads; thread++) {
        if (calibration[thread].rng != NULL) {
            gsl_rng_free(calibration[thread].rng);
        }
    }
    free(calibration);
    free(factors);
    free(normal);
    return status;
}
