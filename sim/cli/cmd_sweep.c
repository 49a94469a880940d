/* cmd_sweep.c -- moesim sweep: every point of a study, on threads and MPI ranks, resumable. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/options.h"
#include "cli/print.h"
#include "format.h"
#include "rows.h"
#include "store.h"
#include "sweep_study.h"
#include "whole_engine.h"

#define CHEAPEST_SHOWN 10

static const char help[] =
    "usage: moesim sweep STUDY [options]\n\n"
    "Simulates every point of a study file. Each finished point is stored at once, and a point "
    "that\n"
    "is stored already is not simulated again: after a kill, the same command does the rest. "
    "Started\n"
    "by mpirun or srun, points are dealt out to all ranks and their results become one file.\n\n"
    "  -o, --output FILE  results file (SQLite), default results.db\n"
    "  -r, --report DIR   also make the page, as moesim report does\n"
    "      --threads N    simulations at a time and rank, default all cores\n"
    "      --check        check all points and count those that miss, but run none\n"
    "  -j, --json         print the summary as JSON\n\n"
    "A study file:\n"
    "  version: 1\n"
    "  scenario: ../studies/deepseek_v3_decode_32xh800.yaml\n"
    "  points:                          # optional: keys that change together\n"
    "    - {cluster.nodes: 4, parallel.ep: 32}\n"
    "    - {cluster.nodes: 8, parallel.ep: 64}\n"
    "  vary:                            # every combination\n"
    "    trace.tokens_per_rank: [16, 32, 64]\n"
    "    placement.redundant_experts: [0, 32, 64]\n"
    "  exclude:                         # optional\n"
    "    - {parallel.ep: 64, placement.redundant_experts: 32}\n\n"
    "Points that fail, for example because they do not fit into memory, are listed at the end and "
    "in\n"
    "RESULTS.failed.csv; the exit code is 1 then.\n\n"
    "example:\n"
    "  mpirun -np 4 moesim sweep router_lab_capacity -o out/sweep.db\n";

static const struct option long_options[] = {
    {"output", required_argument, NULL, 'o'},
    {"report", required_argument, NULL, 'r'},
    {"threads", required_argument, NULL, 't'},
    {"check", no_argument, NULL, 'c'},
    {"json", no_argument, NULL, 'j'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

struct command {
    const char *study;
    const char *report; /* directory, or NULL */
    struct sweep_options options;
    bool json;
};

/* Returns -1 to go on, else the exit code. */
static int parse(struct command *command, int argc, char **argv)
{
    static const struct cli_grammar grammar = {"sweep", ":o:r:jh", long_options, help};
    int letter;
    int code = -1;
    *command = (struct command){.options = {.results = "results.db", .unit = "points"}};
    optind = 1;
    while (code < 0 && (letter = cli_next(&code, &grammar, argc, argv)) > 0) {
        switch (letter) {
        case 'o':
            command->options.results = optarg;
            break;
        case 'r':
            command->report = optarg;
            break;
        case 'c':
            command->options.check_only = true;
            break;
        case 'j':
            command->json = true;
            break;
        default:
            code = cli_take_threads(&command->options.num_threads, argv[0], optarg);
        }
    }
    if (code >= 0) {
        return code;
    }
    if (optind + 1 != argc) {
        return cli_usage(argv[0], optind == argc ? "name a study file" : "one study at a time");
    }
    command->study = argv[optind];
    return -1;
}

/* The cheapest points of this study; the file may hold other runs. */
struct cheapest {
    const uint64_t *run_id; /* [num_points] of the study, sorted */
    int64_t num_points;
    int32_t count;
    struct money money;
    bool any_dropped;
    struct row {
        char label[SWEEP_LABEL];
        char run_id[RUN_ID_BYTES];
        double step_ns_mean;
        double tokens_per_s_per_gpu;
        double usd_per_million_tokens;
        double dropped_share;       /* of assignments */
        char error[EVIDENCE_BYTES]; /* of its times */
    } row[CHEAPEST_SHOWN];
};

