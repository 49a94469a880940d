/*
 * radix_sort.h -- a stable sort of 64-bit records by their upper half, in linear time.
 *
 * Put what orders into the upper 32 bits and an index into the lower. Non-negative IEEE floats
 * order as their bits do, so weights can be sorted as they are.
 */
#ifndef MOESIM_RADIX_SORT_H
#define MOESIM_RADIX_SORT_H

#include <stdint.h>
#include <string.h>

/* Records that ascend as scores descend, whatever their sign; -0 counts as 0. */
static inline uint64_t radix_descending(float score, uint32_t index)
{
    float sum = score + 0.0f; /* turns -0 into 0 */
    uint32_t bits;
    memcpy(&bits, &sum, sizeof bits);
    uint32_t descending = bits >> 31 != 0 ? bits : ~bits & UINT32_C(0x7fffffff);
    return (uint64_t)descending << 32 | index;
}

/* Sorts record[count] ascending by bits 32 to 63; equal ones keep their order. swap[count] is
 * working memory. Returns the buffer, record or swap, that the result is in. */
const uint64_t *radix_sort(uint64_t *record, uint64_t *swap, int32_t count);

#endif
