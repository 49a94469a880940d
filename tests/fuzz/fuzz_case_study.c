/*
 * fuzz_case_study.c -- any text as a study: refused with reasons, or one with a question and an
 * answer. Its queries are compiled and not run: what they would cost is not bounded.
 */
#include <string.h>

#include "case_study.h"
#include "input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct error error;
    static struct case_study study;
    error.num_problems = 0;
    error.text_bytes = 0;
    enum status status = case_study_load(&study, input_write("fuzz.yaml", data, bytes), &error);
    if ((status == STATUS_OK) != (error.num_problems == 0)) {
        __builtin_trap();
    }
    if (status == STATUS_OK && study.question[0] == '\0') {
        __builtin_trap();
    }
    for (int32_t i = 0; status == STATUS_OK && i < study.num_answers; i++) {
        if (study.answer[i] == NULL || strlen(study.answer[i]) == 0) {
            __builtin_trap();
        }
    }
    case_study_free(&study);
    return 0;
}
