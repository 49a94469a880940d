/*
 * key_heap.h -- a binary heap of small entries, by (key, seq): the least comes first, and of equal
 * keys what was pushed first.
 */
#ifndef MOESIM_KEY_HEAP_H
#define MOESIM_KEY_HEAP_H

#include <stdbool.h>
#include <stdint.h>

#include "status.h"

struct heap_entry {
    int64_t key;
    int64_t seq; /* set by key_heap_push */
    int32_t id;
    int32_t stamp; /* the owner's: an entry whose stamp is not the present one is stale */
    int32_t kind;
};

struct key_heap {
    struct heap_entry *entry;
    int64_t count;
    int64_t capacity;
    int64_t next_seq;
};

MUST_CHECK enum status key_heap_push(struct key_heap *heap, struct heap_entry entry);
void key_heap_pop(struct key_heap *heap);  /* it must not be empty */
void key_heap_free(struct key_heap *heap); /* safe on a zeroed struct, and twice */

#endif
