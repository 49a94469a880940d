/* cmd_study.c -- moesim study: a question, all that has to be simulated for it, one page. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "case_study.h"
#include "cli/cli.h"
#include "cli/options.h"
#include "cli/plan_cli.h"
#include "cli/print.h"
#include "textfile.h"

#define RESULTS_NAME "study.db"

static const char help[] =
    "usage: moesim study [NAME] [options]\n\n"
    "Answers a question on one page: simulates what the study needs, computes the answer from the\n"
    "results and draws its figures. Without a NAME the studies of scenarios/studies are listed, "
    "each\n"
    "with its question; NAME may be the path of a study of your own. What is simulated already in\n"
    "DIR/study.db is not simulated again, so a study that was killed goes on, and a large one may\n"
    "be swept on a cluster first: mpirun moesim sweep NAME.yaml -o DIR/study.db\n\n"
    "  -o, --output DIR   page and results, default out/NAME\n"
    "      --set KEY=VALUE  override one key of every point, or of the plan; may be repeated\n"
    "      --threads N    simulations at a time, default all cores\n"
    "      --check        check the study and count what misses, but run nothing\n"
    "  -j, --json         print the answer as JSON\n\n"
    "A study is a file as moesim sweep reads it, with queries for its answer and figures:\n"
    "  version: 1\n"
    "  question: Does a larger batch pay?\n"
    "  scenario: ../studies/deepseek_v3_decode_32xh800.yaml\n"
    "  vary: {trace.tokens_per_rank: [16, 32, 64]}\n"
    "  answer: # each returns one sentence; point has the run of every point\n"
    "    - SELECT printf('Steps take up to %.1f ms.', max(step_ns_mean) / 1e6)\n"
    "      FROM point JOIN run USING (run_id)\n"
    "  figures:\n"
    "    - name: step\n"
    "      title: How long a step takes\n"
    "      caption: A larger batch takes longer.\n"
    "      x: tokens_per_rank\n"
    "      y: ms\n"
    "      x_label: sequences a GPU\n"
    "      y_label: ms\n"
    "      rows: SELECT tokens_per_rank, step_ns_mean / 1e6 AS ms FROM point JOIN run USING "
    "(run_id)\n\n"
    "example:\n"
    "  moesim study drops_capacity -o out/drops\n";

static const struct option long_options[] = {
    {"output", required_argument, NULL, 'o'},
    {"set", required_argument, NULL, 's'},
    {"threads", required_argument, NULL, 't'},
    {"check", no_argument, NULL, 'c'},
    {"json", no_argument, NULL, 'j'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

struct command {
    const char *name;      /* NULL: list them */
    const char *directory; /* NULL: out/NAME */
    const char *override[PLAN_OVERRIDES];
    int32_t num_overrides;
    int32_t num_threads;
    bool check;
    bool json;
};

/* Returns -1 to go on, else the exit code. */
static int take_option(struct command *command, int letter, char **argv)
{
    switch (letter) {
    case 'o':
        command->directory = optarg;
        return -1;
    case 's':
        if (command->num_overrides == PLAN_OVERRIDES) {
            return cli_usage(argv[0], "more than %d settings", PLAN_OVERRIDES);
        }
        command->override[command->num_overrides++] = optarg;
        return -1;
    case 't':
        return cli_take_threads(&command->num_threads, argv[0], optarg);
    case 'c':
        command->check = true;
        return -1;
    default:
        command->json = true;
        return -1;
    }
}

static int parse(struct command *command, int argc, char **argv)
{
    static const struct cli_grammar grammar = {"study", ":o:jh", long_options, help};
    int letter;
    int code = -1;
    *command = (struct command){0};
    optind = 1;
    while (code < 0 && (letter = cli_next(&code, &grammar, argc, argv)) > 0) {
        code = take_option(command, letter, argv);
    }
    if (code >= 0) {
        return code;
    }
    if (optind + 1 < argc) {
        return cli_usage(argv[0], "one study at a time");
    }
    command->name = optind < argc ? argv[optind] : NULL;
    return -1;
}

static int list_studies(const struct command *command, struct error *error)
{
    struct arena arena = {0};
    struct case_study_entry *entry = NULL;
    int32_t count = 0;
    enum status status = case_study_list(&entry, &count, &arena, error);
    int code = 0;
    if (status != STATUS_OK) {
        code = cli_fail(status, error);
    } else if (command->json) {
        cJSON *json = cJSON_CreateObject();
        cJSON *list = cJSON_AddArrayToObject(json, "studies");
        for (int32_t i = 0; i < count; i++) {
            cJSON *one = cJSON_CreateObject();
            cJSON_AddStringToObject(one, "name", entry[i].name);
            cJSON_AddStringToObject(one, "question", entry[i].question);
            cJSON_AddItemToArray(list, one);
        }
        code = print_json(json);
    } else {
        for (int32_t i = 0; i < count; i++) {
            printf("%s\n  %s\n", entry[i].name, entry[i].question);
        }
        puts("\nmoesim study NAME answers one on a page, out/NAME/index.html");
    }
    arena_free(&arena);
    return code;
}

/* Of a plan no point is told apart: its search says what it skips. */
static int run_plan(const struct command *command, const struct case_study *study,
                    const char *directory, struct error *error)
{
    char results[FILE_PATH_BYTES + sizeof "/" RESULTS_NAME];
    struct plan_arguments arguments = {.plan = study->plan,
                                       .results = results,
                                       .report = directory,
                                       .num_overrides = command->num_overrides,
                                       .num_threads = command->num_threads,
                                       .json = command->json,
                                       .study = study->name,
                                       .question = study->question,
                                       .lead = study->answer,
                                       .num_leads = study->num_answers};
    (void)snprintf(results, sizeof results, "%s/" RESULTS_NAME, directory);
    memcpy(arguments.overrides, command->override, sizeof arguments.overrides);
    if (command->check) {
        printf("%s: plan %s; what its search simulates follows from its bounds\n", study->name,
               study->plan);
        return 0;
    }
    return cli_plan(&arguments, error);
}

