/* bench_list.c -- names in options that are lists, separated by commas. */
#include <string.h>

#include "bench.h"

bool bench_list_has(const char *list, const char *name)
{
    size_t length = strlen(name);
    for (const char *next = list == NULL ? "" : list; *next != '\0';) {
        size_t width = strcspn(next, ",");
        if (width == length && strncmp(next, name, width) == 0) {
            return true;
        }
        next += width + (next[width] == ',');
    }
    return false;
}

bool bench_wants_kernel(const struct bench_options *options, const char *name)
{
    return options->kernels == NULL || bench_list_has(options->kernels, name);
}

bool bench_wants_version(const struct bench_options *options, const char *name)
{
    return !bench_list_has(options->without, name) &&
           (options->versions == NULL || bench_list_has(options->versions, name));
}
