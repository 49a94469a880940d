/* plan_words_served.c -- what finalists show request by request, and what the targets miss. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "format.h"
#include "plan_internal.h"
#include "plan_words.h"

/* Decode is only given groups where prefill meets its target, so what prefill misses says more. */
static bool is_nearer(const struct plan_deployment *a, const struct plan_deployment *b,
                      const struct plan *plan)
{
    bool a_refuses = a->refused_share >= REFUSED_MAX;
    bool b_refuses = b->refused_share >= REFUSED_MAX;
    if (a_refuses != b_refuses) {
        return b_refuses;
    }
    double a_first = fmax(1.0, plan_target_excess(a, plan, COST_PREFILL));
    double b_first = fmax(1.0, plan_target_excess(b, plan, COST_PREFILL));
    return a_first != b_first ? a_first < b_first
                              : plan_target_excess(a, plan, COST_DECODE) <
                                    plan_target_excess(b, plan, COST_DECODE);
}

/* The finalist that comes nearest to its targets. */
static const struct plan_deployment *nearest(const struct plan *plan,
                                             const struct plan_answer *answer)
{
    const struct plan_deployment *best = NULL;
    for (int32_t i = 0; i < answer->num_deployments; i++) {
        const struct plan_deployment *other = &answer->deployment[i];
        if (other->is_served && (best == NULL || is_nearer(other, best, plan))) {
            best = other;
        }
    }
    return best;
}

static void say_target(char *text, size_t bytes, double target_s, int32_t percentile)
{
    char target[FORMAT_BYTES];
    (void)snprintf(text, bytes, "target %s at %s%.0d", format_ns(target, target_s * 1e9),
                   percentile > 0 ? "p" : "the mean", (int)percentile);
}

bool plan_shows_percentile(const struct plan *plan, int32_t index)
{
    int32_t percentile = plan_percentiles[index];
    return percentile != 95 || plan->ttft_percentile == 95 || plan->tpot_percentile == 95;
}

static void say_latency(char *text, size_t bytes, const struct plan *plan, bool is_first,
                        const struct plan_latency *latency)
{
    char time[FORMAT_BYTES], target[64];
    double target_s = is_first ? plan->ttft_s : plan->tpot_s;
    size_t used = 0;
    for (int32_t i = 0; i < PLAN_PERCENTILES && used < bytes; i++) {
        if (plan_shows_percentile(plan, i)) {
            used += (size_t)snprintf(text + used, bytes - used, "%s%s at p%d", i > 0 ? ", " : "",
                                     format_ns(time, latency->percentile_s[i] * 1e9),
                                     (int)plan_percentiles[i]);
        }
    }
    say_target(target, sizeof target, target_s,
               is_first ? plan->ttft_percentile : plan->tpot_percentile);
    if (target_s > 0.0 && used < bytes) {
        (void)snprintf(text + used, bytes - used, " (%s)", target);
    }
}

/* The groups that a percentile takes over the means, and what they cost. */
static void say_added(char *text, size_t bytes, const struct plan *plan,
                      const struct plan_answer *answer, const struct plan_deployment *shown)
{
    char more[FORMAT_BYTES], prefill[32] = "", decode[32] = "";
    struct money money = plan_money(plan);
    int32_t added = shown->added[COST_PREFILL];
    int32_t added_decode = shown->shared ? 0 : shown->added[COST_DECODE];
    double usd = shown->cost.usd_total - shown->usd_per_day_mean;
    if (added == 0 && added_decode == 0) {
        (void)snprintf(text, bytes,
                       answer->winner >= 0 ? " The groups that the means take are enough." : "");
        return;
    }
    if (added > 0) {
        (void)snprintf(prefill, sizeof prefill, "%d%s", (int)added,
                       shown->shared ? "" : " prefill");
    }
    if (added_decode > 0) {
        (void)snprintf(decode, sizeof decode, "%d decode", (int)added_decode);
    }
    (void)snprintf(text, bytes,
                   " That takes %s%s%s group%s and %d GPUs more than the means do, %s a day "
                   "(%.1f %%).",
                   prefill, added > 0 && added_decode > 0 ? " and " : "", decode,
                   added + added_decode == 1 ? "" : "s",
                   (int)(added * answer->point[shown->point[COST_PREFILL]].ep +
                         added_decode * answer->point[shown->point[COST_DECODE]].ep),
                   format_money(more, usd, &money.shown), 100.0 * usd / shown->usd_per_day_mean);
}

void plan_say_served(char *line, size_t bytes, const struct plan *plan,
                     const struct plan_answer *answer)
{
    char ttft[192], tpot[192], added[192];
    bool has_winner = answer->winner >= 0;
    const struct plan_deployment *shown =
        has_winner ? &answer->deployment[answer->winner] : nearest(plan, answer);
    say_latency(ttft, sizeof ttft, plan, true, &shown->ttft);
    say_latency(tpot, sizeof tpot, plan, false, &shown->tpot);
    say_added(added, sizeof added, plan, answer, shown);
    (void)snprintf(line, bytes,
                   "Simulated request by request, %s of %d finalist%s: TTFT %s; TPOT %s.%s",
                   has_winner ? "the cheapest" : "the nearest", (int)answer->num_served,
                   answer->num_served == 1 ? "" : "s", ttft, tpot, added);
}

