/* study.c -- groups, gains and places. */
#include "study.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "digest.h"
#include "study_internal.h"

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
        study_say(study, &study->group[group]);
    }
    return STATUS_OK;
}

void study_free(struct study *study)
{
    free(study->group);
    *study = (struct study){0};
}
