/* sweeper.c -- it reads from a pipe whose other end the writer holds, and so learns of its end. */
#include "sweeper.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* It holds the writer's standard streams, so who reads them to their end finds all done. */
static void sweep(int life, void (*clear)(const void *context), const void *context)
{
    char byte;
    while (read(life, &byte, 1) < 0 && errno == EINTR) {
    }
    clear(context);
    _exit(0);
}

/* What ends the writer, a key or a group's signal, is not for the sweeper: it blocks all signals
 * from its first moment, and has a group of its own, because SIGKILL cannot be blocked. */
bool sweeper_start(struct sweeper *sweeper, void (*clear)(const void *context), const void *context)
{
    sigset_t all, before;
    int life[2]; /* children that the writer starts inherit it */
    *sweeper = (struct sweeper){0};
    if (pipe(life) != 0) {
        return false;
    }
    (void)sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, &before);
    pid_t process = fork();
    int reason = errno;
    if (process == 0) {
        close(life[1]);
        sweep(life[0], clear, context);
    }
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    close(life[0]);
    if (process < 0) {
        close(life[1]);
        errno = reason;
        return false;
    }
    (void)setpgid(process, process);
    *sweeper = (struct sweeper){process, life[1]};
    return true;
}

void sweeper_end(struct sweeper *sweeper)
{
    if (sweeper->process > 0) {
        close(sweeper->life);
        while (waitpid(sweeper->process, NULL, 0) < 0 && errno == EINTR) {
        }
    }
    *sweeper = (struct sweeper){0};
}
