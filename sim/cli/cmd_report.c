/* cmd_report.c -- moesim report: a page with figures from stored results. */
#include <getopt.h>
#include <stdio.h>

#include "cli/cli.h"
#include "report.h"

static const char help[] =
    "usage: moesim report RESULTS [-o DIR] [options]\n\n"
    "Makes one self-contained page, DIR/index.html, from a results file of moesim run or compare;\n"
    "figures as SVG and PNG, with their numbers as CSV, lie in DIR/figures. Needs gnuplot.\n\n"
    "  -o, --output DIR  where to put the page, default out\n"
    "      --pdf         figures as PDF too, for papers and slides\n"
    "      --run ID      the run to show, by id or label, default the newest; all runs of the "
    "file\n"
    "                    are compared\n\n"
    "example:\n"
    "  moesim run router_lab_training_8xh100 -o results.db\n"
    "  moesim report results.db -o out/\n";

static const struct option long_options[] = {
    {"output", required_argument, NULL, 'o'},
    {"pdf", no_argument, NULL, 'p'},
    {"run", required_argument, NULL, 'r'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

enum status cli_make_page(const char *results, const char *out, const char *run_id,
                          struct error *error)
{
    struct report_options options = {.results = results, .out = out, .run_id = run_id};
    enum status status = out != NULL ? report_write(&options, error) : STATUS_OK;
    if (status == STATUS_IO) {
        return error_add(error, status, "the results are in %s: moesim report %s -o %s", results,
                         results, out);
    }
    return status;
}

int command_report(int argc, char **argv)
{
    struct report_options options = {.out = "out"};
    static const struct cli_grammar grammar = {"report", ":o:h", long_options, help};
    int letter;
    int code = 0;
    optind = 1;
    while ((letter = cli_next(&code, &grammar, argc, argv)) != -1) {
        switch (letter) {
        case 'o':
            options.out = optarg;
            break;
        case 'r':
            options.run_id = optarg;
            break;
        case 'p':
            options.pdf = true;
            break;
        default:
            return code;
        }
    }
    if (argc - optind != 1) {
        return cli_usage("report", argc == optind ? "name a results file" : "one results file");
    }
    options.results = argv[optind];
    static struct error error;
    enum status status = report_write(&options, &error);
    if (status != STATUS_OK) {
        return cli_fail(status, &error);
    }
    printf("%s/index.html\n", options.out);
    return 0;
}
