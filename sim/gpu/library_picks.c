/*
 * library_picks.c -- looks a product up in a library's table: its class of rows, and linear
 * interpolation over the logarithms of columns and depth.
 */
#include "gpu/library_picks.h"

#include <math.h>
#include <stddef.h>

#define NAME(name)  #name,
#define TABLE(name) [PICKS_##name] = picks_##name,

const char *const library_picks_names[] = {"none", LIBRARY_PICKS(NAME) NULL};
static const int8_t *const tables[PICKS_COUNT] = {LIBRARY_PICKS(TABLE)};

/* Most rows of a class; the last one has no bound. */
static const double rows_max[PICKS_CLASSES - 1] = {
    8,    15,   16,   32,   48,   64,   80,   96,   112,  128,  129,  160,  161,
    192,  193,  224,  256,  257,  512,  513,  768,  769,  1024, 1025, 1280, 1281,
    1536, 1537, 1792, 2048, 2304, 2560, 2816, 3072, 3328, 3600, 4096, 5000, 10000};
static const double columns_nodes[PICKS_COLUMNS] = {32,   64,    128,   256,   512,  768,  1024,
                                                    1536, 2048,  3072,  4096,  5120, 6144, 7168,
                                                    8192, 10240, 12288, 16384, 65536};
static const double depth_nodes[PICKS_DEPTHS] = {32,   256,  512,   1024, 2048,
                                                 4096, 8192, 16384, 65536};

/* Between which nodes a value lies, and how far from the first. */
struct between {
    int32_t first;
    double part; /* 0 to 1 */
};

static struct between find_between(const double *node, int32_t count, double value)
{
    int32_t first = 0;
    while (first + 2 < count && node[first + 1] <= value) {
        first++;
    }
    double part = log(value / node[first]) / log(node[first + 1] / node[first]);
    return (struct between){first, fmin(fmax(part, 0.0), 1.0)};
}

double library_picks_ratio(enum library_picks picks, double rows, double columns, double depth)
{
    const int8_t *percent = tables[picks];
    if (percent == NULL) {
        return 1.0;
    }
    int32_t bin = 0;
    while (bin + 1 < PICKS_CLASSES && rows > rows_max[bin]) {
        bin++;
    }
    struct between column = find_between(columns_nodes, PICKS_COLUMNS, columns);
    struct between deep = find_between(depth_nodes, PICKS_DEPTHS, depth);
    double sum = 0.0;
    for (int32_t i = 0; i < 2; i++) {
        for (int32_t j = 0; j < 2; j++) {
            int32_t node = (bin * PICKS_COLUMNS + column.first + i) * PICKS_DEPTHS + deep.first;
            sum += (i == 0 ? 1.0 - column.part : column.part) *
                   (j == 0 ? 1.0 - deep.part : deep.part) * (double)percent[node + j];
        }
    }
    return 1.0 + sum / 100.0;
}
