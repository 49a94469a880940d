/*
 * plan_shift.c -- what 10 % more or less of something does to the winner.
 *
 * Price, traffic, cache hits, targets and utilisation are weighed again over all simulated points;
 * for longer or shorter contexts the winner's two points are simulated anew, and the winner keeps
 * its layout. Where targets are percentiles it always does, with as much room as they took.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plan_internal.h"

#define LESS 0.9

enum shifted { PRICE, TRAFFIC, TTFT, TPOT, UTILISATION, CONTEXT, OUTPUT, SHIFTED_COUNT };

static const char *const names[SHIFTED_COUNT] = {[PRICE] = "price of a GPU-hour",
                                                 [TRAFFIC] = "requests a day",
                                                 [TTFT] = "TTFT target",
                                                 [TPOT] = "TPOT target",
                                                 [UTILISATION] = "utilisation",
                                                 [CONTEXT] = "input tokens a request",
                                                 [OUTPUT] = "output tokens a request"};

static void shift_plan(struct plan *plan, enum shifted shifted, double factor)
{
    switch (shifted) {
    case PRICE:
        for (int32_t gpu = 0; gpu < plan->num_gpus; gpu++) {
            plan->gpu[gpu].price.usd_per_gpu_hour *= factor;
            plan->gpu[gpu].spot_usd_per_gpu_hour *= factor;
        }
        break;
    case TRAFFIC:
        plan->traffic.requests_per_day *= factor;
        break;
    case TTFT:
        plan->ttft_s *= factor;
        break;
    case TPOT:
        plan->tpot_s *= factor;
        break;
    case UTILISATION:
        plan->utilisation_max = fmin(plan->utilisation_max * factor, 0.99);
        break;
    case CONTEXT:
        plan->traffic.input_tokens = round(plan->traffic.input_tokens * factor);
        break;
    case OUTPUT:
        plan->traffic.output_tokens = round(plan->traffic.output_tokens * factor);
        break;
    case SHIFTED_COUNT:
        break;
    }
}

/* Targets that are percentiles ask for simulations that nobody has made. */
static bool applies(const struct plan *plan, const struct plan_answer *answer, enum shifted shifted)
{
    bool weighs = answer->num_served == 0;
    return (shifted != TTFT || (weighs && plan->ttft_s > 0.0)) &&
           (shifted != TPOT || (weighs && plan->tpot_s > 0.0));
}

static bool same_deployment(const struct plan_answer *one, const struct plan_deployment *a,
                            const struct plan_answer *other, const struct plan_deployment *b)
{
    return a->shared == b->shared &&
           plan_same_point(&one->point[a->point[0]], &other->point[b->point[0]]) &&
           plan_same_point(&one->point[a->point[1]], &other->point[b->point[1]]);
}

/* Everything again with the points there are. */
static enum status weigh_again(struct plan_shift *shift, const struct plan_answer *answer,
                               const struct plan *plan)
{
    struct plan_answer again = {.point = answer->point, .num_points = answer->num_points};
    enum status status = plan_combine(&again, plan);
    if (status == STATUS_OK && again.winner >= 0) {
        const struct plan_deployment *winner = &again.deployment[again.winner];
        shift->feasible = true;
        shift->usd_per_day = winner->cost.usd_total;
        shift->winner_changes =
            !same_deployment(&again, winner, answer, &answer->deployment[answer->winner]);
    }
    free(again.deployment);
    return status;
}

/* The winner's layout as it is used, with other contexts too: those are simulated anew. */
static enum status keep_winner(struct plan_shift *shift, const struct plan_answer *answer,
                               const struct plan_world *world, const struct plan *plan,
                               struct plan_store *store, struct error *error)
{
    const struct plan_deployment *winner = &answer->deployment[answer->winner];
    bool is_other = plan->traffic.input_tokens != world->plan->traffic.input_tokens ||
                    plan->traffic.output_tokens != world->plan->traffic.output_tokens;
    struct plan_world other = *world;
    struct plan_point point[COST_POOLS];
    struct plan_deployment deployment = {.point = {0, 1}, .shared = winner->shared};
    double utilisation[COST_POOLS];
    other.plan = plan;
    for (int32_t pool = 0; pool < COST_POOLS; pool++) {
        point[pool] = answer->point[winner->point[pool]];
        utilisation[pool] =
            winner->utilisation[pool] * plan->utilisation_max / world->plan->utilisation_max;
        enum status status =
            is_other ? plan_point_find(&point[pool], &other, store, error) : STATUS_OK;
        if (status != STATUS_OK) {
            return status;
        }
        if (point[pool].fate != PLAN_SIMULATED || !plan_point_fits(plan, &point[pool])) {
            return STATUS_OK; /* the winner cannot be kept */
        }
        plan_point_note_error(&point[pool], plan);
    }
    if (plan_deploy_at(&deployment, plan, point, utilisation)) {
        shift->feasible = deployment.meets_targets;
        shift->usd_per_day = deployment.cost.usd_total;
    }
    return STATUS_OK;
}

enum status plan_shift_all(struct plan_answer *answer, const struct plan_world *world,
                           struct plan_store *store, struct error *error)
{
    static const double factors[] = {LESS, PLAN_MORE};
    struct plan *shifted = malloc(sizeof *shifted);
    enum status status = shifted == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    for (int32_t what = 0; what < SHIFTED_COUNT && status == STATUS_OK; what++) {
        for (int32_t i = 0; i < 2 && applies(world->plan, answer, (enum shifted)what); i++) {
            struct plan_shift *shift = &answer->shift[answer->num_shifts++];
            *shift = (struct plan_shift){.what = names[what], .factor = factors[i]};
            *shifted = *world->plan;
            shifted->reference.given = false;
            shift_plan(shifted, (enum shifted)what, factors[i]);
            bool keeps = what == CONTEXT || what == OUTPUT || answer->num_served > 0;
            status = keeps ? keep_winner(shift, answer, world, shifted, store, error)
                           : weigh_again(shift, answer, shifted);
            if (status != STATUS_OK) {
                break;
            }
        }
    }
    free(shifted);
    return status;
}
