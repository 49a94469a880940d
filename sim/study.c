/* study.c -- groups, places, and what they amount to in words. */
#include "study.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "digest.h"
#include "format.h"

/* What all changes cost beyond the settled steps behind them. */
static double changes_ns(const struct run_metrics *metrics)
{
    struct rebalance_worth worth = rebalance_worth(metrics);
    return worth.cost_ns * (double)worth.changes;
}

static void add_moves(struct study_run *run)
{
    struct rebalance_worth worth = rebalance_worth(run->metrics);
    for (int32_t index = 0; index < run->metrics->num_rebalances; index++) {
        const struct rebalance_record *record = &run->metrics->rebalance[index];
        run->changes += record->moves > 0;
        run->moves += record->moves;
        run->moved_bytes += record->bytes;
    }
    run->is_settled = run->changes == 0 || worth.changes > 0;
    run->change_ns = run->changes > 0 ? worth.cost_ns : 0.0;
}

static void find_groups(struct study *study)
{
    for (int32_t index = 0; index < study->num_runs; index++) {
        struct study_run *run = &study->run[index];
        int32_t group = 0;
        while (group < study->num_groups && strcmp(study->group[group].label, run->group) != 0) {
            group++;
        }
        if (group == study->num_groups) {
            study->group[study->num_groups++] =
                (struct study_group){.label = run->group, .reference = index, .winner = index};
        }
        struct study_group *found = &study->group[group];
        const struct study_run *reference = &study->run[found->reference];
        run->group_index = group;
        found->count++;
        found->varies_strategy |=
            run->is_strategy && run->scenario->strategy != reference->scenario->strategy;
        bool is_static = run->is_strategy && strcmp(run->scenario->strategy->name, "static") == 0;
        if (is_static && strcmp(reference->scenario->strategy->name, "static") != 0) {
            found->reference = index;
        }
    }
}

/* Steps before anything can differ within a group: the fewest before a run's first change. */
static int64_t common_steps(const struct study *study, int32_t group)
{
    int64_t steps = INT64_MAX;
    for (int32_t index = 0; index < study->num_runs; index++) {
        const struct run_metrics *metrics = study->run[index].metrics;
        if (study->run[index].group_index == group && metrics->num_rebalances > 0 &&
            metrics->first_steps < steps) {
            steps = metrics->first_steps;
        }
    }
    return steps == INT64_MAX ? 0 : steps;
}

/* Before the first change the runs of a group are one and the same, so all that their whole times
 * differ by lies behind it. */
static void compare_with_reference(struct study *study, int32_t group)
{
    const struct study_run *reference = &study->run[study->group[group].reference];
    double step_ns = reference->totals->step_ns_mean;
    int64_t common = study->group[group].varies_strategy ? common_steps(study, group) : 0;
    for (int32_t index = 0; index < study->num_runs; index++) {
        struct study_run *run = &study->run[index];
        if (run->group_index != group) {
            continue;
        }
        double steps = (double)run->metrics->num_steps;
        double share = (steps - (double)common) / steps; /* of the steps that may differ */
        double more_ns = changes_ns(run->metrics) - changes_ns(reference->metrics);
        double settled_ns = step_ns - run->totals->step_ns_mean + more_ns / steps;
        run->gain = (step_ns - run->totals->step_ns_mean) / step_ns / share;
        run->settled_gain = settled_ns / step_ns / share;
        bool pays_back = run->is_settled && settled_ns > 0.0;
        run->payback_steps = pays_back ? run->change_ns * share / settled_ns : -1.0;
    }
}

/* Better: more gain; as much, to a hundredth of a percent: fewer bytes moved; else the earlier. */
static bool is_better(const struct study_run *a, const struct study_run *b)
{
    double grid_a = floor(a->gain * 1e4 + 0.5);
    double grid_b = floor(b->gain * 1e4 + 0.5);
    if (grid_a != grid_b) {
        return grid_a > grid_b;
    }
    return a->moved_bytes != b->moved_bytes ? a->moved_bytes < b->moved_bytes : a < b;
}

static void give_places(struct study *study)
{
    for (int32_t index = 0; index < study->num_runs; index++) {
        struct study_run *run = &study->run[index];
        run->place = 1;
        for (int32_t other = 0; other < study->num_runs; other++) {
            run->place += study->run[other].group_index == run->group_index &&
                          is_better(&study->run[other], run);
        }
        if (run->place == 1) {
            study->group[run->group_index].winner = index;
        }
    }
}

