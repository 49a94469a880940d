/* cmd_validate.c -- moesim validate. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench_cli.h"
#include "cli/cli.h"
#include "cli/print.h"
#include "error_figure.h"
#include "validate.h"

static const char help[] =
    "usage: moesim validate --TABLE FILE.csv [-o FILE.csv] [--json]\n"
    "       moesim validate --fit FILE.csv --bench FILE.csv [--json]\n"
    "       moesim validate --device cpu [--routing FILE.npy] [--json]\n\n"
    "Predicts measurements and prints the absolute relative error by group, and what was skipped\n"
    "and why. The constants are those of the presets. TABLE names the layout:\n\n";

static const char help_options[] =
    "      --bench FILE         phases and layers as moe-bench forward measured them\n"
    "      --fit FILE           measured likewise: what the constants for --bench are fitted to\n"
    "      --device cpu         measure both on this machine, with moe-bench: other shapes, "
    "skewed\n"
    "                           routing, and two MPI ranks where mpirun is there\n"
    "      --routing FILE       with --device: recorded choices, [layers][tokens][4] of 32 "
    "experts\n"
    "  -o, --out FILE           write every row of the table: its line, group, measured and "
    "predicted\n"
    "                           value, relative error, or why there is none\n"
    "      --figure FILE        draw predicted over measured and the errors' distribution, .svg or "
    ".png\n"
    "  -j, --json               print total and groups as JSON; errors are fractions\n\n"
    "example:\n"
    "  moesim validate --kernels-moe kernels_moe.csv --json\n";

#define SOURCE_OPTION 1000 /* of the first table; above all characters */
#define OPTIONS_MAX   32
#define PLACE_BYTES   256

struct options {
    const struct validate_source *source; /* the table's, or NULL */
    const char *table;
    const char *bench;
    const char *fit;
    const char *device;
    const char *routing;
    const char *out;
    const char *figure;
    bool as_json;
};

static void print_help(void)
{
    int32_t count = 0;
    const struct validate_source *source = validate_sources(&count);
    fputs(help, stdout);
    for (int32_t i = 0; i < count; i++) {
        char option[64];
        (void)snprintf(option, sizeof option, "--%s FILE", source[i].option);
        bool is_long = strlen(option) > 20;
        printf("      %-20s%s %s\n", option, is_long ? "\n                          " : "",
               source[i].summary);
    }
    fputs(help_options, stdout);
}

static int check(const struct options *options, const char *command)
{
    int num_sources =
        (options->table != NULL) + (options->bench != NULL) + (options->device != NULL);
    if (num_sources != 1) {
        return cli_usage(command, "one table (such as --kernels-moe FILE.csv), --bench FILE.csv or "
                                  "--device cpu is needed");
    }
    if ((options->bench == NULL) != (options->fit == NULL)) {
        return cli_usage(command, "--bench FILE.csv and --fit FILE.csv go together");
    }
    if (options->device != NULL && strcmp(options->device, "cpu") != 0) {
        return cli_usage(command,
                         "--device is cpu, not '%s'; of a GPU, take the files that "
                         "moe-bench forward wrote: --fit and --bench",
                         options->device);
    }
    if (options->routing != NULL && options->device == NULL) {
        return cli_usage(command, "--routing goes with --device cpu");
    }
    if ((options->out != NULL || options->figure != NULL) && options->table == NULL) {
        return cli_usage(command, "--out and --figure go with a table such as --kernels-moe");
    }
    return -1;
}

/* The options that are always there, and one a table. */
static void list_options(struct option *option)
{
    static const struct option fixed[] = {
        {"bench", required_argument, NULL, 'b'},  {"fit", required_argument, NULL, 'f'},
        {"device", required_argument, NULL, 'd'}, {"routing", required_argument, NULL, 'r'},
        {"out", required_argument, NULL, 'o'},    {"figure", required_argument, NULL, 'F'},
        {"json", no_argument, NULL, 'j'},         {"help", no_argument, NULL, 'h'}};
    int32_t num_fixed = (int32_t)(sizeof fixed / sizeof fixed[0]);
    int32_t num_sources = 0;
    const struct validate_source *source = validate_sources(&num_sources);
    memset(option, 0, OPTIONS_MAX * sizeof *option);
    memcpy(option, fixed, sizeof fixed);
    for (int32_t i = 0; i < num_sources && num_fixed + i + 1 < OPTIONS_MAX; i++) {
        option[num_fixed + i] =
            (struct option){source[i].option, required_argument, NULL, SOURCE_OPTION + i};
    }
}

