/*
 * npy_half.c -- IEEE 754 binary16 to binary32 and back, by their bits.
 *
 * Written out so that every host rounds alike, with or without half-precision instructions.
 */
#include "npy.h"

#include <string.h>

#define HALF_EXPONENT_BIAS  15
#define FLOAT_EXPONENT_BIAS 127
#define FLOAT_FRACTION_BITS 23
#define FRACTION_BITS_LOST  13 /* 23 - 10 */

float npy_half_to_float(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t exponent = (half >> 10) & 0x1fu;
    uint32_t fraction = half & 0x3ffu;
    if (exponent == 0) { /* zero or subnormal: fraction * 2^-24, exact in a float */
        float magnitude = (float)fraction * 0x1p-24f;
        return sign != 0 ? -magnitude : magnitude;
    }
    uint32_t rebiased = exponent == 0x1fu ? 0xffu /* infinity or not a number */
                                          : exponent + FLOAT_EXPONENT_BIAS - HALF_EXPONENT_BIAS;
    uint32_t bits = sign | rebiased << FLOAT_FRACTION_BITS | fraction << FRACTION_BITS_LOST;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Four at a time: a half's bits in a float's places stand for 2^-112 of its value, which a product
 * mends exactly, subnormals too; exponents of all ones stay all ones. */
void npy_halves_to_floats(float *value, const uint16_t *half, int64_t count)
{
    typedef uint16_t halves __attribute__((vector_size(8)));
    typedef uint32_t words __attribute__((vector_size(16)));
    typedef float floats __attribute__((vector_size(16)));
    int64_t i = 0;
    for (; i + 4 <= count; i += 4) {
        halves some;
        memcpy(&some, half + i, sizeof some);
        words word = __builtin_convertvector(some, words);
        words magnitude = (word & 0x7fffu) << FRACTION_BITS_LOST;
        words scaled = (words)((floats)magnitude * 0x1p112f);
        words is_special = (words)((word & 0x7c00u) == 0x7c00u);
        words bits = (magnitude | 0x7f800000u) & is_special;
        bits |= (scaled & ~is_special) | (word & 0x8000u) << 16;
        memcpy(value + i, &bits, sizeof bits);
    }
    for (; i < count; i++) {
        value[i] = npy_half_to_float(half[i]);
    }
}

/* value / 2^shift to nearest, ties to even. */
static uint32_t shift_to_even(uint32_t value, uint32_t shift)
{
    uint32_t kept = value >> shift;
    uint32_t rest = value & ((1u << shift) - 1u);
    uint32_t tie = 1u << (shift - 1);
    return rest > tie || (rest == tie && (kept & 1u) != 0) ? kept + 1 : kept;
}

uint16_t npy_float_to_half(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t sign = (bits >> 16) & 0x8000u;
    uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) {
        return (uint16_t)(sign | 0x7e00u); /* not a number stays one, quiet */
    }
    int32_t exponent = (int32_t)(magnitude >> FLOAT_FRACTION_BITS) - FLOAT_EXPONENT_BIAS;
    if (exponent > 15) { /* also infinity; 65520 and up round to it below */
        return (uint16_t)(sign | 0x7c00u);
    }
    if (exponent >= -14) { /* a carry out of the fraction raises the exponent, as it should */
        uint32_t rebias = (uint32_t)(FLOAT_EXPONENT_BIAS - HALF_EXPONENT_BIAS)
                          << FLOAT_FRACTION_BITS;
        return (uint16_t)(sign | shift_to_even(magnitude - rebias, FRACTION_BITS_LOST));
    }
    if (exponent < -25) { /* below half of the smallest subnormal, 2^-24 */
        return (uint16_t)sign;
    }
    uint32_t significand = (magnitude & 0x7fffffu) | 0x800000u;
    return (uint16_t)(sign | shift_to_even(significand, (uint32_t)(-exponent - 1)));
}
