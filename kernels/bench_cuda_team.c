/* bench_cuda_team.c -- see bench_team.h. */
#include "bench_team.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct bench_team {
    int32_t num_ranks;
    int32_t num_threads; /* that have been started */
    struct nccl *nccl;
    struct nccl_id id;
    struct bench_rank *rank; /* [num_ranks] */
    enum status *agreed;     /* [num_ranks] */
    pthread_t *thread;
    pthread_barrier_t begin; /* of a job: the ranks and whoever gives it */
    pthread_barrier_t end;
    pthread_barrier_t among;                                    /* the ranks */
    enum status (*job)(struct bench_rank *rank, void *context); /* NULL: that was all */
    void *context;
};

enum status bench_rank_agree(struct bench_rank *rank, enum status status)
{
    struct bench_team *team = rank->team;
    team->agreed[rank->rank] = status;
    pthread_barrier_wait(&team->among);
    enum status worst = STATUS_OK;
    for (int32_t r = 0; r < team->num_ranks; r++) {
        worst = worst == STATUS_OK ? team->agreed[r] : worst;
    }
    pthread_barrier_wait(&team->among); /* all have read before one writes again */
    return worst;
}

static void *serve(void *argument)
{
    struct bench_rank *rank = argument;
    struct bench_team *team = rank->team;
    for (;;) {
        pthread_barrier_wait(&team->begin);
        if (team->job == NULL) {
            return NULL;
        }
        rank->status = team->job(rank, team->context);
        pthread_barrier_wait(&team->end);
    }
}

/* Each line of a rank's error, with its rank. */
static void tell(const struct bench_rank *rank, struct error *error)
{
    for (const char *line = rank->error.text; *line != '\0';) {
        size_t width = strcspn(line, "\n");
        error_add(error, rank->status, "rank %d: %.*s", (int)rank->rank, (int)width, line);
        line += width + (line[width] == '\n');
    }
}

enum status bench_team_do(struct bench_team *team,
                          enum status (*job)(struct bench_rank *rank, void *context), void *context,
                          struct error *error)
{
    enum status status = STATUS_OK;
    team->job = job;
    team->context = context;
    pthread_barrier_wait(&team->begin);
    pthread_barrier_wait(&team->end);
    for (int32_t r = 0; r < team->num_ranks; r++) {
        if (team->rank[r].status != STATUS_OK) {
            status = status == STATUS_OK ? team->rank[r].status : status;
            tell(&team->rank[r], error);
            team->rank[r].error = (struct error){0};
        }
    }
    return status;
}

static enum status connect(struct bench_rank *rank, void *context)
{
    (void)context;
    enum status status = gpu_open(&rank->gpu, rank->rank, &rank->error);
    status = bench_rank_agree(rank, status);
    return status == STATUS_OK ? nccl_rank_open(&rank->connection, rank->team->nccl, rank->team->id,
                                                rank->rank, rank->num_ranks, &rank->error)
                               : status;
}

static enum status disconnect(struct bench_rank *rank, void *context)
{
    (void)context;
    nccl_rank_close(&rank->connection);
    gpu_close(&rank->gpu);
    return STATUS_OK;
}

static enum status start(struct bench_team *team)
{
    unsigned ranks = (unsigned)team->num_ranks;
    team->rank = calloc(ranks, sizeof *team->rank);
    team->agreed = calloc(ranks, sizeof *team->agreed);
    team->thread = calloc(ranks, sizeof *team->thread);
    if (team->rank == NULL || team->agreed == NULL || team->thread == NULL ||
        pthread_barrier_init(&team->begin, NULL, ranks + 1) != 0 ||
        pthread_barrier_init(&team->end, NULL, ranks + 1) != 0 ||
        pthread_barrier_init(&team->among, NULL, ranks) != 0) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t r = 0; r < team->num_ranks; r++) {
        team->rank[r].team = team;
        team->rank[r].rank = r;
        team->rank[r].num_ranks = team->num_ranks;
        if (pthread_create(&team->thread[r], NULL, serve, &team->rank[r]) != 0) {
            return STATUS_NO_MEMORY;
        }
        team->num_threads++;
    }
    return STATUS_OK;
}

enum status bench_team_open(struct bench_team **made, int32_t num_ranks, struct error *error)
{
    *made = NULL;
    int count = gpu_count(error);
    if (count < num_ranks) {
        return count == 0
                   ? STATUS_INVALID
                   : error_add(error, STATUS_INVALID, "%d ranks need as many GPUs; here are %d",
                               (int)num_ranks, count);
    }
    struct bench_team *team = calloc(1, sizeof *team);
    if (team == NULL) {
        return STATUS_NO_MEMORY;
    }
    team->num_ranks = num_ranks;
    enum status status = nccl_open(&team->nccl, error);
    status = status == STATUS_OK ? nccl_make_id(team->nccl, &team->id, error) : status;
    if (status == STATUS_OK && start(team) != STATUS_OK) {
        abort(); /* a thread that waits for ranks that never come cannot be ended */
    }
    status = status == STATUS_OK ? bench_team_do(team, connect, NULL, error) : status;
    if (status != STATUS_OK) {
        bench_team_close(team);
        return status;
    }
    *made = team;
    return STATUS_OK;
}

void bench_team_close(struct bench_team *team)
{
    if (team == NULL) {
        return;
    }
    if (team->num_threads > 0) {
        struct error ignored = {0};
        (void)!bench_team_do(team, disconnect, NULL, &ignored);
        team->job = NULL;
        pthread_barrier_wait(&team->begin);
        for (int32_t r = 0; r < team->num_ranks; r++) {
            pthread_join(team->thread[r], NULL);
        }
        pthread_barrier_destroy(&team->begin);
        pthread_barrier_destroy(&team->end);
        pthread_barrier_destroy(&team->among);
    }
    nccl_close(team->nccl);
    free(team->rank);
    free(team->agreed);
    free(team->thread);
    free(team);
}
