/*
 * ep_plan.h -- where a row that is sent belongs, for the kernels of ep.cu and their tests.
 */
#ifndef MOESIM_EP_PLAN_H
#define MOESIM_EP_PLAN_H

#include <stdint.h>

#ifdef __CUDACC__
#define EP_PLAN static __host__ __device__ __forceinline__
#else
#define EP_PLAN static inline
#endif

/* The slot whose rows, begin[slot] to begin[slot + 1] - 1, hold row. begin[num_slots + 1] ascends
 * from 0; empty slots are passed over; 0 <= row < begin[num_slots]. */
EP_PLAN int32_t ep_slot_of_row(const int32_t *begin, int32_t num_slots, int32_t row)
{
    int32_t low = 0; /* begin[low] <= row < begin[high] */
    int32_t high = num_slots;
    while (high - low > 1) {
        int32_t middle = low + (high - low) / 2;
        if (begin[middle] <= row) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

/* The copy of an expert that a token goes to, of copies slots: as ref_ep_choose_slots. */
EP_PLAN int32_t ep_copy_of_token(int64_t first_token, int64_t token, int32_t copies)
{
    return (int32_t)((first_token + token) % copies);
}

#endif
