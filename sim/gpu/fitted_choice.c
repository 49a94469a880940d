/*
 * fitted_choice.c -- whose attention a GPU's preset predicts with.
 *
 * One engine runs all of a layer, so the engine whose experts are in use comes first; where it was
 * not measured, the first of the list, which has the least held-out error. Where its library
 * changes kernels with the heads of a GPU, those count whose heads_min comes closest.
 */
#include <stdbool.h>
#include <string.h>

#include "gpu/fitted_phases.h"

/* Constants are named after the engine first: sglang, sglang_fa3, sglang_deepep_decode. */
static bool is_of_chosen_engine(const struct gpu_spec *gpu, const char *kernels)
{
    if (gpu->fitted_chosen < 0 || gpu->fitted_chosen >= gpu->num_fitted) {
        return false;
    }
    const char *chosen = gpu->fitted[gpu->fitted_chosen].kernels;
    size_t length = strcspn(chosen, "_");
    return length == strcspn(kernels, "_") && strncmp(chosen, kernels, length) == 0;
}

const struct attention_constants *fitted_find_attention(const struct gpu_spec *gpu,
                                                        enum attention_phase phase,
                                                        enum precision precision, double q_heads)
{
    const struct attention_constants *best = NULL;
    bool is_best_chosen = false;
    for (int32_t i = 0; i < gpu->num_attention; i++) {
        const struct attention_constants *constants = &gpu->attention[i];
        if (constants->phase != (int32_t)phase || constants->precision != precision ||
            constants->heads_min > q_heads) {
            continue;
        }
        bool is_chosen = is_of_chosen_engine(gpu, constants->kernels);
        bool is_closer = best != NULL && strcmp(best->kernels, constants->kernels) == 0 &&
                         constants->heads_min > best->heads_min;
        if (best == NULL || (is_chosen && !is_best_chosen) || is_closer) {
            best = constants;
            is_best_chosen = is_chosen;
        }
    }
    return best;
}
