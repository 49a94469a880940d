/*
 * suggest.c -- edit distance by dynamic programming (optimal string alignment, Damerau 1964).
 */
#include "suggest.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "format.h"

#define WORD_BYTES   64
#define PART_LETTERS 3  /* that a word needs to be looked for in names */
#define OFFERED_MAX  12 /* names that a word is a part of */
#define LISTED_MAX   24 /* names that a message lists whole */

static bool same_letter(char a, char b)
{
    return tolower((unsigned char)a) == tolower((unsigned char)b);
}

static int32_t lesser(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

int32_t suggest_distance(const char *a, const char *b)
{
    size_t rows = strlen(a);
    size_t columns = strlen(b);
    if (rows >= WORD_BYTES || columns >= WORD_BYTES) {
        return INT32_MAX;
    }
    int32_t edits[WORD_BYTES][WORD_BYTES]; /* [i][j]: from the first i of a to the first j of b */
    for (size_t i = 0; i <= rows; i++) {
        edits[i][0] = (int32_t)i;
    }
    for (size_t j = 0; j <= columns; j++) {
        edits[0][j] = (int32_t)j;
    }
    for (size_t i = 1; i <= rows; i++) {
        for (size_t j = 1; j <= columns; j++) {
            int32_t replace = edits[i - 1][j - 1] + (same_letter(a[i - 1], b[j - 1]) ? 0 : 1);
            int32_t shift = 1 + lesser(edits[i - 1][j], edits[i][j - 1]);
            edits[i][j] = lesser(replace, shift);
            if (i > 1 && j > 1 && same_letter(a[i - 1], b[j - 2]) &&
                same_letter(a[i - 2], b[j - 1])) {
                edits[i][j] = lesser(edits[i][j], edits[i - 2][j - 2] + 1);
            }
        }
    }
    return edits[rows][columns];
}

void suggest_offer(struct suggestion *suggestion, const char *name)
{
    int32_t length = (int32_t)strnlen(suggestion->word, WORD_BYTES);
    int32_t third = length / 3;
    int32_t limit = length >= 4 && third < 2 ? 2 : (third < 1 ? 1 : third);
    int32_t distance = suggest_distance(suggestion->word, name);
    if (distance > limit) {
        return;
    }
    if (suggestion->nearest == NULL || distance < suggestion->distance) {
        suggestion->nearest = name;
        suggestion->distance = distance;
    }
}

static bool is_part(const char *word, const char *name)
{
    size_t length = strlen(word);
    for (; strlen(name) >= length; name++) {
        if (strncasecmp(word, name, length) == 0) {
            return length >= PART_LETTERS;
        }
    }
    return false;
}

void suggest_words(char *text, size_t bytes, const struct suggestion *suggestion,
                   const char *const *names, int32_t count, const char *kind)
{
    const char *offer[OFFERED_MAX];
    int32_t num_offers = 0;
    for (int32_t i = 0; i < count && num_offers < OFFERED_MAX; i++) {
        if (is_part(suggestion->word, names[i])) {
            offer[num_offers++] = names[i];
        }
    }
    if (num_offers == 0 && suggestion->nearest != NULL) {
        offer[num_offers++] = suggestion->nearest;
    }
    text[0] = '\0';
    for (int32_t i = 0; i < num_offers; i++) {
        format_append(text, bytes, "%s'%s'",
                      i == 0               ? "; did you mean "
                      : i + 1 < num_offers ? ", "
                                           : " or ",
                      offer[i]);
    }
    format_append(text, bytes, "%s", num_offers > 0 ? "? " : ". ");
    if (count > LISTED_MAX) {
        format_append(text, bytes, "moesim list %s shows all", kind);
        return;
    }
    for (int32_t i = 0; i < count; i++) {
        format_append(text, bytes, "%s%s", i == 0 ? "Known: " : ", ", names[i]);
    }
}
