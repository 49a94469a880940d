/*
 * suggest.h -- the known word a user most likely meant.
 */
#ifndef MOESIM_SUGGEST_H
#define MOESIM_SUGGEST_H

#include <stddef.h>
#include <stdint.h>

#define SUGGEST_BYTES 1024 /* enough for suggest_words */

/* Set word and leave the rest zero; offer every known name, then read nearest. */
struct suggestion {
    const char *word;    /* as the user wrote it */
    const char *nearest; /* the first of the closest names, or NULL: none is close */
    int32_t distance;    /* edits from word to nearest */
};

/* Insertions, deletions, substitutions and swaps of neighbours that turn a into b, letter case
 * ignored. INT32_MAX when either is longer than 63 bytes. */
int32_t suggest_distance(const char *a, const char *b);

/* Keeps name if no offer so far is closer and it needs at most a third of the word's letters
 * changed (at least one edit is always allowed, two from four letters on). */
void suggest_offer(struct suggestion *suggestion, const char *name);

/* Writes what to say behind "'word' is no X": names that the word is a part of or the nearest, then
 * all names, or the command that lists them where they are many. names [count] */
void suggest_words(char *text, size_t bytes, const struct suggestion *suggestion,
                   const char *const *names, int32_t count, const char *kind);

#endif
