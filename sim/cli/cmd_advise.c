/* cmd_advise.c -- moesim advise: from what an engine recorded to an answer, in one command. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/advise.h"
#include "cli/cli.h"
#include "cli/compare.h"
#include "cli/print.h"
#include "cli/print_advise.h"
#include "cli/trace_cli.h"
#include "directory.h"
#include "draft.h"
#include "format.h"
#include "report.h"

static const char help[] =
    "usage: moesim advise DUMP|TRACE --model M --gpu NAME [options]\n\n"
    "Says in words what routing that an engine recorded asks for: which layers run hot, what\n"
    "balancing is worth by each strategy net of what it moves, what redundant experts are worth\n"
    "and take, when moved weights are paid back, what a capacity would drop. Imports the dump if\n"
    "it is no trace, writes a scenario to go on with, simulates it, and makes a page.\n\n"
    "      --model M             preset, config.json or YAML; a trace may name its own\n"
    "      --gpu NAME            a GPU, or a cluster of moesim list clusters, or a YAML file\n"
    "  -n, --gpus N              GPUs that share the experts; default: a node, or as many as it "
    "takes\n"
    "      --ep N                the same as --gpus\n"
    "      --nodes N             that they are on; default: as few as hold them\n"
    "      --phase PHASE         decode (default) or prefill\n"
    "      --tokens-per-rank N   sequences a GPU, or of prefill tokens; default 64, or 1024; "
    "fewer\n"
    "                            where the trace is short or memory small\n"
    "      --context TOKENS      KV tokens of every sequence, or of every prompt; default: as the\n"
    "                            trace's requests have it, else 4096; of prompts 1024\n"
    "      --redundant A,B,C     redundant experts a layer, ascending; default: none, and one,\n"
    "                            two and four slots more a GPU\n"
    "      --price P             preset, YAML file or dollars a GPU-hour; default: the GPU's\n"
    "  -o, --output DIR          where index.html, scenario.yaml, trace and results.db go,\n"
    "                            default out/advise\n"
    "      --all                 all strategies and steps, however long that takes\n"
    "      --from FORMAT         of the dump, and the next four: as of moesim trace import\n"
    "      --axes A,B,C          npy: order of token, layer and k, default token,layer,k\n"
    "      --requests FILE.csv   npy: where requests begin\n"
    "      --strip-dummy         leave out runs of 32 or more identical tokens\n"
    "      --physical-to-logical FILE\n"
    "                            ids are slots; FILE says their experts\n"
    "      --force               import again, and write over a scenario that was edited\n"
    "      --threads N           simulations at a time, default all cores\n"
    "  -j, --json                print the answer as JSON\n\n"
    "example:\n"
    "  moesim advise responses.jsonl --model deepseek-v3 --gpu h800-cx7 --gpus 32\n"
    "  moesim advise experts.npy --requests requests.csv --model gpt-oss-20b --gpu h100-sxm \\\n"
    "      --gpus 8 -o out/advise\n";

static const struct option long_options[] = {
    {"model", required_argument, NULL, 'm'},
    {"gpu", required_argument, NULL, 'g'},
    {"gpus", required_argument, NULL, 'n'},
    {"ep", required_argument, NULL, 'n'},
    {"nodes", required_argument, NULL, 'N'},
    {"phase", required_argument, NULL, 'p'},
    {"tokens-per-rank", required_argument, NULL, 'k'},
    {"context", required_argument, NULL, 'c'},
    {"redundant", required_argument, NULL, 'R'},
    {"price", required_argument, NULL, 'P'},
    {"output", required_argument, NULL, 'o'},
    {"all", no_argument, NULL, 'A'},
    {"from", required_argument, NULL, 'F'},
    {"axes", required_argument, NULL, 'a'},
    {"requests", required_argument, NULL, 'r'},
    {"strip-dummy", no_argument, NULL, 'd'},
    {"physical-to-logical", required_argument, NULL, 'M'},
    {"force", no_argument, NULL, 'f'},
    {"threads", required_argument, NULL, 't'},
    {"json", no_argument, NULL, 'j'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static const struct cli_grammar grammar = {"advise", ":n:o:jh", long_options, help};

struct command {
    struct advise advise;
    struct cli_options options;
    char scenario[FILE_PATH_BYTES];
    char results[FILE_PATH_BYTES];
    char redundant[LABEL_BYTES];
};

/* Returns -1 to go on. */
static int take_number(int32_t *number, const char *option, int64_t most)
{
    int64_t value = 0;
    if (!trace_cli_number(&value, grammar.command, option, optarg, 1, most)) {
        return 1;
    }
    *number = (int32_t)value;
    return -1;
}