static int by_id(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

/* In the words of moesim run; value: gpu_model, network, fitted_on, error_median, phase and
 * expert_tp of the store. */
static void error_text(char text[EVIDENCE_BYTES], const char *const *value)
{
    if (value[3] == NULL || strtod(value[3], NULL) < 0.0) {
        snprintf(text, EVIDENCE_BYTES, "unknown: %s and %s are not fitted to measurements",
                 value[0], value[1]);
    } else {
        snprintf(
            text, EVIDENCE_BYTES, "%s: median %.1f %% on held-out %s; %s", value[0],
            100.0 * strtod(value[3], NULL), value[2],
            whole_engine_error(strcmp(value[4], "prefill") == 0, strtol(value[5], NULL, 10) > 1)
                ->brief);
    }
}

static bool keep_cheapest(void *context, const struct store_row *from)
{
    struct cheapest *cheapest = context;
    uint64_t id = strtoull(from->value[0], NULL, 16);
    if (bsearch(&id, cheapest->run_id, (size_t)cheapest->num_points, sizeof id, by_id) != NULL) {
        struct row *row = &cheapest->row[cheapest->count++];
        snprintf(row->run_id, sizeof row->run_id, "%s", from->value[0]);
        snprintf(row->label, sizeof row->label, "%s", from->value[1]);
        row->step_ns_mean = strtod(from->value[2], NULL);
        row->tokens_per_s_per_gpu = strtod(from->value[3], NULL);
        row->usd_per_million_tokens = strtod(from->value[4], NULL);
        row->dropped_share = strtod(from->value[5], NULL);
        cheapest->any_dropped |= row->dropped_share > 0.0;
        error_text(row->error, from->value + 6);
    }
    return cheapest->count < CHEAPEST_SHOWN;
}

/* Of those that are shown alone: a file may hold a million runs, and a price is a look-up each. */
static enum status find_money(struct cheapest *cheapest, struct store *store, struct error *error)
{
    static const char sql[] = "SELECT " STORE_CURRENCY_SQL " FROM run WHERE run_id = ?1";
    struct rows price = {0};
    enum status status = STATUS_OK;
    for (int32_t i = 0; i < cheapest->count && status == STATUS_OK; i++) {
        status = rows_query(&price, store, sql, cheapest->row[i].run_id, error);
        rows_add_money(&cheapest->money, &price, 0);
    }
    rows_free(&price);
    return status;
}

static enum status find_cheapest(struct cheapest *cheapest, const char *results,
                                 struct error *error)
{
    static const char sql[] =
        "SELECT run_id, label, step_ns_mean, tokens_per_s_per_gpu, usd_per_million_tokens, "
        "ifnull(dropped_assignments * 1.0 / nullif(assignments, 0), 0), "
        "gpu_model, network, fitted_on, error_median, phase, expert_tp "
        "FROM run WHERE complete = 1 ORDER BY usd_per_million_tokens, rowid";
    struct store *store = NULL;
    enum status status = store_open(&store, results, false, error);
    if (status == STATUS_OK) {
        status = store_query(store, sql, NULL, keep_cheapest, cheapest, error);
    }
    if (status == STATUS_OK) {
        status = find_money(cheapest, store, error);
    }
    store_close(store);
    return status;
}

static int print_summary_json(const struct command *command, const struct sweep_outcome *outcome,
                              const struct cheapest *cheapest)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "study", command->study);
    cJSON_AddStringToObject(json, "results", command->options.results);
    cJSON_AddNumberToObject(json, "points", (double)outcome->num_points);
    cJSON_AddNumberToObject(json, "stored_before", (double)outcome->num_done);
    cJSON_AddNumberToObject(json, "same_as_another", (double)outcome->num_same);
    cJSON_AddNumberToObject(json, "simulated", (double)outcome->num_simulated);
    cJSON_AddNumberToObject(json, "failed", (double)outcome->num_failed);
    cJSON_AddNumberToObject(json, "ranks", outcome->num_ranks);
    cJSON_AddNumberToObject(json, "workers", outcome->num_workers);
    cJSON_AddNumberToObject(json, "wall_s", outcome->wall_s);
    cJSON_AddNumberToObject(json, "cpu_s", outcome->cpu_s);
    cJSON_AddNumberToObject(json, "points_cpu_s", outcome->points_cpu_s);
    money_json(json, &cheapest->money.shown);
    cJSON *list = cJSON_AddArrayToObject(json, "cheapest");
    for (int32_t i = 0; i < cheapest->count; i++) {
        const struct row *row = &cheapest->row[i];
        cJSON *point = cJSON_CreateObject();
        cJSON_AddStringToObject(point, "run_id", row->run_id);
        cJSON_AddStringToObject(point, "label", row->label);
        cJSON_AddNumberToObject(point, "step_ns_mean", row->step_ns_mean);
        cJSON_AddNumberToObject(point, "tokens_per_s_per_gpu", row->tokens_per_s_per_gpu);
        cJSON_AddNumberToObject(point, "usd_per_million_tokens", row->usd_per_million_tokens);
        cJSON_AddNumberToObject(point, "dropped_share", row->dropped_share);
        cJSON_AddStringToObject(point, "model_error", row->error);
        cJSON_AddItemToArray(list, point);
    }
    return print_json(json);
}

