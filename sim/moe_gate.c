/*
 * moe_gate.c -- what rank 0 got once an engine's gate had read the collector's logits.
 *
 * The collector writes choices into logits, one value for the chosen experts and one for all
 * others. Most gates give the choices back. DeepSeek-V3's (arXiv 2412.19437, 2.1.2; in SGLang and
 * vLLM for its own shapes, in TensorRT-LLM's minimum latency mode for all: trtllm/collect_moe.py of
 * ai-dynamo/aiconfigurator @ 095f58a51c4c) keeps 4 of 8 groups of experts, those with the largest
 * sum of two, and the best of their experts. Of equals the lowest index wins, so where choices are
 * spread over all groups half of them end up in experts that nobody asked for, always the same. In
 * the table it shows as DeepSeek-V3 that takes as long on one GPU as on rank 0 of two.
 *
 * A group of one expert has no two to sum, so of eight experts (Mixtral's) the lowest always win:
 * its rows show two experts' weights on one GPU, and all tokens on rank 0 of eight.
 *
 * SGLang's collector also hands rank 0 only tokens that chose one of its experts, and where it
 * calls the kernel by itself turns their choices of other ranks into ones of expert 0
 * (sglang/collect_moe.py, run_op): so it is done that many times more. Its version for SGLang
 * 0.5.10 called the kernel by itself for every model, which is what the A100's rows show.
 */
#include <assert.h>
#include <string.h>

#include "moe_rows_internal.h"

#define GROUPS      8
#define GROUPS_KEPT 4

/* Tokens that chose the same experts. */
struct choice {
    int64_t num_tokens;
    int32_t top_k;
    int32_t expert[DEAL_EXPERTS_MAX]; /* [top_k] */
};

/* The groups that are kept, in order of their indices. */
static void keep_groups(bool *kept, const struct choice *choice, int32_t per_group)
{
    int32_t score[GROUPS] = {0};
    for (int32_t i = 0; i < choice->top_k; i++) {
        int32_t group = choice->expert[i] / per_group;
        score[group] += score[group] < 2;
    }
    memset(kept, 0, GROUPS * sizeof *kept);
    for (int32_t round = 0; round < GROUPS_KEPT; round++) {
        int32_t best = -1;
        for (int32_t group = 0; group < GROUPS; group++) {
            if (!kept[group] && (best < 0 || score[group] > score[best])) {
                best = group;
            }
        }
        kept[best] = true;
    }
}

static bool is_chosen(const struct choice *choice, int32_t count, int32_t expert)
{
    for (int32_t i = 0; i < count; i++) {
        if (choice->expert[i] == expert) {
            return true;
        }
    }
    return false;
}

static void limit_to_groups(struct choice *choice, int32_t num_experts)
{
    bool kept[GROUPS];
    int32_t per_group = num_experts / GROUPS;
    int32_t count = 0;
    keep_groups(kept, choice, per_group);
    for (int32_t i = 0; i < choice->top_k && per_group > 1; i++) {
        if (kept[choice->expert[i] / per_group]) {
            choice->expert[count++] = choice->expert[i];
        }
    }
    for (int32_t expert = 0; expert < num_experts && count < choice->top_k; expert++) {
        if (kept[expert / per_group] && !is_chosen(choice, count, expert)) {
            choice->expert[count++] = expert;
        }
    }
}

/* Adds what rank 0 does for the tokens of a choice. */
static void give(struct dealt *dealt, const struct choice *choice, int32_t local,
                 enum moe_remote remote)
{
    int32_t num_local = 0;
    for (int32_t i = 0; i < choice->top_k; i++) {
        num_local += choice->expert[i] < local;
        if (choice->expert[i] < local) {
            dealt->tokens_of[choice->expert[i]] += choice->num_tokens;
        }
    }
    if (remote == MOE_REMOTE_SEEN || num_local > 0) {
        dealt->rows += choice->num_tokens;
    }
    if (remote == MOE_REMOTE_TO_FIRST && num_local > 0) {
        dealt->tokens_of[0] += choice->num_tokens * (choice->top_k - num_local);
    }
}

static void pass(struct dealt *dealt, struct choice *choice, const struct deal *deal,
                 const struct moe_gate *gate)
{
    bool has_groups =
        deal->num_experts % GROUPS == 0 && deal->top_k <= deal->num_experts / GROUPS * GROUPS_KEPT;
    if (gate->is_grouped && has_groups) {
        limit_to_groups(choice, deal->num_experts);
    }
    give(dealt, choice, deal->num_experts / deal->ep, gate->remote);
}

void moe_gate_balanced(struct dealt *dealt, const struct deal *deal, const struct moe_gate *gate)
{
    struct choice choice = {.top_k = deal->top_k};
    int64_t stride = (deal->num_experts + deal->top_k - 1) / deal->top_k;
    int64_t num_patterns = deal->tokens < deal->num_experts ? deal->tokens : deal->num_experts;
    memset(dealt, 0, sizeof *dealt);
    for (int64_t pattern = 0; pattern < num_patterns; pattern++) {
        int64_t first = deal->tokens >= stride ? pattern : pattern * stride / deal->tokens;
        for (int32_t i = 0; i < deal->top_k; i++) {
            choice.expert[i] = (int32_t)((first + i * stride) % deal->num_experts);
        }
        choice.num_tokens =
            deal->tokens / num_patterns + (pattern < deal->tokens % num_patterns ? 1 : 0);
        pass(dealt, &choice, deal, gate);
    }
}

/* Experts by falling number of tokens, of equals the lower index first. */
static void sort_experts(int32_t *order, const int64_t *tokens_of, int32_t num_experts)
{
    for (int32_t expert = 0; expert < num_experts; expert++) {
        int32_t place = expert;
        while (place > 0 && tokens_of[order[place - 1]] < tokens_of[expert]) {
            order[place] = order[place - 1];
            place--;
        }
        order[place] = expert;
    }
}

/* The collector writes each expert as often as it has tokens, the busiest first, and reads the list
 * in top_k columns: choice i of token t is what stands at i tokens + t. */
void moe_gate_counts(struct dealt *dealt, const int64_t *tokens_of, const struct deal *deal,
                     const struct moe_gate *gate)
{
    struct choice choice = {.top_k = deal->top_k};
    int32_t order[DEAL_EXPERTS_MAX];
    int64_t end[DEAL_EXPERTS_MAX];   /* behind the expert at this place of the order */
    int32_t place[DEAL_EXPERTS_MAX]; /* of each column */
    int64_t sum = 0;
    memset(dealt, 0, sizeof *dealt);
    memset(place, 0, sizeof place);
    sort_experts(order, tokens_of, deal->num_experts);
    for (int32_t i = 0; i < deal->num_experts; i++) {
        sum += tokens_of[order[i]];
        end[i] = sum;
    }
    assert(sum == deal->tokens * deal->top_k);
    for (int64_t token = 0; token < deal->tokens; token += choice.num_tokens) {
        choice.num_tokens = deal->tokens - token;
        for (int32_t i = 0; i < deal->top_k; i++) {
            int64_t at = i * deal->tokens + token;
            while (end[place[i]] <= at) {
                place[i]++;
            }
            choice.expert[i] = order[place[i]];
            int64_t left = end[place[i]] - at;
            choice.num_tokens = left < choice.num_tokens ? left : choice.num_tokens;
        }
        pass(dealt, &choice, deal, gate);
    }
}