/* Returns -1 to go on. */
static int take_phase(struct advise *advise)
{
    advise->prefill = strcmp(optarg, "prefill") == 0;
    return advise->prefill || strcmp(optarg, "decode") == 0
               ? -1
               : cli_usage(grammar.command, "--phase %s: neither decode nor prefill", optarg);
}

/* The options that go on to the import. Returns -1 to go on. */
static int take_import(struct import_options *import, int option)
{
    switch (option) {
    case 'm':
        import->model = optarg;
        return -1;
    case 'F':
        import->format = optarg;
        return -1;
    case 'a':
        return trace_axes_parse(import->axis, optarg)
                   ? -1
                   : cli_usage(grammar.command,
                               "--axes %s: expected token, layer and k in the order of the file",
                               optarg);
    case 'r':
        import->requests_path = optarg;
        return -1;
    case 'M':
        import->physical_path = optarg;
        return -1;
    default:
        import->strip_dummy = true;
        return -1;
    }
}

/* Returns -1 to go on. */
static int take(struct command *command, int option)
{
    struct advise *advise = &command->advise;
    switch (option) {
    case 'g':
        advise->gpu_name = optarg;
        return -1;
    case 'n':
        return take_number(&advise->num_gpus, "--gpus", 4096);
    case 'N':
        return take_number(&advise->num_nodes, "--nodes", 4096);
    case 'p':
        return take_phase(advise);
    case 'k':
        return take_number(&advise->tokens_per_rank, "--tokens-per-rank", 1 << 20);
    case 'c':
        return take_number(&advise->context_tokens, "--context", 1 << 24);
    case 'R':
        advise->redundant_text = optarg;
        return -1;
    case 'P':
        advise->price_name = optarg;
        return -1;
    case 'o':
        advise->out = optarg;
        return -1;
    case 'A':
        advise->all = true;
        return -1;
    case 'f':
        advise->force = true;
        return -1;
    case 't':
        return cli_take_threads(&command->options.num_threads, grammar.command, optarg);
    case 'j':
        command->options.json = true;
        return -1;
    default:
        return take_import(&advise->import, option);
    }
}

/* Returns -1 to go on, else the exit code. */
static int parse(struct command *command, int argc, char **argv)
{
    struct advise *advise = &command->advise;
    int option = 0;
    int code = -1;
    advise->out = "out/advise";
    for (int32_t i = 0; i < TRACE_AXIS_COUNT; i++) {
        advise->import.axis[i] = (enum trace_axis)i;
    }
    optind = 1;
    while (code < 0 && (option = cli_next(&code, &grammar, argc, argv)) > 0) {
        code = take(command, option);
    }
    if (code >= 0) {
        return code;
    }
    if (optind + 1 != argc) {
        return cli_usage(grammar.command, "name one dump or trace%s",
                         optind + 1 < argc ? "; of several files make one trace by moesim trace "
                                             "import, and advise that"
                                           : "");
    }
    if (advise->gpu_name == NULL) {
        return cli_usage(grammar.command, "--gpu is missing: what would it run on? moesim list "
                                          "gpus and list clusters have names");
    }
    if (strlen(advise->out) >= PATH_BYTES / 2) {
        return cli_usage(grammar.command, "--output %.40s...: too long a name", advise->out);
    }
    advise->source = argv[optind];
    advise->import.paths = &advise->source;
    advise->import.num_paths = 1;
    return -1;
}

