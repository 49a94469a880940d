/* key_heap.c -- sift up, sift down. */
#include "serve/key_heap.h"

#include <assert.h>
#include <stdlib.h>

static bool is_before(const struct heap_entry *a, const struct heap_entry *b)
{
    return a->key != b->key ? a->key < b->key : a->seq < b->seq;
}

enum status key_heap_push(struct key_heap *heap, struct heap_entry entry)
{
    if (heap->count == heap->capacity) {
        int64_t capacity = heap->capacity == 0 ? 64 : 2 * heap->capacity;
        void *larger = realloc(heap->entry, (size_t)capacity * sizeof *heap->entry);
        if (larger == NULL) {
            return STATUS_NO_MEMORY;
        }
        heap->entry = larger;
        heap->capacity = capacity;
    }
    entry.seq = heap->next_seq++;
    int64_t at = heap->count++;
    while (at > 0 && is_before(&entry, &heap->entry[(at - 1) / 2])) {
        heap->entry[at] = heap->entry[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap->entry[at] = entry;
    return STATUS_OK;
}

void key_heap_pop(struct key_heap *heap)
{
    assert(heap->count > 0);
    struct heap_entry last = heap->entry[--heap->count];
    int64_t at = 0;
    for (int64_t child = 1; child < heap->count; child = 2 * at + 1) {
        child += child + 1 < heap->count && is_before(&heap->entry[child + 1], &heap->entry[child]);
        if (!is_before(&heap->entry[child], &last)) {
            break;
        }
        heap->entry[at] = heap->entry[child];
        at = child;
    }
    heap->entry[at] = last;
}

void key_heap_free(struct key_heap *heap)
{
    free(heap->entry);
    *heap = (struct key_heap){0};
}
