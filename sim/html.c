/* html.c -- escaping, and numbers by the unit in their column's name. */
#include "html.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "format.h"
#include "money.h"
#include "utf8.h"

enum column_kind {
    COLUMN_PLAIN,
    COLUMN_NS,
    COLUMN_BYTES,
    COLUMN_BYTES_PER_S,
    COLUMN_USD,
    COLUMN_RATIO,
    COLUMN_SHARE,
    COLUMN_COUNT,
};

/* Bytes of the character at text, or 0 if there is none that a page may hold. */
static int page_bytes(const char *text)
{
    unsigned char first = (unsigned char)text[0];
    bool is_control = (first < 0x20 && first != '\n' && first != '\t') || first == 0x7f;
    return is_control ? 0 : utf8_bytes(text);
}

void html_text(FILE *page, const char *text)
{
    const char *c = text;
    while (*c != '\0') {
        int bytes = page_bytes(c);
        bool before_sign = *c == ' ' && c[1] == '%' && c > text && c[-1] >= '0' && c[-1] <= '9';
        const char *entity = before_sign  ? "\xc2\xa0" /* a line does not end in "2.5" */
                             : *c == '&'  ? "&amp;"
                             : *c == '<'  ? "&lt;"
                             : *c == '>'  ? "&gt;"
                             : *c == '"'  ? "&quot;"
                             : *c == '\'' ? "&#39;"
                             : bytes == 0 ? "\xef\xbf\xbd"
                                          : NULL;
        if (entity != NULL) {
            fputs(entity, page);
        } else {
            fwrite(c, 1, (size_t)bytes, page);
        }
        c += bytes == 0 ? 1 : bytes;
    }
}

char *html_percent(char *text, double fraction)
{
    char *blank = strchr(format_percent(text, fraction), ' ');
    if (blank != NULL && strlen(text) + 2 <= FORMAT_BYTES) {
        memmove(blank + 2, blank + 1, strlen(blank));
        memcpy(blank, "\xc2\xa0", 2);
    }
    return text;
}

void html_named(FILE *page, const char *before, const char *text, const char *after)
{
    fputs(before, page);
    html_text(page, text);
    fputs(after, page);
}

void html_head(FILE *page, const char *subject, const char *title, const char *css,
               const char *style)
{
    fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
          "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
          "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
          "style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
          "base-uri 'none'; form-action 'none'\">\n",
          page);
    html_named(page, "<title>", subject, subject[0] != '\0' ? " \xe2\x80\x93 " : "");
    html_named(page, "", title, "</title>\n");
    fprintf(page, "<style>\n%s%s</style>\n</head>\n", css, style);
}

/* True if word stands in name between underscores or its ends. */
static bool has_word(const char *name, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = strstr(name, word); at != NULL; at = strstr(at + 1, word)) {
        if ((at == name || at[-1] == '_') && (at[length] == '_' || at[length] == '\0')) {
            return true;
        }
    }
    return false;
}

static enum column_kind column_kind(const char *name)
{
    static const char *const counts[] = {"tokens", "assignments", "moves", "events", "messages"};
    if (has_word(name, "bytes_per_s")) {
        return COLUMN_BYTES_PER_S;
    }
    if (has_word(name, "usd")) {
        return COLUMN_USD;
    }
    if (has_word(name, "over_mean")) {
        return COLUMN_RATIO;
    }
    if (has_word(name, "share")) {
        return COLUMN_SHARE;
    }
    if (has_word(name, "ns")) {
        return COLUMN_NS;
    }
    if (has_word(name, "bytes")) {
        return COLUMN_BYTES;
    }
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        if (has_word(name, counts[i])) {
            return COLUMN_COUNT;
        }
    }
    return COLUMN_PLAIN;
}

static bool is_number(const char *value)
{
    char *end = NULL;
    double number = strtod(value, &end);
    return end != value && *end == '\0' && isfinite(number) &&
           value[strspn(value, "0123456789+-.eE")] == '\0';
}

void html_value(FILE *page, const char *column, const char *value, const struct currency *currency)
{
    char text[FORMAT_BYTES];
    enum column_kind kind = column_kind(column);
    if (value == NULL) {
        fputs("\xe2\x80\x93", page); /* an en dash */
        return;
    }
    if (!is_number(value)) {
        html_text(page, value);
        return;
    }
    double number = strtod(value, NULL);
    switch (kind) {
    case COLUMN_PLAIN:
        if (strpbrk(value, ".eE") != NULL) {
            fprintf(page, fabs(number) >= 1e4 && fabs(number) < 1e15 ? "%.0f" : "%.4g", number);
        } else {
            html_text(page, value);
        }
        break;
    case COLUMN_NS:
        fputs(format_ns(text, number), page);
        break;
    case COLUMN_BYTES:
        fputs(format_bytes(text, number), page);
        break;
    case COLUMN_BYTES_PER_S:
        fprintf(page, "%s/s", format_bytes(text, number));
        break;
    case COLUMN_USD:
        fputs(money_cell(text, number, currency), page);
        break;
    case COLUMN_RATIO:
        fprintf(page, "%.2f\xc3\x97", number); /* a multiplication sign */
        break;
    case COLUMN_SHARE:
        fputs(html_percent(text, number), page);
        break;
    case COLUMN_COUNT:
        fputs(format_count(text, number), page);
        break;
    }
}

