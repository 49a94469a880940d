/* cmd_trace_fit.c -- moesim trace fit. */
#include <omp.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/trace_cli.h"
#include "data.h"
#include "directory.h"
#include "generate_coupled.h"
#include "trace_against.h"
#include "trace_fit.h"

#define DRAWS 20 /* of the trace's requests, for the report */

static const char help[] =
    "usage: moesim trace fit DIR -o PRESET.yaml [options]\n\n"
    "Makes a preset for moesim trace generate from a trace: learns what each choice of experts\n"
    "depends on, generates from it and corrects it until generated traces measure like the trace.\n"
    "PRESET.npy, a table of numbers, is written beside it. Then a trace is generated and its "
    "figures\n"
    "are printed beside those of the trace. Wants 32 requests and 4,096 tokens; better are 500\n"
    "requests and 100,000 tokens.\n\n"
    "  -o, --out FILE     the preset, a YAML file\n"
    "      --scenario FILE  also simulate it with steps of 8 to 1,024 tokens over both traces\n"
    "      --gates DIR    a trace of the model with gate weights, where DIR has none\n"
    "      --licence TEXT of the preset, where the trace does not say\n"
    "      --source TEXT  where the trace is from; default what the trace says\n"
    "      --seed N       default 1\n"
    "      --force        replace a preset that is there\n"
    "      --no-report    do not generate and compare\n"
    "      --threads N    default all; the preset does not depend on it\n"
    "  -j, --json         print the report as one JSON object, as trace stats --against does\n\n"
    "example:\n"
    "  moesim trace fit traces/gpt-oss-20b -o mine.yaml\n"
    "  moesim trace generate --preset ./mine.yaml --tokens 1000000 --out traces/mine\n";

static const struct option long_options[] = {
    {"scenario", required_argument, NULL, 'c'}, {"gates", required_argument, NULL, 'g'},
    {"out", required_argument, NULL, 'o'},      {"licence", required_argument, NULL, 'l'},
    {"source", required_argument, NULL, 'S'},   {"seed", required_argument, NULL, 's'},
    {"force", no_argument, NULL, 'f'},          {"no-report", no_argument, NULL, 'n'},
    {"threads", required_argument, NULL, 't'},  {"json", no_argument, NULL, 'j'},
    {"help", no_argument, NULL, 'h'},           {NULL, 0, NULL, 0},
};

static const struct cli_grammar grammar = {"trace fit", ":o:jh", long_options, help};

struct request {
    struct trace_fit_options fit;
    const char *out;
    const char *gates;
    const char *scenario;
    const char *licence;
    const char *source;
    bool replace;
    bool report;
    bool json;
};

/* False: not understood, and said so. */
static bool take(struct request *request, int option)
{
    int64_t value = 0;
    switch (option) {
    case 'o':
        request->out = optarg;
        return true;
    case 'c':
        request->scenario = optarg;
        return true;
    case 'g':
        request->gates = optarg;
        return true;
    case 'l':
        request->licence = optarg;
        return true;
    case 'S':
        request->source = optarg;
        return true;
    case 'f':
        request->replace = true;
        return true;
    case 'n':
        request->report = false;
        return true;
    case 'j':
        request->json = true;
        return true;
    case 's':
        if (!trace_cli_number(&value, grammar.command, "--seed", optarg, 0, INT64_MAX)) {
            return false;
        }
        request->fit.seed = (uint64_t)value;
        return true;
    default:
        if (!trace_cli_number(&value, grammar.command, "--threads", optarg, 1, TRACE_THREADS_MAX)) {
            return false;
        }
        request->fit.num_threads = (int32_t)value;
        return true;
    }
}

static bool text_fits(const char *text, size_t bytes, const char *option)
{
    if (text != NULL && strlen(text) >= bytes) {
        (void)cli_usage(grammar.command, "%s: at most %zu characters", option, bytes - 1);
        return false;
    }
    return true;
}

/* Generates as many tokens as the trace has, with a seed no round of the fit has seen, and prints
 * its figures beside the trace's. */
