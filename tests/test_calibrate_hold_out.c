/*
 * test_calibrate_hold_out.c -- which rows a fit does not see.
 */
#include <criterion/criterion.h>

#include "calibrate_internal.h"

static const char *shape_of(const void *context, int64_t index)
{
    return ((const char *const *)context)[index];
}

Test(calibrate_hold_out, folds_are_shapes_in_order_of_appearance)
{
    const char *const shape[] = {"v3", "scout", "v3", "kimi", "scout"};
    const int32_t expected[] = {0, 1, 0, 2, 1};
    int32_t fold[5];

    cr_expect_eq(calibrate_folds(fold, 5, shape_of, shape), 3);

    cr_expect_arr_eq(fold, expected, sizeof expected);
}

/* Five shapes in two groups: the first, third and fifth, and the others. */
Test(calibrate_hold_out, groups_take_shapes_in_turn)
{
    int32_t fold[] = {0, 1, 2, 3, 4, 1, 0};
    const int32_t expected[] = {0, 1, 0, 1, 0, 1, 0};

    cr_expect_eq(calibrate_group_folds(fold, 7, 5, 2), 2);

    cr_expect_arr_eq(fold, expected, sizeof expected);
}

Test(calibrate_hold_out, as_many_groups_as_shapes_are_the_shapes)
{
    int32_t fold[] = {0, 1, 2, 1};
    const int32_t same[] = {0, 1, 2, 1};

    cr_expect_eq(calibrate_group_folds(fold, 4, 3, 0), 3);
    cr_expect_eq(calibrate_group_folds(fold, 4, 3, 3), 3);
    cr_expect_eq(calibrate_group_folds(fold, 4, 3, 256), 3);

    cr_expect_arr_eq(fold, same, sizeof same);
}
