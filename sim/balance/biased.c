/*
 * biased -- the hottest experts on every rank, the others once, heaviest to the lightest rank.
 *
 * Source: the biased policy of ATOM @ ffdf3bb, as described: the (slots - experts) / ranks hottest
 * experts are on every GPU, the rest is placed longest first, and a layer is left alone while the
 * same experts are hot. Adapted: a hot expert's own slot is free then; it and what the division
 * leaves over go to further replicas of the others, the most loaded first.
 */
#include "balance/deal.h"

/* Leaves the hot experts at the head of work->item. */
static void sort_by_load(struct deal_work *work, int32_t num_experts)
{
    for (int32_t expert = 0; expert < num_experts; expert++) {
        work->item[expert] = (struct deal_item){work->tokens[expert], expert, expert};
    }
    deal_sort(work->item, num_experts);
}

/* Does every rank hold each hot expert already? */
static bool same_hot_set(const struct deal_work *work, const struct balance_input *input,
                         const int32_t *in_force, int32_t num_hot)
{
    int32_t slots_per_rank = input->num_slots / input->num_ranks;
    for (int32_t i = 0; i < num_hot; i++) {
        for (int32_t rank = 0; rank < input->num_ranks; rank++) {
            if (!deal_holds(in_force + rank * slots_per_rank, slots_per_rank,
                            work->item[i].expert)) {
                return false;
            }
        }
    }
    return num_hot > 0;
}

/*   rest  [num_experts]  scratch: loads, the hot ones' taken out */
static void deal_layer(struct deal_work *work, const struct balance_input *input, int32_t num_hot,
                       double *rest)
{
    int32_t num_experts = input->num_experts;
    int32_t num_ranks = input->num_ranks;
    int32_t slots_per_rank = input->num_slots / num_ranks;
    deal_clear(work, num_ranks);
    for (int32_t expert = 0; expert < num_experts; expert++) {
        rest[expert] = work->tokens[expert];
    }
    for (int32_t i = 0; i < num_hot; i++) {
        int32_t hot = work->item[i].expert;
        rest[hot] = -1.0; /* never replicated further */
        for (int32_t rank = 0; rank < num_ranks; rank++) {
            work->fresh[rank * slots_per_rank + work->rank_used[rank]++] = hot;
            work->rank_tokens[rank] += work->tokens[hot] / num_ranks;
        }
    }
    /* Replicas of the others: as if hot experts had one slot each, which is then not listed. */
    deal_replicate(work->replicas, rest, num_experts,
                   input->num_slots - num_hot * num_ranks + num_hot, num_ranks, false);
    int32_t count = 0;
    for (int32_t expert = 0; expert < num_experts; expert++) {
        for (int32_t copy = 0; rest[expert] >= 0.0 && copy < work->replicas[expert]; copy++) {
            work->item[count] =
                (struct deal_item){rest[expert] / work->replicas[expert], count, expert};
            count++;
        }
    }
    deal_sort(work->item, count);
    deal_to_lightest(work, count, num_ranks, slots_per_rank, true);
}

static enum status plan_biased(void *state, const struct balance_input *input,
                               int32_t *expert_of_slot, struct error *error)
{
    (void)state; /* the placement in force tells which experts were hot */
    struct deal_work work;
    enum status status = deal_open(&work, "biased", input, error);
    double *rest = arena_alloc(input->scratch, (size_t)input->num_experts, sizeof *rest);
    if (status == STATUS_OK && rest == NULL) {
        status = error_add(error, STATUS_NO_MEMORY, "biased: no memory");
    }
    int32_t num_hot = (input->num_slots - input->num_experts) / input->num_ranks;
    num_hot = num_hot < input->num_experts ? num_hot : input->num_experts - 1;
    for (int32_t layer = 0; status == STATUS_OK && layer < input->num_layers; layer++) {
        const int32_t *in_force = input->placement[layer].expert_of_slot;
        deal_load(&work, input, layer);
        sort_by_load(&work, input->num_experts);
        if (same_hot_set(&work, input, in_force, num_hot)) {
            continue;
        }
        deal_layer(&work, input, num_hot, rest);
        deal_keep_places(&work, work.fresh, in_force, input->num_slots,
                         input->num_slots / input->num_ranks);
        deal_copy(expert_of_slot, &work, input, layer);
    }
    return status;
}

const struct balance_strategy balance_biased = {
    .name = "biased",
    .summary = "the hottest experts on every rank, the others dealt heaviest first",
    .source = "adapted from ATOM @ ffdf3bb",
    .needs = BALANCE_NEEDS_WINDOW,
    .spreads_replicas = true,
    .settles = true,
    .plan = plan_biased,
};
