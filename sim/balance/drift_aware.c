/*
 * drift_aware -- place for the steps to come, and move only what pays. Ours.
 *
 * A layer waits for its busiest rank. forecast.h says what experts will have to serve in the
 * interval that comes, from all steps seen so far. Each layer then starts from the placement in
 * force (relocate.h): spare slots go where replicas are heaviest, then exchanges and copies relieve
 * the busiest rank while they pay. All of it must pay together, too; else only what pays alone is
 * done. Ranks receive side by side, so a move costs its transfer over token time over ranks. No
 * rank gets a replica twice; doubles in force are replaced first.
 *
 * Left out: that stalls end with the last receiver, and the scatter of loads around the forecast.
 * An allowance for scatter, so much the more for heavy replicas, served neither loads that drift
 * nor recorded traces any better.
 */
#include <string.h>

#include "balance/deal.h"
#include "balance/forecast.h"
#include "balance/relocate.h"

/* Without prices: a token's way to an expert and back, 7168 x (1 + 2) bytes; NVLink against RDMA.
 */
#define TOKEN_BYTES   21504
#define NEAR_DISCOUNT 8.0

struct drift {
    struct deal_work work;
    struct relocate relocate;
    struct forecast forecast;
};

static void set_prices(struct relocate *relocate, const struct balance_input *input)
{
    relocate->far_price = (double)input->expert_bytes / TOKEN_BYTES / input->num_ranks;
    relocate->near_price = relocate->far_price / NEAR_DISCOUNT;
    if (input->token_ns > 0.0) {
        relocate->far_price = input->far_move_ns / input->token_ns / input->num_ranks;
        relocate->near_price = input->near_move_ns / input->token_ns / input->num_ranks;
    }
}

/* For how many steps behind the interval a change pays: the placement stays, and later plans start
 * from it. What comes of a deviation fades with it, half of it because later plans follow the next
 * one; what comes of the mean is good for as many steps more as have been seen. */
static double life_of(const struct forecast *forecast, double seen_steps)
{
    double keep = forecast->keep < 0.0 ? 0.0 : forecast->keep > 1.0 ? 1.0 : forecast->keep;
    double life = forecast->decay / (1.0 - forecast->decay);
    life = life < seen_steps ? life : seen_steps;
    return 0.5 * keep * life + (1.0 - keep) * seen_steps;
}

static void plan_layer(struct relocate *relocate, const int32_t *in_force, const int32_t *start)
{
    size_t bytes = (size_t)relocate->input->num_slots * sizeof *start;
    memcpy(relocate->fresh, start, bytes);
    relocate_start(relocate, in_force);
    if (relocate->scale <= 0.0) {
        return; /* nothing to serve */
    }
    double before = relocate_norm(relocate);
    double most = relocate->steps * (before - relocate_norm_least(relocate));
    relocate_replicas(relocate);
    bool pays = relocate_price(relocate) < most;
    if (pays) {
        relocate_improve(relocate);
        pays = relocate_price(relocate) <= relocate->steps * (before - relocate_norm(relocate));
    }
    if (!pays) {
        memcpy(relocate->fresh, start, bytes);
        relocate_start(relocate, in_force);
        relocate_improve(relocate);
    }
}

/* A window longer than the interval has the steps before it in it. */
static void remember(double *seen_steps, double *sum_tokens, const struct balance_input *input,
                     int32_t interval_steps)
{
    double kept = input->num_steps > interval_steps ? 0.0 : 1.0;
    *seen_steps = input->num_steps + kept * *seen_steps;
    for (int64_t i = 0; i < (int64_t)input->num_layers * input->num_experts; i++) {
        sum_tokens[i] = (double)input->load_tokens[i] + kept * sum_tokens[i];
    }
}

static enum status open_drift(struct drift *drift, double *seen_steps, double *sum_tokens,
                              const struct balance_input *input, struct error *error)
{
    int32_t interval_steps = input->interval_steps > 0 ? input->interval_steps : input->num_steps;
    interval_steps = interval_steps > 0 ? interval_steps : 1;
    enum status status = deal_open(&drift->work, "drift_aware", input, error);
    if (status != STATUS_OK) {
        return status;
    }
    remember(seen_steps, sum_tokens, input, interval_steps);
    status = relocate_open(&drift->relocate, input);
    if (status == STATUS_OK) {
        status = forecast_fit(&drift->forecast, input, interval_steps, sum_tokens, *seen_steps);
    }
    if (status != STATUS_OK) {
        return error_add(error, status, "drift_aware: no memory for %d slots", input->num_slots);
    }
    set_prices(&drift->relocate, input);
    drift->relocate.steps = interval_steps + life_of(&drift->forecast, *seen_steps);
    return STATUS_OK;
}

/* state: how many steps were seen, and [num_layers][num_experts] the tokens of all of them. */
static enum status plan_drift(void *state, const struct balance_input *input,
                              int32_t *expert_of_slot, struct error *error)
{
    double *seen_steps = state;
    double *sum_tokens = seen_steps + 1;
    size_t slots = (size_t)input->num_slots;
    struct drift drift = {0};
    enum status status = open_drift(&drift, seen_steps, sum_tokens, input, error);
    if (status != STATUS_OK) {
        return status;
    }
    for (int32_t layer = 0; layer < input->num_layers; layer++) {
        const int32_t *in_force = input->placement[layer].expert_of_slot;
        forecast_layer(drift.relocate.tokens, &drift.forecast, input, layer,
                       sum_tokens + (int64_t)layer * input->num_experts);
        memcpy(drift.work.fresh, in_force, slots * sizeof *in_force);
        memcpy(drift.work.tokens, drift.relocate.tokens,
               (size_t)input->num_experts * sizeof *drift.work.tokens);
        deal_part_doubles(&drift.work, input);
        plan_layer(&drift.relocate, in_force, drift.work.fresh);
        memcpy(expert_of_slot + (size_t)layer * slots, drift.relocate.fresh,
               slots * sizeof *in_force);
    }
    return STATUS_OK;
}

const struct balance_strategy balance_drift_aware = {
    .name = "drift_aware",
    .summary = "moves that pay in the steps to come, by a forecast from all steps seen",
    .source = "",
    .needs = BALANCE_NEEDS_WINDOW | BALANCE_NEEDS_STEPS,
    .state_bytes = sizeof(double),
    .state_bytes_per_expert = sizeof(double),
    .spreads_replicas = true,
    .keeps_balanced = true,
    .plan = plan_drift,
};
