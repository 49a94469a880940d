/* test_radix_sort.c -- records come out by their upper half, equal ones as they came. */
#include <criterion/criterion.h>

#include "radix_sort.h"

#define NUM_RECORDS 5000

Test(radix_sort, sorts_by_the_upper_half_and_keeps_the_order_of_equals)
{
    static uint64_t record[NUM_RECORDS];
    static uint64_t swap[NUM_RECORDS];
    uint64_t draw = 7;
    for (uint64_t i = 0; i < NUM_RECORDS; i++) {
        draw = draw * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        uint64_t upper = draw >> 33 & UINT64_C(0xf00f0fff); /* many equal */
        record[i] = upper << 32 | i;
    }

    const uint64_t *sorted = radix_sort(record, swap, NUM_RECORDS);

    uint64_t index_sum = 0;
    for (int32_t i = 0; i < NUM_RECORDS; i++) {
        cr_assert(i == 0 || sorted[i - 1] < sorted[i]); /* the lower half rises among equals */
        index_sum += sorted[i] & UINT32_MAX;
    }
    cr_expect_eq(index_sum, UINT64_C(5000) * 4999 / 2);
}

Test(radix_sort, ignores_the_lower_half)
{
    uint64_t record[] = {UINT64_C(1) << 32 | 9, UINT64_C(1) << 32 | 3, 8, 1};
    uint64_t swap[4];

    const uint64_t *sorted = radix_sort(record, swap, 4);

    cr_expect(sorted[0] == 8 && sorted[1] == 1);
    cr_expect((sorted[2] & UINT32_MAX) == 9 && (sorted[3] & UINT32_MAX) == 3);
}

Test(radix_sort, accepts_nothing)
{
    uint64_t record[1] = {42};
    uint64_t swap[1];

    radix_sort(record, swap, 0);

    cr_expect_eq(record[0], 42);
}
