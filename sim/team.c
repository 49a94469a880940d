/* team.c -- was this process started as one of several? Then loads the module that talks MPI. */
#include "team.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef MOESIM_MPI_FROM_PROGRAM
#define MOESIM_MPI_FROM_PROGRAM "moesim_mpi.so"
#endif

#define MODULE_NAME "moesim_mpi.so"
#define PATH_SIZE   4096

static long number_of(const char *variable)
{
    const char *text = getenv(variable);
    return text != NULL ? strtol(text, NULL, 10) : 0;
}

/* Set by Open MPI's mpirun; by MPICH and srun --mpi=pmi2; by srun --mpi=pmix. */
static bool launched_as_ranks(void)
{
    return number_of("OMPI_COMM_WORLD_SIZE") > 1 || number_of("PMI_SIZE") > 1 ||
           (getenv("PMIX_RANK") != NULL && number_of("SLURM_STEP_NUM_TASKS") > 1);
}

/* srun without MPI starts the same program several times. */
static bool launched_as_copies(void)
{
    return number_of("SLURM_STEP_NUM_TASKS") > 1 && getenv("PMIX_RANK") == NULL &&
           getenv("OMPI_COMM_WORLD_SIZE") == NULL && number_of("PMI_SIZE") == 0;
}

/* Beside the program, as it is built, or where it is installed. */
static void *load_module(char why[PATH_SIZE])
{
    static const char *const places[] = {MODULE_NAME, MOESIM_MPI_FROM_PROGRAM};
    char path[2 * PATH_SIZE];
    char program[PATH_SIZE];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program);
    while (length > 0 && program[length - 1] != '/') {
        length--;
    }
    void *module = NULL;
    snprintf(why, PATH_SIZE, "%s is not there", MODULE_NAME);
    for (size_t i = 0; length > 0 && module == NULL && i < sizeof places / sizeof places[0]; i++) {
        snprintf(path, sizeof path, "%.*s%s", (int)length, program, places[i]);
        if (access(path, R_OK) == 0) {
            module = dlopen(path, RTLD_NOW | RTLD_GLOBAL); /* Open MPI's own plug-ins look it up */
            snprintf(why, PATH_SIZE, "%s", module == NULL ? dlerror() : "");
        }
    }
    return module;
}

enum status team_open(struct team *team, struct error *error)
{
    *team = (struct team){.size = 1, .size_here = 1};
    if (launched_as_copies()) {
        return error_add(error, STATUS_INVALID,
                         "srun started copies that do not know of each other: use srun --mpi=pmix, "
                         "or mpirun inside the job");
    }
    if (!launched_as_ranks()) {
        return STATUS_OK;
    }
    char why[PATH_SIZE];
    void *module = load_module(why);
    if (module == NULL) {
        return error_add(error, STATUS_INVALID,
                         "started as one of several MPI ranks, but built without MPI (%s): install "
                         "libopenmpi-dev and configure again, or start one process",
                         why);
    }
    team_join *join = NULL;
    *(void **)&join = dlsym(module, TEAM_ENTRY);
    if (join == NULL || join(team) != 0) {
        return error_add(error, STATUS_INVALID, "MPI could not be started");
    }
    return STATUS_OK;
}

void team_close(struct team *team)
{
    if (team->leave != NULL) {
        team->leave();
    }
    *team = (struct team){.size = 1, .size_here = 1};
}
