/*
 * fuzz_plan.c -- any text as a plan: refused with reasons, or a plan that can be searched.
 */
#include "input.h"
#include "plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct error error;
    static struct plan plan;
    error.num_problems = 0;
    error.text_bytes = 0;
    enum status status = plan_load(&plan, input_write("fuzz.yaml", data, bytes), NULL, 0, &error);
    if ((status == STATUS_OK) != (error.num_problems == 0)) {
        __builtin_trap();
    }
    if (status == STATUS_OK &&
        (plan.num_gpus < 1 || plan.num_strategies < 1 || plan.net == NULL ||
         plan.gpu_model == NULL || plan.text == NULL || plan.space[COST_DECODE].ep.count < 1 ||
         plan.traffic.requests_per_day < 1.0 || cost_peak_over_mean(&plan.traffic) < 1.0)) {
        __builtin_trap();
    }
    plan_free(&plan);
    return 0;
}
