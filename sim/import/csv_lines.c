/*
 * csv_lines.c -- cuts mapped CSV into lines and fields.
 */
#include "import/csv_lines.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW_BYTES (INT64_C(4) << 20)

void csv_begin(struct csv_lines *lines, const struct import_file *file)
{
    *lines = (struct csv_lines){.path = file->path};
    lines->at = file->data;
    lines->kept = file->data;
    lines->end = file->data + file->num_bytes;
    if (file->num_bytes >= 3 && memcmp(file->data, "\xef\xbb\xbf", 3) == 0) {
        lines->at += 3;
    }
}

/* One field from text to end; returns where the next begins, or NULL behind the last. */
static const char *cut(struct csv_lines *lines, const char *text, const char *end)
{
    bool is_quoted = text < end && *text == '"';
    const char *close = is_quoted ? memchr(text + 1, '"', (size_t)(end - text - 1)) : NULL;
    const char *from = close != NULL ? close : text;
    const char *comma = memchr(from, ',', (size_t)(end - from));
    const char *last = comma != NULL ? comma : end;
    if (lines->num_fields < CSV_FIELDS_MAX) {
        const char *first = close != NULL ? text + 1 : text;
        int64_t length = (close != NULL ? close : last) - first;
        lines->field[lines->num_fields] = first;
        lines->length[lines->num_fields] = length < INT32_MAX ? (int32_t)length : INT32_MAX;
        lines->num_fields++;
    }
    return comma != NULL ? comma + 1 : NULL;
}

bool csv_next(struct csv_lines *lines)
{
    const char *text = NULL;
    const char *end = NULL;
    do {
        if (lines->at >= lines->end) {
            return false;
        }
        if (lines->at - lines->kept > WINDOW_BYTES) {
            import_forget(lines->kept, (size_t)(lines->at - lines->kept));
            lines->kept = lines->at;
        }
        text = (const char *)lines->at;
        end = memchr(text, '\n', (size_t)(lines->end - lines->at));
        end = end != NULL ? end : (const char *)lines->end;
        lines->at = (const unsigned char *)end + 1;
        lines->line++;
        end -= end > text && end[-1] == '\r' ? 1 : 0;
    } while (end == text);
    lines->num_fields = 0;
    while (text != NULL) {
        text = cut(lines, text, end);
    }
    return true;
}

int32_t csv_column(const struct csv_lines *lines, const char *const *names)
{
    for (int32_t name = 0; names[name] != NULL; name++) {
        for (int32_t field = 0; field < lines->num_fields; field++) {
            if ((size_t)lines->length[field] == strlen(names[name]) &&
                memcmp(lines->field[field], names[name], strlen(names[name])) == 0) {
                return field;
            }
        }
    }
    return -1;
}

bool csv_whole(const struct csv_lines *lines, int32_t field, int64_t max, int64_t *value)
{
    int64_t sum = 0;
    if (field < 0 || field >= lines->num_fields || lines->length[field] < 1) {
        return false;
    }
    for (int32_t i = 0; i < lines->length[field]; i++) {
        int64_t digit = lines->field[field][i] - '0';
        if (digit < 0 || digit > 9 || digit > max || sum > (max - digit) / 10) {
            return false;
        }
        sum = sum * 10 + digit;
    }
    *value = sum;
    return true;
}

bool csv_double(const struct csv_lines *lines, int32_t field, double *value)
{
    char text[64];
    char *end = NULL;
    if (field < 0 || field >= lines->num_fields || lines->length[field] >= (int32_t)sizeof text) {
        return false;
    }
    memcpy(text, lines->field[field], (size_t)lines->length[field]);
    text[lines->length[field]] = '\0';
    *value = strtod(text, &end);
    return end != text && *end == '\0' && isfinite(*value) != 0;
}

char *csv_copy(char *text, size_t room, const struct csv_lines *lines, int32_t field)
{
    size_t length = field >= 0 && field < lines->num_fields ? (size_t)lines->length[field] : 0;
    length = length < room ? length : room - 1;
    for (size_t i = 0; i < length; i++) {
        char character = lines->field[field][i];
        text[i] = (unsigned char)character >= ' ' ? character : '?';
    }
    text[length] = '\0';
    return text;
}
