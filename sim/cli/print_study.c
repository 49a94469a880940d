/* print_study.c -- tables of a comparison. */
#include "cli/print_study.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/print.h"
#include "cli/print_offload.h"
#include "format.h"
#include "run_json.h"

static int name_width(const struct study *study)
{
    int width = (int)strlen("variant");
    for (int32_t index = 0; index < study->num_runs; index++) {
        int length = (int)strlen(study->run[index].name);
        width = length > width ? length : width;
    }
    return width;
}

static double dropped_share(const struct run_totals *totals)
{
    return totals->assignments > 0
               ? (double)totals->dropped_assignments / (double)totals->assignments
               : 0.0;
}

static char *signed_percent(char *text, double fraction)
{
    double percent = 100.0 * fraction;
    snprintf(text, FORMAT_BYTES, "%+.1f %%", fabs(percent) < 0.05 ? 0.0 : percent);
    return text;
}

/* What a change moves, costs, and when it is paid back; dashes for who never moved anything. */
static void print_changes(const struct study_run *run)
{
    char text[FORMAT_BYTES];
    if (run->changes == 0) {
        printf(" %6s %7s %6s\n", "-", "-", "-");
        return;
    }
    printf(" %6.0f %7s", (double)run->moves / (double)run->changes,
           run->is_settled ? format_ns(text, run->change_ns) : "-");
    if (!run->is_settled) {
        printf(" %6s\n", "-");
    } else if (run->payback_steps < 0.0) {
        printf(" %6s\n", "never");
    } else {
        printf(" %6.0f\n", ceil(run->payback_steps));
    }
}

static void print_bound(double balancedness)
{
    if (balancedness < 0.0) {
        printf(" %6s", "-");
    } else {
        printf(" %6.3f", balancedness);
    }
}

static void print_ranked(const struct study_run *run, int width, const struct currency *currency)
{
    const struct run_totals *totals = run->totals;
    char text[5][FORMAT_BYTES];
    printf("%3d %-*s %7s %7s %7s %9s %6.3f", (int)run->place, width, run->name,
           signed_percent(text[0], run->gain),
           run->is_settled ? signed_percent(text[1], run->settled_gain) : "-",
           format_ns(text[2], totals->step_ns_mean),
           money_cell(text[3], totals->usd_per_million_tokens, currency),
           totals->balance.balancedness);
    print_bound(run->bound_split);
    print_bound(run->bound_placement);
    print_changes(run);
}

/* Strategies of one group, best first. */
static void print_ranking(const struct study *study, const struct study_group *group, int width)
{
    char heading[FORMAT_BYTES];
    printf("%3s %-*s %7s %7s %7s %9s %6s %6s %6s %6s %7s %6s\n", "", width, "", "shorter", "once",
           "", "", "", "best", "best", "moves", "costs", "paid");
    printf("%3s %-*s %7s %7s %7s %9s %6s %6s %6s %6s %7s %6s\n", "", width, "strategy", "net",
           "settled", "step", money_heading(heading, &study->money.shown), "balan.", "split",
           "slots", "a time", "a time", "after");
    for (int32_t place = 1; place <= group->count; place++) {
        for (int32_t index = 0; index < study->num_runs; index++) {
            const struct study_run *run = &study->run[index];
            if (&study->group[run->group_index] == group && run->place == place) {
                print_ranked(run, width, &study->money.shown);
            }
        }
    }
}

/* A router that chose anew gives up gate mass; a replay of recorded choices has none to give. */
static bool has_router(const struct study *study, const struct study_group *group)
{
    for (int32_t index = 0; index < study->num_runs; index++) {
        const struct study_run *run = &study->run[index];
        if (&study->group[run->group_index] == group && run->metrics->gate_mass_is_known &&
            strcmp(run->scenario->router->name, "trace") != 0) {
            return true;
        }
    }
    return false;
}

static void print_row(const struct study_run *run, int width, bool with_mass,
                      const struct currency *currency)
{
    const struct run_totals *totals = run->totals;
    char text[8][FORMAT_BYTES];
    double communication = phase_share(run->metrics, STEP_DISPATCH) +
                           phase_share(run->metrics, STEP_COMBINE) +
                           phase_share(run->metrics, STEP_EXCHANGE);
    printf("%-*s %8s %9s %9s %9s %8.3f %7s %8s %7s %10s", width, run->name,
           format_ns(text[0], totals->step_ns_mean), signed_percent(text[1], -run->gain),
           format_count(text[2], totals->tokens_per_s_per_gpu),
           money_cell(text[3], totals->usd_per_million_tokens, currency),
           totals->rank_tokens_max_over_mean, format_percent(text[4], dropped_share(totals)),
           run->moved_bytes > 0 ? format_bytes(text[5], (double)run->moved_bytes) : "-",
           format_percent(text[6], communication),
           format_percent(text[7], totals->cross_node_share));
    if (with_mass && run->metrics->gate_mass_is_known) {
        char mass[FORMAT_BYTES];
        printf(" %9s", format_percent(mass, route_totals(run->metrics).gate_mass));
    } else if (with_mass) {
        printf(" %9s", "-");
    }
    puts("");
}

/* What a run's own changes were worth to it, or why there were none. */
static void print_worth(const struct study_run *run)
{
    char text[WORTH_BYTES], size[FORMAT_BYTES], line[2 * WORTH_BYTES];
    if (run->changes > 0) {
        worth_text(text, run->metrics);
        snprintf(line, sizeof line, "%s: %d change%s moved %s; %s", run->name, (int)run->changes,
                 run->changes == 1 ? "" : "s", format_bytes(size, (double)run->moved_bytes), text);
    } else if (never_asked_text(text, run->scenario, run->metrics->num_steps)) {
        snprintf(line, sizeof line, "%s: %s", run->name, text);
    } else {
        return;
    }
    puts("");
    print_wrapped(line, 0);
}

