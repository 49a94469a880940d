/*
 * drift_aware -- place for the steps to come, and move only what pays. Ours.
 *
 * A step waits for its busiest rank, so a layer costs the expected maximum over ranks in the steps
 * to come. forecast.h gives mean f and variance v of every expert there. For normal loads
 * E[exp(b L)] = exp(b (mean + b/2 variance)), so with r replicas each weighs
 *     f / r  +  b/2  v / r^2
 * certain tokens; variances add over a rank as means do, and balancing weights balances the tails
 * of ranks. b = sqrt(2 ln ranks) / sigma of a rank is where that bound on a maximum is tightest.
 *
 * Each layer starts from the placement in force (relocate.h): spare slots go where replicas are
 * heaviest, then exchanges and copies relieve the busiest ranks while they pay. All of it must pay
 * together, too; else only what pays alone is done. Ranks receive side by side, so a move costs its
 * transfer over token time over ranks. No rank gets a replica twice; doubles in force are replaced
 * first. It leaves out the covariance between experts, and that stalls end with the last receiver.
 */
#include <math.h>
#include <string.h>

#include "balance/deal.h"
#include "balance/forecast.h"
#include "balance/relocate.h"

#define TOKEN_BYTES                                                                                \
    16384                 /* without prices: a token's way to an expert and back, 7168 x (1 + 2)   \
                           */
#define NEAR_DISCOUNT 8.0 /* without prices: NVLink against RDMA */

struct drift {
    struct deal_work work;
    struct relocate relocate;
    struct forecast forecast;
    double tail; /* sqrt(2 ln ranks) */
};

/* ln of a count, by halves and a series: the same on every machine. */
static double log_of(int32_t count)
{
    double fraction = count;
    double log = 0.0;
    for (; fraction >= 2.0; fraction *= 0.5) {
        log += 0.6931471805599453;
    }
    double x = (fraction - 1.0) / (fraction + 1.0);
    return log + 2.0 * x * (1.0 + x * x / 3.0);
}

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
 * from it. What comes of the level lives lead * keep / (1 - keep) steps, what comes of the mean as
 * long as the run has been seen; half of that, because later plans change it. */
static double life_of(const struct forecast *forecast, int32_t lead_steps, double seen_steps)
{
    double life = seen_steps;
    if (lead_steps * forecast->keep < life * (1.0 - forecast->keep)) {
        life = lead_steps * forecast->keep / (1.0 - forecast->keep);
    }
    return 0.5 * (forecast->keep * life + (1.0 - forecast->keep) * seen_steps);
}

/* Makes b/2 v of the variances in risk. */
static void set_risk(struct drift *drift)
{
    struct relocate *relocate = &drift->relocate;
    double variance = 0.0;
    for (int32_t expert = 0; expert < relocate->input->num_experts; expert++) {
        variance += relocate->risk[expert];
    }
    double sigma = sqrt(variance / relocate->input->num_ranks);
    double half_b = sigma > 0.0 ? 0.5 * drift->tail / sigma : 0.0;
    for (int32_t expert = 0; expert < relocate->input->num_experts; expert++) {
        relocate->risk[expert] *= half_b;
    }
}

static void plan_layer(struct drift *drift, const int32_t *in_force, const int32_t *start)
{
    struct relocate *relocate = &drift->relocate;
    size_t bytes = (size_t)relocate->input->num_slots * sizeof *start;
    memcpy(relocate->fresh, start, bytes);
    relocate_start(relocate, in_force);
    if (relocate->scale <= 0.0) {
        return; /* nothing to serve */
    }
    double before = relocate_norm(relocate);
    relocate_replicas(relocate);
    relocate_improve(relocate);
    double saved = relocate->steps * (before - relocate_norm(relocate));
    if (saved < relocate_price(relocate)) {
        memcpy(relocate->fresh, start, bytes);
        relocate_start(relocate, in_force);
        relocate_improve(relocate);
    }
}

static enum status plan_drift(void *state, const struct balance_input *input,
                              int32_t *expert_of_slot, struct error *error)
{
    double *seen_steps = state; /* all it remembers, besides the placement in force */
    struct drift drift = {0};
    enum status status = deal_open(&drift.work, "drift_aware", input, error);
    if (status != STATUS_OK) {
        return status;
    }
    int32_t interval_steps = input->interval_steps > 0 ? input->interval_steps : input->num_steps;
    int32_t lead_steps = (interval_steps + 1) / 2;
    status = relocate_open(&drift.relocate, input);
    if (status == STATUS_OK) {
        status = forecast_fit(&drift.forecast, input, lead_steps);
    }
    if (status != STATUS_OK) {
        return error_add(error, status, "drift_aware: no memory for %d slots", input->num_slots);
    }
    /* A window longer than the interval has the steps before it in it. */
    *seen_steps = input->num_steps + (input->num_steps > interval_steps ? 0.0 : *seen_steps);
    set_prices(&drift.relocate, input);
    drift.relocate.steps = interval_steps + life_of(&drift.forecast, lead_steps, *seen_steps);
    drift.tail = sqrt(2.0 * log_of(input->num_ranks));
    for (int32_t layer = 0; layer < input->num_layers; layer++) {
        const int32_t *in_force = input->placement[layer].expert_of_slot;
        size_t slots = (size_t)input->num_slots;
        forecast_layer(drift.relocate.tokens, drift.relocate.risk, &drift.forecast, input, layer);
        set_risk(&drift);
        memcpy(drift.work.fresh, in_force, slots * sizeof *in_force);
        memcpy(drift.work.tokens, drift.relocate.tokens,
               (size_t)input->num_experts * sizeof *drift.work.tokens);
        deal_part_doubles(&drift.work, input);
        plan_layer(&drift, in_force, drift.work.fresh);
        memcpy(expert_of_slot + (size_t)layer * slots, drift.relocate.fresh,
               slots * sizeof *in_force);
    }
    return STATUS_OK;
}

const struct balance_strategy balance_drift_aware = {
    .name = "drift_aware",
    .summary = "moves that pay in the steps to come, by a forecast of load and scatter",
    .source = "",
    .needs = BALANCE_NEEDS_WINDOW | BALANCE_NEEDS_STEPS,
    .state_bytes = sizeof(double),
    .spreads_replicas = true,
    .keeps_balanced = true,
    .plan = plan_drift,
};
