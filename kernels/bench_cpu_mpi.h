/*
 * bench_cpu_mpi.h -- what the CPU device needs of MPI; one process alone needs none.
 *
 * A process is one of several when mpirun or a batch system says so in its environment; MPI is not
 * started otherwise, so moe-bench runs alone without a launcher's daemon. Every call is collective.
 */
#ifndef MOESIM_BENCH_CPU_MPI_H
#define MOESIM_BENCH_CPU_MPI_H

#include <stdbool.h>
#include <stdint.h>

int32_t cpu_rank(void);
int32_t cpu_num_ranks(void);
int32_t cpu_ranks_on_host(void); /* of which this one is one */

/* Whether mpirun started several processes that know nothing of each other, for MPI was not there
 * at build time. */
bool cpu_ranks_are_apart(void);

void cpu_barrier(void);

/* Blocks of element_bytes: count[r] of them go to rank r, from begin[r] on; received likewise.
 * Counts and places are [num_ranks]. */
void cpu_exchange(const void *send, const int32_t *send_count, const int32_t *send_begin,
                  void *receive, const int32_t *receive_count, const int32_t *receive_begin,
                  int32_t element_bytes);

/* all [num_ranks][count] on rank 0 = every rank's value [count]. */
void cpu_gather(const double *value, int32_t count, double *all);

/* The largest of every rank's number, on every rank. */
double cpu_max(double value);

/* count floats of every rank, rank by rank, on rank 0; counts differ. all: NULL elsewhere. */
void cpu_gather_floats(const float *value, int32_t count, float *all);

#endif
