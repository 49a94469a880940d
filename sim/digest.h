/*
 * digest.h -- a 64-bit fingerprint of a run: equal digests, equal histories.
 *
 * Each word is folded in with a multiply and a xor-shift (the finaliser of splitmix64, Steele,
 * Lea and Flood 2014), in order, so swapped events change the result. Not cryptographic.
 */
#ifndef MOESIM_DIGEST_H
#define MOESIM_DIGEST_H

#include <stdint.h>

#define DIGEST_START UINT64_C(0x6d6f6573696d0001) /* "moesim", format 1 */

static inline uint64_t digest_u64(uint64_t digest, uint64_t word)
{
    uint64_t mixed = digest + UINT64_C(0x9e3779b97f4a7c15) + word;
    mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94d049bb133111eb);
    return mixed ^ (mixed >> 31);
}

static inline uint64_t digest_text(uint64_t digest, const char *text)
{
    for (; *text != '\0'; text++) {
        digest = digest_u64(digest, (uint64_t)(unsigned char)*text);
    }
    return digest_u64(digest, 0); /* "ab" + "c" differs from "a" + "bc" */
}

#endif