static int print_check(const struct command *command, const struct case_study *study,
                       const struct sweep_outcome *outcome)
{
    long long missing = (long long)(outcome->num_points - outcome->num_done - outcome->num_same);
    if (command->json) {
        cJSON *json = cJSON_CreateObject();
        cJSON_AddStringToObject(json, "study", study->name);
        cJSON_AddNumberToObject(json, "points", (double)outcome->num_points);
        cJSON_AddNumberToObject(json, "to_simulate", (double)missing);
        return print_json(json);
    }
    printf("%s: %lld points, %lld to simulate\n", study->name, (long long)outcome->num_points,
           missing);
    return 0;
}

static int print_answer(const struct command *command, const struct case_study *study,
                        const struct case_study_result *result, const struct sweep_outcome *outcome,
                        const char *directory)
{
    if (command->json) {
        cJSON *json = cJSON_CreateObject();
        cJSON_AddStringToObject(json, "study", study->name);
        cJSON_AddStringToObject(json, "question", study->question);
        cJSON *answer = cJSON_AddArrayToObject(json, "answer");
        for (int32_t i = 0; i < study->num_answers; i++) {
            cJSON_AddItemToArray(answer, cJSON_CreateString(result->answer[i]));
        }
        cJSON_AddNumberToObject(json, "points", (double)outcome->num_points);
        cJSON_AddNumberToObject(json, "simulated", (double)outcome->num_simulated);
        cJSON_AddNumberToObject(json, "failed", (double)outcome->num_failed);
        cJSON_AddStringToObject(json, "results", result->results);
        cJSON_AddStringToObject(json, "page", directory);
        return print_json(json);
    }
    printf("%s\n\n", study->question);
    for (int32_t i = 0; i < study->num_answers; i++) {
        printf("%s\n", result->answer[i]);
    }
    printf("\n%lld points, %lld simulated now; results: %s; page: %s/index.html\n",
           (long long)outcome->num_points, (long long)outcome->num_simulated, result->results,
           directory);
    return 0;
}

/* run_id [points]; all points or none have to be in the page's figures. */
static int run_points(const struct command *command, struct case_study *study,
                      const char *directory, uint64_t *run_id, struct sweep_outcome *outcome,
                      struct error *error)
{
    char results[FILE_PATH_BYTES + sizeof "/" RESULTS_NAME];
    const struct team alone = {.size = 1, .size_here = 1};
    struct case_study_result result = {.results = results,
                                       .run_id = run_id,
                                       .failures = &outcome->failures,
                                       .arena = &study->arena};
    const struct sweep_options options = {.results = results,
                                          .unit = "points",
                                          .num_threads = command->num_threads,
                                          .check_only = command->check};
    (void)snprintf(results, sizeof results, "%s/" RESULTS_NAME, directory);
    study->points.override = command->override;
    study->points.num_overrides = command->num_overrides;
    struct sweep_source source = sweep_study_source(&study->points);
    enum status status = sweep_run(&source, &options, &alone, run_id, outcome, error);
    if (status == STATUS_OK && command->check) {
        return print_check(command, study, outcome);
    }
    if (status == STATUS_OK && outcome->num_failed > 0) {
        (void)cli_fail(STATUS_INVALID, &outcome->failures);
    }
    if (status == STATUS_OK) {
        status = case_study_answer(study, &result, error);
    }
    if (status == STATUS_OK) {
        status = case_study_write_page(study, &result, directory, error);
    }
    if (status != STATUS_OK) {
        return cli_fail(status, error);
    }
    int code = print_answer(command, study, &result, outcome, directory);
    return code == 0 && outcome->num_failed > 0 ? 1 : code;
}

static int run(const struct command *command, struct case_study *study, struct error *error)
{
    char directory[FILE_PATH_BYTES];
    enum status status = case_study_load(study, command->name, error);
    if (status != STATUS_OK) {
        return cli_fail(status, error);
    }
    int length = snprintf(directory, sizeof directory, "%s%s",
                          command->directory != NULL ? command->directory : "out/",
                          command->directory != NULL ? "" : study->name);
    if (length >= FILE_PATH_BYTES - 64) {
        return cli_usage("study", "%.40s...: too long a name", directory);
    }
    if (study->plan[0] != '\0') {
        return run_plan(command, study, directory, error);
    }
    uint64_t *run_id = calloc((size_t)study->points.num_points + 1, sizeof *run_id);
    struct sweep_outcome *outcome = calloc(1, sizeof *outcome);
    int code = run_id == NULL || outcome == NULL
                   ? cli_fail(STATUS_NO_MEMORY, error)
                   : run_points(command, study, directory, run_id, outcome, error);
    free(run_id);
    free(outcome);
    return code;
}

int command_study(int argc, char **argv)
{
    struct command command;
    int code = parse(&command, argc, argv);
    if (code >= 0) {
        return code;
    }
    struct error *error = calloc(1, sizeof *error);
    struct case_study *study = calloc(1, sizeof *study);
    if (error == NULL || study == NULL) {
        fputs("moesim: out of memory\n", stderr);
        code = 2;
    } else if (command.name == NULL) {
        code = list_studies(&command, error);
    } else {
        code = run(&command, study, error);
        case_study_free(study);
    }
    free(study);
    free(error);
    return code;
}
