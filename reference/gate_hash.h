/*
 * gate_hash.h -- 64 bits mixed so that each depends on all: SplitMix64's finalizer.
 *
 * Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014), with
 * the constants of Stafford's mix 13.
 */
#ifndef MOESIM_GATE_HASH_H
#define MOESIM_GATE_HASH_H

#include <stdint.h>

static inline uint64_t gate_hash(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

#endif
