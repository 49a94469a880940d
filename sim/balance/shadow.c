/*
 * shadow -- the hottest experts on every rank, as many as pay for their weights' way there.
 *
 * Source: laekov/fastmoe @ 9d9cea8, fmoe/fastermoe/shadow_policy.py (FasterMoE, PPoPP 2022). With
 * B_0 >= B_1 >= ... tokens of the experts, the step takes
 *     t(B) = 3 x 4 alpha H^2 / F x B + 4 x 4 H / bw x B
 * for the hottest expert that has one home, and each shadow costs 2 alpha H^2 x 4 / bw; the first i
 * experts are shadowed while t(B_i) + i shadows falls.
 *
 * Differs: t(B) and the cost of a shadow come from the machine at hand, as what a token on the
 * busiest rank and an expert's way to a rank take (where not known, a move takes as long as
 * MOVE_TOKENS says), so there is no training factor of 3 and 4. A shadow stays until the next
 * rebalance, there for a step, so it is set against the tokens of all steps to come. It needs a
 * slot on each rank: no more are shadowed than ranks have spare ones. All other experts live where
 * FasterMoE puts them, in blocks by id; a spare slot that no shadow needs keeps what it holds. A
 * layer whose busiest rank would not be relieved is left alone.
 */
#include "balance/deal.h"

/* A token's way to an expert and back: 7168 x (fp8 + bf16), about. */
#define TOKEN_BYTES 16384

/* What one shadow costs, in tokens of the busiest rank over the steps in the window. */
static double shadow_tokens(const struct balance_input *input)
{
    double move_ns = input->num_nodes > 1 ? input->far_move_ns : input->near_move_ns;
    double tokens = input->token_ns > 0.0 && move_ns > 0.0
                        ? move_ns / input->token_ns
                        : (double)input->expert_bytes / TOKEN_BYTES;
    double steps = input->num_steps > 0 ? input->num_steps : 1.0;
    return input->interval_steps > 0 ? tokens * steps / input->interval_steps : tokens;
}

/* How many of the experts in work->item, hottest first, are worth a shadow. */
static int32_t count_shadows(const struct deal_work *work, const struct balance_input *input,
                             int32_t shadows_max)
{
    double cost = shadow_tokens(input);
    double best = work->item[0].tokens;
    int32_t count = 0;
    while (count < shadows_max && count + 1 < input->num_experts) {
        double tokens = work->item[count + 1].tokens + (count + 1) * cost;
        if (tokens >= best) {
            break;
        }
        best = tokens;
        count++;
    }
    return count;
}

/* The next expert to fill a spare slot with: what the rank holds already and has lost, else the
 * hottest that it lacks; -1 where it has them all. */
static int32_t choose_filler(const struct deal_work *work, const int32_t *in_force,
                             const int32_t *slot, int32_t used, int32_t slots_per_rank,
                             int32_t num_experts)
{
    for (int32_t i = 0; i < slots_per_rank; i++) {
        if (!deal_holds(slot, used, in_force[i])) {
            return in_force[i];
        }
    }
    for (int32_t i = 0; i < num_experts; i++) {
        if (!deal_holds(slot, used, work->item[i].expert)) {
            return work->item[i].expert;
        }
    }
    return -1;
}

static void plan_layer(struct deal_work *work, const struct balance_input *input,
                       const int32_t *in_force)
{
    int32_t num_experts = input->num_experts;
    int32_t num_ranks = input->num_ranks;
    int32_t slots_per_rank = input->num_slots / num_ranks;
    for (int32_t expert = 0; expert < num_experts; expert++) {
        work->item[expert] = (struct deal_item){work->tokens[expert], expert, expert};
    }
    deal_sort(work->item, num_experts);
    int32_t home_max = (num_experts + num_ranks - 1) / num_ranks;
    int32_t num_shadows = count_shadows(work, input, slots_per_rank - home_max);
    for (int32_t rank = 0; rank < num_ranks; rank++) {
        int32_t *slot = work->fresh + rank * slots_per_rank;
        int32_t used = 0;
        int32_t home_end = (int32_t)((int64_t)(rank + 1) * num_experts / num_ranks);
        for (int32_t expert = (int32_t)((int64_t)rank * num_experts / num_ranks); expert < home_end;
             expert++) {
            slot[used++] = expert;
        }
        for (int32_t i = 0; i < num_shadows; i++) {
            if (!deal_holds(slot, used, work->item[i].expert)) {
                slot[used++] = work->item[i].expert;
            }
        }
        while (used < slots_per_rank) {
            int32_t filler = choose_filler(work, in_force + rank * slots_per_rank, slot, used,
                                           slots_per_rank, num_experts);
            slot[used++] = filler >= 0 ? filler : slot[0];
        }
    }
    deal_keep_places(work, work->fresh, in_force, input->num_slots, slots_per_rank);
}

static enum status plan_shadow(void *state, const struct balance_input *input,
                               int32_t *expert_of_slot, struct error *error)
{
    (void)state; /* memoryless: each window stands alone */
    struct deal_work work;
    enum status status = deal_open(&work, "shadow", input, error);
    for (int32_t layer = 0; status == STATUS_OK && layer < input->num_layers; layer++) {
        const int32_t *in_force = input->placement[layer].expert_of_slot;
        deal_load(&work, input, layer);
        double before = deal_busiest(&work, input, in_force);
        plan_layer(&work, input, in_force);
        if (deal_busiest(&work, input, work.fresh) < before) {
            deal_copy(expert_of_slot, &work, input, layer);
        }
    }
    return status;
}

const struct balance_strategy balance_shadow = {
    .name = "shadow",
    .summary = "the hottest experts on every rank while that pays for their weights",
    .source = "laekov/fastmoe @ 9d9cea8, fmoe/fastermoe/shadow_policy.py",
    .needs = BALANCE_NEEDS_WINDOW,
    .settles = true,
    .keeps_balanced = true,
    .plan = plan_shadow,
};
