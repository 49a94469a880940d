/* bench_cpu_mpi.c -- MPI where it was there at build time; else one rank, which keeps its rows. */
#include "bench_cpu_mpi.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_cpu.h"

static int32_t rank_here;
static int32_t num_ranks = 1;
static int32_t ranks_on_host = 1;

#ifdef BENCH_MPI
#include <mpi.h>

/* Set by Open MPI, by MPICH and Slurm's PMI, by PMIx. */
static bool launched(void)
{
    return getenv("OMPI_COMM_WORLD_SIZE") != NULL || getenv("PMI_SIZE") != NULL ||
           getenv("PMIX_RANK") != NULL;
}

int32_t bench_cpu_begin(int *argc, char ***argv)
{
    if (launched()) {
        int size = 1;
        int rank = 0;
        MPI_Comm host;
        MPI_Init(argc, argv);
        MPI_Comm_size(MPI_COMM_WORLD, &size);
        MPI_Comm_rank(MPI_COMM_WORLD, &rank);
        num_ranks = size;
        rank_here = rank;
        MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host);
        MPI_Comm_size(host, &size);
        MPI_Comm_free(&host);
        ranks_on_host = size;
    }
    return rank_here;
}

void bench_cpu_end(int code)
{
    if (launched()) {
        if (code != BENCH_OK && code != BENCH_SKIPPED && num_ranks > 1) {
            fflush(NULL);
            MPI_Abort(MPI_COMM_WORLD, code);
        }
        MPI_Finalize();
    }
}

void cpu_barrier(void)
{
    if (num_ranks > 1) {
        MPI_Barrier(MPI_COMM_WORLD);
    }
}

/* MPI counts in int: whole rows are its elements, so that no count overflows. */
void cpu_exchange(const void *send, const int32_t *send_count, const int32_t *send_begin,
                  void *receive, const int32_t *receive_count, const int32_t *receive_begin,
                  int32_t element_bytes)
{
    MPI_Datatype element;
    if (num_ranks == 1) { /* this process alone */
        memcpy((char *)receive + (int64_t)receive_begin[0] * element_bytes,
               (const char *)send + (int64_t)send_begin[0] * element_bytes,
               (size_t)send_count[0] * (size_t)element_bytes);
        return;
    }
    MPI_Type_contiguous(element_bytes, MPI_BYTE, &element);
    MPI_Type_commit(&element);
    MPI_Alltoallv(send, send_count, send_begin, element, receive, receive_count, receive_begin,
                  element, MPI_COMM_WORLD);
    MPI_Type_free(&element);
}

void cpu_gather(const double *value, int32_t count, double *all)
{
    if (num_ranks > 1) {
        MPI_Gather(value, count, MPI_DOUBLE, all, count, MPI_DOUBLE, 0, MPI_COMM_WORLD);
    } else {
        memcpy(all, value, (size_t)count * sizeof *all);
    }
}

double cpu_max(double value)
{
    double largest = value;
    if (num_ranks > 1) {
        MPI_Allreduce(&value, &largest, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    }
    return largest;
}

void cpu_gather_floats(const float *value, int32_t count, float *all)
{
    if (num_ranks == 1) {
        memcpy(all, value, (size_t)count * sizeof *all);
    } else if (rank_here > 0) {
        MPI_Send(value, count, MPI_FLOAT, 0, 0, MPI_COMM_WORLD);
    } else {
        memcpy(all, value, (size_t)count * sizeof *all);
        for (int32_t rank = 1; rank < num_ranks; rank++) {
            MPI_Status status;
            int received = 0;
            all += count;
            MPI_Probe(rank, 0, MPI_COMM_WORLD, &status);
            MPI_Get_count(&status, MPI_FLOAT, &received);
            MPI_Recv(all, received, MPI_FLOAT, rank, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            count = received;
        }
    }
}

bool cpu_ranks_are_apart(void)
{
    return false;
}

#else

bool cpu_ranks_are_apart(void)
{
    const char *size = getenv("OMPI_COMM_WORLD_SIZE");
    return size != NULL && atoi(size) > 1;
}

int32_t bench_cpu_begin(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    return rank_here;
}

void bench_cpu_end(int code)
{
    (void)code;
}

void cpu_barrier(void)
{
}

void cpu_exchange(const void *send, const int32_t *send_count, const int32_t *send_begin,
                  void *receive, const int32_t *receive_count, const int32_t *receive_begin,
                  int32_t element_bytes)
{
    (void)receive_count;
    memcpy((char *)receive + (int64_t)receive_begin[0] * element_bytes,
           (const char *)send + (int64_t)send_begin[0] * element_bytes,
           (size_t)send_count[0] * (size_t)element_bytes);
}

void cpu_gather(const double *value, int32_t count, double *all)
{
    memcpy(all, value, (size_t)count * sizeof *all);
}

double cpu_max(double value)
{
    return value;
}

void cpu_gather_floats(const float *value, int32_t count, float *all)
{
    memcpy(all, value, (size_t)count * sizeof *all);
}

#endif

int32_t cpu_rank(void)
{
    return rank_here;
}

int32_t cpu_num_ranks(void)
{
    return num_ranks;
}

int32_t cpu_ranks_on_host(void)
{
    return ranks_on_host;
}
