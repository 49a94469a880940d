/*
 * fuzz_safetensors.c -- any bytes as a .safetensors file: refused, or readable to the last element.
 */
#include "input.h"
#include "safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct error error;
    error.num_problems = 0;
    error.text_bytes = 0;
    struct safetensors file = {0};
    enum status status = safetensors_open(&file, input_write("x.safetensors", data, bytes), &error);
    if ((status == STATUS_OK) != (error.num_problems == 0)) {
        __builtin_trap();
    }
    for (int64_t i = 0; status == STATUS_OK && i < file.num_entries; i++) {
        const struct tensor *tensor = &file.entry[i].tensor;
        for (int64_t element = 0; element < tensor->num_elements; element++) {
            (void)tensor_double(tensor, element);
        }
    }
    safetensors_close(&file);
    return 0;
}
