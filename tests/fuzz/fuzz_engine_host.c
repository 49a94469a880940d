/*
 * fuzz_engine_host.c -- any text as what the host of an engine takes: refused with reasons, or a
 * time, of all rows and without a model's.
 */
#include "engine_host.h"
#include "input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const char *const models[] = {"", "gpt-oss-120b"};
    static struct error error;
    const char *path = input_write("fuzz.yaml", data, bytes);
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        struct engine_host host;
        error.num_problems = 0;
        error.text_bytes = 0;
        enum status status = engine_host_load(&host, path, models[i], &error);
        if ((status == STATUS_OK) != (error.num_problems == 0)) {
            __builtin_trap();
        }
        if (status == STATUS_OK && !(host.request_ms >= 0.0 && host.request_ms <= 1e6)) {
            __builtin_trap();
        }
    }
    return 0;
}
