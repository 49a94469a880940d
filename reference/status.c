/* status.c -- collects problems as lines of text. */
#include "status.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Whether the text behind the last line says what that line says: eight wrong ids of one token are
 * one problem to whoever reads. */
static bool says_it_again(const struct error *error, int32_t bytes)
{
    const char *end = error->text + error->text_bytes; /* behind the last line's newline */
    return error->text_bytes > bytes && memcmp(end - bytes - 1, end, (size_t)bytes) == 0 &&
           (error->text_bytes == bytes + 1 || end[-bytes - 2] == '\n');
}

enum status error_add(struct error *error, enum status status, const char *format, ...)
{
    if (error == NULL) {
        return status;
    }
    error->num_problems++;
    int32_t room = ERROR_TEXT_BYTES - error->text_bytes;
    va_list arguments;
    va_start(arguments, format);
    int written = vsnprintf(error->text + error->text_bytes, (size_t)room, format, arguments);
    va_end(arguments);
    if (written < 0 || written + 1 >= room) {
        error->text[error->text_bytes] = '\0'; /* no half lines: the count still tells */
        return status;
    }
    if (says_it_again(error, written)) {
        error->num_problems--;
        error->text[error->text_bytes] = '\0';
        return status;
    }
    error->text_bytes += written;
    error->text[error->text_bytes++] = '\n';
    error->text[error->text_bytes] = '\0';
    return status;
}
