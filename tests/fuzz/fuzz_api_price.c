/*
 * fuzz_api_price.c -- any text as a list of API prices: refused with reasons, or prices one can
 * reckon with.
 */
#include <math.h>

#include "api_price.h"
#include "input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct error error;
    static struct api_price_list list;
    struct cost_traffic traffic = {.requests_per_day = 1e6,
                                   .input_tokens = 1000.0,
                                   .output_tokens = 100.0,
                                   .cached_share = 0.5};
    error.num_problems = 0;
    error.text_bytes = 0;
    enum status status = api_price_read(&list, input_write("fuzz.yaml", data, bytes), &error);
    if ((status == STATUS_OK) != (error.num_problems == 0)) {
        __builtin_trap();
    }
    for (int32_t i = 0; i < list.count; i++) {
        double usd = api_price_income_usd(&list.price[i], &traffic);
        if (!isfinite(usd) || usd < 0.0) {
            __builtin_trap();
        }
    }
    return 0;
}