/* Every one once. */
static void print_model_errors(const struct cheapest *cheapest)
{
    for (int32_t i = 0; i < cheapest->count; i++) {
        int32_t first = 0;
        while (strcmp(cheapest->row[first].error, cheapest->row[i].error) != 0) {
            first++;
        }
        if (first == i) {
            printf("%smodel error %s\n", i == 0 ? "\n" : "", cheapest->row[i].error);
        }
    }
}

static void print_text(const struct command *command, const struct sweep_study *study,
                       const struct sweep_outcome *outcome, const struct cheapest *cheapest)
{
    if (study->question[0] != '\0') {
        printf("%s\n\n", study->question);
    }
    printf("%lld points: %lld stored before", (long long)outcome->num_points,
           (long long)outcome->num_done);
    if (command->options.check_only) {
        printf(", %lld to simulate", (long long)(outcome->num_points - outcome->num_done -
                                                 outcome->num_same - outcome->num_failed));
    } else {
        printf(", %lld simulated now", (long long)outcome->num_simulated);
    }
    if (outcome->num_same > 0) {
        printf(", %lld the same as another", (long long)outcome->num_same);
    }
    printf(", %lld failed\n", (long long)outcome->num_failed);
    if (outcome->num_simulated > 0) {
        printf("%.1f s on %d workers of %d %s, CPU time %.1f s, %.0f %% of it in simulations\n",
               outcome->wall_s, outcome->num_workers, outcome->num_ranks,
               outcome->num_ranks == 1 ? "process" : "ranks", outcome->cpu_s,
               100.0 * outcome->points_cpu_s / outcome->cpu_s);
    }
    const struct currency *currency = &cheapest->money.shown;
    if (cheapest->count > 0) {
        char heading[FORMAT_BYTES];
        printf("\n%10s %10s %9s%s  %s\n", "step", "tok/s/GPU", money_heading(heading, currency),
               cheapest->any_dropped ? "  dropped" : "", "cheapest points");
    }
    for (int32_t i = 0; i < cheapest->count; i++) {
        const struct row *row = &cheapest->row[i];
        char text[3][FORMAT_BYTES];
        printf("%10s %10s %9s", format_ns(text[0], row->step_ns_mean),
               format_count(text[1], row->tokens_per_s_per_gpu),
               money_cell(text[2], row->usd_per_million_tokens, currency));
        if (cheapest->any_dropped) {
            printf(" %8s", format_percent(text[0], row->dropped_share));
        }
        printf("  %s\n", row->label);
    }
    print_model_errors(cheapest);
    print_money_note(&cheapest->money);
    if (!command->options.check_only) {
        printf("\nstored in %s", command->options.results);
        printf(command->report != NULL ? "; page: %s/index.html\n"
                                       : "; for the page: moesim report %s -o out/\n",
               command->report != NULL ? command->report : command->options.results);
    }
}

