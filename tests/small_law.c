/* small_law.c -- a small preset in memory. */
#include "small_law.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "rng.h"

void small_law_init(struct generate_preset *preset)
{
    *preset = (struct generate_preset){.name = "small",
                                       .model = "tiny",
                                       .source = "by hand",
                                       .licence = "CC0-1.0",
                                       .num_experts = SMALL_EXPERTS,
                                       .top_k = SMALL_TOP_K,
                                       .num_expert_groups = 1,
                                       .topk_groups = 1,
                                       .arrivals_per_s = 10,
                                       .num_layers = SMALL_LAYERS};
    for (int32_t layer = 0; layer < SMALL_LAYERS; layer++) {
        preset->layer[layer].model_layer = layer;
    }
    struct coupled_law *law = calloc(1, sizeof *law);
    cr_assert_not_null(law);
    preset->coupled = law;
    law->num_layers = SMALL_LAYERS;
    law->num_experts = SMALL_EXPERTS;
    law->top_k = SMALL_TOP_K;
    law->num_factors = SMALL_FACTORS;
    law->num_domains = 1;
    law->drift_tokens[0] = 6;
    law->drift_tokens[1] = 100;
    law->gate_scale = 1;
    (void)strcpy(law->domain[0].tag, "only");
    law->domain[0].requests = 1;
    for (int32_t i = 0; i < COUPLED_QUANTILES; i++) {
        law->domain[0].rows[i] = 100;
        law->domain[0].prompt_tokens[i] = 7;
    }
    size_t rows = (size_t)coupled_first_row(law, COUPLED_ROW_KINDS);
    law->table = calloc(SMALL_LAYERS * rows * SMALL_EXPERTS, sizeof *law->table);
    cr_assert_not_null(law->table);
}

int16_t *small_law_row(struct generate_preset *preset, int32_t layer, enum coupled_row kind,
                       int32_t index)
{
    const struct coupled_law *law = preset->coupled;
    int32_t row =
        layer * coupled_first_row(law, COUPLED_ROW_KINDS) + coupled_first_row(law, kind) + index;
    return law->table + (int64_t)row * SMALL_EXPERTS;
}

void small_law_stir(struct generate_preset *preset, uint64_t seed)
{
    struct coupled_law *law = preset->coupled;
    int32_t cells = SMALL_LAYERS * coupled_first_row(law, COUPLED_ROW_KINDS) * SMALL_EXPERTS;
    gsl_rng *rng = rng_stream(seed, "test", 0);
    cr_assert_not_null(rng);
    for (int32_t i = 0; i < cells; i++) { /* from -1 to 1 */
        law->table[i] =
            (int16_t)((int32_t)gsl_rng_uniform_int(rng, 2 * COUPLED_UNIT) - COUPLED_UNIT);
    }
    for (int32_t f = 0; f < SMALL_FACTORS; f++) {
        law->domain[0].sigma[f] = 0.5;
    }
    law->drift_sigma[0] = law->drift_sigma[1] = 0.5;
    gsl_rng_free(rng);
}

struct trace small_law_trace(const struct generate_preset *preset, int64_t num_tokens,
                             uint64_t seed, int32_t num_threads)
{
    struct generate_options options = {
        .num_tokens = num_tokens, .seed = seed, .num_threads = num_threads};
    static struct error error;
    struct trace trace;
    cr_assert_eq(generate_from_preset(&trace, preset, &options, &error), STATUS_OK, "%s",
                 error.text);
    return trace;
}