/* Returns -1 to go on, else the exit code. */
static int parse(struct options *options, int argc, char **argv)
{
    struct option known[OPTIONS_MAX];
    int32_t num_sources = 0;
    int option = 0;
    list_options(known);
    optind = 1;
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":o:jh", known, NULL)) != -1) {
        if (option >= SOURCE_OPTION) {
            if (options->table != NULL) {
                return cli_usage(argv[0], "one table at a time");
            }
            options->source = validate_sources(&num_sources) + (option - SOURCE_OPTION);
            options->table = optarg;
        } else if (option == 'h') {
            print_help();
            return 0;
        } else if (option == 'b') {
            options->bench = optarg;
        } else if (option == 'f') {
            options->fit = optarg;
        } else if (option == 'd') {
            options->device = optarg;
        } else if (option == 'r') {
            options->routing = optarg;
        } else if (option == 'o') {
            options->out = optarg;
        } else if (option == 'F') {
            options->figure = optarg;
        } else if (option == 'j') {
            options->as_json = true;
        } else {
            return cli_refuse_option(argv[0], option, known, argv);
        }
    }
    if (optind < argc) {
        return cli_usage(argv[0], "what is '%s'?", argv[optind]);
    }
    return check(options, argv[0]);
}

/* Where a reason was met first, and which cell it was if it was one; place [PLACE_BYTES] out. */
static void tell_first(char *place, const struct error_report *report,
                       const struct skip_reason *reason)
{
    const struct error_row *row = &report->row[reason->first];
    if (row->words != NULL) {
        (void)snprintf(place, PLACE_BYTES, "%s", row->words);
    } else {
        (void)snprintf(place, PLACE_BYTES, "line %lld", (long long)row->line);
    }
}

static cJSON *report_json(const struct error_report *report)
{
    cJSON *object = cJSON_CreateObject();
    cJSON *total = cJSON_AddObjectToObject(object, "total");
    bench_errors_json(total, &report->total, report->num_skipped);
    cJSON *groups = cJSON_AddArrayToObject(object, "groups");
    for (int32_t i = 0; i < report->num_groups; i++) {
        const struct error_group *group = &report->group[i];
        cJSON *item = cJSON_CreateObject();
        for (int32_t key = 0; key < report->num_keys; key++) {
            cJSON_AddStringToObject(item, report->key[key], group->value[key]);
        }
        cJSON_AddBoolToObject(item, "part_of_fit", group->is_fitted);
        bench_errors_json(item, &group->error, group->num_skipped);
        cJSON_AddItemToArray(groups, item);
    }
    cJSON *reasons = cJSON_AddObjectToObject(object, "skipped_reasons");
    for (int32_t i = 0; i < report->num_reasons; i++) {
        cJSON_AddNumberToObject(reasons, report->reason[i].text, (double)report->reason[i].count);
    }
    cJSON *first = cJSON_AddObjectToObject(object, "skipped_first");
    for (int32_t i = 0; i < report->num_reasons; i++) {
        char place[PLACE_BYTES];
        tell_first(place, report, &report->reason[i]);
        cJSON_AddStringToObject(first, report->reason[i].text, place);
    }
    return object;
}

static void print_errors(const struct error_summary *summary, int64_t num_skipped)
{
    printf("%7d %7lld", (int)summary->num_rows, (long long)num_skipped);
    if (summary->num_rows > 0) {
        printf(" %7.1f %% %7.1f %% %8.1f %%", 100.0 * summary->median, 100.0 * summary->p90,
               100.0 * summary->max);
    }
}

