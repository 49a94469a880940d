/*
 * fuzz_price.c -- any text as the price of a GPU: refused with reasons, or dollars an hour and a
 * currency to show them in.
 */
#include "input.h"
#include "price.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct error error;
    struct price price;
    error.num_problems = 0;
    error.text_bytes = 0;
    enum status status = price_load(&price, input_write("fuzz.yaml", data, bytes), &error);
    if ((status == STATUS_OK) != (error.num_problems == 0)) {
        __builtin_trap();
    }
    double rate = currency_usd_per_unit(&price.currency);
    if (status == STATUS_OK && !(price.usd_per_gpu_hour >= 0.001 && price.usd_per_gpu_hour <= 1e6 &&
                                 rate > 0.0 && rate <= 1e6)) {
        __builtin_trap();
    }
    return 0;
}
