/*
 * plan_error.c -- how far a step may be off, from the held-out errors of the models behind its
 * parts.
 *
 *     high = 1 + sum over parts of share * error        low = 1 - sum of share * error / (1 +
 * error)
 *
 * as if all parts were off the same way. Waiting for other ranks and what has no measured error
 * count as exact; share says how much of the step the models' errors are of. Kernels alone on a GPU
 * are not an engine, so the interval is at least as wide as whole engines were off.
 */
#include <math.h>
#include <stdio.h>

#include "collective/exchange.h"
#include "plan_internal.h"
#include "whole_engine.h"

bool plan_ttft_error(struct plan_range *factor, const struct plan *plan)
{
    double off = plan->host.error_median;
    *factor = off > 0.0 ? (struct plan_range){1.0 / (1.0 + off), 1.0 + off}
                        : (struct plan_range){1.0, WHOLE_ENGINE_WITHOUT_HOST};
    return plan->gpu_model->phase_error != NULL;
}

/* The phase of the GPU that most of a part of the step is. */
static bool gpu_phase_of(enum gpu_phase *gpu_phase, enum step_phase phase)
{
    static const struct {
        enum step_phase step;
        enum gpu_phase gpu;
    } pairs[] = {{STEP_ATTENTION, GPU_ATTENTION},
                 {STEP_DENSE, GPU_DENSE_FFN},
                 {STEP_GATE, GPU_GATE},
                 {STEP_EXPERT, GPU_EXPERT}};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        if (pairs[i].step == phase) {
            *gpu_phase = pairs[i].gpu;
            return true;
        }
    }
    return false;
}

static double part_error(const struct scenario *scenario, enum step_phase phase)
{
    const struct gpu_model *model = scenario->gpu_model;
    enum gpu_phase gpu_phase;
    if (phase == STEP_DISPATCH || phase == STEP_COMBINE) {
        return exchange_evidence(&scenario->cluster).error_median;
    }
    if (!gpu_phase_of(&gpu_phase, phase)) {
        return -1.0;
    }
    return model->phase_error == NULL
               ? model->error_median
               : model->phase_error(&scenario->cluster.gpu, &scenario->model, gpu_phase,
                                    scenario->phase == PHASE_PREFILL);
}

struct plan_error plan_point_error(const struct plan *plan, const struct plan_point *point)
{
    struct scenario scenario;
    struct plan_error error = {.low = 1.0, .high = 1.0};
    size_t used = 0;
    plan_point_scenario(&scenario, plan, point);
    for (int32_t phase = 0; phase < STEP_PHASE_COUNT && point->step_ns > 0.0; phase++) {
        double off = part_error(&scenario, (enum step_phase)phase);
        double share = point->phase_ns[phase] / point->step_ns;
        if (off < 0.0 || share <= 0.0) {
            continue;
        }
        int length = snprintf(error.words + used, sizeof error.words - used,
                              "%s%s %.0f %% of the step, off by %.1f %%", used > 0 ? "; " : "",
                              step_phase_name((enum step_phase)phase), 100.0 * share, 100.0 * off);
        used += length > 0 && used + (size_t)length < sizeof error.words ? (size_t)length : 0;
        error.is_known = true;
        error.share += share;
        error.low -= share * off / (1.0 + off);
        error.high += share * off;
    }
    if (error.is_known && scenario.gpu_model->phase_error != NULL) {
        const struct whole_engine_error *whole =
            whole_engine_error(scenario.phase == PHASE_PREFILL, scenario.expert_tp > 1);
        error.low = fmin(error.low, whole->low);
        error.high = fmax(error.high, whole->high);
        error.whole = whole->words;
    } else if (!error.is_known) {
        (void)snprintf(
            error.words, sizeof error.words,
            "no kernel or exchange of it has a measured error: error unknown (compute %s, "
            "network %s)",
            plan->gpu_model->name, plan->net->name);
    }
    return error;
}
