/* claims.c -- loads claims, simulates what they need, and judges. */
#include "claims.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "claims_internal.h"
#include "data.h"
#include "expression.h"

#define CLAIMS_MAX 1024

enum status claims_load(struct claims *claims, const char *const *name, int32_t num_names,
                        struct error *error)
{
    *claims = (struct claims){0};
    if (num_names == 0) {
        num_names = data_list(&name, "claims", &claims->arena);
    }
    if (num_names < 0) {
        return num_names == DATA_NO_MEMORY
                   ? error_add(error, STATUS_NO_MEMORY, "out of memory")
                   : error_add(error, STATUS_INVALID,
                               "%s/scenarios/claims: there is no such directory", data_directory());
    }
    if (num_names > CLAIMS_MAX) {
        return error_add(error, STATUS_INVALID, "more than %d claims", CLAIMS_MAX);
    }
    claims->claim = arena_alloc(&claims->arena, (size_t)num_names, sizeof *claims->claim);
    if (claims->claim == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    enum status status = STATUS_OK;
    for (int32_t i = 0; i < num_names; i++) {
        char path[PATH_BYTES];
        enum status outcome = data_find(path, sizeof path, "claims", name[i], error);
        if (outcome == STATUS_OK) {
            outcome = claim_read(claims, &claims->claim[claims->count++], path, error);
        }
        status = outcome != STATUS_OK ? outcome : status;
    }
    return status;
}

void claims_free(struct claims *claims)
{
    arena_free(&claims->arena);
    *claims = (struct claims){0};
}

static void run_label(const void *context, int64_t point, char label[SWEEP_LABEL])
{
    const struct claims *claims = context;
    (void)snprintf(label, SWEEP_LABEL, "%s", claims->run[point].label);
}

static const char *run_path(const void *context, int64_t point)
{
    return ((const struct claims *)context)->run[point].path;
}

/* Problems are told with the place of the run in its claim. */
static enum status run_scenario(const void *context, int64_t point, struct scenario *scenario,
                                struct error *error)
{
    const struct claim_run *run = &((const struct claims *)context)->run[point];
    struct error *problems = calloc(1, sizeof *problems);
    if (problems == NULL) {
        *scenario = (struct scenario){0};
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    enum status status =
        scenario_load(scenario, run->path, run->setting, run->num_settings, problems);
    for (const char *line = problems->text; *line != '\0';) {
        int length = (int)strcspn(line, "\n");
        (void)error_add(error, STATUS_INVALID, "%s: %.*s", run->where, length, line);
        line += length + (line[length] == '\n');
    }
    free(problems);
    return status;
}

enum status claims_simulate(struct claims *claims, const char *results, int32_t num_threads,
                            struct sweep_outcome *outcome, struct error *error)
{
    const struct team alone = {.size = 1, .size_here = 1};
    const struct sweep_options options = {
        .results = results, .unit = "runs", .num_threads = num_threads};
    struct sweep_source source = {claims->num_runs, claims, run_label, run_path, run_scenario};
    uint64_t *run_id = calloc((size_t)claims->num_runs + 1, sizeof *run_id);
    if (run_id == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    enum status status = sweep_run(&source, &options, &alone, run_id, outcome, error);
    for (int32_t i = 0; i < claims->num_runs; i++) {
        claims->run[i].run_id = run_id[i];
    }
    free(run_id);
    return status;
}

/* All values of a case in order, then its number and whether it holds. */
static enum status compute_case(struct claims *claims, const struct claim *claim,
                                struct claim_case *item, struct store *store, struct error *error)
{
    char problem[EXPRESSION_PROBLEM];
    enum status status = STATUS_OK;
    for (int32_t i = 0; i < item->num_values && status == STATUS_OK; i++) {
        const struct claim_value *value = &item->value[i];
        const struct claim_names names = {item, i};
        if (value->kind != CLAIM_EXPRESSION) {
            status = claim_compute(&item->result[i], claims, value, store, error);
        } else if (!expression_evaluate(&item->result[i], value->text, claim_look_up, &names,
                                        problem)) {
            status = error_add(error, STATUS_INVALID, "%s: %s", value->name, problem);
        }
    }
    const struct claim_names names = {item, item->num_values};
    double holds = 0.0;
    if (status == STATUS_OK &&
        (!expression_evaluate(&item->number, claim->number, claim_look_up, &names, problem) ||
         !expression_evaluate(&holds, claim->holds, claim_look_up, &names, problem))) {
        status = error_add(error, STATUS_INVALID, "%s", problem);
    }
    item->is_computed = status == STATUS_OK;
    item->holds = holds != 0.0;
    return status;
}

static bool keep_evidence(void *context, const struct store_row *row)
{
    struct claim_run *run = context;
    (void)snprintf(run->evidence, sizeof run->evidence, "%s",
                   row->value[0] != NULL ? row->value[0] : "");
    return false;
}

/* What the times of every run rest on. */
static enum status find_evidence(struct claims *claims, struct store *store, struct error *error)
{
    static const char sql[] =
        "SELECT gpu_model || CASE WHEN error_median IS NULL THEN ', error not measured' ELSE "
        "printf(', median error %.1f %%', 100 * error_median) END FROM run WHERE run_id = ?1";
    enum status status = STATUS_OK;
    for (int32_t i = 0; i < claims->num_runs && status == STATUS_OK; i++) {
        char run_id[RUN_ID_BYTES];
        (void)snprintf(run_id, sizeof run_id, "%016llx", (unsigned long long)claims->run[i].run_id);
        status = store_query(store, sql, run_id, keep_evidence, &claims->run[i], error);
    }
    return status;
}

static enum claim_verdict judge(const struct claim *claim)
{
    int32_t num_holding = 0;
    for (int32_t i = 0; i < claim->num_cases; i++) {
        if (!claim->item[i].is_computed) {
            return CLAIM_UNKNOWN;
        }
        num_holding += claim->item[i].holds;
    }
    return num_holding == claim->num_cases ? CLAIM_HOLDS
           : num_holding > 0               ? CLAIM_HOLDS_IF
                                           : CLAIM_DOES_NOT_HOLD;
}

enum status claims_judge(struct claims *claims, const char *results, struct error *error)
{
    struct store *store = NULL;
    struct error *problems = calloc(1, sizeof *problems);
    enum status status = problems == NULL ? error_add(error, STATUS_NO_MEMORY, "out of memory")
                         : claims->num_runs > 0 ? store_open(&store, results, false, error)
                                                : STATUS_OK;
    if (status == STATUS_OK) {
        status = find_evidence(claims, store, error);
    }
    for (int32_t i = 0; status == STATUS_OK && i < claims->count; i++) {
        struct claim *claim = &claims->claim[i];
        for (int32_t j = 0; j < claim->num_cases; j++) {
            *problems = (struct error){0};
            if (compute_case(claims, claim, &claim->item[j], store, problems) != STATUS_OK) {
                (void)snprintf(claim->item[j].problem, sizeof claim->item[j].problem, "%.*s",
                               (int)strcspn(problems->text, "\n"), problems->text);
            }
        }
        claim->verdict = judge(claim);
    }
    store_close(store);
    free(problems);
    return status;
}

const char *claim_verdict_name(enum claim_verdict verdict)
{
    static const char *const names[] = {
        [CLAIM_HOLDS] = "holds",
        [CLAIM_HOLDS_IF] = "holds if",
        [CLAIM_DOES_NOT_HOLD] = "does not hold",
        [CLAIM_UNKNOWN] = "not computed",
    };
    return names[verdict];
}

void claim_verdict_text(const struct claim *claim, char text[CLAIM_TEXT])
{
    size_t used = (size_t)snprintf(text, CLAIM_TEXT, "%s", claim_verdict_name(claim->verdict));
    int32_t told = 0;
    for (int32_t i = 0; i < claim->num_cases && used < CLAIM_TEXT; i++) {
        const struct claim_case *item = &claim->item[i];
        if (claim->verdict == CLAIM_UNKNOWN && !item->is_computed) {
            (void)snprintf(text + used, CLAIM_TEXT - used, ": %s: %s", item->name, item->problem);
            return;
        }
        if (claim->verdict == CLAIM_HOLDS_IF && item->holds) {
            used += (size_t)snprintf(text + used, CLAIM_TEXT - used, "%s%s",
                                     told++ > 0 ? "; or " : " ", item->name);
        }
    }
}

void claim_number_text(const struct claim *claim, double number, char text[CLAIM_NUMBER])
{
    const struct claim_unit *unit = claim_units;
    while (unit->name != NULL && strcmp(unit->name, claim->unit) != 0) {
        unit++;
    }
    assert(unit->name != NULL);
    double shown = number / unit->divisor;
    if (unit->decimals >= 0) {
        (void)snprintf(text, CLAIM_NUMBER, "%s%.*f%s", unit->before, unit->decimals, shown,
                       unit->behind);
    } else {
        (void)snprintf(text, CLAIM_NUMBER, fabs(shown) < 100.0 ? "%s%.3g%s" : "%s%.0f%s",
                       unit->before, shown, unit->behind);
    }
}
