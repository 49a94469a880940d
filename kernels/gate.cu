/*
 * gate.cu -- which experts each token goes to, in one pass over the logits: scores, groups, top-k,
 * weights.
 *
 * v1  a thread a token; every choice walks all experts anew, as ref_gate() does. Bound by latency:
 *     num_experts * top_k dependent reads of rows that lie num_experts * 4 bytes apart.
 * v2  a warp a token, the scores in registers as ordered keys (gate_lane.h). A choice is one
 *     redux.sync maximum and one ballot: ties go to the lowest lane, which holds the smallest ids,
 *     so no id travels. Groups are compared by a count of those that are better, not by sorting.
 *     Bound by instructions, about 40 a choice at 256 experts; where there are sigmoids, by those,
 *     which are exact only in double.
 * v3  sigmoid scores first in float32 by the special function unit. Choices are taken from those
 *     only where every comparison that decided was clear by more than both errors; the other tokens
 *     (about one in a hundred on random data) are done again exactly. So choices are v2's. Rules
 *     without sigmoid run as in v2.
 *
 * Choices equal the reference's bit for bit; weights are float32 within 1e-6 of it.
 * Bytes: 4 num_experts in, 8 top_k out, a token: at 256 experts 1.1 KiB, mostly out of the L2.
 */
#include "moe_kernels.h"

#include <math.h>

#include "gate_lane.h"
#include "gate_math.h"
#include "launch.cuh"

static const int WARPS = 4; /* of a block: small blocks leave no SM waiting for a slow token */
static const unsigned ALL_LANES = 0xffffffffu;

struct gate_arguments {
    struct gate_rule rule;
    int32_t num_tokens;
    int32_t *expert;
    float *gate_weight;
    const float *logits;
    const float *choice_bias;
};

static __device__ __forceinline__ float fast_sigmoid(float x)
{
    return __fdividef(1.0f, 1.0f + __expf(-x));
}

static __device__ __forceinline__ float ordered(float logit)
{
    return isnan(logit) ? -INFINITY : logit;
}

static __device__ __forceinline__ float exact_score(const struct gate_arguments &gate, int32_t e,
                                                    float logit)
{
    if (gate.rule.score != GATE_SIGMOID) {
        return logit;
    }
    return gate_sigmoid(logit) + (gate.choice_bias == NULL ? 0.0f : gate.choice_bias[e]);
}

/* exp(logit - largest), 1 for the largest even where it is infinite. */
static __device__ __forceinline__ float exp_below(float logit, float largest)
{
    return logit == largest ? 1.0f : expf(logit - largest);
}

/* ---- v1 ---- */

static __device__ float v1_score(const struct gate_arguments &gate, int64_t token, int32_t e)
{
    return exact_score(gate, e, ordered(gate.logits[token * gate.rule.num_experts + e]));
}

static __device__ float v1_group_score(const struct gate_arguments &gate, int64_t token,
                                       int32_t group)
{
    int32_t experts = gate.rule.num_experts / gate.rule.num_groups;
    float first = -INFINITY;
    float second = -INFINITY;
    for (int32_t e = group * experts; e < (group + 1) * experts; e++) {
        float score = v1_score(gate, token, e);
        second = fmaxf(second, fminf(first, score));
        first = fmaxf(first, score);
    }
    return gate.rule.group_score == GATE_GROUP_MAX ? first : first + second;
}

/* Whether fewer than topk_groups groups are better. */
static __device__ bool v1_group_allowed(const struct gate_arguments &gate, int64_t token,
                                        int32_t group)
{
    float score = v1_group_score(gate, token, group);
    int32_t better = 0;
    for (int32_t other = 0; other < gate.rule.num_groups; other++) {
        better += other != group &&
                  gate_group_before(v1_group_score(gate, token, other), other, score, group);
    }
    return better < gate.rule.topk_groups;
}

