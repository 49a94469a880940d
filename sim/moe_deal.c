/*
 * moe_deal.c -- how the collector of the MoE table dealt out tokens: evenly, or by a power law.
 *
 * After balanced_logits() and _generate_power_law_distribution() in ai-dynamo/aiconfigurator,
 * collector/helper.py @ 095f58a51c4c; its docs/POWER_LAW_DISTRIBUTION.md has the mathematics. The
 * exponent is one of the density of an expert's share, not Zipf's of its rank. Its random numbers
 * were not kept: ours have the same distribution, so a row is predicted by an expectation.
 */
#include <assert.h>
#include <gsl/gsl_rng.h>
#include <math.h>
#include <string.h>

#include "moe_rows_internal.h"

void moe_deal_balanced(int64_t *tokens_of, int64_t tokens, int32_t num_experts, int32_t top_k)
{
    int64_t stride = (num_experts + top_k - 1) / top_k;
    memset(tokens_of, 0, (size_t)num_experts * sizeof *tokens_of);
    for (int64_t token = 0; token < tokens; token++) {
        int64_t first = tokens >= stride ? token : token * stride / tokens;
        for (int64_t choice = 0; choice < top_k; choice++) {
            tokens_of[(first + choice * stride) % num_experts]++;
        }
    }
}

/* The expert of a rank with the fewest (step 1) or most tokens (step -1) that may still change, or
 * -1; of equals the lowest. */
static int32_t pick_expert(const int64_t *tokens_of, int32_t count, int64_t limit, int32_t step)
{
    int32_t picked = -1;
    for (int32_t expert = 0; expert < count; expert++) {
        bool may = step > 0 ? tokens_of[expert] < limit : tokens_of[expert] > 0;
        if (may && (picked < 0 || step * tokens_of[expert] < step * tokens_of[picked])) {
            picked = expert;
        }
    }
    return picked;
}

/* Adds or takes away count tokens, one a rank in turn. */
static void adjust(int64_t *tokens_of, const struct deal *deal, int64_t count, int32_t step)
{
    int32_t per_rank = deal->num_experts / deal->ep;
    bool progressed = true;
    while (count > 0 && progressed) {
        progressed = false;
        for (int32_t rank = 0; rank < deal->ep && count > 0; rank++) {
            int64_t *local = tokens_of + (int64_t)rank * per_rank;
            int32_t expert = pick_expert(local, per_rank, deal->tokens, step);
            if (expert >= 0) {
                local[expert] += step;
                count--;
                progressed = true;
            }
        }
    }
}

static void swap_ranks(int64_t *tokens_of, int32_t per_rank, int32_t rank)
{
    for (int32_t i = 0; i < per_rank; i++) {
        int64_t kept = tokens_of[i];
        tokens_of[i] = tokens_of[(int64_t)rank * per_rank + i];
        tokens_of[(int64_t)rank * per_rank + i] = kept;
    }
}

static int32_t busiest_rank(const int64_t *tokens_of, int32_t per_rank, int32_t num_ranks)
{
    int32_t busiest = 0;
    int64_t most = -1;
    for (int32_t rank = 0; rank < num_ranks; rank++) {
        int64_t sum = 0;
        for (int32_t i = 0; i < per_rank; i++) {
            sum += tokens_of[(int64_t)rank * per_rank + i];
        }
        busiest = sum > most ? rank : busiest;
        most = sum > most ? sum : most;
    }
    return busiest;
}

void moe_deal_power_law(int64_t *tokens_of, const struct deal *deal, double alpha, gsl_rng *rng)
{
    double share[DEAL_EXPERTS_MAX];
    int32_t num_experts = deal->num_experts;
    int64_t target = deal->tokens * deal->top_k;
    assert(num_experts <= DEAL_EXPERTS_MAX);
    bool is_crowded = target > num_experts;
    double low = pow(is_crowded ? 1.0 : 0.01, 1.0 - alpha);
    double high = pow(is_crowded ? 0.8 * (double)deal->tokens : 2.0, 1.0 - alpha);
    double sum = 0.0;
    for (int32_t expert = 0; expert < num_experts; expert++) {
        share[expert] = pow((high - low) * gsl_rng_uniform(rng) + low, 1.0 / (1.0 - alpha));
        sum += share[expert];
    }
    int64_t dealt = 0;
    int64_t overflow = 0;
    for (int32_t expert = 0; expert < num_experts; expert++) {
        int64_t tokens = llrint(share[expert] / sum * (double)target);
        int64_t kept = tokens < deal->tokens ? tokens : deal->tokens; /* once a token at most */
        overflow += tokens - kept;
        dealt += tokens;
        tokens_of[expert] = kept;
    }
    adjust(tokens_of, deal, overflow, 1);
    adjust(tokens_of, deal, dealt < target ? target - dealt : dealt - target,
           dealt < target ? 1 : -1);
    int32_t per_rank = num_experts / deal->ep;
    swap_ranks(tokens_of, per_rank, busiest_rank(tokens_of, per_rank, deal->ep));
}
