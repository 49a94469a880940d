/* csv_cells.c -- cuts at commas outside quotes. */
#include "csv_cells.h"

#include <stddef.h>
#include <string.h>

/* Takes the quotes off a cell that begins with one, in place; returns what stands behind it. */
static char *unquote(char *cell)
{
    char *to = cell;
    char *from = cell + 1;
    while (*from != '\0' && (from[0] != '"' || from[1] == '"')) {
        from += *from == '"'; /* of a doubled quote, one stays */
        *to++ = *from++;
    }
    from += *from == '"';
    *to = '\0';
    return from;
}

int32_t csv_cells(char **cell, int32_t max, char *line)
{
    int32_t count = 0;
    line[strcspn(line, "\r\n")] = '\0';
    for (char *place = line; place != NULL && count < max; count++) {
        cell[count] = place;
        char *rest = *place == '"' ? unquote(place) : place;
        place = strchr(rest, ',');
        if (place != NULL) {
            *place++ = '\0';
        }
    }
    return count;
}
