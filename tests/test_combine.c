/* test_combine.c -- the reference combine by hand. */
#include <criterion/criterion.h>

#include "combine.h"

Test(combine, weighs_and_adds_the_rows_of_a_token)
{
    const float expert_out[3][2] = {{1.0f, 2.0f}, {10.0f, 20.0f}, {100.0f, 200.0f}};
    const int32_t row_of[2][2] = {{2, 0}, {1, ROW_DROPPED}};
    const float gate_weight[2][2] = {{0.5f, 0.25f}, {2.0f, 9.0f}};
    float out[2][2];

    cr_assert_eq(ref_combine((struct combine_shape){2, 2, 2}, out[0], expert_out[0], row_of[0],
                             gate_weight[0]),
                 STATUS_OK);

    cr_expect_eq(out[0][0], 50.25f); /* 0.5 * 100 + 0.25 * 1 */
    cr_expect_eq(out[0][1], 100.5f);
    cr_expect_eq(out[1][0], 20.0f); /* the dropped choice adds nothing */
    cr_expect_eq(out[1][1], 40.0f);
}

Test(combine, refuses_shapes_that_are_none)
{
    float out = 7.0f;

    cr_expect_eq(ref_combine((struct combine_shape){-1, 1, 1}, &out, &out, NULL, NULL),
                 STATUS_INVALID);
    cr_expect_eq(ref_combine((struct combine_shape){1, 0, 1}, &out, &out, NULL, NULL),
                 STATUS_INVALID);
    cr_expect_eq(ref_combine((struct combine_shape){0, 1, 1}, &out, &out, NULL, NULL), STATUS_OK);
    cr_expect_eq(out, 7.0f);
}
