/* odd_rows.c -- keeps the first line of what was wrong with each row. */
#include "odd_rows.h"

#include <string.h>

const char odd_cell_reason[] = "a cell is not the number that is due there";

/* Cut before a character of UTF-8 that would not be whole. */
static size_t whole_characters(const char *text, size_t bytes)
{
    while (bytes > 0 && ((unsigned char)text[bytes] & 0xc0U) == 0x80U) {
        bytes--;
    }
    return bytes;
}

const char *odd_rows_add(struct odd_rows *odd, struct error *problems)
{
    char words[ODD_WORDS_BYTES] = "the cell is too long to be shown";
    size_t length = strcspn(problems->text, "\n");
    if (problems->text_bytes > 0) {
        length =
            length < sizeof words ? length : whole_characters(problems->text, sizeof words - 1);
        memcpy(words, problems->text, length);
        words[length] = '\0';
    }
    problems->num_problems = 0;
    problems->text_bytes = 0;
    problems->text[0] = '\0';
    const char *kept = arena_strdup(&odd->words, words);
    odd->first = odd->first == NULL ? kept : odd->first;
    odd->count++;
    return kept;
}

void odd_rows_free(struct odd_rows *odd)
{
    arena_free(&odd->words);
    *odd = (struct odd_rows){0};
}
