/*
 * trace_cli.h -- what the subcommands of moesim trace share.
 */
#ifndef MOESIM_TRACE_CLI_H
#define MOESIM_TRACE_CLI_H

#include <cjson/cJSON.h>
#include <stdint.h>

#include "cli/cli.h"
#include "progress.h"
#include "trace.h"
#include "trace_against.h"

#define TRACE_THREADS_MAX    1024
#define TRACE_CLI_LAYERS_MAX 4096

/* argv[0] is the subcommand's name; each returns the exit code. */
int command_trace_import(int argc, char **argv);
int command_trace_stats(int argc, char **argv);
int command_trace_traffic(int argc, char **argv);
int command_trace_fit(int argc, char **argv);
int command_trace_generate(int argc, char **argv);

/* The only argument that is no option, or NULL with *code set and the mistake printed. */
const char *trace_cli_argument(int *code, const struct cli_grammar *grammar, int argc, char **argv,
                               const char *what);

/* Reads a whole number from min to max; otherwise prints what option expects and returns false. */
bool trace_cli_number(int64_t *value, const char *command, const char *option, const char *text,
                      int64_t min, int64_t max);

/* Reads ascending layer numbers such as "0,7,15-18". False: it is not that. */
bool trace_cli_layers(int32_t layer[TRACE_CLI_LAYERS_MAX], int32_t *num_layers, const char *text);

/* May a trace be written to path? Not over a file that is there, unless by force. Says so. */
bool trace_cli_may_write(const char *command, const char *path, bool force);

/* 1234567 as "1,234,567" into text [32]; returns it. */
char *trace_cli_grouped(char *text, int64_t value);

/* Adapts struct progress, given as context, to the callbacks of the library. */
void trace_cli_progress(void *context, int64_t done, int64_t total);

/* Prints a trace's statistics, for people or as JSON. */
int trace_cli_stats(const struct trace_stats *stats, const struct trace *trace, bool json);

#define TRACE_SIMULATIONS 5 /* sizes of a step */
#define TRACE_SIMULATED   3 /* rank imbalance, share dropped, step time in ns */

extern const int32_t trace_simulated_tokens[TRACE_SIMULATIONS]; /* 8 to 1,024 of all ranks */

/* What the simulator makes of two traces with steps of one size. */
struct trace_simulated {
    bool known; /* false: the size is no multiple of the scenario's ranks */
    double value[TRACE_SIMULATED];
    double other[TRACE_SIMULATED];
};

/* Runs a scenario over both traces, requests mixed, at capacity factor 1.25. directory is other's.
 */
MUST_CHECK enum status trace_cli_simulate(struct trace_simulated simulated[TRACE_SIMULATIONS],
                                          const char *scenario_path, const char *directory,
                                          const struct trace *trace, const struct trace *other,
                                          struct progress *progress, struct error *error);
void trace_cli_print_simulated(const struct trace_simulated simulated[TRACE_SIMULATIONS]);
cJSON *trace_cli_simulated_json(const struct trace_simulated simulated[TRACE_SIMULATIONS]);

/* Prints figure[TRACE_FIGURES] of two traces, for people or as JSON; simulated may be NULL. */
int trace_cli_figures(const struct trace_figure *figure, const struct trace *trace,
                      const struct trace *other, const struct trace_simulated *simulated,
                      bool json);

/* Prints a trace's figures beside those of another. fail: the exit code is 1 if one is outside. */
int trace_cli_against(const char *directory, const char *other_directory,
                      const struct trace_stats_options *stats, int32_t num_draws, bool json,
                      bool fail);

/* Opens the trace just written and prints what it is, for people or as JSON. */
int trace_cli_show(const char *directory, bool json);

#endif
