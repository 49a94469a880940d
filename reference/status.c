/* status.c -- collects problems as lines of text. */
#include "status.h"

#include <stdio.h>

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
    error->text_bytes += written;
    error->text[error->text_bytes++] = '\n';
    error->text[error->text_bytes] = '\0';
    return status;
}
