/*
 * arena.h -- memory that is given back all at once.
 *
 * A run takes its long-lived arrays from one arena and each step's scratch from another, which is
 * reset at the step's end. A reset keeps the blocks, so after the first steps nothing allocates.
 */
#ifndef MOESIM_ARENA_H
#define MOESIM_ARENA_H

#include <stddef.h>
#include <stdint.h>

struct arena_block;

/* Zero-initialise; release with arena_free. */
struct arena {
    struct arena_block *first;   /* all blocks, in the order in which they are filled */
    struct arena_block *current; /* the block being filled */
};

/* Zeroed memory for count elements of size bytes, 64-byte aligned, valid until the next reset or
 * free. NULL when the host has none left or count * size overflows. count may be 0. */
void *arena_alloc(struct arena *arena, size_t count, size_t size);

/* The same without the zeroes: for arrays whose every element is written before it is read. */
void *arena_take(struct arena *arena, size_t count, size_t size);

/* A copy of text, NUL included; NULL as arena_alloc. */
char *arena_strdup(struct arena *arena, const char *text);

void arena_reset(struct arena *arena); /* everything is free again; blocks are kept */
void arena_free(struct arena *arena);  /* safe on a zeroed struct, and twice */

#endif