/* Appends to a verdict; what does not fit is left out. */
__attribute__((format(printf, 2, 3))) static void say(char verdict[VERDICT_BYTES],
                                                      const char *format, ...)
{
    size_t used = strlen(verdict);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(verdict + used, VERDICT_BYTES - used, format, arguments);
    va_end(arguments);
}

/* The longest of the group: static has none. */
static int32_t interval_steps(const struct study *study, const struct study_group *group)
{
    int32_t steps = 0;
    for (int32_t index = 0; index < study->num_runs; index++) {
        const struct study_run *run = &study->run[index];
        if (&study->group[run->group_index] == group &&
            run->scenario->rebalance_interval_steps > steps) {
            steps = run->scenario->rebalance_interval_steps;
        }
    }
    return steps;
}

static void say_setting(const struct study *study, struct study_group *group,
                        const struct study_run *run)
{
    const struct scenario *scenario = run->scenario;
    int32_t interval = interval_steps(study, group);
    say(group->verdict, "%s of %s, EP%d, %d tokens a rank, %d redundant experts",
        scenario->phase == PHASE_DECODE ? "Decode" : "Prefill", scenario->model.name,
        (int)scenario->ep, (int)scenario->tokens_per_rank, (int)scenario->redundant_experts);
    if (interval > 0) { /* else all are placed once and for all */
        say(group->verdict, ", a change every %d steps", (int)interval);
    }
    say(group->verdict, ": ");
}

static void say_runner_up(const struct study *study, struct study_group *group)
{
    const struct study_run *winner = &study->run[group->winner];
    for (int32_t index = 0; index < study->num_runs; index++) {
        const struct study_run *run = &study->run[index];
        if (run->group_index == winner->group_index && run->place == 2) {
            say(group->verdict, " Next is %s with %+.1f %%.", run->name, 100.0 * run->gain);
        }
    }
}

static void say_why_it_pays(const struct study *study, struct study_group *group)
{
    const struct study_run *winner = &study->run[group->winner];
    char bytes[FORMAT_BYTES], cost[FORMAT_BYTES];
    say(group->verdict, "balancing pays. %s makes a step %.1f %% shorter, net of its moves",
        winner->name, 100.0 * winner->gain);
    if (winner->changes > 0) {
        say(group->verdict, ": %d change%s of %.0f copies of experts (%s)", (int)winner->changes,
            winner->changes == 1 ? "" : "s", (double)winner->moves / (double)winner->changes,
            format_bytes(bytes, (double)winner->moved_bytes / (double)winner->changes));
    }
    if (winner->changes > 0 && winner->is_settled) {
        say(group->verdict, ", each costing %s and paid back after %.0f steps",
            format_ns(cost, winner->change_ns), ceil(winner->payback_steps));
    }
    say(group->verdict, ".");
    say_runner_up(study, group);
}

/* Of the runs that are faster once settled, the one that pays back soonest; -1: none. */
static int32_t soonest_paid_back(const struct study *study, const struct study_group *group)
{
    int32_t best = -1;
    for (int32_t index = 0; index < study->num_runs; index++) {
        const struct study_run *run = &study->run[index];
        if (&study->group[run->group_index] == group && run->settled_gain > STUDY_GAIN_MIN &&
            run->payback_steps >= 0.0 &&
            (best < 0 || run->payback_steps < study->run[best].payback_steps)) {
            best = index;
        }
    }
    return best;
}

/* Whether any run of the group asks its strategy at intervals; and whether one was full. */
static bool asks(const struct study *study, const struct study_group *group, bool and_did)
{
    for (int32_t index = 0; index < study->num_runs; index++) {
        const struct study_run *run = &study->run[index];
        if (&study->group[run->group_index] == group && run->scenario->strategy->needs != 0 &&
            (!and_did || run->metrics->num_steps > run->scenario->rebalance_interval_steps)) {
            return true;
        }
    }
    return false;
}

