/*
 * fuzz_config.c -- any bytes as a Hugging Face config.json: refused with a reason, or a model.
 */
#include "input.h"
#include "model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct error error;
    static struct moe_model model;
    error.num_problems = 0;
    error.text_bytes = 0;
    enum status status = model_load(&model, input_write("config.json", data, bytes), &error);
    if ((status == STATUS_OK) != (error.num_problems == 0)) {
        __builtin_trap();
    }
    return 0;
}
