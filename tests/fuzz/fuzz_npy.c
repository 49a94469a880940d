/*
 * fuzz_npy.c -- any bytes as a .npy file: refused, or readable to the last element.
 */
#include "input.h"
#include "npy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct error error;
    static volatile int64_t sum;
    error.num_problems = 0;
    error.text_bytes = 0;
    struct npy npy = {0};
    enum status status = npy_open(&npy, input_write("array.npy", data, bytes), &error);
    if ((status == STATUS_OK) != (error.num_problems == 0)) {
        __builtin_trap();
    }
    if (status == STATUS_OK) {
        const uint8_t *payload = npy.data;
        int64_t payload_bytes = npy.num_elements * npy_type_bytes(npy.type);
        for (int64_t index = 0; index < payload_bytes; index++) {
            sum = sum ^ payload[index];
        }
        for (int64_t index = 0; npy.type <= NPY_UINT64 && index < npy.num_elements; index++) {
            sum = sum ^ npy_int(&npy, index);
        }
    }
    npy_close(&npy);
    return 0;
}
