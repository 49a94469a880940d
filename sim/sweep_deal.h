/*
 * sweep_deal.h -- a rank's hand of points, between its workers and whoever deals.
 *
 * Rank 0 holds the deck. Another rank asks for a card whenever a worker has none, and for one more
 * ahead, so that nobody waits for an answer.
 */
#ifndef MOESIM_SWEEP_DEAL_H
#define MOESIM_SWEEP_DEAL_H

#include "sweep_internal.h"

struct sweep_card {
    int64_t point;
    uint64_t run_id;
};

struct sweep_hand {
    const struct sweep_source *source;
    const struct sweep_options *options;
    const struct team *team;
    struct sweep_outcome *outcome;
    int32_t num_threads;
    int lock;
    bool is_locked;
    struct sweep_traces traces;
    pthread_mutex_t store_mutex;
    struct store *store; /* of rank 0: the results; of another: its own file, once it has a run */
    struct sweep_plan plan; /* rank 0 */

    pthread_mutex_t mutex; /* of all that follows */
    pthread_cond_t cards;  /* workers wait for them */
    pthread_cond_t news;   /* whoever talks waits for them */
    int32_t num_workers;
    int32_t num_at_work;
    double cpu_s;        /* of this process */
    double points_cpu_s; /* of its simulations */
    int64_t next;        /* rank 0: the first of plan.todo that nobody has */
    bool is_stopped;     /* nobody gets another card */

    int32_t num_waiting; /* workers of another rank */
    int32_t num_asked;   /* cards that are under way */
    int32_t num_cards;
    struct sweep_card card[SWEEP_THREADS_MAX + 1];

    struct report *report; /* not yet told, newest first */
    int32_t num_gone;      /* rank 0: ranks that said goodbye */
};

void sweep_init_wakes(struct sweep_hand *hand);

/* Workers: the next point; false when there is none any more. */
bool sweep_take(struct sweep_hand *hand, struct sweep_card *card);
void sweep_report(struct sweep_hand *hand, const struct sweep_card *card, enum status status,
                  bool is_fatal, const char *problems, double cpu_s);
void sweep_worker_left(struct sweep_hand *hand);

/* The talking thread: deals until this rank's workers have left; on rank 0 until all ranks have no
 * more to do. The status is that of storing. */
MUST_CHECK enum status sweep_deal(struct sweep_hand *hand, struct error *error);

/* Another rank, its file closed: tells its CPU time, and waits until all may go. */
void sweep_say_goodbye(struct sweep_hand *hand);

/* Rank 0, once all others have said goodbye: they may go. */
void sweep_send_home(struct sweep_hand *hand);

#endif
