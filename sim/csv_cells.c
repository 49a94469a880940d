/* csv_cells.c -- cuts at commas. */
#include "csv_cells.h"

#include <stddef.h>
#include <string.h>

int32_t csv_cells(char **cell, int32_t max, char *line)
{
    int32_t count = 0;
    line[strcspn(line, "\r\n")] = '\0';
    for (char *place = line; place != NULL && count < max; count++) {
        cell[count] = place;
        place = strchr(place, ',');
        if (place != NULL) {
            *place++ = '\0';
        }
    }
    return count;
}