/* Rank 0, when all is done: page, summary, failures. */
static int conclude(const struct command *command, const struct sweep_study *study,
                    uint64_t *run_id, const struct sweep_outcome *outcome, struct error *error)
{
    struct cheapest *cheapest = calloc(1, sizeof *cheapest);
    if (cheapest == NULL) {
        return cli_fail(STATUS_NO_MEMORY, error);
    }
    enum status status = STATUS_OK;
    cheapest->run_id = run_id;
    cheapest->num_points = outcome->num_points;
    qsort(run_id, (size_t)outcome->num_points, sizeof *run_id, by_id);
    if (outcome->num_simulated + outcome->num_done > 0) {
        status = find_cheapest(cheapest, command->options.results, error);
    }
    if (status == STATUS_OK && cheapest->count > 0) {
        status = cli_make_page(command->options.results, command->report, cheapest->row[0].run_id,
                               error);
    }
    int code = 0;
    if (status != STATUS_OK) {
        code = cli_fail(status, error);
    } else if (command->json) {
        code = print_summary_json(command, outcome, cheapest);
    } else {
        print_text(command, study, outcome, cheapest);
    }
    free(cheapest);
    if (code == 0 && outcome->num_failed > 0) {
        fflush(stdout);
        code = cli_fail(STATUS_INVALID, &outcome->failures);
    }
    return code;
}

/* Of one rank. *has_parted: all ranks have said goodbye to each other, so that none waits. */
static int sweep(const struct command *command, const struct team *team, bool *has_parted,
                 struct error *error)
{
    struct sweep_study *study = calloc(1, sizeof *study);
    struct sweep_outcome *outcome = calloc(1, sizeof *outcome);
    uint64_t *run_id = NULL;
    int code = 2;
    enum status status = STATUS_NO_MEMORY;
    if (study == NULL || outcome == NULL) {
        code = cli_fail(status, error);
        goto done;
    }
    status = sweep_study_load(study, command->study, error);
    if (status == STATUS_OK) {
        run_id = calloc((size_t)study->num_points, sizeof *run_id);
        status = run_id == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    }
    if (status == STATUS_OK) {
        struct sweep_source source = sweep_study_source(study);
        status = sweep_run(&source, &command->options, team, run_id, outcome, error);
        *has_parted = status != STATUS_NO_MEMORY;
    }
    if (status != STATUS_OK) {
        code = team->rank == 0 ? cli_fail(status, error) : 1;
    } else {
        code = team->rank == 0 ? conclude(command, study, run_id, outcome, error) : 0;
    }
done:
    free(run_id);
    free(outcome);
    if (study != NULL) {
        sweep_study_free(study);
    }
    free(study);
    return code;
}

int command_sweep(int argc, char **argv)
{
    struct command command;
    struct team team = {0};
    int code = parse(&command, argc, argv);
    if (code >= 0) {
        return code;
    }
    struct error *error = calloc(1, sizeof *error);
    if (error == NULL) {
        fputs("moesim: out of memory\n", stderr);
        return 2;
    }
    enum status status = team_open(&team, error);
    bool has_parted = false;
    code =
        status == STATUS_OK ? sweep(&command, &team, &has_parted, error) : cli_fail(status, error);
    if (code != 0 && team.size > 1 && !has_parted) {
        fflush(NULL);
        team.end(code);
    }
    team_close(&team);
    free(error);
    return code;
}
