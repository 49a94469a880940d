/* traffic_dealt.c -- sets of experts become sets of slots. */
#include "traffic_dealt.h"

#include <assert.h>
#include <string.h>

#include "flow_counter.h"

__attribute__((always_inline)) static inline int32_t
add_wishes(int32_t *restrict tokens, const struct token_sets *sets, int32_t num_experts)
{
    const uint64_t *restrict low = token_sets_word(sets, 0);
    const uint64_t *restrict high = token_sets_word(sets, 1);
    int32_t sum = 0;
    static_assert(SET_WORDS == 2, "two words a set");
#pragma omp simd reduction(+ : sum)
    for (int32_t expert = 0; expert < num_experts; expert++) {
        int32_t bits = __builtin_popcountll(low[expert]) + __builtin_popcountll(high[expert]);
        tokens[expert] += bits;
        sum += bits;
    }
    return sum;
}

static int32_t add_wishes_anywhere(int32_t *tokens, const struct token_sets *sets,
                                   int32_t num_experts)
{
    return add_wishes(tokens, sets, num_experts);
}

#ifdef __x86_64__ /* whose baseline counts bits by a call */
__attribute__((target("popcnt"))) static int32_t
add_wishes_popcnt(int32_t *tokens, const struct token_sets *sets, int32_t num_experts)
{
    return add_wishes(tokens, sets, num_experts);
}

__attribute__((target("popcnt,avx512f,avx512vl,avx512vpopcntdq"))) static int32_t
add_wishes_avx512(int32_t *tokens, const struct token_sets *sets, int32_t num_experts)
{
    return add_wishes(tokens, sets, num_experts);
}
#endif

int32_t traffic_wish_adders(wish_adder *adder[WISH_ADDERS_MAX])
{
    int32_t count = 0;
    adder[count++] = add_wishes_anywhere;
#ifdef __x86_64__
    if (__builtin_cpu_supports("popcnt")) {
        adder[count++] = add_wishes_popcnt;
    }
    if (__builtin_cpu_supports("avx512vpopcntdq") && __builtin_cpu_supports("avx512vl")) {
        adder[count++] = add_wishes_avx512;
    }
#endif
    return count;
}

/* Deals the sources' wishes block by block. Returns false where a token names an expert twice. */
static bool count_sources(struct flow_counter *counter, int32_t *wish_tokens,
                          const struct route *route, const struct replica_dispatch *replica,
                          const struct dispatch_input *input, void *turns)
{
    const int32_t num_experts = input->placement->num_experts;
    const int32_t top_k = route->top_k;
    wish_adder *adder[WISH_ADDERS_MAX];
    wish_adder *add = adder[traffic_wish_adders(adder) - 1];
    for (int32_t source = 0; source < input->placement->num_ranks; source++) {
        int32_t *of_source = &wish_tokens[(int64_t)source * num_experts];
        const int32_t end = input->batch->rank_begin[source + 1];
        memset(of_source, 0, (size_t)num_experts * sizeof *of_source);
        for (int32_t first = input->batch->rank_begin[source]; first < end; first += SET_TOKENS) {
            int32_t num_tokens = end - first > SET_TOKENS ? SET_TOKENS : end - first;
            int32_t wishes = token_sets_add(&counter->sets, &route->expert[(int64_t)first * top_k],
                                            num_tokens, top_k, num_experts);
            if (add(of_source, &counter->sets, num_experts) != wishes) {
                return false;
            }
            replica->deal(turns, source, &counter->sets);
            int32_t assignments = flow_counter_fold(counter);
            assert(assignments == wishes); /* each is dealt once */
        }
        flow_counter_end_source(counter, source);
    }
    return true;
}

enum status traffic_count_dealt(struct traffic *traffic, int32_t **wish_tokens,
                                const struct route *route, const struct replica_dispatch *replica,
                                const struct dispatch_input *input, struct arena *arena,
                                bool *is_dealt)
{
    const struct placement *placement = input->placement;
    const int32_t num_experts = placement->num_experts;
    *is_dealt = false;
    if (replica->deal == NULL || route->dropped_assignments > 0) {
        return STATUS_OK;
    }
    struct flow_counter counter;
    enum status status =
        flow_counter_open(&counter, traffic, placement, input->cluster, route->assignments,
                          num_experts + placement->num_slots, arena);
    size_t wishes = (size_t)placement->num_ranks * (size_t)num_experts;
    *wish_tokens = arena_take(arena, wishes, sizeof **wish_tokens);
    void *turns = replica->deal_open(input);
    if (status != STATUS_OK || *wish_tokens == NULL || turns == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t slot = 0; slot < placement->num_slots; slot++) {
        int32_t expert = placement->expert_of_slot[slot];
        bool is_only = placement_num_replicas(placement, expert) == 1;
        counter.set_of_slot[slot] = is_only ? expert : num_experts + slot;
    }
    *is_dealt = count_sources(&counter, *wish_tokens, route, replica, input, turns);
    if (*is_dealt) {
        flow_counter_close(&counter);
    }
    return STATUS_OK;
}
