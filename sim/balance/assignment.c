/*
 * assignment.c -- rows are assigned one by one, each along a shortest path of reduced costs.
 *
 * Prices of rows and columns keep cost - row_price - column_price from being negative, and 0 on
 * what is assigned; so Dijkstra finds the cheapest chain of reassignments that frees a column.
 */
#include "balance/assignment.h"

#include <assert.h>
#include <stdbool.h>

#define FREE (-1)

struct assignment {
    const int32_t *cost;
    int32_t count;
    int64_t *row_price;     /* [count] */
    int64_t *column_price;  /* [count] */
    int64_t *distance;      /* [count] of columns from the row that is being assigned */
    int32_t *row_of_column; /* [count] */
    int32_t *column_of_row; /* [count] */
    int32_t *from_row;      /* [count] by which the shortest path comes to a column */
    int32_t *open;          /* [count] columns not yet settled */
    bool *row_seen;         /* [count] */
    bool *settled;          /* [count] columns */
};

/* Dijkstra from a row to the nearest free column; returns it and its distance. */
static int32_t nearest_free(struct assignment *a, int64_t *least, int32_t row)
{
    int32_t num_open = a->count;
    for (int32_t i = 0; i < a->count; i++) {
        a->open[i] = a->count - 1 - i;
        a->distance[i] = INT64_MAX;
        a->row_seen[i] = false;
        a->settled[i] = false;
    }
    *least = 0;
    while (num_open > 0) {
        int64_t lowest = INT64_MAX;
        int32_t at = -1;
        a->row_seen[row] = true;
        for (int32_t i = 0; i < num_open; i++) {
            int32_t column = a->open[i];
            int64_t distance = *least + a->cost[(int64_t)row * a->count + column] -
                               a->row_price[row] - a->column_price[column];
            if (distance < a->distance[column]) {
                a->distance[column] = distance;
                a->from_row[column] = row;
            }
            if (a->distance[column] < lowest ||
                (a->distance[column] == lowest && a->row_of_column[column] == FREE)) {
                lowest = a->distance[column];
                at = i;
            }
        }
        int32_t column = a->open[at];
        *least = lowest;
        a->settled[column] = true;
        a->open[at] = a->open[--num_open];
        if (a->row_of_column[column] == FREE) {
            return column;
        }
        row = a->row_of_column[column];
    }
    assert(num_open > 0); /* fewer rows are assigned than there are columns */
    return FREE;
}

static void assign(struct assignment *a, int32_t row)
{
    int64_t least;
    int32_t column = nearest_free(a, &least, row);
    a->row_price[row] += least;
    for (int32_t i = 0; i < a->count; i++) {
        if (a->row_seen[i] && i != row) {
            a->row_price[i] += least - a->distance[a->column_of_row[i]];
        }
        if (a->settled[i]) {
            a->column_price[i] -= least - a->distance[i];
        }
    }
    int32_t taker = FREE;
    while (taker != row) { /* every row on the path takes the column behind it */
        taker = a->from_row[column];
        int32_t left = a->column_of_row[taker];
        a->row_of_column[column] = taker;
        a->column_of_row[taker] = column;
        column = left;
    }
}

enum status assignment_solve(int32_t *column_of_row, const int32_t *cost, int32_t count,
                             struct arena *scratch)
{
    size_t size = (size_t)count;
    struct assignment a = {
        .cost = cost,
        .count = count,
        .row_price = arena_alloc(scratch, size, sizeof(int64_t)),
        .column_price = arena_alloc(scratch, size, sizeof(int64_t)),
        .distance = arena_take(scratch, size, sizeof(int64_t)),
        .row_of_column = arena_take(scratch, size, sizeof(int32_t)),
        .column_of_row = column_of_row,
        .from_row = arena_take(scratch, size, sizeof(int32_t)),
        .open = arena_take(scratch, size, sizeof(int32_t)),
        .row_seen = arena_take(scratch, size, sizeof(bool)),
        .settled = arena_take(scratch, size, sizeof(bool)),
    };
    if (a.row_price == NULL || a.column_price == NULL || a.distance == NULL ||
        a.row_of_column == NULL || a.from_row == NULL || a.open == NULL || a.row_seen == NULL ||
        a.settled == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t i = 0; i < count; i++) {
        a.row_of_column[i] = FREE;
        column_of_row[i] = FREE;
    }
    for (int32_t row = 0; row < count; row++) {
        assign(&a, row);
    }
    return STATUS_OK;
}
