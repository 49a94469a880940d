/*
 * plan_percentile.c -- targets that are percentiles: finalists are sized in the serving simulator.
 *
 * Finalists are the winner by means and what is on the front behind it, the cheapest first, but for
 * those with a pool that missed its target in another already. A finalist that misses a percentile
 * gets more groups of the pool that misses it, prefill for TTFT and decode for TPOT, found by
 * bisection between its own and twice as many (of few, three more; 1 + cv^2 times that where a file
 * of requests says how unlike prompts are), or as many as cost less than the best so far; the
 * cheapest that then meets all targets wins. What means do not know and takes the groups: a group's
 * step is as long as the fullest of its replicas, and prompts of unlike length fill them unlike.
 *
 * A pool is simulated by a few of its groups, at exactly the load of all: prefill beside an ample
 * decode pool, so that it can be sized by itself, then decode beside the prefill pool that came of
 * it, where both have to meet their targets. Few groups have a little longer queues than many, so
 * percentiles err to the safe side.
 */
#include <math.h>

#include "plan_finalist.h"

#define GROUPS_MAX       4  /* of a pool that are simulated for all, */
#define REPLICAS_ENOUGH  32 /* fewer where they have so many replicas */
#define AMPLE            2  /* times the groups of decode beside prefill */
#define TIMES_MAX        2  /* the groups of means, */
#define MORE_MAX         3  /* or so many more where that is more */
#define PARTS            32 /* of those added, for the bisection */
#define GROUPS_ADDED_MAX 1e6

struct sizing {
    struct finalist *finalist;
    const struct plan_answer *answer;
    const struct plan *plan;
    struct plan_deployment sized; /* with the groups there are by now */
    double usd_limit;             /* a day; another finalist meets all for so much */
};

/* The latency that a target is about. */
static double latency_s(const struct plan_latency *latency, int32_t percentile)
{
    for (int32_t i = 0; i < PLAN_PERCENTILES; i++) {
        if (plan_percentiles[i] == percentile) {
            return latency->percentile_s[i];
        }
    }
    return latency->mean_s;
}

double plan_target_excess(const struct plan_deployment *deployment, const struct plan *plan,
                          enum cost_pool pool)
{
    bool is_first = pool == COST_PREFILL;
    double target_s = is_first ? plan->ttft_s : plan->tpot_s;
    return target_s <= 0.0 ? 0.0
                           : latency_s(is_first ? &deployment->ttft : &deployment->tpot,
                                       is_first ? plan->ttft_percentile : plan->tpot_percentile) /
                                 target_s;
}

/* What one simulation of a pool has to show. */
static bool is_met(const struct plan_deployment *served, const struct plan *plan,
                   enum cost_pool pool, bool shared)
{
    bool both = shared || pool == COST_DECODE; /* whose delays prompts feel too */
    return served->refused_share < REFUSED_MAX &&
           (!both || plan_target_excess(served, plan, COST_DECODE) <= 1.0) &&
           plan_target_excess(served, plan, COST_PREFILL) <= 1.0;
}

/* Groups of the other pool beside so many of this one; of decode there are ample. */
static double beside(const struct plan_deployment *sized, enum cost_pool pool, int32_t few)
{
    enum cost_pool other = pool == COST_PREFILL ? COST_DECODE : COST_PREFILL;
    double share = (double)few / (double)sized->groups[pool];
    return share * (double)sized->groups[other] * (other == COST_DECODE ? AMPLE : 1.0);
}

/* As few as are enough, and where a few more make the pool beside come out even, those. */
static int32_t few_groups(const struct plan_deployment *sized, const struct plan_point *point,
                          enum cost_pool pool)
{
    int32_t replicas = point->ep / point->tp;
    int32_t enough = (REPLICAS_ENOUGH + replicas - 1) / replicas;
    int32_t most = sized->groups[pool] < GROUPS_MAX ? sized->groups[pool] : GROUPS_MAX;
    int32_t best = enough < most ? enough : most;
    for (int32_t few = best + 1; few <= most && pool == COST_DECODE; few++) {
        double is = beside(sized, pool, few);
        double was = beside(sized, pool, best);
        best = ceil(is) / is < ceil(was) / was ? few : best;
    }
    return best;
}