static __device__ void v1_weigh(const struct gate_arguments &gate, int64_t token)
{
    const struct gate_rule &rule = gate.rule;
    const float *logit = &gate.logits[token * rule.num_experts];
    const int32_t *expert = &gate.expert[token * rule.top_k];
    float *weight = &gate.gate_weight[token * rule.top_k];
    bool softmax = rule.score == GATE_SOFTMAX || rule.score == GATE_CHOSEN_SOFTMAX;
    bool over_all = rule.score == GATE_SOFTMAX && !rule.renormalize;
    bool over_chosen = rule.score == GATE_CHOSEN_SOFTMAX ||
                       (rule.renormalize && rule.score != GATE_CHOSEN_SIGMOID);
    float largest = -INFINITY;
    for (int32_t e = 0; e < rule.num_experts; e++) {
        largest = fmaxf(largest, ordered(logit[e])); /* of all: none is chosen without the best */
    }
    if (rule.score == GATE_CHOSEN_SOFTMAX || rule.renormalize) {
        largest = -INFINITY;
        for (int32_t k = 0; k < rule.top_k; k++) {
            largest = fmaxf(largest, ordered(logit[expert[k]]));
        }
    }
    float divisor = rule.score == GATE_SIGMOID ? 1e-20f : 0.0f;
    for (int32_t e = 0; over_all && e < rule.num_experts; e++) {
        divisor += exp_below(ordered(logit[e]), largest);
    }
    for (int32_t k = 0; k < rule.top_k; k++) {
        float chosen = ordered(logit[expert[k]]);
        weight[k] = softmax ? exp_below(chosen, largest) : gate_sigmoid(chosen);
        divisor += over_chosen ? weight[k] : 0.0f;
    }
    for (int32_t k = 0; k < rule.top_k; k++) {
        weight[k] = (over_all || over_chosen ? weight[k] / divisor : weight[k]) * rule.scale;
    }
}

static __global__ void gate_v1(struct gate_arguments gate)
{
    const int64_t token = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    const struct gate_rule &rule = gate.rule;
    if (token >= gate.num_tokens) {
        return;
    }
    uint32_t closed[GATE_EXPERTS_MAX / 32] = {0}; /* a bit an expert: taken, or its group is not */
    int32_t group_experts = rule.num_experts / rule.num_groups;
    for (int32_t e = 0; e < rule.num_experts && rule.num_groups > 1; e += group_experts) {
        bool allowed = v1_group_allowed(gate, token, e / group_experts);
        for (int32_t i = e; i < e + group_experts && !allowed; i++) {
            closed[i / 32] |= 1u << i % 32;
        }
    }
    for (int32_t k = 0; k < rule.top_k; k++) {
        int32_t best = -1;
        float best_score = 0.0f;
        for (int32_t e = 0; e < rule.num_experts; e++) {
            float score = (closed[e / 32] >> e % 32 & 1) == 0 ? v1_score(gate, token, e) : 0.0f;
            if ((closed[e / 32] >> e % 32 & 1) == 0 && (best < 0 || score > best_score)) {
                best = e;
                best_score = score;
            }
        }
        closed[best / 32] |= 1u << best % 32;
        gate.expert[token * rule.top_k + k] = best;
    }
    v1_weigh(gate, token);
}

/* ---- v2 and v3 ---- */

static __device__ __forceinline__ float warp_sum(float value)
{
    for (int distance = GATE_LANES / 2; distance > 0; distance /= 2) {
        value += __shfl_xor_sync(ALL_LANES, value, distance);
    }
    return value; /* the same in every lane: a + b is b + a */
}

/* A lane's logits: 16 bytes at a time where rows and lanes begin at multiples of that. */
template <int N>
static __device__ __forceinline__ void load_logits(float (&logit)[N], const float *row,
                                                   int32_t num_experts, int32_t first)
{
    if constexpr (N >= 4) {
        if (num_experts % 4 == 0) {
#pragma unroll
            for (int i = 0; i < N; i += 4) {
                float4 four = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
                if (first + i < num_experts) {
                    four = __ldg((const float4 *)&row[first + i]);
                }
                logit[i] = four.x;
                logit[i + 1] = four.y;
                logit[i + 2] = four.z;
                logit[i + 3] = four.w;
            }
            return;
        }
    }
#pragma unroll
    for (int i = 0; i < N; i++) {
        logit[i] = first + i < num_experts ? __ldg(&row[first + i]) : 0.0f;
    }
}

/* Returns whether all scores are small enough for SCORE_ERROR. */
template <int N>
static __device__ __forceinline__ bool make_keys(uint32_t (&key)[N],
                                                 const struct gate_arguments &gate, int64_t token,
                                                 int32_t first, bool fast)
{
    float logit[N];
    bool bounded = true;
    load_logits(logit, &gate.logits[token * gate.rule.num_experts], gate.rule.num_experts, first);
#pragma unroll
    for (int i = 0; i < N; i++) {
        key[i] = KEY_NONE;
        if (first + i < gate.rule.num_experts) {
            float value = ordered(logit[i]);
            float bias = fast && gate.choice_bias != NULL ? gate.choice_bias[first + i] : 0.0f;
            float score = fast ? fast_sigmoid(value) + bias : exact_score(gate, first + i, value);
            key[i] = gate_key(score);
            bounded = bounded && fabsf(score) < GATE_SCORE_LIMIT;
        }
    }
    return bounded;
}

