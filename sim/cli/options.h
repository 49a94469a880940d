/*
 * options.h -- the options run and compare share, and what they do with them.
 */
#ifndef MOESIM_OPTIONS_H
#define MOESIM_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#define OVERRIDES_MAX 64
#define VARY_MAX      8

struct cli_options {
    const char *scenario;
    const char *results; /* SQLite file */
    const char *report;  /* directory, or NULL */
    const char *override[OVERRIDES_MAX];
    int32_t num_overrides;
    const char *vary[VARY_MAX]; /* "key=a,b,c" */
    int32_t num_vary;
    const char *strategies; /* "all" or "a,b,c"; NULL: not varied so */
    bool sensitivity;
    int32_t num_threads;  /* 0: all cores */
    const char *timeline; /* file, or NULL */
    int64_t timeline_first;
    int64_t timeline_last; /* included */
    bool json;
    bool detail;
    char seed_override[40];
};

/* Parses argv; help is printed for --help. Returns -1 to go on, else the exit code. */
int cli_parse(struct cli_options *options, int argc, char **argv, const char *help);

/* Reads what --threads says. Returns -1 to go on, else the exit code. */
int cli_take_threads(int32_t *num_threads, const char *command, const char *text);

/* Cores to use: num_threads, or all. */
int32_t cli_threads(const struct cli_options *options);

#endif
