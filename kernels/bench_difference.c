/* bench_difference.c -- see bench_difference.h. */
#include "bench_difference.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "quantize.h"

int64_t check_width(enum check_kind kind)
{
    return kind == CHECK_BF16 ? 2 : kind == CHECK_FP8 ? 1 : 4;
}

double check_element(enum check_kind kind, const void *data, int64_t i)
{
    switch (kind) {
    case CHECK_FP32:
        return (double)((const float *)data)[i];
    case CHECK_BF16:
        return (double)bf16_to_float(((const uint16_t *)data)[i]);
    case CHECK_FP8:
        return (double)fp8_to_float(((const uint8_t *)data)[i]);
    case CHECK_BITS:
        break;
    }
    return 0.0;
}

static uint32_t word(const void *data, int64_t i)
{
    uint32_t bits;
    memcpy(&bits, (const char *)data + 4 * i, sizeof bits);
    return bits;
}

/* How far apart two numbers may be. */
static double margin(enum check_kind kind, const void *expected, int64_t count, double tolerance)
{
    double sum = 0.0;
    int64_t numbers = 0;
    for (int64_t i = 0; i < count && kind != CHECK_BITS; i++) {
        double value = check_element(kind, expected, i);
        sum += isnan(value) ? 0.0 : value * value;
        numbers += !isnan(value);
    }
    return numbers == 0 ? 0.0 : 4.0 * tolerance * sqrt(sum / (double)numbers);
}

static bool is_off(enum check_kind kind, const void *expected, const void *got, int64_t i,
                   double apart)
{
    if (kind == CHECK_BITS) {
        return word(expected, i) != word(got, i);
    }
    double value = check_element(kind, got, i);
    double wanted = check_element(kind, expected, i);
    return isnan(value) != isnan(wanted) || fabs(value - wanted) > apart;
}

struct bench_difference bench_difference(enum check_kind kind, const void *expected,
                                         const void *got, int64_t bytes, int64_t row_bytes,
                                         double tolerance)
{
    int64_t count = bytes / check_width(kind);
    int64_t columns = row_bytes > 0 ? row_bytes / check_width(kind) : count;
    double apart = margin(kind, expected, count, tolerance);
    struct bench_difference found = {.count = count};
    for (int64_t i = 0; i < count; i++) {
        if (!is_off(kind, expected, got, i, apart)) {
            continue;
        }
        int64_t row = i / columns;
        int64_t column = i % columns;
        bool begins = found.off == 0;
        found.first = begins ? i : found.first;
        found.last = i;
        found.rows[0] = begins ? row : found.rows[0];
        found.rows[1] = row;
        found.columns[0] = begins || column < found.columns[0] ? column : found.columns[0];
        found.columns[1] = begins || column > found.columns[1] ? column : found.columns[1];
        found.not_numbers += kind != CHECK_BITS && isnan(check_element(kind, got, i));
        found.off++;
    }
    return found;
}

static void print_element(FILE *file, enum check_kind kind, const void *data, int64_t i)
{
    if (kind == CHECK_BITS) {
        fprintf(file, "%d (0x%08x)", (int)(int32_t)word(data, i), (unsigned)word(data, i));
    } else {
        fprintf(file, "%.6g", check_element(kind, data, i));
    }
}

void bench_difference_print(FILE *file, const char *name, const struct bench_difference *found,
                            enum check_kind kind, const void *expected, const void *got,
                            int64_t row_bytes, const char *const words[2])
{
    if (found->off == 0) {
        return;
    }
    int64_t columns = row_bytes > 0 ? row_bytes / check_width(kind) : found->count;
    fprintf(file,
            "    %s: %lld of %lld off (%lld NaN), rows %lld to %lld of %lld, columns %lld to %lld "
            "of %lld\n   ",
            name, (long long)found->off, (long long)found->count, (long long)found->not_numbers,
            (long long)found->rows[0], (long long)found->rows[1],
            (long long)(columns > 0 ? found->count / columns : 0), (long long)found->columns[0],
            (long long)found->columns[1], (long long)columns);
    const int64_t at[2] = {found->first, found->last};
    for (int which = 0; which < (found->off > 1 ? 2 : 1); which++) {
        fprintf(file, "%s %s row %lld column %lld: %s ", which == 0 ? "" : ";",
                which == 0 ? "first" : "last", (long long)(at[which] / columns),
                (long long)(at[which] % columns), words[0]);
        print_element(file, kind, expected, at[which]);
        fprintf(file, ", %s ", words[1]);
        print_element(file, kind, got, at[which]);
    }
    fputc('\n', file);
}
