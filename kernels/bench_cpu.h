/*
 * bench_cpu.h -- the CPU device of moe-bench: its commands, and the ranks that run them.
 *
 * The layer is cpu_forward.h's: fp32, OpenMP threads, OpenBLAS; started with mpirun, experts and
 * tokens are split over the MPI ranks. Where OpenBLAS or MPI was not there at build time, the
 * commands say so.
 */
#ifndef MOESIM_BENCH_CPU_H
#define MOESIM_BENCH_CPU_H

#include "bench.h"
#include "bench_csv.h"

/* Joins the other ranks when mpirun started this process; before anything else. Returns this
 * process's rank, 0 alone. Only rank 0 writes CSV and table. */
int32_t bench_cpu_begin(int *argc, char ***argv);

/* Leaves them; with a code other than 0 it ends them all, lest they wait for this one. */
void bench_cpu_end(int code);

int bench_cpu_check(const struct bench_options *options, struct bench_csv *csv);
int bench_cpu_forward(const struct bench_options *options, struct bench_csv *csv);
int bench_cpu_ceilings(const struct bench_options *options, struct bench_csv *csv);

#endif
