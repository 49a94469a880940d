/* event.c -- the heap. */
#include "event.h"

#include <assert.h>
#include <stdlib.h>

#define CAPACITY_MIN 256

/* Earlier time first, then order of scheduling. seq makes the order total, so simultaneous events
 * (every rank of a balanced layer finishes in the same nanosecond) run in one order on every libc
 * and every heap shape. */
static bool event_before(const struct event *a, const struct event *b)
{
    return a->time_ns != b->time_ns ? a->time_ns < b->time_ns : a->seq < b->seq;
}

enum status event_push(struct event_queue *queue, struct event event)
{
    assert(event.time_ns >= queue->now_ns); /* effects never precede their cause */
    if (queue->count == queue->capacity) {
        int32_t capacity = queue->capacity > 0 ? 2 * queue->capacity : CAPACITY_MIN;
        struct event *heap = realloc(queue->heap, (size_t)capacity * sizeof *heap);
        if (heap == NULL) {
            return STATUS_NO_MEMORY;
        }
        queue->heap = heap;
        queue->capacity = capacity;
    }
    event.seq = queue->next_seq++;
    int32_t hole = queue->count++;
    while (hole > 0 && event_before(&event, &queue->heap[(hole - 1) / 2])) {
        queue->heap[hole] = queue->heap[(hole - 1) / 2];
        hole = (hole - 1) / 2;
    }
    queue->heap[hole] = event;
    return STATUS_OK;
}

bool event_pop(struct event_queue *queue, struct event *event)
{
    if (queue->count == 0) {
        return false;
    }
    *event = queue->heap[0];
    struct event last = queue->heap[--queue->count];
    int32_t hole = 0;
    for (int32_t child = 1; child < queue->count; child = 2 * hole + 1) {
        if (child + 1 < queue->count &&
            event_before(&queue->heap[child + 1], &queue->heap[child])) {
            child++;
        }
        if (!event_before(&queue->heap[child], &last)) {
            break;
        }
        queue->heap[hole] = queue->heap[child];
        hole = child;
    }
    queue->heap[hole] = last;
    assert(event->time_ns >= queue->now_ns);
    queue->now_ns = event->time_ns;
    return true;
}

void event_queue_free(struct event_queue *queue)
{
    free(queue->heap);
    *queue = (struct event_queue){0};
}
