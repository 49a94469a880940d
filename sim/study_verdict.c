/* study_verdict.c -- what a comparison amounts to in words. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "format.h"
#include "study_internal.h"

#define REDUNDANCY_KEY "placement.redundant_experts="
#define WORDS_BYTES    512 /* of settings */

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
    char sharing[SHARING_BYTES];
    format_append(group->verdict, VERDICT_BYTES,
                  "%s of %s, %s, %d tokens a rank, %d redundant experts",
                  scenario->phase == PHASE_DECODE ? "Decode" : "Prefill", scenario->model.name,
                  scenario_sharing(sharing, scenario->ep, scenario->expert_tp),
                  (int)scenario->tokens_per_rank, (int)scenario->redundant_experts);
    if (interval == 1) {
        format_append(group->verdict, VERDICT_BYTES, ", a change every step");
    } else if (interval > 0) { /* else all are placed once and for all */
        format_append(group->verdict, VERDICT_BYTES, ", a change every %d steps", (int)interval);
    }
    format_append(group->verdict, VERDICT_BYTES, ": ");
}

static void say_runner_up(const struct study *study, struct study_group *group)
{
    const struct study_run *winner = &study->run[group->winner];
    for (int32_t index = 0; index < study->num_runs; index++) {
        const struct study_run *run = &study->run[index];
        if (run->group_index == winner->group_index && run->place == 2) {
            format_append(group->verdict, VERDICT_BYTES, " Next is %s with %+.1f %%.", run->name,
                          100.0 * run->gain);
        }
    }
}

static void say_why_it_pays(const struct study *study, struct study_group *group)
{
    const struct study_run *winner = &study->run[group->winner];
    char bytes[FORMAT_BYTES], cost[FORMAT_BYTES];
    if (winner->scenario->strategy->needs == 0) { /* it has not balanced: it never saw a load */
        format_append(group->verdict, VERDICT_BYTES,
                      "another fixed placement is best. %s, which looks at no load and moves "
                      "nothing, makes a step %.1f %% shorter.",
                      winner->name, 100.0 * winner->gain);
        say_runner_up(study, group);
        return;
    }
    format_append(group->verdict, VERDICT_BYTES,
                  "balancing pays. %s makes a step %.1f %% shorter, net of its moves", winner->name,
                  100.0 * winner->gain);
    if (winner->changes > 0) {
        format_append(group->verdict, VERDICT_BYTES, ": %d change%s of %.0f copies of experts (%s)",
                      (int)winner->changes, winner->changes == 1 ? "" : "s",
                      (double)winner->moves / (double)winner->changes,
                      format_bytes(bytes, (double)winner->moved_bytes / (double)winner->changes));
    }
    if (winner->changes > 0 && winner->is_settled) {
        format_append(group->verdict, VERDICT_BYTES,
                      ", each costing %s and paid back after %.0f step%s against %s",
                      format_ns(cost, winner->change_ns), ceil(winner->payback_steps),
                      winner->payback_steps > 1.0 ? "s" : "", study->run[group->reference].name);
    }
    format_append(group->verdict, VERDICT_BYTES, ".");
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
        format_append(
            group->verdict, VERDICT_BYTES,
            "no strategy was asked, for the run has only %lld steps; a shorter "
            "placement.rebalance_interval_steps or more steps would tell whether balancing pays.",
            (long long)winner->metrics->num_steps);
        return;
    }
    format_append(group->verdict, VERDICT_BYTES, "balancing does not pay: ");
    if (winner == &study->run[group->reference]) {
        format_append(group->verdict, VERDICT_BYTES,
                      "nothing beats leaving the experts where they are");
    } else {
        format_append(group->verdict, VERDICT_BYTES,
                      "the best, %s, makes a step %.2f %% shorter net of its moves", winner->name,
                      100.0 * winner->gain);
    }
    if (sooner >= 0) {
        const struct study_run *run = &study->run[sooner];
        format_append(
            group->verdict, VERDICT_BYTES,
            ". It would with fewer changes: once settled, %s's steps are %.1f %% shorter, but a "
            "change costs %s and takes %.0f steps to pay back against %s",
            run->name, 100.0 * run->settled_gain, format_ns(cost, run->change_ns),
            ceil(run->payback_steps), study->run[group->reference].name);
    }
    format_append(group->verdict, VERDICT_BYTES, ".");
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
        format_append(group->verdict, VERDICT_BYTES, " It drops %.1f %% of all assignments.",
                      100.0 * (double)totals->dropped_assignments / (double)totals->assignments);
    }
    if (cheapest != winner) {
        format_append(
            group->verdict, VERDICT_BYTES, " '%s' has the cheapest tokens, %s a million.",
            cheapest->name,
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
        format_append(group->verdict, VERDICT_BYTES, "Steps are equally long.");
    } else if (winner == reference) {
        format_append(group->verdict, VERDICT_BYTES, "'%s' has the shortest steps.", winner->name);
    } else {
        format_append(group->verdict, VERDICT_BYTES,
                      "'%s' has the shortest steps, %.1f %% shorter than '%s'.", winner->name,
                      100.0 * winner->gain, reference->name);
    }
    say_price(study, group, winner);
}

