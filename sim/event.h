/*
 * event.h -- what happens when: a binary heap ordered by (time_ns, seq).
 */
#ifndef MOESIM_EVENT_H
#define MOESIM_EVENT_H

#include <stdbool.h>
#include <stdint.h>

#include "status.h"

enum event_kind {
    EVENT_COMPUTE_DONE, /* a rank has finished the phase it was computing */
    EVENT_RELEASE,      /* a rank's collective kernel is up: its groups may be sent */
    EVENT_GROUP_READY,  /* the last message that a group waits for has arrived */
    EVENT_RANK_READY,   /* the last message that a rank waits for has arrived */
    EVENT_NET_WAKE,     /* the network has something to deliver */
    EVENT_FETCHED,      /* weights of offloaded experts that a rank waits for are in */
};

struct transfer;

struct event {
    int64_t time_ns;
    int64_t seq; /* order of scheduling; set by event_push */
    enum event_kind kind;
    int32_t rank;              /* the rank, or the group of EVENT_GROUP_READY */
    struct transfer *transfer; /* EVENT_RELEASE, EVENT_GROUP_READY, EVENT_RANK_READY */
    int64_t epoch;             /* EVENT_NET_WAKE: stale unless it is the engine's */
};

struct event_queue {
    struct event *heap;
    int32_t count;
    int32_t capacity;
    int64_t next_seq;
    int64_t now_ns; /* time of the last event popped */
};

/* The time must not be before now_ns. STATUS_NO_MEMORY when the heap cannot grow. */
MUST_CHECK enum status event_push(struct event_queue *queue, struct event event);
bool event_pop(struct event_queue *queue, struct event *event); /* false: empty */
void event_queue_free(struct event_queue *queue);               /* safe on a zeroed struct */

#endif
