/*
 * sweeper.h -- a process of its own that waits for this one's end, however it ends, and clears away
 * what must not stay: after a success, after an error, after a signal, SIGKILL too.
 */
#ifndef MOESIM_SWEEPER_H
#define MOESIM_SWEEPER_H

#include <stdbool.h>
#include <sys/types.h>

#include "status.h"

struct sweeper {
    pid_t process; /* 0: none */
    int life;      /* held by the writer and its children: where it ends, they have */
};

/* Starts a copy of this process, as it is now, which calls clear(context) when sweeper_end is
 * called, or when this process and all that it will have started are gone. Call it while no other
 * thread is at work, so that clear may use memory and files as ever. False: no process can be had;
 * errno says why. */
MUST_CHECK bool sweeper_start(struct sweeper *sweeper, void (*clear)(const void *context),
                              const void *context);

/* Returns when all is cleared away. Safe on a zeroed struct, and twice. */
void sweeper_end(struct sweeper *sweeper);

#endif
