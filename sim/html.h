/*
 * html.h -- text, numbers and tables of a page, escaped.
 *
 * How a number is shown follows from the name of its column: _ns as ns to s, bytes, usd, _share as
 * per cent, _over_mean as a multiple, counts in k and M.
 */
#ifndef MOESIM_HTML_H
#define MOESIM_HTML_H

#include <stdint.h>
#include <stdio.h>

#include "money.h"
#include "rows.h"

/* Text as HTML, also inside attributes. Bytes that are no UTF-8 and control characters become
 * U+FFFD, and the blank of "2.5 %" one that does not break. */
void html_text(FILE *page, const char *text);

/* format_percent with a blank that does not break, into text [FORMAT_BYTES]; returns text. */
char *html_percent(char *text, double fraction);

/* Text between two pieces of HTML. */
void html_named(FILE *page, const char *before, const char *text, const char *after);

/* From the doctype to the end of the head: nothing is loaded, scripts and styles are the page's
 * own. subject may be empty; style is added to css. */
void html_head(FILE *page, const char *subject, const char *title, const char *css,
               const char *style);

/* A value of a column for people, dollars in currency; NULL is a dash. Escaped. */
void html_value(FILE *page, const char *column, const char *value, const struct currency *currency);

/* A column's name for people: "step_ns_mean" is "step mean", "usd_per_day" "EUR per day". */
void html_heading(FILE *page, const char *column, const struct currency *currency);

/* A table of the first rows_max rows in a box that scrolls sideways by itself; label names it for
 * screen readers. Columns of dollars are shown in currency. */
void html_table(FILE *page, const struct rows *rows, int64_t rows_max, const char *label,
                const struct currency *currency);

/* The cells of a map as JSON for page.js, or nothing if the rows are no full grid of numbers. */
void html_cells(FILE *page, const struct rows *rows, const char *row_column,
                const char *column_column);

#endif