static int report(const struct request *request, const struct generate_preset *preset,
                  const struct trace *trace, const char *directory)
{
    struct progress progress;
    struct error error = {0};
    struct trace generated = {0};
    struct generate_options generate = {.num_tokens = trace->num_tokens,
                                        .seed = request->fit.seed + FIT_SEEDS,
                                        .num_threads = request->fit.num_threads};
    struct trace_against_options options = {
        .stats = {.num_threads = request->fit.num_threads,
                  .seed = request->fit.seed,
                  .progress = trace_cli_progress,
                  .context = &progress},
        .num_draws = DRAWS,
    };
    struct trace_figure figure[TRACE_FIGURES];
    struct trace_simulated simulated[TRACE_SIMULATIONS];
    progress_begin(&progress, "comparing", "traces");
    enum status status = generate_from_preset(&generated, preset, &generate, &error);
    if (status == STATUS_OK) {
        status = trace_against(figure, &generated, trace, &options, &error);
    }
    progress_end(&progress);
    if (status == STATUS_OK && request->scenario != NULL) {
        progress_begin(&progress, "simulating", "sizes");
        status = trace_cli_simulate(simulated, request->scenario, directory, &generated, trace,
                                    &progress, &error);
        progress_end(&progress);
    }
    const struct trace_simulated *runs = request->scenario != NULL ? simulated : NULL;
    int code = status == STATUS_OK
                   ? trace_cli_figures(figure, &generated, trace, runs, request->json)
                   : cli_fail(status, &error);
    trace_close(&generated);
    return code;
}

static int fit(const struct request *request, const char *directory)
{
    struct progress progress;
    struct error error = {0};
    struct trace trace = {0};
    struct trace gates = {0};
    static struct generate_preset preset;
    struct trace_fit_options options = request->fit;
    options.progress = trace_cli_progress;
    options.context = &progress;
    enum status status = trace_open(&trace, directory, &error);
    if (status == STATUS_OK && request->gates != NULL) {
        status = trace_open(&gates, request->gates, &error);
        options.gates = &gates;
    }
    if (status == STATUS_OK) {
        progress_begin(&progress, "fitting", "steps");
        status = trace_fit(&preset, &trace, &options, &error);
        progress_end(&progress);
    }
    if (status == STATUS_OK && request->licence != NULL) {
        (void)snprintf(preset.licence, sizeof preset.licence, "%s", request->licence);
    }
    if (status == STATUS_OK && request->source != NULL) {
        (void)snprintf(preset.source, sizeof preset.source, "%s", request->source);
    }
    data_stem(preset.name, sizeof preset.name, request->out);
    if (status == STATUS_OK) {
        char comment[512];
        (void)snprintf(comment, sizeof comment,
                       "Made by moesim trace fit (seed %llu) from %s: %lld tokens of %lld "
                       "requests.\n\nWhat the numbers mean: sim/generate_coupled.h.\n",
                       (unsigned long long)options.seed, trace.name, (long long)trace.num_tokens,
                       (long long)trace.num_requests);
        status = coupled_write(&preset, request->out, comment, &error);
    }
    int code = 0;
    if (status != STATUS_OK) {
        code = cli_fail(status, &error);
    } else if (request->report) {
        code = report(request, &preset, &trace, directory);
    }
    if (code == 0 && !request->json) {
        printf("%spreset: %s\n", request->report ? "\n" : "", request->out);
    }
    generate_preset_free(&preset);
    trace_close(&gates);
    trace_close(&trace);
    return code;
}

int command_trace_fit(int argc, char **argv)
{
    struct request request = {.fit = {.seed = 1, .num_threads = omp_get_max_threads()},
                              .report = true};
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
    const char *directory = trace_cli_argument(&code, &grammar, argc, argv, "one trace directory");
    if (directory == NULL) {
        return code;
    }
    if (request.out == NULL) {
        return cli_usage(grammar.command, "give --out, the preset to write");
    }
    size_t length = strlen(request.out);
    if (length < 6 || strcmp(request.out + length - 5, ".yaml") != 0) {
        return cli_usage(grammar.command, "--out %s: name a file that ends in .yaml", request.out);
    }
    if (!text_fits(request.licence, NAME_BYTES, "--licence") ||
        !text_fits(request.source, SOURCE_BYTES, "--source")) {
        return 1;
    }
    if (request.scenario != NULL && !request.report) {
        return cli_usage(grammar.command, "--scenario is for the report; leave out --no-report");
    }
    if (!trace_cli_may_write(grammar.command, request.out, request.replace)) {
        return 1;
    }
    struct error error = {0};
    enum status status = directory_make_parents(request.out, &error); /* before the long work */
    if (status != STATUS_OK) {
        return cli_fail(status, &error);
    }
    return fit(&request, directory);
}
