/* quantity.c -- a number and one of a few units. */
#include "quantity.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

struct unit {
    const char *name;
    double factor;
};

static const struct unit count_units[] = {{"", 1.0},  {"k", 1e3}, {"K", 1e3}, {"M", 1e6},
                                          {"G", 1e9}, {"B", 1e9}, {"T", 1e12}};
static const struct unit time_units[] = {{"us", 1e-6}, {"ms", 1e-3}, {"s", 1.0}, {"min", 60.0}};

static bool parse(double *value, const char *text, const struct unit *unit, size_t count)
{
    char *end;
    double number = strtod(text, &end);
    if (end == text || !isfinite(number)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (strcmp(end, unit[i].name) == 0) {
            *value = number * unit[i].factor;
            return true;
        }
    }
    return false;
}

bool quantity_count(double *count, const char *text)
{
    return parse(count, text, count_units, sizeof count_units / sizeof count_units[0]);
}

bool quantity_seconds(double *seconds, const char *text)
{
    return parse(seconds, text, time_units, sizeof time_units / sizeof time_units[0]);
}
