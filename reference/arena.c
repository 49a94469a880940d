/*
 * arena.c -- a chain of blocks, filled from the front. Each is twice the one before: what is taken
 * between resets may vary a little without a new one.
 */
#include "arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT_BYTES ((size_t)64)
#define BLOCK_BYTES_MIN ((size_t)1 << 16)

struct arena_block {
    struct arena_block *next;
    size_t capacity_bytes;
    size_t used_bytes;
    unsigned char *memory; /* [capacity_bytes], 64-byte aligned, part of the same allocation */
};

static struct arena_block *block_new(size_t bytes, size_t bytes_min)
{
    size_t capacity = bytes > bytes_min ? bytes : bytes_min;
    if (capacity > SIZE_MAX - ALIGNMENT_BYTES - sizeof(struct arena_block)) {
        return NULL;
    }
    struct arena_block *block = malloc(sizeof *block + ALIGNMENT_BYTES + capacity);
    if (block != NULL) {
        uintptr_t start = (uintptr_t)(block + 1);
        uintptr_t aligned = (start + ALIGNMENT_BYTES - 1) / ALIGNMENT_BYTES * ALIGNMENT_BYTES;
        *block = (struct arena_block){NULL, capacity, 0, (unsigned char *)(block + 1)};
        block->memory += aligned - start;
    }
    return block;
}

void *arena_take(struct arena *arena, size_t count, size_t size)
{
    if (size != 0 && count > (SIZE_MAX - ALIGNMENT_BYTES) / size) {
        return NULL;
    }
    size_t bytes = (count * size + ALIGNMENT_BYTES - 1) / ALIGNMENT_BYTES * ALIGNMENT_BYTES;
    struct arena_block **link = arena->current != NULL ? &arena->current : &arena->first;
    size_t bytes_min = BLOCK_BYTES_MIN;
    while (*link != NULL && (*link)->capacity_bytes - (*link)->used_bytes < bytes) {
        bytes_min = 2 * (*link)->capacity_bytes;
        link = &(*link)->next;
    }
    if (*link == NULL) {
        struct arena_block *fresh = block_new(bytes, bytes_min);
        if (fresh == NULL) {
            return NULL;
        }
        *link = fresh;
    }
    struct arena_block *block = *link;
    arena->current = block;
    void *memory = block->memory + block->used_bytes;
    block->used_bytes += bytes;
    return memory;
}

void *arena_alloc(struct arena *arena, size_t count, size_t size)
{
    void *memory = arena_take(arena, count, size);
    return memory == NULL ? NULL : memset(memory, 0, count * size);
}

char *arena_strdup(struct arena *arena, const char *text)
{
    size_t bytes = strlen(text) + 1;
    char *copy = arena_alloc(arena, bytes, 1);
    return copy == NULL ? NULL : memcpy(copy, text, bytes);
}

void arena_reset(struct arena *arena)
{
    for (struct arena_block *block = arena->first; block != NULL; block = block->next) {
        block->used_bytes = 0;
    }
    arena->current = arena->first;
}

void arena_free(struct arena *arena)
{
    struct arena_block *block = arena->first;
    while (block != NULL) {
        struct arena_block *next = block->next;
        free(block);
        block = next;
    }
    *arena = (struct arena){NULL, NULL};
}
