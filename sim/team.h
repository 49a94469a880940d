/*
 * team.h -- the processes that share one piece of work: MPI ranks, or this process alone.
 *
 * libmpi and what it loads add 9 ms to the 2 ms that moesim takes to start (Open MPI 4.1.4, a
 * virtual Xeon of two cores), so moesim is not linked with it. Where mpirun or srun started the
 * program as one of several ranks, it loads a module that is (built where MPI is); nobody else
 * notices. Messages are small, of one size, and taken in the order in which they come. One thread
 * of a process talks.
 */
#ifndef MOESIM_TEAM_H
#define MOESIM_TEAM_H

#include <stdbool.h>
#include <stdint.h>

#include "status.h"

#define TEAM_TEXT_BYTES 2048

struct team_message {
    int32_t kind; /* the caller's */
    int32_t rank; /* who sent it; filled in when it is taken */
    int64_t number;
    int64_t nanoseconds;
    uint64_t id;
    char text[TEAM_TEXT_BYTES];
};

struct team {
    int32_t rank;
    int32_t size;
    int32_t size_here; /* ranks on this machine */
    void (*send)(int32_t rank, const struct team_message *message);
    bool (*take)(struct team_message *message); /* false: there is none now */
    void (*leave)(void);                        /* waits for the others */
    void (*end)(int code);                      /* ends all ranks at once */
};

/* What the module exports under TEAM_ENTRY: joins, and fills the rest in. Returns 0, or what went
 * wrong. */
#define TEAM_ENTRY "moesim_team_join"
typedef int team_join(struct team *team);

/* Joins the others if a launcher started several; team->size is 1 otherwise, and nothing else of it
 * is set. STATUS_INVALID: started as one of several, but they cannot talk. */
MUST_CHECK enum status team_open(struct team *team, struct error *error);

void team_close(struct team *team); /* waits for all; safe when alone */

#endif
