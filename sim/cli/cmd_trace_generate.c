/* cmd_trace_generate.c -- moesim trace generate. */
#include <omp.h>
#include <stdio.h>

#include "cli/cli.h"
#include "cli/trace_cli.h"
#include "generate.h"

static const char help[] =
    "usage: moesim trace generate --preset NAME --tokens N --out DIR [options]\n\n"
    "Makes a synthetic trace with the skew and locality measured of a model. The same preset,\n"
    "tokens and seed give the same bytes.\n\n"
    "      --preset NAME   one of moesim list traces, or the path of a YAML file\n"
    "      --tokens N      tokens; a shorter trace is the beginning of a longer one\n"
    "  -o, --out DIR       where the trace goes\n"
    "      --seed N        default 1\n"
    "      --gate-weights  also write gate weights, and\n"
    "      --scores        scores of all experts; both of presets that trace fit made\n"
    "      --force         replace a trace that is there\n"
    "      --threads N     default all; the trace does not depend on it\n"
    "  -j, --json          print one JSON object, as trace info does\n\n"
    "example:\n"
    "  moesim trace generate --preset deepseek-v3 --tokens 100000 --seed 7 --out traces/ds\n";

static const struct option long_options[] = {
    {"preset", required_argument, NULL, 'p'},
    {"tokens", required_argument, NULL, 'n'},
    {"out", required_argument, NULL, 'o'},
    {"seed", required_argument, NULL, 's'},
    {"threads", required_argument, NULL, 't'},
    {"gate-weights", no_argument, NULL, 'g'},
    {"scores", no_argument, NULL, 'c'},
    {"force", no_argument, NULL, 'f'},
    {"json", no_argument, NULL, 'j'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static const struct cli_grammar grammar = {"trace generate", ":o:jh", long_options, help};

struct request {
    struct generate_options generate;
    const char *out;
    bool replace;
    bool json;
};

/* False: not understood, and said so. */
static bool take(struct request *request, int option)
{
    int64_t value = 0;
    switch (option) {
    case 'p':
        request->generate.preset = optarg;
        return true;
    case 'o':
        request->out = optarg;
        return true;
    case 'f':
        request->replace = true;
        return true;
    case 'j':
        request->json = true;
        return true;
    case 'g':
        request->generate.with_gate_weights = true;
        return true;
    case 'c':
        request->generate.with_scores = true;
        return true;
    case 'n':
        if (!trace_cli_number(&value, grammar.command, "--tokens", optarg, 1, INT64_C(1) << 40)) {
            return false;
        }
        request->generate.num_tokens = value;
        return true;
    case 's':
        if (!trace_cli_number(&value, grammar.command, "--seed", optarg, 0, INT64_MAX)) {
            return false;
        }
        request->generate.seed = (uint64_t)value;
        return true;
    default:
        if (!trace_cli_number(&value, grammar.command, "--threads", optarg, 1, TRACE_THREADS_MAX)) {
            return false;
        }
        request->generate.num_threads = (int32_t)value;
        return true;
    }
}

int command_trace_generate(int argc, char **argv)
{
    struct progress progress;
    struct error error = {0};
    struct request request = {
        .generate = {.seed = 1,
                     .num_threads = omp_get_max_threads(),
                     .progress = trace_cli_progress,
                     .context = &progress},
    };
    int code = 0;
    int option;
    optind = 1;
    while ((option = cli_next(&code, &grammar, argc, argv)) != -1) {
        if (option == 0) {
            return code;
        }
        if (!take(&request, option)) {
            return 1;
        }
    }
    if (optind < argc) {
        return cli_usage(grammar.command, "'%s' belongs to no option", argv[optind]);
    }
    if (request.generate.preset == NULL || request.generate.num_tokens == 0 ||
        request.out == NULL) {
        return cli_usage(grammar.command, "give --preset, --tokens and --out");
    }
    if (!trace_cli_may_write(grammar.command, request.out, request.replace)) {
        return 1;
    }
    progress_begin(&progress, "generating", "tokens");
    enum status status = generate_trace(request.out, request.replace, &request.generate, &error);
    progress_end(&progress);
    return status != STATUS_OK ? cli_fail(status, &error)
                               : trace_cli_show(request.out, request.json);
}