/* The score of group `lane`; any number in lanes that have no group. */
template <int N>
static __device__ __forceinline__ float group_score(const uint32_t (&key)[N],
                                                    const struct gate_rule &rule, int32_t lane)
{
    int32_t experts = rule.num_experts / rule.num_groups;
    int32_t lanes = gate_lanes_per_group(experts, N);
    struct lane_pair mine = {KEY_NONE, KEY_NONE};
    for (int32_t group = 0; group < (lanes > 0 ? 1 : rule.num_groups); group++) {
        int32_t begin = lanes > 0 ? 0 : group * experts;
        int32_t end = lanes > 0 ? rule.num_experts : begin + experts;
        struct lane_pair pair = lane_pair_of(key, N, lane * N, begin, end);
        for (int32_t distance = 1; distance < (lanes > 0 ? lanes : GATE_LANES); distance *= 2) {
            struct lane_pair other;
            other.first = __shfl_xor_sync(ALL_LANES, pair.first, distance);
            other.second = __shfl_xor_sync(ALL_LANES, pair.second, distance);
            pair = lane_pair_merge(pair, other);
        }
        mine = lanes > 0 || lane == group ? pair : mine;
    }
    float score = gate_key_score(mine.first);
    score = rule.group_score == GATE_GROUP_MAX ? score : score + gate_key_score(mine.second);
    return lanes > 0 ? __shfl_sync(ALL_LANES, score, lane * lanes % GATE_LANES) : score;
}

/* Takes the experts of all but the best groups out. Returns whether that was decided by more than
 * margin. */
template <int N>
static __device__ __forceinline__ bool
limit_groups(uint32_t (&key)[N], const struct gate_rule &rule, int32_t lane, float margin)
{
    float score = group_score(key, rule, lane);
    int32_t better = 0;
    bool clear = true;
    for (int32_t group = 0; group < rule.num_groups; group++) {
        float other = __shfl_sync(ALL_LANES, score, group);
        better += gate_group_before(other, group, score, lane);
        clear = clear && (group == lane || fabsf(other - score) > margin);
    }
    unsigned groups = rule.num_groups < 32 ? (1u << rule.num_groups) - 1 : ALL_LANES;
    unsigned allowed = __ballot_sync(ALL_LANES, better < rule.topk_groups) & groups;
    int32_t experts = rule.num_experts / rule.num_groups;
    int32_t group = lane * N / experts;
    int32_t next = (group + 1) * experts; /* where the next group begins */
#pragma unroll
    for (int i = 0; i < N; i++) {
        if (lane * N + i == next) {
            group++;
            next += experts;
        }
        key[i] = group < GATE_LANES && (allowed >> group & 1) != 0 ? key[i] : KEY_NONE;
    }
    return (__ballot_sync(ALL_LANES, clear) & groups) == groups;
}

/* Lane k ends with the k-th choice. Returns whether each was more than margin better than the next;
 * a margin below 0: not asked. */
template <int N>
static __device__ __forceinline__ bool choose(uint32_t (&key)[N], int32_t top_k, int32_t lane,
                                              float margin, int32_t *chosen)
{
    bool clear = true;
    float before = INFINITY;
    for (int32_t k = 0; k < top_k; k++) {
        uint32_t mine = lane_max(key, N);
        uint32_t best = __reduce_max_sync(ALL_LANES, mine);
        int32_t owner = __ffs((int)__ballot_sync(ALL_LANES, mine == best)) - 1;
        int32_t index = 0;
        if (lane == owner) {
            index = lane_take(key, N, best);
        }
        index = __shfl_sync(ALL_LANES, owner * N + index, owner);
        *chosen = lane == k ? index : *chosen;
        clear = clear && before - gate_key_score(best) > margin;
        before = gate_key_score(best);
    }
    if (margin >= 0.0f) {
        uint32_t next = __reduce_max_sync(ALL_LANES, lane_max(key, N));
        clear = clear && (next == KEY_NONE || before - gate_key_score(next) > margin);
    }
    return clear;
}

/* Softmax over all: its largest logit and its sum. */
template <int N>
static __device__ __forceinline__ float sum_over_all(const uint32_t (&key)[N], float *largest)
{
    *largest = gate_key_score(__reduce_max_sync(ALL_LANES, lane_max(key, N)));
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < N; i++) {
        sum += key[i] == KEY_NONE ? 0.0f : exp_below(gate_key_score(key[i]), *largest);
    }
    return warp_sum(sum);
}

/* The weight of lane k's choice. largest and sum are those over all experts, where they are asked
 * for. */