void html_heading(FILE *page, const char *column, const struct currency *currency)
{
    char name[128];
    snprintf(name, sizeof name, "%s", column);
    bool first = true;
    char *rest = NULL;
    for (char *word = strtok_r(name, "_", &rest); word != NULL; word = strtok_r(NULL, "_", &rest)) {
        if (strcmp(word, "ns") == 0 || strcmp(word, "share") == 0) {
            continue;
        }
        fputs(first ? "" : " ", page);
        html_text(page, strcmp(word, "usd") == 0 ? currency_code(currency) : word);
        first = false;
    }
}

/* Numbers line up on the right. */
static const char *cell_class(const struct rows *rows, int32_t column)
{
    const char *value = rows_value(rows, 0, column);
    bool words = value != NULL && !is_number(value);
    bool id = has_word(rows_name(rows, column), "id") ||
              has_word(rows_name(rows, column), "digest"); /* may look like a number */
    return words || id ? "" : " class=\"n\"";
}

void html_table(FILE *page, const struct rows *rows, int64_t rows_max, const char *label,
                const struct currency *currency)
{
    fputs("<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"Table: ", page);
    html_text(page, label);
    fputs("\"><table>\n<thead><tr>", page);
    for (int32_t column = 0; column < rows->num_columns; column++) {
        fprintf(page, "<th scope=\"col\"%s>", cell_class(rows, column));
        html_heading(page, rows_name(rows, column), currency);
        fputs("</th>", page);
    }
    fputs("</tr></thead>\n<tbody>\n", page);
    for (int64_t row = 0; row < rows->num_rows && row < rows_max; row++) {
        fputs("<tr>", page);
        for (int32_t column = 0; column < rows->num_columns; column++) {
            fprintf(page, "<td%s>", cell_class(rows, column));
            html_value(page, rows_name(rows, column), rows_value(rows, row, column), currency);
            fputs("</td>", page);
        }
        fputs("</tr>\n", page);
    }
    fputs("</tbody></table></div>\n", page);
}

/* How many rows in a row share the first one's value: the width of the grid. */
static int64_t grid_width(const struct rows *rows, int32_t row_column)
{
    int64_t width = 0;
    const char *first = rows_value(rows, 0, row_column);
    while (first != NULL && width < rows->num_rows) {
        const char *value = rows_value(rows, width, row_column);
        if (value == NULL || strcmp(value, first) != 0) {
            break;
        }
        width++;
    }
    return width;
}

static bool is_grid(const struct rows *rows, int64_t width)
{
    for (int64_t row = 0; row < rows->num_rows; row++) {
        for (int32_t column = 0; column < rows->num_columns; column++) {
            const char *value = rows_value(rows, row, column);
            if (value != NULL && !is_number(value)) {
                return false;
            }
        }
    }
    return width > 0 && rows->num_rows % width == 0;
}

/* "name":[values from row 0 on, every step-th, count of them] */
static void write_series(FILE *page, const struct rows *rows, int32_t column, int64_t step,
                         int64_t count)
{
    fprintf(page, "\"%s\":[", rows_name(rows, column)); /* a name from our own .sql */
    for (int64_t i = 0; i < count; i++) {
        const char *value = rows_value(rows, i * step, column);
        fprintf(page, "%s%s", i > 0 ? "," : "", value == NULL ? "null" : value);
    }
    fputs("]", page);
}

void html_cells(FILE *page, const struct rows *rows, const char *row_column,
                const char *column_column)
{
    int32_t by_row = rows_column(rows, row_column);
    int32_t by_column = rows_column(rows, column_column);
    int64_t width = by_row < 0 ? 0 : grid_width(rows, by_row);
    if (by_column < 0 || !is_grid(rows, width)) {
        return;
    }
    fputs("<script type=\"application/json\">{\"row\":{", page);
    write_series(page, rows, by_row, width, rows->num_rows / width);
    fputs("},\"column\":{", page);
    write_series(page, rows, by_column, 1, width);
    fputs("},\"values\":{", page);
    bool first = true;
    for (int32_t column = 0; column < rows->num_columns; column++) {
        if (column == by_row || column == by_column) {
            continue;
        }
        fputs(first ? "" : ",", page);
        write_series(page, rows, column, 1, rows->num_rows);
        first = false;
    }
    fputs("}}</script>\n", page);
}
