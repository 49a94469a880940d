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

/* Sums behind the first change of placement. */
struct settled {
    int64_t steps; /* landing steps included */
    double ns;
    int64_t settled_steps;
    double settled_ns;
};

static struct settled behind_first_change(const struct run_metrics *metrics)
{
    struct settled sum = {0};
    for (int32_t index = 0; index < metrics->num_rebalances; index++) {
        const struct rebalance_record *record = &metrics->rebalance[index];
        sum.steps += 1 + record->settled_steps;
        sum.ns += (double)(record->landing_ns + record->settled_ns);
        sum.settled_steps += record->settled_steps;
        sum.settled_ns += (double)record->settled_ns;
    }
    return sum;
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
        found->varies_strategy |= run->scenario->strategy != reference->scenario->strategy;
        bool is_static = strcmp(run->scenario->strategy->name, "static") == 0;
        if (is_static && strcmp(reference->scenario->strategy->name, "static") != 0) {
            found->reference = index;
        }
    }
}

/* True if all runs of the group have steps behind a change, as many as the others. */
static bool has_settled_steps(const struct study *study, int32_t group)
{
    int64_t steps = behind_first_change(study->run[study->group[group].reference].metrics).steps;
    for (int32_t index = 0; index < study->num_runs; index++) {
        const struct study_run *run = &study->run[index];
        struct settled sum = behind_first_change(run->metrics);
        if (run->group_index == group && (sum.steps != steps || sum.settled_steps == 0)) {
            return false;
        }
    }
    return steps > 0;
}

static double headroom(const struct study_run *run)
{
    double ns = 0.0;
    for (int32_t layer = 0; layer < run->metrics->num_layers; layer++) {
        const struct layer_metrics *metrics = &run->metrics->layer[layer];
        ns += metrics->expert_ns_max_sum - metrics->expert_ns_mean_sum;
    }
    return ns / (double)run->metrics->num_steps / run->totals->step_ns_mean;
}

static void compare_with_reference(struct study *study, int32_t group)
{
    const struct study_run *reference = &study->run[study->group[group].reference];
    struct settled base = behind_first_change(reference->metrics);
    bool settled = has_settled_steps(study, group);
    double step_ns = reference->totals->step_ns_mean;
    for (int32_t index = 0; index < study->num_runs; index++) {
        struct study_run *run = &study->run[index];
        if (run->group_index != group) {
            continue;
        }
        struct settled sum = behind_first_change(run->metrics);
        run->net_ns = settled ? sum.ns / (double)sum.steps : run->totals->step_ns_mean;
        double base_ns = settled ? base.ns / (double)base.steps : step_ns;
        run->gain = (base_ns - run->net_ns) / step_ns;
        run->settled_gain = run->gain;
        if (settled) {
            double gain_ns = base.settled_ns / (double)base.settled_steps -
                             sum.settled_ns / (double)sum.settled_steps;
            run->settled_gain = gain_ns / step_ns;
            run->payback_steps = gain_ns > 0.0 ? run->change_ns / gain_ns : -1.0;
        }
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

static void say_setting(struct study_group *group, const struct study_run *run)
{
    const struct scenario *scenario = run->scenario;
    say(group->verdict,
        "%s of %s, EP%d, %d tokens a rank, %d redundant experts, a change every %d "
        "steps: ",
        scenario->phase == PHASE_DECODE ? "Decode" : "Prefill", scenario->model.name,
        (int)scenario->ep, (int)scenario->tokens_per_rank, (int)scenario->redundant_experts,
        (int)scenario->rebalance_interval_steps);
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
        say(group->verdict,
            ": %d change%s of %.0f copies of experts (%s), each costing %s and paid back after "
            "%.0f steps",
            (int)winner->changes, winner->changes == 1 ? "" : "s",
            (double)winner->moves / (double)winner->changes,
            format_bytes(bytes, (double)winner->moved_bytes / (double)winner->changes),
            format_ns(cost, winner->change_ns), ceil(winner->payback_steps));
    }
    say(group->verdict, ". Equal expert times on all ranks would save %.1f %%.",
        100.0 * group->headroom);
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

static void say_why_not(const struct study *study, struct study_group *group)
{
    const struct study_run *winner = &study->run[group->winner];
    int32_t sooner = soonest_paid_back(study, group);
    char cost[FORMAT_BYTES];
    say(group->verdict, "balancing does not pay: ");
    if (group->headroom < STUDY_GAIN_MIN) {
        say(group->verdict,
            "even equal expert times on all ranks would save only %.2f %% of a "
            "step; ",
            100.0 * group->headroom);
    }
    if (winner->changes == 0) {
        say(group->verdict, "nothing beats leaving the experts where they are");
    } else {
        say(group->verdict, "the best, %s, makes it %+.2f %% shorter net of its moves",
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

static void say_fastest(const struct study *study, struct study_group *group)
{
    const struct study_run *winner = &study->run[group->winner];
    const struct study_run *reference = &study->run[group->reference];
    if (winner == reference) {
        say(group->verdict, "%s has the shortest steps.", winner->name);
    } else {
        say(group->verdict, "%s has the shortest steps, %.1f %% shorter than %s.", winner->name,
            100.0 * winner->gain, reference->name);
    }
}

static void judge_group(struct study *study, struct study_group *group)
{
    const struct study_run *reference = &study->run[group->reference];
    group->headroom = headroom(reference);
    if (!group->varies_strategy) {
        say_fastest(study, group);
        return;
    }
    say_setting(group, reference);
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