/* A few groups of a pool, and what stands beside them. */
static struct finalist_load load_of(const struct sizing *sizing, enum cost_pool pool, double *share)
{
    const struct plan_deployment *sized = &sizing->sized;
    const struct plan_point *point = &sizing->answer->point[sized->point[pool]];
    enum cost_pool other = pool == COST_PREFILL ? COST_DECODE : COST_PREFILL;
    struct finalist_load load = {0};
    load.groups[pool] = few_groups(sized, point, pool);
    *share = (double)load.groups[pool] / (double)sized->groups[pool];
    load.groups[other] =
        sized->shared ? load.groups[pool] : (int32_t)ceil(beside(sized, pool, load.groups[pool]));
    load.rate_per_s = *share * plan_peak_requests_per_s(&sizing->plan->traffic);
    return load;
}

/* Serves with so many more groups of a pool; *met out. */
static enum status try_added(struct sizing *sizing, enum cost_pool pool, int32_t added, bool *met,
                             struct error *error)
{
    struct plan_deployment *sized = &sizing->sized;
    struct plan_deployment served = {0};
    int32_t more[COST_POOLS] = {sized->added[COST_PREFILL], sized->added[COST_DECODE]};
    struct plan_deployment fresh = *sized;
    double share;
    more[pool] = added;
    *met = plan_add_groups(&fresh, sizing->plan, sizing->answer->point, more);
    if (!*met) {
        return STATUS_OK; /* nobody has so many GPUs */
    }
    *sized = fresh;
    struct finalist_load load = load_of(sizing, pool, &share);
    enum status status = finalist_serve(&served, sizing->finalist, &load, error);
    if (pool == COST_PREFILL) {
        sized->ttft = served.ttft;
        sized->refused_share = served.refused_share;
    }
    if (pool == COST_DECODE || sized->shared || !sized->is_served) {
        sized->tpot = served.tpot; /* until decode is simulated for its own sake */
    }
    sized->is_served = true;
    *met = status == STATUS_OK && is_met(&served, sizing->plan, pool, sized->shared);
    if (status == STATUS_OK && plan_target_excess(&served, sizing->plan, COST_PREFILL) > 1.0) {
        sized->ttft = served.ttft; /* missed by what decode delays, where not by prompts alone */
    }
    return status;
}

/* The most parts that may be added, and could still win. */
static int32_t parts_max(const struct sizing *sizing, enum cost_pool pool, int32_t part)
{
    const struct plan_deployment *sized = &sizing->sized;
    double budget_usd = sizing->plan->usd_per_day_max;
    double cv = sizing->plan->traffic.input_cv; /* of a file; unlike lengths fill ranks unlike */
    double most =
        fmax((TIMES_MAX * (1.0 + cv * cv) - 1.0) * sized->groups[pool], MORE_MAX * (1.0 + cv * cv));
    int32_t parts = (int32_t)ceil(fmin(most, GROUPS_ADDED_MAX) / part);
    for (; parts > 0; parts--) {
        struct plan_deployment more = *sized;
        int32_t added[COST_POOLS] = {sized->added[COST_PREFILL], sized->added[COST_DECODE]};
        added[pool] = parts * part;
        if (plan_add_groups(&more, sizing->plan, sizing->answer->point, added) &&
            more.cost.usd_total < sizing->usd_limit &&
            (budget_usd <= 0.0 || more.cost.usd_total <= budget_usd)) {
            break;
        }
    }
    return parts;
}

/* Adds groups to a pool until it meets its targets. */
static enum status add_groups(struct sizing *sizing, enum cost_pool pool, bool *met,
                              struct error *error)
{
    int32_t part = (sizing->sized.groups[pool] + PARTS - 1) / PARTS;
    int32_t misses = 0;
    int32_t meets = parts_max(sizing, pool, part);
    if (meets == 0) {
        return STATUS_OK;
    }
    enum status status = try_added(sizing, pool, meets * part, met, error);
    struct plan_deployment least = sizing->sized;
    while (status == STATUS_OK && *met && meets - misses > 1) {
        int32_t middle = misses + (meets - misses) / 2;
        bool is_enough = false;
        status = try_added(sizing, pool, middle * part, &is_enough, error);
        if (is_enough) {
            meets = middle;
            least = sizing->sized;
        } else {
            misses = middle;
        }
    }
    sizing->sized = least;
    return status;
}

/* Both pools one after the other; deployment gets what its own groups do. */
static enum status size_pools(struct sizing *sizing, struct plan_deployment *deployment, bool *met,
                              struct error *error)
{
    enum status status = try_added(sizing, COST_PREFILL, 0, met, error);
    deployment->ttft = sizing->sized.ttft;
    deployment->tpot = sizing->sized.tpot;
    deployment->refused_share = sizing->sized.refused_share;
    if (deployment->refused_share >= REFUSED_MAX) {
        return status; /* more groups have no larger caches */
    }
    if (status == STATUS_OK && !*met) {
        status = add_groups(sizing, COST_PREFILL, met, error);
    }
    if (status == STATUS_OK && !deployment->shared && (*met || sizing->usd_limit == HUGE_VAL)) {
        bool decode_met = false;
        status = try_added(sizing, COST_DECODE, 0, &decode_met, error);
        deployment->tpot = sizing->sized.tpot;
        if (status == STATUS_OK && *met && !decode_met) {
            status = add_groups(sizing, COST_DECODE, &decode_met, error);
        }
        *met = *met && decode_met;
    }
    return status;
}

