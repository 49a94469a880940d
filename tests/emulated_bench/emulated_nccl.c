/*
 * emulated_nccl.c -- NCCL between the threads of one process, in place of kernels/dev_nccl.c.
 *
 * Streams do their work at once here, so an exchange is: all ranks come, each copies what is for
 * it, all leave. That the n-th send to a rank meets its n-th receive, of as many bytes, is checked.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dev_nccl.h"

#define RANKS_MAX 4
#define POSTS_MAX 64

struct post {
    const void *from; /* NULL: a receive */
    void *to;
    int64_t bytes;
    int32_t peer;
};

struct nccl {
    pthread_mutex_t lock;
    pthread_barrier_t all;
    int32_t num_ranks; /* 0: nobody has come yet */
    struct post post[RANKS_MAX][POSTS_MAX];
    int32_t num_posts[RANKS_MAX];
    const int32_t *counts[RANKS_MAX];
};

static void must(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "emulated NCCL: %s\n", what);
        abort();
    }
}

enum status nccl_open(struct nccl **made, struct error *error)
{
    (void)error;
    *made = calloc(1, sizeof **made);
    must(*made != NULL && pthread_mutex_init(&(*made)->lock, NULL) == 0, "no memory");
    return STATUS_OK;
}

void nccl_close(struct nccl *nccl)
{
    if (nccl != NULL) {
        if (nccl->num_ranks > 0) {
            pthread_barrier_destroy(&nccl->all);
        }
        pthread_mutex_destroy(&nccl->lock);
        free(nccl);
    }
}

int32_t nccl_version(const struct nccl *nccl)
{
    (void)nccl;
    return 2700;
}

enum status nccl_make_id(const struct nccl *nccl, struct nccl_id *id, struct error *error)
{
    (void)nccl;
    (void)error;
    memset(id, 7, sizeof *id);
    return STATUS_OK;
}

/* The library is const for its users; here it is where they meet. */
static struct nccl *hub(const struct nccl_rank *rank)
{
    return rank->communicator;
}

enum status nccl_rank_open(struct nccl_rank *made, const struct nccl *nccl, struct nccl_id id,
                           int32_t rank, int32_t num_ranks, struct error *error)
{
    (void)error;
    struct nccl *meeting = (struct nccl *)(uintptr_t)nccl;
    must(id.bytes[0] == 7 && num_ranks <= RANKS_MAX && rank < num_ranks, "no such rank");
    pthread_mutex_lock(&meeting->lock);
    if (meeting->num_ranks == 0) {
        meeting->num_ranks = num_ranks;
        must(pthread_barrier_init(&meeting->all, NULL, (unsigned)num_ranks) == 0, "no barrier");
    }
    pthread_mutex_unlock(&meeting->lock);
    must(meeting->num_ranks == num_ranks, "ranks of different groups");
    *made = (struct nccl_rank){nccl, meeting, rank, num_ranks};
    pthread_barrier_wait(&meeting->all);
    return STATUS_OK;
}

void nccl_rank_close(struct nccl_rank *rank)
{
    *rank = (struct nccl_rank){0};
}

enum status nccl_all_gather(const struct nccl_rank *rank, const int32_t *mine, int32_t *all,
                            int64_t count, cudaStream_t stream)
{
    struct nccl *meeting = hub(rank);
    (void)stream;
    meeting->counts[rank->rank] = mine;
    pthread_barrier_wait(&meeting->all);
    for (int32_t r = 0; r < rank->num_ranks; r++) {
        memcpy(all + r * count, meeting->counts[r], (size_t)count * sizeof *all);
    }
    pthread_barrier_wait(&meeting->all);
    return STATUS_OK;
}

enum status nccl_begin(const struct nccl_rank *rank)
{
    hub(rank)->num_posts[rank->rank] = 0;
    return STATUS_OK;
}

static void post(const struct nccl_rank *rank, struct post what)
{
    struct nccl *meeting = hub(rank);
    must(meeting->num_posts[rank->rank] < POSTS_MAX && what.bytes > 0, "too many messages");
    must(what.peer >= 0 && what.peer < rank->num_ranks, "no such peer");
    meeting->post[rank->rank][meeting->num_posts[rank->rank]++] = what;
}

enum status nccl_send(const struct nccl_rank *rank, const void *from, int64_t bytes, int32_t peer,
                      cudaStream_t stream)
{
    (void)stream;
    post(rank, (struct post){.from = from, .bytes = bytes, .peer = peer});
    return STATUS_OK;
}

enum status nccl_receive(const struct nccl_rank *rank, void *to, int64_t bytes, int32_t peer,
                         cudaStream_t stream)
{
    (void)stream;
    post(rank, (struct post){.to = to, .bytes = bytes, .peer = peer});
    return STATUS_OK;
}

/* The number-th message of one kind between a rank and a peer; NULL: there are fewer. */
static const struct post *find(const struct nccl *meeting, int32_t rank, int32_t peer, bool sends,
                               int32_t number)
{
    for (int32_t i = 0; i < meeting->num_posts[rank]; i++) {
        const struct post *one = &meeting->post[rank][i];
        if (one->peer == peer && (one->from != NULL) == sends && number-- == 0) {
            return one;
        }
    }
    return NULL;
}

enum status nccl_end(const struct nccl_rank *rank)
{
    struct nccl *meeting = hub(rank);
    pthread_barrier_wait(&meeting->all);
    for (int32_t peer = 0; peer < rank->num_ranks; peer++) {
        for (int32_t number = 0;; number++) {
            const struct post *in = find(meeting, rank->rank, peer, false, number);
            const struct post *out = find(meeting, peer, rank->rank, true, number);
            must((in == NULL) == (out == NULL), "a message that nobody sends or awaits");
            if (in == NULL) {
                break;
            }
            must(in->bytes == out->bytes, "a message of another length");
            memcpy(in->to, out->from, (size_t)in->bytes);
        }
    }
    pthread_barrier_wait(&meeting->all);
    return STATUS_OK;
}