static bool may_have_more(const struct plan_deployment *deployment, const struct plan *plan,
                          const struct plan_answer *answer, enum cost_pool pool)
{
    struct plan_deployment more = *deployment;
    int32_t added[COST_POOLS] = {deployment->added[COST_PREFILL], deployment->added[COST_DECODE]};
    added[pool]++;
    return plan_add_groups(&more, plan, answer->point, added) &&
           (plan->usd_per_day_max <= 0.0 || more.cost.usd_total <= plan->usd_per_day_max);
}

/* What binds the nearest finalist, and what would help. */
static void say_why(char *text, size_t bytes, const struct plan *plan,
                    const struct plan_answer *answer, const struct plan_deployment *shown,
                    enum cost_pool pool)
{
    enum cost_pool grown = shown->shared ? COST_PREFILL : pool;
    const struct plan_point *point = &answer->point[shown->point[pool]];
    if (!may_have_more(shown, plan, answer, grown)) {
        (void)snprintf(text, bytes, "no GPUs or no money are left for another group");
        return;
    }
    char step[FORMAT_BYTES];
    (void)snprintf(
        text, bytes,
        "at %.0f %% of its rate no queue binds but steps of %s%s; batches of another size "
        "(search.%s) may help, or a target of more time",
        100.0 * shown->load[pool], format_ns(step, point->step_ns),
        pool == COST_PREFILL ? " and prompts that are longer than the mean" : "",
        pool == COST_PREFILL ? "prefill.tokens_per_rank" : "decode.sequences_per_rank");
}

void plan_say_missed(char *line, size_t bytes, const struct plan *plan,
                     const struct plan_answer *answer)
{
    const struct plan_deployment *shown = nearest(plan, answer);
    enum cost_pool pool =
        plan_target_excess(shown, plan, COST_PREFILL) > 1.0 ? COST_PREFILL : COST_DECODE;
    enum cost_pool grown = shown->shared ? COST_PREFILL : pool;
    char target[64], why[256];
    if (shown->refused_share >= REFUSED_MAX) {
        (void)snprintf(line, bytes,
                       "No finalist meets the targets once requests come one by one: %.1f %% of "
                       "them fit into no replica's KV cache; fewer redundant experts, a larger EP, "
                       "attention in tensor parallel or GPUs with more memory help.",
                       100.0 * shown->refused_share);
        return;
    }
    bool is_first = pool == COST_PREFILL;
    say_target(target, sizeof target, is_first ? plan->ttft_s : plan->tpot_s,
               is_first ? plan->ttft_percentile : plan->tpot_percentile);
    say_why(why, sizeof why, plan, answer, shown, pool);
    (void)snprintf(line, bytes,
                   "No finalist meets the targets once requests come one by one: the nearest "
                   "misses %s (%s) by %.0f %% with %d %sgroups where means take %d: %s.",
                   is_first ? "TTFT" : "TPOT", target,
                   100.0 * (plan_target_excess(shown, plan, pool) - 1.0), (int)shown->groups[grown],
                   shown->shared ? ""
                   : is_first    ? "prefill "
                                 : "decode ",
                   (int)(shown->groups[grown] - shown->added[grown]), why);
}

/* ", the quickest to the first token takes 28 ms (20 ms asked)". */
static void say_quickest(char *text, size_t bytes, const char *what, double least_s,
                         double target_s)
{
    char least[FORMAT_BYTES], target[FORMAT_BYTES];
    text[0] = '\0';
    if (target_s > 0.0 && isfinite(least_s)) {
        (void)snprintf(text, bytes, ", %s %s (%s asked)", what, format_ns(least, least_s * 1e9),
                       format_ns(target, target_s * 1e9));
    }
}

/* What comes nearest to each target, on one kind of GPU or (-1) all; infinite: nothing does. */
struct nearest_to {
    double ttft_s, tpot_s, usd_per_day;
};

static struct nearest_to find_nearest(const struct plan_answer *answer, int32_t gpu)
{
    struct nearest_to nearest = {HUGE_VAL, HUGE_VAL, HUGE_VAL};
    for (int32_t i = 0; i < answer->num_deployments; i++) {
        const struct plan_deployment *deployment = &answer->deployment[i];
        if (gpu < 0 || answer->point[deployment->point[COST_PREFILL]].gpu == gpu) {
            nearest.ttft_s = fmin(nearest.ttft_s, deployment->ttft_s);
            nearest.tpot_s = fmin(nearest.tpot_s, deployment->tpot_s);
            nearest.usd_per_day = fmin(nearest.usd_per_day, deployment->cost.usd_total);
        }
    }
    return nearest;
}

