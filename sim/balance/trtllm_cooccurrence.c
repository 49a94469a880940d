/*
 * trtllm_cooccurrence -- experts that tokens choose together share a rank, up to 0.8 of it.
 *
 * Source: NVIDIA/TensorRT-LLM, examples/ep_load_balancer/utils.py, do_placement_with_cooccurrence,
 * with the replication of trtllm. Ranks are filled one after the other: with the heaviest replica
 * left, then with the expert that was chosen together with the rank's experts most often, until
 * the next would be more than 0.8 of its slots or of the mean load. What is left goes, heaviest
 * first, to the lightest rank with room. An expert counts -1e9 with itself, so it is taken twice
 * only when nothing else is left. Differs: loads and counts are exact integers (there fp32), and
 * of equals the lowest id comes first (there the sort's order). It ran offline there, here it is
 * made anew from every window.
 */
#include "balance/deal.h"

#define FILL      0.8
#define WITH_SELF INT64_C(-1000000000)

struct cooccurrence {
    struct deal_work work;
    int32_t slots_per_rank;
    int32_t *left;     /* [num_experts] replicas without a slot yet */
    int64_t *together; /* [num_experts] with the experts of the rank at hand */
};

static double replica_tokens(const struct cooccurrence *co, int32_t expert)
{
    return co->work.tokens[expert] / co->work.replicas[expert];
}

/* The heaviest expert with a replica left: item is sorted by tokens a replica. -1: none. */
static int32_t heaviest(const struct cooccurrence *co, int32_t num_experts)
{
    for (int32_t i = 0; i < num_experts; i++) {
        if (co->left[co->work.item[i].expert] > 0) {
            return co->work.item[i].expert;
        }
    }
    return -1;
}

static int32_t most_together(const struct cooccurrence *co, int32_t num_experts)
{
    int32_t most = -1;
    for (int32_t expert = 0; expert < num_experts; expert++) {
        if (co->left[expert] > 0 && (most < 0 || co->together[expert] > co->together[most])) {
            most = expert;
        }
    }
    return most;
}

static void put(struct cooccurrence *co, int32_t rank, int32_t expert)
{
    struct deal_work *work = &co->work;
    work->fresh[rank * co->slots_per_rank + work->rank_used[rank]++] = expert;
    work->rank_tokens[rank] += replica_tokens(co, expert);
    co->left[expert]--;
}

/* Fills one rank. pairs [num_experts][num_experts] */
static void fill_rank(struct cooccurrence *co, const int32_t *pairs, int32_t num_experts,
                      int32_t rank, double mean_tokens)
{
    struct deal_work *work = &co->work;
    for (int32_t expert = 0; expert < num_experts; expert++) {
        co->together[expert] = 0;
    }
    int32_t next = heaviest(co, num_experts);
    while (next >= 0 && work->rank_used[rank] + 1 <= co->slots_per_rank * FILL &&
           work->rank_tokens[rank] + replica_tokens(co, next) <= mean_tokens * FILL) {
        put(co, rank, next);
        for (int32_t expert = 0; expert < num_experts; expert++) {
            co->together[expert] +=
                expert == next ? WITH_SELF : pairs[(int64_t)next * num_experts + expert];
        }
        next = most_together(co, num_experts);
    }
}

static void plan_layer(struct cooccurrence *co, const struct balance_input *input, int32_t layer)
{
    struct deal_work *work = &co->work;
    int32_t num_experts = input->num_experts;
    double sum = 0.0;
    deal_load(work, input, layer);
    deal_replicate(work->replicas, work->tokens, num_experts, input->num_slots, INT32_MAX, true);
    for (int32_t expert = 0; expert < num_experts; expert++) {
        work->item[expert] = (struct deal_item){replica_tokens(co, expert), expert, expert};
        co->left[expert] = work->replicas[expert];
        sum += work->tokens[expert];
    }
    deal_sort(work->item, num_experts);
    deal_clear(work, input->num_ranks);
    const int32_t *pairs = input->pair_tokens + (int64_t)layer * num_experts * num_experts;
    for (int32_t rank = 0; rank < input->num_ranks; rank++) {
        fill_rank(co, pairs, num_experts, rank, sum / input->num_ranks);
    }
    int32_t count = 0;
    for (int32_t expert = 0; expert < num_experts; expert++) {
        for (; co->left[expert] > 0; co->left[expert]--) {
            work->item[count++] = (struct deal_item){replica_tokens(co, expert), expert, expert};
        }
    }
    deal_sort(work->item, count);
    deal_to_lightest(work, count, input->num_ranks, co->slots_per_rank, false);
}

static enum status plan_cooccurrence(void *state, const struct balance_input *input,
                                     int32_t *expert_of_slot, struct error *error)
{
    (void)state; /* memoryless: each window stands alone */
    struct cooccurrence co = {.slots_per_rank = input->num_slots / input->num_ranks};
    enum status status = deal_open(&co.work, "trtllm_cooccurrence", input, error);
    co.left = arena_take(input->scratch, (size_t)input->num_experts, sizeof(int32_t));
    co.together = arena_take(input->scratch, (size_t)input->num_experts, sizeof(int64_t));
    if (status == STATUS_OK && (co.left == NULL || co.together == NULL)) {
        status = error_add(error, STATUS_NO_MEMORY, "trtllm_cooccurrence: no memory");
    }
    for (int32_t layer = 0; status == STATUS_OK && layer < input->num_layers; layer++) {
        plan_layer(&co, input, layer);
        deal_copy(expert_of_slot, &co.work, input, layer);
    }
    return status;
}

const struct balance_strategy balance_trtllm_cooccurrence = {
    .name = "trtllm_cooccurrence",
    .summary = "experts chosen together share a rank, up to 0.8 of its load",
    .source = "NVIDIA/TensorRT-LLM, examples/ep_load_balancer/utils.py",
    .needs = BALANCE_NEEDS_WINDOW | BALANCE_NEEDS_PAIRS,
    .settles = true,
    .plan = plan_cooccurrence,
};
