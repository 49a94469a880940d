/* radix_sort.c -- least significant byte first, all histograms in one sweep. */
#include "radix_sort.h"

#define DIGIT_BITS 8
#define NUM_DIGITS (1 << DIGIT_BITS)
#define NUM_PASSES (32 / DIGIT_BITS)

static uint32_t digit_of(uint64_t record, int32_t pass)
{
    return (uint32_t)(record >> (32 + pass * DIGIT_BITS)) & (NUM_DIGITS - 1);
}

const uint64_t *radix_sort(uint64_t *record, uint64_t *swap, int32_t count)
{
    int32_t histogram[NUM_PASSES][NUM_DIGITS] = {{0}};
    for (int32_t i = 0; i < count; i++) {
        for (int32_t pass = 0; pass < NUM_PASSES; pass++) {
            histogram[pass][digit_of(record[i], pass)]++;
        }
    }
    for (int32_t pass = 0; pass < NUM_PASSES && count > 0; pass++) {
        int32_t *place = histogram[pass];
        if (place[digit_of(record[0], pass)] == count) {
            continue; /* one digit everywhere: small integers and halves have empty low bytes */
        }
        int32_t begin = 0;
        for (int32_t digit = 0; digit < NUM_DIGITS; digit++) {
            int32_t size = place[digit];
            place[digit] = begin;
            begin += size;
        }
        for (int32_t i = 0; i < count; i++) {
            swap[place[digit_of(record[i], pass)]++] = record[i];
        }
        uint64_t *sorted = swap;
        swap = record;
        record = sorted;
    }
    return record;
}