/* By bounds, where no deployment could be made. */
static struct nearest_to find_bounds(const struct plan *plan, const struct plan_answer *answer,
                                     int32_t gpu)
{
    double least_s[COST_POOLS] = {HUGE_VAL, HUGE_VAL};
    for (int32_t i = 0; i < answer->num_points; i++) {
        const struct plan_point *point = &answer->point[i];
        if ((gpu < 0 || point->gpu == gpu) && point->bound_ns > 0.0) {
            least_s[point->pool] = fmin(least_s[point->pool], plan_point_least_s(plan, point));
        }
    }
    return (struct nearest_to){least_s[COST_PREFILL], least_s[COST_DECODE], HUGE_VAL};
}

void plan_say_none_of(char *line, size_t bytes, const struct plan *plan,
                      const struct plan_answer *answer, int32_t gpu)
{
    char ttft[128] = "", tpot[128] = "", budget[128] = "", usd[FORMAT_BYTES], asked[FORMAT_BYTES];
    struct money money = plan_money(plan);
    struct nearest_to nearest = find_nearest(answer, gpu);
    bool has_any = isfinite(nearest.ttft_s);
    if (!has_any) {
        nearest = find_bounds(plan, answer, gpu);
    }
    if (nearest.ttft_s > plan->ttft_s) {
        say_quickest(ttft, sizeof ttft,
                     has_any ? "the quickest to the first token takes"
                             : "a first token takes at least",
                     nearest.ttft_s, plan->ttft_s);
    }
    if (nearest.tpot_s > plan->tpot_s) {
        say_quickest(tpot, sizeof tpot,
                     has_any ? "the quickest after it" : "a token after it at least",
                     nearest.tpot_s, plan->tpot_s);
    }
    if (has_any && plan->usd_per_day_max > 0.0 && nearest.usd_per_day > plan->usd_per_day_max) {
        (void)snprintf(budget, sizeof budget, ", the cheapest costs %s a day (%s asked)",
                       format_money(usd, nearest.usd_per_day, &money.shown),
                       format_money(asked, plan->usd_per_day_max, &money.shown));
    }
    (void)snprintf(line, bytes, "  %s%s%s", ttft, tpot, budget);
    size_t behind = strspn(line, ", ");
    memmove(line, line + behind, strlen(line + behind) + 1);
    if (line[0] == '\0') {
        (void)snprintf(line, bytes, "%s",
                       has_any ? "each target is met by some deployment, all by none"
                               : "no layout that was tried fits or may be had");
    }
}

/* Why no two points make a deployment: bounds, GPUs, or what only the fates tell. */
static void say_nothing_left(char *line, size_t bytes, const struct plan *plan,
                             const struct plan_answer *answer)
{
    char ttft[128], tpot[128];
    struct nearest_to least = find_bounds(plan, answer, -1);
    if (answer->gpus_least > 0) {
        (void)snprintf(line, bytes,
                       "No deployment is left: the smallest takes %lld GPUs, more than may be had "
                       "(budget.gpus, gpus.nodes_max).",
                       (long long)answer->gpus_least);
    } else if (answer->fates[PLAN_TOO_SLOW] > 0) {
        say_quickest(ttft, sizeof ttft, "a first token takes at least", least.ttft_s, plan->ttft_s);
        say_quickest(tpot, sizeof tpot, "one after it at least", least.tpot_s, plan->tpot_s);
        (void)snprintf(line, bytes,
                       "No deployment is left%s%s: give more time, or widen search or gpus.", ttft,
                       tpot);
    } else {
        (void)snprintf(line, bytes,
                       "No deployment is left: see what the points failed on, and widen search, "
                       "gpus or budget.");
    }
}

void plan_say_none(char *line, size_t bytes, const struct plan *plan,
                   const struct plan_answer *answer)
{
    char usd[FORMAT_BYTES], budget[FORMAT_BYTES], limit[64] = "", ttft[128], tpot[128];
    struct money money = plan_money(plan);
    struct nearest_to nearest = find_nearest(answer, -1);
    if (answer->num_deployments == 0) {
        say_nothing_left(line, bytes, plan, answer);
        plan_say_edges(line, bytes, plan, answer);
        return;
    }
    if (plan->usd_per_day_max > 0.0) {
        (void)snprintf(limit, sizeof limit, " (%s asked)",
                       format_money(budget, plan->usd_per_day_max, &money.shown));
    }
    say_quickest(ttft, sizeof ttft, "the quickest to the first token takes", nearest.ttft_s,
                 plan->ttft_s);
    say_quickest(tpot, sizeof tpot, "the quickest after it", nearest.tpot_s, plan->tpot_s);
    (void)snprintf(line, bytes,
                   "No deployment meets all targets: the cheapest costs %s a day%s%s%s; the front "
                   "is in the table.",
                   format_money(usd, answer->deployment[0].cost.usd_total, &money.shown), limit,
                   ttft, tpot);
    plan_say_edges(line, bytes, plan, answer);
}