static void say_why_not(const struct study *study, struct study_group *group)
{
    const struct study_run *winner = &study->run[group->winner];
    int32_t sooner = soonest_paid_back(study, group);
    char cost[FORMAT_BYTES];
    if (asks(study, group, false) && !asks(study, group, true)) {
        say(group->verdict,
            "no strategy was asked, for the run has only %lld steps; a shorter "
            "placement.rebalance_interval_steps or more steps would tell whether balancing pays.",
            (long long)winner->metrics->num_steps);
        return;
    }
    say(group->verdict, "balancing does not pay: ");
    if (winner == &study->run[group->reference]) {
        say(group->verdict, "nothing beats leaving the experts where they are");
    } else {
        say(group->verdict, "the best, %s, makes a step %.2f %% shorter net of its moves",
            winner->name, 100.0 * winner->gain);
    }
    if (sooner >= 0) {
        const struct study_run *run = &study->run[sooner];
        say(group->verdict,
            ". It would with fewer changes: once settled, %s's steps are %.1f %% shorter, but a "
            "change costs %s and takes %.0f steps to pay back",
            run->name, 100.0 * run->settled_gain, format_ns(cost, run->change_ns),
            ceil(run->payback_steps));
    }
    say(group->verdict, ".");
}

/* What the shortest step hides: tokens it drops, and tokens that are cheaper in longer steps. */
static void say_price(const struct study *study, struct study_group *group,
                      const struct study_run *winner)
{
    const struct study_run *cheapest = winner;
    const struct run_totals *totals = winner->totals;
    char usd[FORMAT_BYTES];
    for (int32_t index = 0; index < study->num_runs; index++) {
        const struct study_run *run = &study->run[index];
        if (run->group_index == winner->group_index &&
            run->totals->usd_per_million_tokens < cheapest->totals->usd_per_million_tokens) {
            cheapest = run;
        }
    }
    if (totals->dropped_assignments > 0) {
        say(group->verdict, " It drops %.1f %% of all assignments.",
            100.0 * (double)totals->dropped_assignments / (double)totals->assignments);
    }
    if (cheapest != winner) {
        say(group->verdict, " '%s' has the cheapest tokens, %s a million.", cheapest->name,
            format_money(usd, cheapest->totals->usd_per_million_tokens, &study->money.shown));
    }
}

/* To a hundredth of a percent. */
static bool all_are_alike(const struct study *study, const struct study_group *group)
{
    for (int32_t index = 0; index < study->num_runs; index++) {
        const struct study_run *run = &study->run[index];
        if (&study->group[run->group_index] == group && fabs(run->gain) >= 0.5e-4) {
            return false;
        }
    }
    return group->count > 1;
}

static void say_fastest(const struct study *study, struct study_group *group)
{
    const struct study_run *winner = &study->run[group->winner];
    const struct study_run *reference = &study->run[group->reference];
    if (all_are_alike(study, group)) {
        say(group->verdict, "Steps are equally long.");
    } else if (winner == reference) {
        say(group->verdict, "'%s' has the shortest steps.", winner->name);
    } else {
        say(group->verdict, "'%s' has the shortest steps, %.1f %% shorter than '%s'.", winner->name,
            100.0 * winner->gain, reference->name);
    }
    say_price(study, group, winner);
}

static void judge_group(struct study *study, struct study_group *group)
{
    const struct study_run *reference = &study->run[group->reference];
    if (!group->varies_strategy) {
        say_fastest(study, group);
        return;
    }
    say_setting(study, group, reference);
    if (study->run[group->winner].gain >= STUDY_GAIN_MIN) {
        say_why_it_pays(study, group);
    } else {
        say_why_not(study, group);
    }
}

enum status study_judge(struct study *study, struct study_run *run, int32_t num_runs)
{
    *study = (struct study){.run = run, .num_runs = num_runs};
    study->group = calloc((size_t)num_runs, sizeof *study->group);
    if (study->group == NULL) {
        return STATUS_NO_MEMORY;
    }
    uint64_t digest = DIGEST_START;
    for (int32_t index = 0; index < num_runs; index++) {
        digest = digest_text(digest, run[index].run_id);
        add_moves(&run[index]);
        money_add(&study->money, &run[index].scenario->price.currency);
    }
    snprintf(study->id, sizeof study->id, "%016" PRIx64, digest);
    find_groups(study);
    for (int32_t group = 0; group < study->num_groups; group++) {
        compare_with_reference(study, group);
    }
    give_places(study);
    for (int32_t group = 0; group < study->num_groups; group++) {
        judge_group(study, &study->group[group]);
    }
    return STATUS_OK;
}

void study_free(struct study *study)
{
    free(study->group);
    *study = (struct study){0};
}
