/*
 * fuzz_sweep.c -- any text as a study: refused with reasons, or points that can be named.
 */
#include <string.h>

#include "input.h"
#include "sweep_study.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct error error;
    static char label[SWEEP_LABEL];
    struct sweep_study study;
    error.num_problems = 0;
    error.text_bytes = 0;
    enum status status = sweep_study_load(&study, input_write("fuzz.yaml", data, bytes), &error);
    if ((status == STATUS_OK) != (error.num_problems == 0)) {
        __builtin_trap();
    }
    if (status == STATUS_OK) {
        const struct sweep_setting *setting[SWEEP_KEYS_MAX];
        int32_t first = sweep_study_point(&study, 0, setting, label);
        int32_t last = sweep_study_point(&study, study.num_points - 1, setting, label);
        if (first < 0 || last < 0 || strlen(label) >= SWEEP_LABEL) {
            __builtin_trap();
        }
    }
    sweep_study_free(&study);
    return 0;
}
