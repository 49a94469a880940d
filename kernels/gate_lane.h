/*
 * gate_lane.h -- one lane's part of a warp's top-k, and the two steps by which lanes meet.
 *
 * Lane i of 32 holds the experts i n to i n + n - 1 as keys: unsigned numbers ordered as the scores
 * are. Of equal keys the lowest lane's, and there the lowest index, is the smallest id. So each
 * choice is a maximum over the warp, the lowest lane that has it, and the first index there; no id
 * is compared. Compiles for the host too, where tests run all lanes in a loop.
 */
#ifndef MOESIM_GATE_LANE_H
#define MOESIM_GATE_LANE_H

#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define GATE_LANE static __host__ __device__ __forceinline__
#else
#define GATE_LANE static inline
#endif
#ifdef __CUDA_ARCH__ /* so that arrays are registers; the host compiler does not know the pragma   \
                      */
#define GATE_LANE_UNROLL _Pragma("unroll")
#else
#define GATE_LANE_UNROLL
#endif

#define GATE_LANES 32
#define KEY_NONE   0u /* below the key of every score: taken, not allowed, or no expert there */

/* Of a fast sigmoid score against the exact one. |fast_sigmoid - gate_sigmoid| < 4e-7: ex2 and rcp
 * are good to 2 ulp each, and the error of ex2's input, an ulp of x log2(e), counts s (1 - s)
 * times. Adding the bias rounds both to an ulp of a number below GATE_SCORE_LIMIT, 4.8e-7. A token
 * with a score beyond that limit is done exactly. Of two choices each may be off; of two groups
 * four scores, and their sums round. */
#define GATE_SCORE_ERROR   1e-6f
#define GATE_SCORE_LIMIT   8.0f
#define GATE_CHOICE_MARGIN (2.0f * GATE_SCORE_ERROR)
#define GATE_GROUP_MARGIN  (8.0f * GATE_SCORE_ERROR)
#define GATE_NO_MARGIN     (-1.0f) /* exact scores need none */

/* Ordered as score, with -0 equal to 0, and NaN as minus infinity. */
GATE_LANE uint32_t gate_key(float score)
{
    uint32_t bits;
    score = score != score ? -__builtin_huge_valf() : score;
    score = score == 0.0f ? 0.0f : score;
    memcpy(&bits, &score, sizeof bits);
    return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

GATE_LANE float gate_key_score(uint32_t key)
{
    uint32_t bits = (key & 0x80000000u) != 0 ? key & 0x7fffffffu : ~key;
    float score;
    memcpy(&score, &bits, sizeof score);
    return score;
}

/* The greatest of key[n]. */
GATE_LANE uint32_t lane_max(const uint32_t *key, int32_t n)
{
    uint32_t best = key[0];
    GATE_LANE_UNROLL
    for (int32_t i = 1; i < n; i++) {
        best = key[i] > best ? key[i] : best;
    }
    return best;
}

/* Takes the first of key[n] that equals best, and returns its index; n: there is none. */
GATE_LANE int32_t lane_take(uint32_t *key, int32_t n, uint32_t best)
{
    int32_t taken = n;
    GATE_LANE_UNROLL
    for (int32_t i = n - 1; i >= 0; i--) {
        taken = key[i] == best ? i : taken;
    }
    GATE_LANE_UNROLL
    for (int32_t i = 0; i < n; i++) {
        key[i] = i == taken ? KEY_NONE : key[i];
    }
    return taken;
}

/* The two greatest keys of some experts. */
struct lane_pair {
    uint32_t first;
    uint32_t second;
};

GATE_LANE struct lane_pair lane_pair_merge(struct lane_pair a, struct lane_pair b)
{
    struct lane_pair merged;
    uint32_t lower = a.first < b.first ? a.first : b.first;
    uint32_t second = a.second > b.second ? a.second : b.second;
    merged.first = a.first < b.first ? b.first : a.first;
    merged.second = lower > second ? lower : second;
    return merged;
}

/* Of those of key[n], the keys of experts first to first + n - 1, that are in [begin, end). */
GATE_LANE struct lane_pair lane_pair_of(const uint32_t *key, int32_t n, int32_t first,
                                        int32_t begin, int32_t end)
{
    struct lane_pair pair = {KEY_NONE, KEY_NONE};
    GATE_LANE_UNROLL
    for (int32_t i = 0; i < n; i++) {
        struct lane_pair one = {KEY_NONE, KEY_NONE};
        one.first = first + i >= begin && first + i < end ? key[i] : KEY_NONE;
        pair = lane_pair_merge(pair, one);
    }
    return pair;
}

/* Whether a group is better than another: by score, then by id. */
GATE_LANE int gate_group_before(float score, int32_t group, float other_score, int32_t other)
{
    return score > other_score || (score == other_score && group < other);
}

/* Keys in a lane for a number of experts: a power of two, so that rows are read 16 bytes at a time.
 */
GATE_LANE int32_t gate_keys_per_lane(int32_t num_experts)
{
    int32_t n = 1;
    while (n * GATE_LANES < num_experts) {
        n *= 2;
    }
    return n;
}

/* Lanes of a group, where each group has whole lanes and their number is a power of two; else 0,
 * and a group is looked for in every lane. */
GATE_LANE int32_t gate_lanes_per_group(int32_t group_experts, int32_t keys_per_lane)
{
    int32_t lanes = group_experts / keys_per_lane;
    return group_experts % keys_per_lane == 0 && (lanes & (lanes - 1)) == 0 ? lanes : 0;
}

#endif