/* The comparison of the scenario with itself: strategies times redundancy. */
static void compare_what(struct command *command)
{
    struct advise *advise = &command->advise;
    struct cli_options *options = &command->options;
    (void)snprintf(command->scenario, sizeof command->scenario, "%s/scenario.yaml", advise->out);
    (void)snprintf(command->results, sizeof command->results, "%s/results.db", advise->out);
    (void)snprintf(command->redundant, sizeof command->redundant, "placement.redundant_experts=");
    for (int32_t i = 0; i < advise->num_redundant; i++) {
        format_append(command->redundant, sizeof command->redundant, "%s%d", i > 0 ? "," : "",
                      (int)advise->redundant[i]);
    }
    options->scenario = command->scenario;
    options->results = command->results;
    options->strategies = advise->strategies;
    options->vary[0] = command->redundant;
    options->num_vary = 1;
}

/* Results come into being whole, in place of an earlier call's. */
static enum status store(const struct command *command, const struct study *study,
                         struct variant *variants, int32_t count, struct error *error)
{
    struct draft draft = {0};
    char path[FILE_PATH_BYTES + sizeof "/results.db"];
    enum status status = draft_open(&draft, command->advise.out, error);
    (void)snprintf(path, sizeof path, "%s/results.db", draft.directory);
    if (status == STATUS_OK) {
        status = compare_store(study, variants, count, path, error);
    }
    if (status == STATUS_OK) {
        status = draft_publish(&draft, "results.db", "results.db", error);
    }
    draft_close(&draft);
    return status;
}

static enum status make_page(const struct command *command, const struct study *study,
                             struct error *error)
{
    const struct advise *advise = &command->advise;
    struct report_advice advice[ADVISE_LINES_MAX];
    for (int32_t i = 0; i < advise->num_lines; i++) {
        advice[i] = (struct report_advice){advise->line[i].topic, advise->line[i].text};
    }
    struct report_options options = {.results = command->results,
                                     .out = advise->out,
                                     .run_id = compare_winner(study),
                                     .advice = advice,
                                     .num_advice = advise->num_lines};
    return report_write(&options, error);
}

/* Simulates, says, stores, draws and prints. Returns the exit code. */
static int answer(struct command *command, const struct compare_plan *plan, struct error *error)
{
    struct study study = {0};
    struct variant *variants = NULL;
    enum status status = compare_load(&variants, plan, &command->options, error);
    if (status == STATUS_OK) {
        status = compare_judge(&study, variants, plan->count, &command->options, error);
    }
    if (status == STATUS_OK) {
        advise_say(&command->advise, &study);
        status = store(command, &study, variants, plan->count, error);
    }
    if (status == STATUS_OK) {
        status = make_page(command, &study, error);
    }
    int code = status != STATUS_OK     ? cli_fail(status, error)
               : command->options.json ? print_json(advise_json(&command->advise, &study))
                                       : print_advise(&command->advise, &study);
    free(study.run);
    study_free(&study);
    compare_close(variants, plan->count);
    return code;
}

static int advise(struct command *command, struct error *error)
{
    struct advise *advise = &command->advise;
    struct compare_plan plan = {0};
    struct scenario base = {0};
    enum status status = advise_ask(advise, error);
    if (status == STATUS_OK) {
        status = directory_check(advise->out, error); /* not only when all is done */
    }
    if (status == STATUS_OK) {
        status = advise_take_trace(advise, error);
    }
    if (status == STATUS_OK) {
        status = advise_settle(advise, error);
    }
    if (status == STATUS_OK) {
        compare_what(command);
        status = compare_plan_base(&base, &command->options, error);
    }
    int code = status == STATUS_OK
                   ? compare_plan_make(&plan, &command->options, grammar.command, &base)
                   : cli_fail(status, error);
    scenario_free(&base);
    code = code < 0 ? answer(command, &plan, error) : code;
    compare_plan_free(&plan);
    return code;
}

int command_advise(int argc, char **argv)
{
    struct command *command = calloc(1, sizeof *command);
    struct error *error = calloc(1, sizeof *error);
    int code = 2;
    if (command == NULL || error == NULL) {
        fputs("moesim: out of memory\n", stderr);
    } else {
        code = parse(command, argc, argv);
        code = code < 0 ? advise(command, error) : code;
        trace_close(&command->advise.trace);
    }
    free(command);
    free(error);
    return code;
}
