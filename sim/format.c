/* format.c -- scales a number into the range of its unit. */
#include "format.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* 3 significant digits below 1000. */
static char *write_scaled(char *text, double value, double step, const char *const *units)
{
    int unit = 0;
    while (fabs(value) >= 0.9995 * step && units[unit + 1] != NULL) {
        value /= step;
        unit++;
    }
    double size = fabs(value);
    int digits = size >= 99.95 || value == floor(value) ? 0 : size >= 9.995 ? 1 : 2;
    snprintf(text, FORMAT_BYTES, "%.*f%s%s", digits, value, units[unit][0] != '\0' ? " " : "",
             units[unit]);
    return text;
}

char *format_ns(char *text, double ns)
{
    static const char *const units[] = {"ns", "us", "ms", "s", NULL};
    return write_scaled(text, ns, 1000.0, units);
}

char *format_bytes(char *text, double bytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", NULL};
    return write_scaled(text, bytes, 1000.0, units);
}

char *format_count(char *text, double count)
{
    static const char *const units[] = {"", "k", "M", "G", "T", NULL};
    return write_scaled(text, count, 1000.0, units);
}

char *format_percent(char *text, double fraction)
{
    double percent = fraction * 100.0;
    snprintf(text, FORMAT_BYTES, "%.*f %%",
             fabs(percent) >= 99.95   ? 0
             : fabs(percent) >= 9.995 ? 1
                                      : 2,
             percent);
    return text;
}

void format_append(char *text, size_t bytes, const char *format, ...)
{
    size_t used = strlen(text);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + used, bytes - used, format, arguments);
    va_end(arguments);
}
