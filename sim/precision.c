/* precision.c -- one table of number formats. */
#include "precision.h"

#include <assert.h>
#include <string.h>

static const struct format {
    const char *name;
    double weight_bytes;
    double activation_bytes;
} formats[PRECISION_COUNT] = {
    [PRECISION_FP32] = {"fp32", 4.0, 4.0},
    [PRECISION_BF16] = {"bf16", 2.0, 2.0},
    [PRECISION_FP8] = {"fp8", 1.0 + 4.0 / (128.0 * 128.0), 1.0 + 4.0 / 128.0},
    [PRECISION_INT8] = {"int8", 1.0, 1.0},
    [PRECISION_MXFP4] = {"mxfp4", 0.5 + 1.0 / 32.0, 0.5 + 1.0 / 32.0},
    [PRECISION_NVFP4] = {"nvfp4", 0.5 + 1.0 / 16.0, 0.5 + 1.0 / 16.0},
};

const char *precision_name(enum precision precision)
{
    assert(precision < PRECISION_COUNT);
    return formats[precision].name;
}

bool precision_parse(enum precision *precision, const char *name)
{
    for (int format = 0; format < PRECISION_COUNT; format++) {
        if (strcmp(formats[format].name, name) == 0) {
            *precision = (enum precision)format;
            return true;
        }
    }
    return false;
}

double precision_weight_bytes(enum precision precision)
{
    assert(precision < PRECISION_COUNT);
    return formats[precision].weight_bytes;
}

double precision_activation_bytes(enum precision precision)
{
    assert(precision < PRECISION_COUNT);
    return formats[precision].activation_bytes;
}