/* Columns as wide as their widest value. */
static void print_report(const struct error_report *report, const struct validate_source *source)
{
    int width[REPORT_KEYS_MAX] = {0};
    int all = 0;
    for (int32_t key = 0; key < report->num_keys; key++) {
        width[key] = (int)strlen(report->key[key]);
        for (int32_t i = 0; i < report->num_groups; i++) {
            int length = (int)strlen(report->group[i].value[key]);
            width[key] = length > width[key] ? length : width[key];
        }
        printf("%-*s  ", width[key], report->key[key]);
        all += width[key] + 2;
    }
    printf("%7s %7s %9s %9s %10s\n", "rows", "skipped", "median", "p90", "max");
    for (int32_t i = 0; i < report->num_groups; i++) {
        const struct error_group *group = &report->group[i];
        for (int32_t key = 0; key < report->num_keys; key++) {
            const char *value = group->value[key];
            bool is_cut = strlen(value) == NAME_BYTES - 1; /* longer than what is kept */
            printf("%-*.*s%s  ", width[key] - (is_cut ? 3 : 0), is_cut ? NAME_BYTES - 4 : -1, value,
                   is_cut ? "..." : "");
        }
        print_errors(&group->error, group->num_skipped);
        puts(group->is_fitted ? "  part of the fit" : "");
    }
    printf("%-*s", all, "total");
    print_errors(&report->total, report->num_skipped);
    puts("\n");
    if (source->may_be_fitted) {
        puts(
            "Part of the fit goes by the table's name: rows of the table that a preset's constants "
            "were\n"
            "fitted to show the calibrated error, all others a predicted one; a copy under another "
            "name\n"
            "counts as unseen. What fits are worth on shapes they have not seen stands in the "
            "presets\n"
            "(holdout).");
    }
    for (int32_t i = 0; i < report->num_reasons; i++) {
        const struct skip_reason *reason = &report->reason[i];
        char place[PLACE_BYTES];
        tell_first(place, report, reason);
        printf("skipped %lld: %s (%s%s)\n", (long long)reason->count, reason->text,
               reason->count > 1 ? "first: " : "", place);
    }
}

static enum status write_rows(const struct error_report *report, const char *path,
                              struct error *error)
{
    FILE *file = fopen(path, "w");
    if (file == NULL) {
        return error_add(error, STATUS_IO, "%s: %s", path, strerror(errno));
    }
    error_report_write_rows(report, file);
    bool is_whole = ferror(file) == 0;
    is_whole = fclose(file) == 0 && is_whole;
    return is_whole ? STATUS_OK : error_add(error, STATUS_IO, "%s: %s", path, strerror(errno));
}

static int validate_table(const struct options *options)
{
    struct error_report report = {0};
    struct error *error = calloc(1, sizeof *error);
    enum status status = error == NULL ? STATUS_NO_MEMORY : gpu_check_presets(error);
    if (status == STATUS_OK) {
        status = options->source->validate(&report, options->table, error);
    }
    if (status == STATUS_OK) {
        status = error_report_finish(&report, error);
    }
    if (status == STATUS_OK && options->out != NULL) {
        status = write_rows(&report, options->out, error);
    }
    if (status == STATUS_OK && options->figure != NULL) {
        status = error_figure_draw(&report, options->figure, error);
    }
    int code = 0;
    if (status != STATUS_OK) {
        code = cli_fail(status, error != NULL ? error : &(struct error){0});
    } else if (options->as_json) {
        code = print_json(report_json(&report));
    } else {
        print_report(&report, options->source);
    }
    error_report_free(&report);
    free(error);
    return code;
}

int command_validate(int argc, char **argv)
{
    struct options options = {0};
    int code = parse(&options, argc, argv);
    if (code >= 0) {
        return code;
    }
    if (options.bench != NULL) {
        return bench_validate(options.fit, options.bench, options.as_json);
    }
    if (options.device != NULL) {
        return bench_validate_cpu(options.routing, options.as_json);
    }
    return validate_table(&options);
}
