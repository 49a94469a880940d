/* test_bench_difference.c -- what a failed check says about where results differ. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "bench_difference.h"

enum { ROWS = 4, COLUMNS = 8 };

static void fill(float *values)
{
    for (int i = 0; i < ROWS * COLUMNS; i++) {
        values[i] = i % 2 == 0 ? 1.0f : -1.0f; /* root mean square: 1 */
    }
}

static struct bench_difference compare(const float *expected, const float *got)
{
    return bench_difference(CHECK_FP32, expected, got, ROWS * COLUMNS * 4, COLUMNS * 4, 1e-2);
}

Test(bench_difference, equal_results_have_none)
{
    float expected[ROWS * COLUMNS];
    fill(expected);

    struct bench_difference found = compare(expected, expected);

    cr_expect_eq(found.count, ROWS * COLUMNS);
    cr_expect_eq(found.off, 0);
}

Test(bench_difference, rounding_is_none)
{
    float expected[ROWS * COLUMNS];
    float got[ROWS * COLUMNS];
    fill(expected);
    fill(got);
    got[5] += 0.039f; /* four times the tolerance of 1e-2 is 0.04 */
    got[6] += 0.041f;

    struct bench_difference found = compare(expected, got);

    cr_expect_eq(found.off, 1);
    cr_expect_eq(found.first, 6);
}

Test(bench_difference, says_which_rows_and_columns)
{
    float expected[ROWS * COLUMNS];
    float got[ROWS * COLUMNS];
    fill(expected);
    fill(got);
    got[1 * COLUMNS + 6] = 9.0f;
    got[2 * COLUMNS + 3] = NAN;
    got[3 * COLUMNS + 4] = -9.0f;

    struct bench_difference found = compare(expected, got);

    cr_expect_eq(found.off, 3);
    cr_expect_eq(found.not_numbers, 1);
    cr_expect_eq(found.rows[0], 1);
    cr_expect_eq(found.rows[1], 3);
    cr_expect_eq(found.columns[0], 3);
    cr_expect_eq(found.columns[1], 6);
    cr_expect_eq(found.first, 1 * COLUMNS + 6);
    cr_expect_eq(found.last, 3 * COLUMNS + 4);
}

Test(bench_difference, poison_that_both_left_alone_is_none_and_on_one_side_is)
{
    float expected[ROWS * COLUMNS];
    float got[ROWS * COLUMNS];
    fill(expected);
    fill(got);
    expected[3] = got[3] = NAN;
    expected[4] = NAN; /* written where nothing belongs */

    struct bench_difference found = compare(expected, got);

    cr_expect_eq(found.off, 1);
    cr_expect_eq(found.first, 4);
    cr_expect_eq(found.not_numbers, 0);
}

Test(bench_difference, bits_are_words)
{
    const int32_t expected[6] = {1, 2, 3, 4, 5, 6};
    const int32_t got[6] = {1, 2, 3, -1, 5, 6};
    char text[512] = "";
    FILE *file = fmemopen(text, sizeof text, "w");

    struct bench_difference found = bench_difference(CHECK_BITS, expected, got, 24, 12, 0.0);
    bench_difference_print(file, "row_of", &found, CHECK_BITS, expected, got, 12,
                           (const char *const[]){"expected", "got"});
    fclose(file);

    cr_expect_str_eq(text,
                     "    row_of: 1 of 6 off (0 NaN), rows 1 to 1 of 2, columns 0 to 0 of 3\n"
                     "    first row 1 column 0: expected 4 (0x00000004), got -1 (0xffffffff)\n");
}
