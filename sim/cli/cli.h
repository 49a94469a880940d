/*
 * cli.h -- what the commands of the moesim program share.
 *
 * Exit codes: 0, 1 (bad input: the user can mend it), 2 (internal or out of memory).
 */
#ifndef MOESIM_CLI_H
#define MOESIM_CLI_H

#include <getopt.h>

#include "status.h"
#include "suggest.h"

/* argv[0] is the command's name. Each handles --help itself. */
int command_run(int argc, char **argv);
int command_serve(int argc, char **argv);
int command_advise(int argc, char **argv);
int command_compare(int argc, char **argv);
int command_sweep(int argc, char **argv);
int command_study(int argc, char **argv);
int command_claims(int argc, char **argv);
int command_diff(int argc, char **argv);
int command_report(int argc, char **argv);
int command_trace(int argc, char **argv);
int command_list(int argc, char **argv);
int command_check(int argc, char **argv);
int command_demo(int argc, char **argv);
int command_place(int argc, char **argv);
int command_calibrate(int argc, char **argv);
int command_validate(int argc, char **argv);
int command_kernels(int argc, char **argv);
int command_memory(int argc, char **argv);
int command_plan(int argc, char **argv);
int command_cost(int argc, char **argv);

/* Prints each problem on stderr as "moesim: ..." and returns the exit code for status. */
int cli_fail(enum status status, const struct error *error);

/* "moesim: message (see moesim COMMAND --help)" on stderr; returns 1. */
int cli_usage(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The page of a run that was stored just now, in the directory out; NULL: none was asked for. An
 * error says that the results are there nevertheless. */
MUST_CHECK enum status cli_make_page(const char *results, const char *out, const char *run_id,
                                     struct error *error);

/* What getopt_long did not take, the word before optind: ':' it lacks its value, '?' there is no
 * such option, with the nearest of known [ends in a NULL name]. As cli_usage; returns 1. */
int cli_refuse_option(const char *command, int letter, const struct option *known, char **argv);

/* What getopt_long needs to know of a command, and what to say. */
struct cli_grammar {
    const char *command;       /* "trace stats" */
    const char *short_options; /* begins with ':' */
    const struct option *long_options;
    const char *help;
};

/* The next option of argv; -1 after the last; 0 when the command is over with *code: help was
 * printed or an option was not understood. optind must be 1 before the first call. */
int cli_next(int *code, const struct cli_grammar *grammar, int argc, char **argv);

/* "moesim: there is no FAMILYcommand ..." on stderr, with the nearest offer; returns 1. family is
 * empty or ends in a space. */
int cli_no_command(const char *family, const struct suggestion *suggestion);

#endif
