/*
 * fuzz_scenario.c -- any text as a scenario: refused with reasons, or complete.
 */
#include "input.h"
#include "scenario.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct error error;
    error.num_problems = 0;
    error.text_bytes = 0;
    struct scenario scenario = {0};
    enum status status =
        scenario_load(&scenario, input_write("fuzz.yaml", data, bytes), NULL, 0, &error);
    if ((status == STATUS_OK) != (error.num_problems == 0)) {
        __builtin_trap();
    }
    if (status == STATUS_OK && (scenario.text == NULL || scenario.ep < 1 ||
                                scenario.strategy == NULL || scenario.net == NULL)) {
        __builtin_trap();
    }
    scenario_free(&scenario);
    return 0;
}
