/*
 * list_rows.h -- what moesim list knows: presets, files to run and plug-ins, a row each.
 */
#ifndef MOESIM_LIST_ROWS_H
#define MOESIM_LIST_ROWS_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "money.h"

#define SUMMARY_BYTES 1024
#define NUMBERS_MAX   5

/* A figure of a row, for JSON. */
struct list_number {
    const char *key;
    double value;
};

/* One entry of a list. */
struct list_row {
    const char *name;
    char summary[SUMMARY_BYTES];
    char source[SUMMARY_BYTES];
    const char *active_params_exclude; /* models only */
    char currency[CURRENCY_BYTES];     /* prices only */
    const char *command;               /* studies only: of moesim, that takes it */
    struct list_number number[NUMBERS_MAX];
    int32_t num_numbers;
};

/* Kinds are numbered from 0, presets before plug-ins. */
int32_t list_num_kinds(void);
bool list_is_preset(int32_t kind);
const char *list_kind_name(int32_t kind);

/* All rows of a kind, in order; memory is the arena's. Returns their number; -1: out of memory. */
int32_t list_rows(struct list_row **rows, int32_t kind, struct arena *arena);

#endif