static __device__ __forceinline__ float weigh(const struct gate_rule &rule, float logit, bool mine,
                                              float largest, float sum)
{
    float weight = 0.0f;
    if (rule.score == GATE_SOFTMAX || rule.score == GATE_CHOSEN_SOFTMAX) {
        bool over_all = rule.score == GATE_SOFTMAX && !rule.renormalize;
        if (!over_all) { /* the first choice is the largest of the chosen, and with groups too */
            largest = __shfl_sync(ALL_LANES, logit, 0);
        }
        weight = mine ? exp_below(logit, largest) : 0.0f;
        return weight / (over_all ? sum : warp_sum(weight)) * rule.scale;
    }
    weight = mine ? 1.0f / (1.0f + expf(-logit)) : 0.0f;
    if (rule.score == GATE_SIGMOID && rule.renormalize) {
        weight /= warp_sum(weight) + 1e-20f;
    }
    return weight * rule.scale;
}

template <int N, bool FAST>
static __global__ void __launch_bounds__(WARPS *GATE_LANES) gate_warp(struct gate_arguments gate)
{
    const int64_t token = (int64_t)blockIdx.x * WARPS + threadIdx.x / GATE_LANES;
    const int32_t lane = (int32_t)threadIdx.x % GATE_LANES;
    const struct gate_rule &rule = gate.rule;
    if (token >= gate.num_tokens) {
        return; /* the whole warp: no lane is missed in a shuffle */
    }
    uint32_t key[N];
    float largest = 0.0f;
    float sum = 1.0f;
    int32_t chosen = 0;
    bool clear = false;
    for (int exact = FAST ? 0 : 1; exact < 2 && !clear; exact++) {
        bool bounded = make_keys(key, gate, token, lane * N, !exact);
        if (rule.score == GATE_SOFTMAX && !rule.renormalize) {
            sum = sum_over_all(key, &largest);
        }
        clear = __all_sync(ALL_LANES, bounded);
        if (rule.num_groups > 1) {
            clear =
                limit_groups(key, rule, lane, exact ? GATE_NO_MARGIN : GATE_GROUP_MARGIN) && clear;
        }
        clear =
            choose(key, rule.top_k, lane, exact ? GATE_NO_MARGIN : GATE_CHOICE_MARGIN, &chosen) &&
            clear;
    }
    bool mine = lane < rule.top_k;
    float logit = mine ? ordered(gate.logits[token * rule.num_experts + chosen]) : -INFINITY;
    float weight = weigh(rule, logit, mine, largest, sum);
    if (mine) {
        gate.expert[token * rule.top_k + lane] = chosen;
        gate.gate_weight[token * rule.top_k + lane] = weight;
    }
}

template <int N>
static enum status launch_warps(const struct gate_arguments &gate, bool fast, void *stream)
{
    unsigned blocks = ((unsigned)gate.num_tokens + WARPS - 1) / WARPS;
    return launch(fast ? gate_warp<N, true> : gate_warp<N, false>, blocks, WARPS * GATE_LANES, 0,
                  stream, gate);
}

static enum status launch_version(const struct gate_arguments &gate, int32_t version, void *stream)
{
    if (version == 1 || gate.rule.num_groups > GATE_LANES) { /* a lane a group in v2 */
        const unsigned threads = 64;                         /* few, so that many SMs take part */
        unsigned blocks = ((unsigned)gate.num_tokens + threads - 1) / threads;
        return launch(gate_v1, blocks, threads, 0, stream, gate);
    }
    bool fast = version == 3 && gate.rule.score == GATE_SIGMOID;
    switch (gate_keys_per_lane(gate.rule.num_experts)) {
    case 1:
        return launch_warps<1>(gate, fast, stream);
    case 2:
        return launch_warps<2>(gate, fast, stream);
    case 4:
        return launch_warps<4>(gate, fast, stream);
    case 8:
        return launch_warps<8>(gate, fast, stream);
    case 16:
        return launch_warps<16>(gate, fast, stream);
    default:
        return launch_warps<32>(gate, fast, stream);
    }
}

extern "C" enum status dev_gate_version(int32_t version, struct gate_rule rule, int32_t num_tokens,
                                        int32_t *expert, float *gate_weight, const float *logits,
                                        const float *choice_bias, void *stream)
{
    if (version < 1 || version > DEV_GATE_VERSIONS || !gate_rule_valid(&rule) || num_tokens < 0 ||
        (choice_bias != NULL && rule.score != GATE_SIGMOID)) {
        return STATUS_INVALID;
    }
    if (num_tokens == 0) {
        return STATUS_OK;
    }
    return launch_version({rule, num_tokens, expert, gate_weight, logits, choice_bias}, version,
                          stream);
}

extern "C" enum status dev_gate(struct gate_rule rule, int32_t num_tokens, int32_t *expert,
                                float *gate_weight, const float *logits, const float *choice_bias,
                                void *stream)
{
    return dev_gate_version(DEV_GATE_VERSIONS, rule, num_tokens, expert, gate_weight, logits,
                            choice_bias, stream);
}
