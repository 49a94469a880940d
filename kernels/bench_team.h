/*
 * bench_team.h -- a thread and a GPU for each rank of an expert-parallel group, joined by NCCL.
 */
#ifndef MOESIM_BENCH_TEAM_H
#define MOESIM_BENCH_TEAM_H

#include "bench_gpu.h"
#include "dev_nccl.h"

/* One rank, in its thread, with its GPU current. */
struct bench_rank {
    struct bench_team *team;
    int32_t rank;
    int32_t num_ranks;
    struct gpu gpu; /* device number rank */
    struct nccl_rank connection;
    struct error error; /* its own: threads do not share one */
    enum status status;
};

/* Opens the GPUs 0 to num_ranks - 1 and connects them. STATUS_INVALID: no NCCL, or fewer GPUs, or
 * not Hopper's; STATUS_CUDA. */
MUST_CHECK enum status bench_team_open(struct bench_team **made, int32_t num_ranks,
                                       struct error *error);
void bench_team_close(struct bench_team *team); /* NULL: does nothing */

/* Runs job in every rank's thread and returns when all have; the first failure and all its words.
 * A job that waits for other ranks has to bench_rank_agree before, so that none waits for one that
 * has failed. */
MUST_CHECK enum status bench_team_do(struct bench_team *team,
                                     enum status (*job)(struct bench_rank *rank, void *context),
                                     void *context, struct error *error);

/* Waits for all ranks: STATUS_OK if all say so, else what the lowest says that does not. */
MUST_CHECK enum status bench_rank_agree(struct bench_rank *rank, enum status status);

#endif