/* Appends the words of a group's label but the one that says its redundancy. */
static void other_keys(char words[WORDS_BYTES], const char *label)
{
    size_t used = 0;
    words[0] = '\0';
    for (size_t length = 0; *label != '\0'; label += length + (label[length] == ' ')) {
        length = strcspn(label, " ");
        bool is_one = strncmp(label, REDUNDANCY_KEY, strlen(REDUNDANCY_KEY)) == 0;
        if (!is_one && used + length + 1 < WORDS_BYTES) {
            used += (size_t)snprintf(words + used, WORDS_BYTES - used, " %.*s", (int)length, label);
        }
    }
}

/* The reference of the group that differs from this one in having the fewest replicas; -1: none. */
static int32_t without_replicas(const struct study *study, const struct study_group *group)
{
    char words[WORDS_BYTES], of_other[WORDS_BYTES];
    int32_t fewest = study->run[group->reference].scenario->redundant_experts;
    int32_t found = -1;
    other_keys(words, group->label);
    for (int32_t index = 0; index < study->num_groups; index++) {
        const struct study_group *other = &study->group[index];
        int32_t replicas = study->run[other->reference].scenario->redundant_experts;
        other_keys(of_other, other->label);
        if (other->varies_strategy && replicas < fewest && strcmp(words, of_other) == 0) {
            fewest = replicas;
            found = other->reference;
        }
    }
    return found;
}

/* "1.9 % shorter" or "1.9 % longer". */
static void say_shorter(struct study_group *group, double share)
{
    format_append(group->verdict, VERDICT_BYTES, " %.1f %% %s", 100.0 * fabs(share),
                  share < 0.0 ? "longer" : "shorter");
}

/* Replicas alone may lengthen steps and take memory: the group's gains do not show either. */
static void say_redundancy(const struct study *study, struct study_group *group)
{
    int32_t plain = without_replicas(study, group);
    if (plain < 0) {
        return;
    }
    const struct study_run *reference = &study->run[group->reference];
    const struct study_run *winner = &study->run[group->winner];
    const struct study_run *best = reference;
    for (int32_t index = 0; index < study->num_runs; index++) {
        const struct study_run *run = &study->run[index];
        bool is_ours = &study->group[run->group_index] == group && run->is_settled;
        best = is_ours && run->settled_gain > best->settled_gain ? run : best;
    }
    double ratio = reference->totals->step_ns_mean / study->run[plain].totals->step_ns_mean;
    int64_t bytes = scenario_memory(reference->scenario, 0).expert_bytes -
                    scenario_memory(study->run[plain].scenario, 0).expert_bytes;
    char amount[FORMAT_BYTES];
    format_append(group->verdict, VERDICT_BYTES,
                  " Beside experts left in place with %d redundant ones, %s's steps are",
                  (int)study->run[plain].scenario->redundant_experts, winner->name);
    say_shorter(group, 1.0 - (1.0 - winner->gain) * ratio);
    format_append(group->verdict, VERDICT_BYTES, ", once settled%s%s%s",
                  best == winner ? "" : " those of ", best == winner ? "" : best->name,
                  best == winner ? "" : " are");
    say_shorter(group, 1.0 - (1.0 - best->settled_gain) * ratio);
    format_append(group->verdict, VERDICT_BYTES, "; replicas take %s more a GPU.",
                  format_bytes(amount, (double)bytes));
}

void study_say(struct study *study, struct study_group *group)
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
    say_redundancy(study, group);
}
