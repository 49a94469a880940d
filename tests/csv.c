/* csv.c -- one pass over the text; the first line fixes the number of columns. */
#include "csv.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

struct csv csv_read(const char *path)
{
    struct csv csv = {0};
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        return csv;
    }
    int64_t count = 0;
    int64_t capacity = 0;
    bool good = true;
    long long value;
    while (good && fscanf(file, "%lld", &value) == 1) {
        if (count == capacity) {
            capacity = 2 * capacity + 4096;
            int64_t *grown = realloc(csv.value, (size_t)capacity * sizeof *grown);
            if (grown == NULL) {
                good = false;
                break;
            }
            csv.value = grown;
        }
        csv.value[count++] = value;
        if (fgetc(file) != ',') { /* the line ends */
            csv.num_rows++;
            csv.num_columns = csv.num_rows == 1 ? count : csv.num_columns;
            good = count == csv.num_rows * csv.num_columns;
        }
    }
    good = good && feof(file) && count == csv.num_rows * csv.num_columns;
    fclose(file);
    if (!good) {
        free(csv.value);
        csv = (struct csv){0};
    }
    return csv;
}
