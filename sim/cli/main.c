/* main.c -- picks the command; the only place that prints errors and decides exit codes. */
#include "cli/cli.h"

#include <gsl/gsl_errno.h>
#include <stdio.h>
#include <string.h>

static const struct command {
    const char *name;
    const char *summary;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"advise", "what recorded routing asks for, in words: the command to start with",
     command_advise},
    {"run", "simulate a scenario and store the results", command_run},
    {"serve", "simulate requests that arrive, wait and are answered in batches", command_serve},
    {"compare", "simulate variants of a scenario side by side", command_compare},
    {"sweep", "simulate every point of a study; resumable, on MPI ranks too", command_sweep},
    {"study", "answer a question on one page: simulate, compute, draw", command_study},
    {"claims", "popular statements about MoE economics, computed", command_claims},
    {"diff", "compare two stored runs; limits for scripts", command_diff},
    {"report", "make a page with figures from stored results", command_report},
    {"trace", "import, generate, check and measure routing traces", command_trace},
    {"check", "check a scenario and show what it needs, without running it", command_check},
    {"list", "list models, GPUs, prices, strategies and other building blocks", command_list},
    {"calibrate", "fit the compute model to measured kernels, with held-out errors",
     command_calibrate},
    {"validate", "how far predictions are off measured kernels", command_validate},
    {"place", "place experts by measured loads, for a serving engine to load", command_place},
    {"memory", "on how many GPUs a model fits, and with how many sequences", command_memory},
    {"kernels", "small kernels between matrix products: bytes, launches, time", command_kernels},
    {"cost", "dollars a million tokens from measured rates, beside API prices", command_cost},
    {"plan", "the cheapest deployment that meets latency targets, and what it costs", command_plan},
    {"demo", "run the built-in example and make its page", command_demo},
};

#define NUM_COMMANDS (sizeof commands / sizeof commands[0])

int cli_fail(enum status status, const struct error *error)
{
    const char *line = error->text;
    while (*line != '\0') {
        const char *end = strchr(line, '\n');
        int length = end != NULL ? (int)(end - line) : (int)strlen(line);
        fprintf(stderr, "moesim: %.*s\n", length, line);
        line += length + (end != NULL);
    }
    int32_t shown = 0;
    for (const char *text = error->text; *text != '\0'; text++) {
        shown += *text == '\n';
    }
    if (shown < error->num_problems) {
        fprintf(stderr, "moesim: ... and %d more problems\n", (int)(error->num_problems - shown));
    }
    if (error->num_problems == 0) {
        fprintf(stderr, "moesim: %s\n",
                status == STATUS_NO_MEMORY ? "out of memory" : "failed without saying why");
        return 2;
    }
    return status == STATUS_NO_MEMORY || status == STATUS_CUDA ? 2 : 1;
}

int cli_usage(const char *command, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("moesim: ", stderr);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, " (see moesim %s --help)\n", command);
    va_end(arguments);
    return 1;
}

int cli_no_command(const char *family, const struct suggestion *suggestion)
{
    fprintf(stderr, "moesim: there is no %scommand '%s'", family, suggestion->word);
    if (suggestion->nearest != NULL) {
        fprintf(stderr, "; did you mean '%s'?", suggestion->nearest);
    }
    fprintf(stderr, " (see moesim %s--help)\n", family);
    return 1;
}

static void print_help(void)
{
    puts("moesim -- which experts run hot, what the all-to-all costs, which balancing strategy\n"
         "pays for itself, and what a million tokens cost, before the GPUs are rented.\n\n"
         "usage: moesim COMMAND [options]\n");
    for (size_t index = 0; index < NUM_COMMANDS; index++) {
        printf("  %-9s %s\n", commands[index].name, commands[index].summary);
    }
    puts("\nmoesim COMMAND --help shows options and an example. Start with:\n"
         "  moesim demo -o out/demo");
}

static int run_command(int argc, char **argv)
{
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_help();
        return argc < 2;
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts("moesim " MOESIM_VERSION);
        return 0;
    }
    for (size_t index = 0; index < NUM_COMMANDS; index++) {
        if (strcmp(argv[1], commands[index].name) == 0) {
            return commands[index].run(argc - 1, argv + 1);
        }
    }
    struct suggestion suggestion = {.word = argv[1]};
    for (size_t index = 0; index < NUM_COMMANDS; index++) {
        suggest_offer(&suggestion, commands[index].name);
    }
    return cli_no_command("", &suggestion);
}

int main(int argc, char **argv)
{
    gsl_set_error_handler_off(); /* GSL's own would abort */
    int code = run_command(argc, argv);
    /* Output to a full disk must not look like success. */
    if (fflush(stdout) != 0 || ferror(stdout) != 0) {
        perror("moesim: standard output");
        return 1;
    }
    return code;
}
