/* test_reference_quantize.c -- rounding against PyTorch's, bit by bit. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"
#include "quantize.h"

Test(quantize, casts_equal_pytorchs)
{
    struct npy value = golden("casts", "value");
    struct npy bf16 = golden("casts", "bf16");
    struct npy fp8 = golden("casts", "fp8");
    cr_assert_gt(value.num_elements, 8000);

    for (int64_t i = 0; i < value.num_elements; i++) {
        float from = ((const float *)value.data)[i];
        uint16_t rounded = bf16_from_float(from);
        if (isnan(from)) { /* which of the NaNs is nobody's business */
            cr_assert(isnan(bf16_to_float(rounded)));
        } else {
            cr_assert_eq(rounded, ((const uint16_t *)bf16.data)[i], "%a", (double)from);
        }
        cr_assert_eq(fp8_from_float(from), ((const uint8_t *)fp8.data)[i], "%a", (double)from);
    }
}

Test(quantize, every_fp8_and_bf16_number_survives_the_way_there_and_back)
{
    for (int32_t bits = 0; bits < 256; bits++) {
        float value = fp8_to_float((uint8_t)bits);
        cr_assert_eq(isnan(value) != 0, (bits & 0x7f) == 0x7f);
        cr_assert_eq(fp8_from_float(value), bits);
    }
    for (int32_t bits = 0; bits < 65536; bits++) {
        float value = bf16_to_float((uint16_t)bits);
        cr_assert(isnan(value) || bf16_from_float(value) == bits);
    }
    cr_expect_eq(fp8_to_float(0x7e), FP8_MAX);
    cr_expect_eq(fp8_to_float(0x01), 0x1p-9f); /* the smallest, subnormal */
    cr_expect_eq(fp8_to_float(0xb8), -1.0f);
}

Test(quantize, activation_blocks_equal_the_formula_in_pytorch)
{
    struct npy value = golden("activations", "value");
    struct npy fp8 = golden("activations", "fp8");
    struct npy scale = golden("activations", "scale");
    int32_t rows = (int32_t)value.dim[0];
    int32_t columns = (int32_t)value.dim[1];
    uint8_t out[5 * 300];
    float out_scale[3 * 8];
    float in[5 * 300];
    cr_assert_eq(value.num_elements, 5 * 300);
    memcpy(in, value.data, sizeof in);
    memset(out_scale, 0xff, sizeof out_scale);

    struct matrix to = {DTYPE_FP8_E4M3, out, out_scale, 8};
    struct matrix from = {.dtype = DTYPE_FP32, .data = in};
    cr_assert_eq(ref_quantize_activations(rows, columns, to, from), STATUS_OK);

    cr_expect_arr_eq(out, fp8.data, sizeof out);
    for (int32_t i = 0; i < 3 * rows; i++) {
        int32_t block = i / rows;
        int32_t row = i % rows;
        cr_expect_eq(out_scale[block * 8 + row], ((const float *)scale.data)[i]);
    }
}

Test(quantize, weight_blocks_equal_the_formula_in_pytorch)
{
    struct npy value = golden("weights", "value");
    struct npy fp8 = golden("weights", "fp8");
    struct npy scale = golden("weights", "scale");
    static uint8_t out[2 * 140 * 140];
    static float in[2 * 140 * 140];
    float out_scale[2 * 4];
    const size_t expert_bytes = 140 * 140 * sizeof in[0];
    cr_assert_eq(value.num_elements, 140 * 140);
    memcpy(in, value.data, expert_bytes);
    memcpy(in + 140 * 140, value.data, expert_bytes);

    struct matrix to = {DTYPE_FP8_E4M3, out, out_scale, 0};
    cr_assert_eq(ref_quantize_weights(2, 140, 140, to, in, NULL, 2), STATUS_OK);

    for (int32_t expert = 0; expert < 2; expert++) {
        cr_expect_arr_eq(out + expert * 140 * 140, fp8.data, 140 * 140);
        cr_expect_arr_eq(out_scale + expert * 4, scale.data, 4 * sizeof(float));
    }
}

Test(quantize, rows_come_back_within_half_a_step_of_their_block)
{
    float value[200];
    float back[200];
    uint8_t element[200];
    float scale[2];
    struct matrix matrix = {DTYPE_FP8_E4M3, element, scale, 1};
    for (int32_t i = 0; i < 200; i++) {
        value[i] = (float)(i - 100) * 0.37f;
    }

    matrix_set_row(matrix, 0, 200, value);
    matrix_get_row(matrix, 0, 200, back);

    for (int32_t i = 0; i < 200; i++) {
        /* three bits of mantissa: at most 1/16 of the value, and a float32's rounding */
        cr_expect_leq(fabsf(back[i] - value[i]), fabsf(value[i]) * 0.0626f + 1e-6f, "%d", (int)i);
    }
}

Test(quantize, refuses_what_it_cannot_hold)
{
    float data[4] = {0};
    float scale[4];
    uint8_t element[4];
    const int32_t block_of_row[2] = {0, 2};
    struct matrix in = {.dtype = DTYPE_FP32, .data = data};
    struct matrix no_scale = {.dtype = DTYPE_FP8_E4M3, .data = element};
    struct matrix short_scale = {DTYPE_FP8_E4M3, element, scale, 1};

    cr_expect_eq(ref_quantize_activations(2, 2, no_scale, in), STATUS_INVALID);
    cr_expect_eq(ref_quantize_activations(2, 2, short_scale, in), STATUS_INVALID);
    cr_expect_eq(ref_quantize_activations(-1, 2, in, in), STATUS_INVALID);
    cr_expect_eq(ref_quantize_activations(1, 2, in, short_scale), STATUS_INVALID);
    cr_expect_eq(ref_quantize_weights(1, 2, 2, no_scale, data, NULL, 1), STATUS_INVALID);
    cr_expect_eq(ref_quantize_weights(1, 2, 2, short_scale, data, block_of_row, 2), STATUS_INVALID);
}
