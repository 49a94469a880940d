/*
 * figure.h -- a figure is two files of reports/: NAME.sql asks for the numbers, NAME.gp draws them.
 *
 * The .sql begins with comments of the form "-- key: text", continued by "--   more text":
 *
 *     title     heading of the figure                                          (required)
 *     caption   plain words: what one sees, and what to do about it            (required)
 *     order     figures are shown by ascending order                           (required)
 *     empty     what the page says where the query returns too few rows; without it
 *               the figure is then left out in silence
 *     rows_min  how many rows that is (1)
 *     hover     "row_column column_column": read values of the map's cells
 *     row_pixels  "wide narrow": the figure grows by so much with every row, where its own height
 *               is too little
 *     table     "open": the data table is shown, not folded away
 *     error     "model": times or costs, so the caption tells the model's error
 *
 * Then comes one query (?1 is the run's id) and, after a line "-- finding", optionally one more,
 * whose single value is the figure's message in words. Amounts stay dollars in the rows; words say
 * money(X), plots money(x) and the name in currency.
 */
#ifndef MOESIM_FIGURE_H
#define MOESIM_FIGURE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "arena.h"
#include "draft.h"
#include "model.h"
#include "money.h"
#include "rows.h"
#include "status.h"
#include "store.h"

enum figure_form {
    FIGURE_WIDE,   /* for desks, and the file NAME.svg */
    FIGURE_NARROW, /* for phones */
    FIGURE_FORMS,
};

/* Where the plot proper lies in the figure, as fractions from its left and top. */
struct plot_box {
    double left, right, top, bottom;
};

/* Text is the arena's. */
struct figure {
    char name[NAME_BYTES]; /* a-z, 0-9 and _ */
    const char *title;
    const char *caption;
    const char *empty;      /* or NULL */
    const char *row_column; /* of a map, or NULL */
    const char *column_column;
    int64_t order;
    int64_t rows_min;
    int64_t row_pixels[FIGURE_FORMS]; /* 0: the height is fixed */
    bool table_open;
    bool tells_model_error;
    const char *sql;
    const char *finding_sql; /* or NULL */
    const char *commands;    /* the .gp */
    const char *finding;     /* after figure_query; or NULL */
    struct rows rows;        /* after figure_query */
    bool drawn;              /* after figures_draw */
    struct plot_box box[FIGURE_FORMS];
};

struct figure_list {
    int32_t count;
    struct figure *figure; /* [count] by order, then name */
    const char *style;     /* reports/style.gp */
    bool has_pdf;          /* NAME.pdf too */
    struct currency shown; /* by axes and labels; the rows are in dollars */
};

/* Reads all figures of directory. STATUS_INVALID names file and line of what is wrong in them. */
MUST_CHECK enum status figures_load(struct figure_list *list, const char *directory,
                                    struct arena *arena, struct error *error);
void figures_free(struct figure_list *list); /* the rows; safe on a zeroed struct, and twice */

/* Runs a figure's queries. */
MUST_CHECK enum status figure_query(struct figure *figure, struct store *store, const char *run_id,
                                    struct arena *arena, struct error *error);

bool figure_has_data(const struct figure *figure);

/* Writes NAME.csv of every figure that has data into the draft and has gnuplot make NAME.svg,
 * NAME.narrow.svg, NAME.png and, where the list says so, NAME.pdf there, one process a figure, all
 * at once. */
MUST_CHECK enum status figures_draw(struct figure_list *list, const struct draft *draft,
                                    struct error *error);

/* Moves the CSV, SVG, PNG and PDF of every figure drawn in the draft to OUT/figures, and removes
 * what an earlier report left there of those that are not. */
MUST_CHECK enum status figures_publish(const struct figure_list *list, const struct draft *draft,
                                       struct error *error);

/* Copies a figure's SVG into a page: black becomes currentColor, ids get the figure's name. */
MUST_CHECK enum status figure_inline(const struct figure *figure, enum figure_form form,
                                     const char *directory, FILE *page, struct error *error);

#endif