/* Variants of whatever else, in the order asked for. */
static void print_rows(const struct study *study, const struct study_group *group, int width)
{
    bool with_mass = has_router(study, group);
    char heading[FORMAT_BYTES];
    printf("%-*s %8s %9s %9s %9s %8s %7s %8s %7s %10s%s\n", width, "variant", "step", "vs first",
           "tok/s/GPU", money_heading(heading, &study->money.shown), "max/mean", "dropped", "moved",
           "comm.", "cross-node", with_mass ? " gate mass" : "");
    for (int32_t index = 0; index < study->num_runs; index++) {
        if (&study->group[study->run[index].group_index] == group) {
            print_row(&study->run[index], width, with_mass, &study->money.shown);
        }
    }
    for (int32_t index = 0; index < study->num_runs; index++) {
        if (&study->group[study->run[index].group_index] == group) {
            print_worth(&study->run[index]);
        }
    }
}

static void print_legend(void)
{
    puts("");
    print_wrapped(
        "shorter: of a static step, after the first change, stalls for moved weights included "
        "(net) or not (settled); balan.: mean over busiest rank, in the mean step behind that "
        "change; best: what no split of tokens over the replicas in force, and no placement on "
        "these slots, could exceed; a change of placement moves copies of experts, costs time "
        "beyond a settled step, and is paid back after steps. The page has more columns.",
        0);
}

/* What is known of the models' error, said once where all runs have the same. */
static void print_errors(const struct study *study, const char *title,
                         void (*error_text)(char text[EVIDENCE_BYTES],
                                            const struct scenario *scenario))
{
    for (int32_t index = 0; index < study->num_runs; index++) {
        char text[EVIDENCE_BYTES], earlier[EVIDENCE_BYTES];
        bool is_told = false;
        error_text(text, study->run[index].scenario);
        for (int32_t other = 0; other < index && !is_told; other++) {
            error_text(earlier, study->run[other].scenario);
            is_told = strcmp(text, earlier) == 0;
        }
        if (!is_told) {
            printf("%-15s", title);
            print_wrapped(text, 15);
        }
    }
}

void print_study(const struct study *study)
{
    int width = name_width(study);
    bool ranked = false;
    for (int32_t index = 0; index < study->num_groups; index++) {
        const struct study_group *group = &study->group[index];
        if (study->num_groups > 1) {
            printf("%s%s\n", index > 0 ? "\n" : "",
                   group->label[0] != '\0' ? group->label : "as the scenario has it");
        }
        if (group->varies_strategy) {
            print_ranking(study, group, width);
            ranked = true;
        } else {
            print_rows(study, group, width);
        }
    }
    if (ranked) {
        print_legend();
    }
    print_offload_study(study, width);
    puts("");
    print_money_note(&study->money);
    print_errors(study, "model error", model_error_text);
    print_errors(study, "exchange error", exchange_error_text);
    for (int32_t index = 0; index < study->num_groups; index++) {
        const struct study_group *group = &study->group[index];
        printf("\n%s%s", study->num_groups > 1 ? group->label : "",
               study->num_groups > 1 && group->label[0] != '\0' ? ":\n" : "");
        print_wrapped(group->verdict, 0);
    }
}

static void add_known(cJSON *object, const char *name, double value, bool is_known)
{
    if (is_known) {
        cJSON_AddNumberToObject(object, name, value);
    } else {
        cJSON_AddNullToObject(object, name);
    }
}

static cJSON *ranked_json(const struct study_run *run)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddNumberToObject(object, "place", run->place);
    cJSON_AddStringToObject(object, "name", run->name);
    cJSON_AddStringToObject(object, "run_id", run->run_id);
    cJSON_AddNumberToObject(object, "gain", run->gain);
    add_known(object, "settled_gain", run->settled_gain, run->is_settled);
    cJSON_AddNumberToObject(object, "changes", run->changes);
    cJSON_AddNumberToObject(object, "moves", (double)run->moves);
    cJSON_AddNumberToObject(object, "moved_bytes", (double)run->moved_bytes);
    add_known(object, "change_ns", run->change_ns, run->is_settled);
    add_known(object, "payback_steps", run->payback_steps,
              run->changes > 0 && run->payback_steps >= 0.0);
    add_known(object, "bound_split", run->bound_split, run->bound_split >= 0.0);
    add_known(object, "bound_placement", run->bound_placement, run->bound_placement >= 0.0);
    return object;
}

cJSON *study_json(const struct study *study)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "study_id", study->id);
    money_json(object, &study->money.shown);
    cJSON *groups = cJSON_AddArrayToObject(object, "groups");
    for (int32_t index = 0; index < study->num_groups; index++) {
        const struct study_group *group = &study->group[index];
        cJSON *entry = cJSON_CreateObject();
        cJSON_AddStringToObject(entry, "group", group->label);
        cJSON_AddStringToObject(entry, "verdict", group->verdict);
        cJSON *ranking = cJSON_AddArrayToObject(entry, "ranking");
        for (int32_t place = 1; place <= group->count; place++) {
            for (int32_t run = 0; run < study->num_runs; run++) {
                if (study->run[run].group_index == index && study->run[run].place == place) {
                    cJSON_AddItemToArray(ranking, ranked_json(&study->run[run]));
                }
            }
        }
        cJSON_AddItemToArray(groups, entry);
    }
    return object;
}
