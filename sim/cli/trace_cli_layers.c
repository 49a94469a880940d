/* trace_cli_layers.c -- lists of layers, "0,7,15-18". */
#include <stdlib.h>

#include "cli/trace_cli.h"

bool trace_cli_layers(int32_t layer[TRACE_CLI_LAYERS_MAX], int32_t *num_layers, const char *text)
{
    int32_t count = 0;
    long next = 0; /* the lowest number allowed */
    for (char separator = ','; separator == ',';) {
        char *end = NULL;
        bool digit = *text >= '0' && *text <= '9';
        long first = digit ? strtol(text, &end, 10) : -1;
        if (first < next || first >= TRACE_CLI_LAYERS_MAX) {
            return false;
        }
        long last = first;
        if (*end == '-' && end[1] >= '0' && end[1] <= '9') {
            last = strtol(end + 1, &end, 10);
        }
        if (last < first || last >= TRACE_CLI_LAYERS_MAX) {
            return false;
        }
        for (long number = first; number <= last; number++) {
            layer[count++] = (int32_t)number;
        }
        next = last + 1;
        separator = *end;
        text = separator == ',' ? end + 1 : end;
    }
    *num_layers = count;
    return *text == '\0';
}
