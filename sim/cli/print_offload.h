/*
 * print_offload.h -- what became of offloaded experts, on the terminal.
 */
#ifndef MOESIM_PRINT_OFFLOAD_H
#define MOESIM_PRINT_OFFLOAD_H

#include "cli/variant.h"
#include "study.h"

/* Lines of a run's summary. Nothing if its experts are not offloaded. */
void print_offload(const struct variant *variant);

/* A table of a comparison, names width characters wide. Nothing if no run offloads. */
void print_offload_study(const struct study *study, int width);

#endif
