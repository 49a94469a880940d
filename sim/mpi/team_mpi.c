/*
 * team_mpi.c -- the module that talks MPI; see team.h.
 *
 * Messages are far below the eager limit of every transport, so sends do not wait for the receiver.
 */
#include <mpi.h>
#include <stddef.h>

#include "team.h"

int moesim_team_join(struct team *team);

static void send(int32_t rank, const struct team_message *message)
{
    MPI_Send(message, (int)sizeof *message, MPI_BYTE, rank, 0, MPI_COMM_WORLD);
}

static bool take(struct team_message *message)
{
    int there = 0;
    MPI_Status status;
    MPI_Iprobe(MPI_ANY_SOURCE, 0, MPI_COMM_WORLD, &there, &status);
    if (!there) {
        return false;
    }
    MPI_Recv(message, (int)sizeof *message, MPI_BYTE, status.MPI_SOURCE, 0, MPI_COMM_WORLD,
             MPI_STATUS_IGNORE);
    message->rank = status.MPI_SOURCE;
    return true;
}

static void leave(void)
{
    MPI_Finalize();
}

static void end(int code)
{
    MPI_Abort(MPI_COMM_WORLD, code);
}

int moesim_team_join(struct team *team)
{
    int level = 0;
    int rank = 0;
    int size = 1;
    int size_here = 1;
    MPI_Comm here;
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level) != MPI_SUCCESS ||
        level < MPI_THREAD_FUNNELED) {
        return 1;
    }
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &here);
    MPI_Comm_size(here, &size_here);
    MPI_Comm_free(&here);
    *team = (struct team){rank, size, size_here, send, take, leave, end};
    return 0;
}