/* Sizes one finalist. *sized out; its meets_targets say whether it does. */
static enum status size_finalist(struct plan_deployment *sized, struct plan_deployment *deployment,
                                 double usd_limit, const struct plan_answer *answer,
                                 const struct plan_world *world, const struct plan_options *options,
                                 int64_t *done, struct error *error)
{
    struct sizing sizing = {
        .answer = answer, .plan = world->plan, .sized = *deployment, .usd_limit = usd_limit};
    struct plan_deployment few = *deployment;
    double share;
    bool met = false;
    struct finalist_load load = load_of(&sizing, COST_PREFILL, &share);
    for (int32_t pool = 0; pool < COST_POOLS; pool++) {
        few.groups[pool] = load.groups[pool];
    }
    enum status status =
        finalist_open(&sizing.finalist, &few, share, answer, world, options, done, error);
    if (status == STATUS_OK) {
        status = size_pools(&sizing, deployment, &met, error);
    }
    *sized = sizing.sized;
    sized->is_served = deployment->is_served = true;
    sized->usd_per_day_mean = deployment->usd_per_day_mean = deployment->cost.usd_total;
    sized->meets_targets = sized->meets_targets && met;
    finalist_close(sizing.finalist);
    return status;
}

static bool has_more(const struct plan_deployment *sized)
{
    return sized->added[COST_PREFILL] > 0 || sized->added[COST_DECODE] > 0;
}

/* Those that took more groups become deployments of their own beside what they are by means. */
static void insert_sized(struct plan_answer *answer, const struct plan_deployment *sized,
                         int32_t count, int32_t winner)
{
    for (int32_t i = 0; i < count; i++) {
        if (has_more(&sized[i])) {
            int32_t at = plan_insert(answer, &sized[i]);
            answer->winner = i == winner ? at : answer->winner;
        }
    }
}

/* Another finalist has the same pool, and no groups made it meet its target. */
static bool is_hopeless(const struct plan_deployment *deployment, const struct plan *plan,
                        const struct plan_deployment *sized, int32_t count)
{
    for (int32_t i = 0; i < count && !deployment->shared; i++) {
        const struct plan_deployment *other = &sized[i];
        enum cost_pool missed =
            plan_target_excess(other, plan, COST_PREFILL) > 1.0 ? COST_PREFILL : COST_DECODE;
        if (!other->shared && plan_target_excess(other, plan, missed) > 1.0 &&
            other->point[missed] == deployment->point[missed]) {
            return true;
        }
    }
    return false;
}

enum status plan_serve_finalists(struct plan_answer *answer, const struct plan_world *world,
                                 const struct plan_options *options, struct error *error)
{
    struct plan_deployment sized[PLAN_FINALISTS];
    int32_t first = answer->winner;
    int32_t count = 0;
    int32_t best = -1;
    int64_t done = answer->fates[PLAN_SIMULATED];
    answer->winner = -1;
    for (int32_t i = first; i < answer->num_deployments && count < PLAN_FINALISTS; i++) {
        struct plan_deployment *deployment = &answer->deployment[i];
        if (!deployment->meets_targets || (i != first && !deployment->on_front) ||
            is_hopeless(deployment, world->plan, sized, count)) {
            continue;
        }
        if (best >= 0 && deployment->cost.usd_total >= sized[best].cost.usd_total) {
            break; /* groups only make it dearer */
        }
        double usd_limit = best >= 0 ? sized[best].cost.usd_total : HUGE_VAL;
        enum status status = size_finalist(&sized[count], deployment, usd_limit, answer, world,
                                           options, &done, error);
        if (status != STATUS_OK) {
            return status;
        }
        bool alone = !has_more(&sized[count]);
        sized[count].on_front = false;
        deployment->meets_targets = alone && sized[count].meets_targets;
        if (sized[count].meets_targets &&
            (best < 0 || sized[count].cost.usd_total < sized[best].cost.usd_total)) {
            best = count;
            answer->winner = alone ? i : -1;
        }
        count++;
    }
    insert_sized(answer, sized, count, best);
    answer->num_served = count;
    plan_note_error(answer, world->plan);
    return STATUS_OK;
}
