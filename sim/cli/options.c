/* options.c -- getopt_long for run and compare. */
#include "cli/options.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

#define THREADS_MAX   1024
#define OPTION_BYTES  80
#define TIMELINE_LAST 1 /* the first two steps */

static const struct option long_options[] = {
    {"set", required_argument, NULL, 's'},
    {"vary", required_argument, NULL, 'v'},
    {"strategies", required_argument, NULL, 'B'},
    {"sensitivity", no_argument, NULL, 'Y'},
    {"seed", required_argument, NULL, 'S'},
    {"threads", required_argument, NULL, 't'},
    {"output", required_argument, NULL, 'o'},
    {"report", required_argument, NULL, 'r'},
    {"json", no_argument, NULL, 'j'},
    {"detail", no_argument, NULL, 'd'},
    {"help", no_argument, NULL, 'h'},
    {"timeline", required_argument, NULL, 'T'},
    {"timeline-steps", required_argument, NULL, 'R'},
    {NULL, 0, NULL, 0},
};

static bool parse_whole(const char *text, unsigned long long max, unsigned long long *value)
{
    char *end = NULL;
    errno = 0;
    *value = strtoull(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && text[0] != '-' && *value <= max;
}

int cli_take_threads(int32_t *num_threads, const char *command, const char *text)
{
    unsigned long long value = 0;
    if (!parse_whole(text, THREADS_MAX, &value) || value == 0) {
        return cli_usage(command, "--threads %s: expected 1 to %d", text, THREADS_MAX);
    }
    *num_threads = (int32_t)value;
    return -1;
}

int cli_refuse_option(const char *command, int letter, const struct option *known, char **argv)
{
    const char *word = argv[optind - 1];
    if (letter == ':') {
        return cli_usage(command, "%s needs a value", word);
    }
    if (isgraph(optopt) && strncmp(word, "--", 2) != 0) { /* maybe within "-ab" */
        return cli_usage(command, "unknown option -%c", optopt);
    }
    char name[OPTION_BYTES];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(word, "="), word);
    struct suggestion suggestion = {.word = name + strspn(name, "-")};
    for (; known->name != NULL; known++) {
        suggest_offer(&suggestion, known->name);
    }
    return cli_usage(command, "unknown option %s%s%s", name,
                     suggestion.nearest != NULL ? "; did you mean --" : "",
                     suggestion.nearest != NULL ? suggestion.nearest : "");
}

int cli_next(int *code, const struct cli_grammar *grammar, int argc, char **argv)
{
    opterr = 0;
    int option = getopt_long(argc, argv, grammar->short_options, grammar->long_options, NULL);
    if (option == 'h') {
        fputs(grammar->help, stdout);
        *code = 0;
        return 0;
    }
    if (option == ':' || option == '?') {
        *code = cli_refuse_option(grammar->command, option, grammar->long_options, argv);
        return 0;
    }
    return option;
}

/* "A-B", or "A" for one step. */
static bool parse_steps(const char *text, int64_t *first, int64_t *last)
{
    char *end = NULL;
    errno = 0;
    long long from = strtoll(text, &end, 10);
    long long to = from;
    bool valid = isdigit((unsigned char)text[0]) != 0;
    if (valid && *end == '-') {
        valid = isdigit((unsigned char)end[1]) != 0;
        to = strtoll(end + 1, &end, 10);
    }
    *first = from;
    *last = to;
    return valid && errno == 0 && *end == '\0' && from <= to;
}

/* Returns -1 to go on. */
static int take_timeline(struct cli_options *options, const char *command, int option)
{
    if (option == 'T') {
        options->timeline = optarg;
        return -1;
    }
    if (!parse_steps(optarg, &options->timeline_first, &options->timeline_last)) {
        return cli_usage(command, "--timeline-steps %s: expected A-B or A, counted from 0", optarg);
    }
    return -1;
}

/* Returns -1 to go on. */
static int take(struct cli_options *options, const char *command, int option)
{
    unsigned long long value = 0;
    switch (option) {
    case 's':
        if (options->num_overrides == OVERRIDES_MAX) {
            return cli_usage(command, "more than %d --set", OVERRIDES_MAX);
        }
        options->override[options->num_overrides++] = optarg;
        return -1;
    case 'v':
        if (options->num_vary == VARY_MAX) {
            return cli_usage(command, "more than %d --vary", VARY_MAX);
        }
        options->vary[options->num_vary++] = optarg;
        return -1;
    case 'B':
        options->strategies = optarg;
        return -1;
    case 'Y':
        options->sensitivity = true;
        return -1;
    case 'S':
        if (!parse_whole(optarg, UINT64_MAX, &value)) {
            return cli_usage(command, "--seed %s: expected a whole number", optarg);
        }
        snprintf(options->seed_override, sizeof options->seed_override, "seed=%llu", value);
        return -1;
    case 't':
        return cli_take_threads(&options->num_threads, command, optarg);
    case 'o':
        options->results = optarg;
        return -1;
    case 'r':
        options->report = optarg;
        return -1;
    case 'j':
        options->json = true;
        return -1;
    case 'd':
        options->detail = true;
        return -1;
    case 'T':
    case 'R':
        return take_timeline(options, command, option);
    default:
        return -1; /* refused already */
    }
}

/* Returns -1 to go on. */
static int settle_timeline(struct cli_options *options, const char *command)
{
    bool has_steps = options->timeline_last >= 0;
    if (options->timeline == NULL && has_steps) {
        return cli_usage(command, "--timeline-steps needs --timeline FILE");
    }
    if (options->timeline != NULL && strcmp(command, "run") != 0) {
        return cli_usage(command, "--timeline belongs to moesim run");
    }
    options->timeline_last = has_steps ? options->timeline_last : TIMELINE_LAST;
    return -1;
}

int cli_parse(struct cli_options *options, int argc, char **argv, const char *help)
{
    *options = (struct cli_options){.results = "results.db", .timeline_last = -1};
    int option;
    optind = 1;
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":o:r:jh", long_options, NULL)) != -1) {
        if (option == 'h') {
            fputs(help, stdout);
            return 0;
        }
        if (option == '?' || option == ':') {
            return cli_refuse_option(argv[0], option, long_options, argv);
        }
        int code = take(options, argv[0], option);
        if (code >= 0) {
            return code;
        }
    }
    if (options->seed_override[0] != '\0' && options->num_overrides < OVERRIDES_MAX) {
        options->override[options->num_overrides++] = options->seed_override;
    }
    if (optind == argc) {
        return cli_usage(argv[0], "name a scenario file");
    }
    if (optind + 1 < argc) {
        return cli_usage(argv[0], "one scenario at a time, not also '%s'", argv[optind + 1]);
    }
    options->scenario = argv[optind];
    return settle_timeline(options, argv[0]);
}

int32_t cli_threads(const struct cli_options *options)
{
    return options->num_threads > 0 ? options->num_threads : (int32_t)omp_get_max_threads();
}
