/* figure.c -- reads the figures of a directory and asks for their numbers. */
#include "figure.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "textfile.h"

#define FIGURES_MAX    64
#define FIGURE_KEYS    8
#define METADATA_BYTES 4096

static bool is_figure_name(const char *name)
{
    return name[0] != '\0' && strlen(name) < NAME_BYTES &&
           name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_")] == '\0';
}

static bool set_number(int64_t *number, const char *value)
{
    char *end = NULL;
    *number = strtoll(value, &end, 10);
    return end != value && *end == '\0';
}

/* "26 66" */
static bool set_row_pixels(struct figure *figure, const char *value)
{
    char *end = NULL;
    figure->row_pixels[FIGURE_WIDE] = strtoll(value, &end, 10);
    figure->row_pixels[FIGURE_NARROW] = strtoll(end, &end, 10);
    return *end == '\0' && figure->row_pixels[FIGURE_WIDE] > 0 &&
           figure->row_pixels[FIGURE_NARROW] > 0;
}

/* "layer expert" -> row_column, column_column; value is cut in two. */
static bool set_hover(struct figure *figure, char *value)
{
    char *space = strchr(value, ' ');
    if (space == NULL || space == value || strchr(space + 1, ' ') != NULL || space[1] == '\0') {
        return false;
    }
    *space = '\0';
    figure->row_column = value;
    figure->column_column = space + 1;
    return true;
}

/* Takes one key of the header; false: no such key, or a value that it cannot have. */
static bool set_key(struct figure *figure, const char *key, char *value)
{
    if (strcmp(key, "title") == 0) {
        figure->title = value;
    } else if (strcmp(key, "caption") == 0) {
        figure->caption = value;
    } else if (strcmp(key, "empty") == 0) {
        figure->empty = value;
    } else if (strcmp(key, "order") == 0) {
        return set_number(&figure->order, value);
    } else if (strcmp(key, "rows_min") == 0) {
        return set_number(&figure->rows_min, value) && figure->rows_min > 0;
    } else if (strcmp(key, "hover") == 0) {
        return set_hover(figure, value);
    } else if (strcmp(key, "row_pixels") == 0) {
        return set_row_pixels(figure, value);
    } else if (strcmp(key, "table") == 0) {
        figure->table_open = strcmp(value, "open") == 0;
        return figure->table_open;
    } else if (strcmp(key, "error") == 0) {
        figure->tells_model_error = strcmp(value, "model") == 0;
        return figure->tells_model_error;
    } else {
        return false;
    }
    return true;
}

/* Joins the lines of one key, "--   " taken away; *line moves on to the next key or the query. */
static char *join_value(const char **line, int32_t *number, struct arena *arena)
{
    char value[METADATA_BYTES];
    size_t bytes = 0;
    const char *from = strchr(*line, ':') + 1;
    bool more = true;
    while (more) {
        from += strspn(from, " ");
        size_t length = strcspn(from, "\n");
        if (bytes + length + 2 > sizeof value) {
            return NULL;
        }
        if (bytes > 0) {
            value[bytes++] = ' ';
        }
        memcpy(value + bytes, from, length);
        bytes += length;
        *line = from + length + (from[length] == '\n');
        ++*number;
        more = strncmp(*line, "--   ", 5) == 0;
        from = *line + 2;
    }
    value[bytes] = '\0';
    return arena_strdup(arena, value);
}

/* Reads the comments at the head of the file; *number is the line that was wrong. */
static bool parse_header(struct figure *figure, const char **text, int32_t *number,
                         struct arena *arena)
{
    const char *line = *text;
    while (strncmp(line, "-- ", 3) == 0) {
        int32_t first = *number;
        char key[16] = "";
        size_t length = strcspn(line + 3, ":\n");
        if (line[3 + length] != ':' || length >= sizeof key) {
            return false;
        }
        memcpy(key, line + 3, length);
        char *value = join_value(&line, number, arena);
        if (value == NULL || !set_key(figure, key, value)) {
            *number = first;
            return false;
        }
    }
    *text = line;
    return figure->title != NULL && figure->caption != NULL && figure->order > 0;
}

static enum status load_figure(struct figure *figure, const char *directory, struct arena *arena,
                               struct error *error)
{
    char path[FILE_PATH_BYTES];
    const char *text = NULL;
    snprintf(path, sizeof path, "%s/%s.gp", directory, figure->name);
    enum status status = text_read(&figure->commands, path, arena, error);
    snprintf(path, sizeof path, "%s/%s.sql", directory, figure->name);
    if (status == STATUS_OK) {
        status = text_read(&text, path, arena, error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    int32_t number = 1;
    figure->rows_min = 1;
    if (!parse_header(figure, &text, &number, arena)) {
        return error_add(error, STATUS_INVALID,
                         "%s:%d: expected \"-- key: value\" lines with title, caption and order; "
                         "other keys are empty, rows_min, row_pixels, hover, table and error",
                         path, (int)number);
    }
    const char *finding = strstr(text, "-- finding\n");
    figure->sql = text;
    figure->finding_sql = finding;
    return STATUS_OK;
}

static int compare_figures(const void *a, const void *b)
{
    const struct figure *left = a, *right = b;
    if (left->order != right->order) {
        return left->order < right->order ? -1 : 1;
    }
    return strcmp(left->name, right->name);
}

/* Lists the names of the .sql files, in whatever order the directory has them. */
static enum status list_figures(struct figure_list *list, const char *directory,
                                struct error *error)
{
    DIR *folder = opendir(directory);
    if (folder == NULL) {
        return error_add(error, STATUS_IO, "%s: %s", directory, strerror(errno));
    }
    enum status status = STATUS_OK;
    const struct dirent *entry;
    while ((entry = readdir(folder)) != NULL && list->count < FIGURES_MAX) {
        char name[sizeof entry->d_name];
        snprintf(name, sizeof name, "%s", entry->d_name);
        char *dot = strrchr(name, '.');
        if (dot == NULL || strcmp(dot, ".sql") != 0 || name[0] == '.') {
            continue;
        }
        *dot = '\0';
        if (!is_figure_name(name)) {
            status = error_add(error, STATUS_INVALID,
                               "%s/%s.sql: a figure's name is made of a-z, "
                               "0-9 and _",
                               directory, name);
            continue;
        }
        memcpy(list->figure[list->count++].name, name, strlen(name) + 1);
    }
    closedir(folder);
    return status;
}

enum status figures_load(struct figure_list *list, const char *directory, struct arena *arena,
                         struct error *error)
{
    *list = (struct figure_list){0};
    list->figure = arena_alloc(arena, FIGURES_MAX, sizeof *list->figure);
    if (list->figure == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory for the figures");
    }
    enum status status = list_figures(list, directory, error);
    char path[FILE_PATH_BYTES];
    snprintf(path, sizeof path, "%s/style.gp", directory);
    if (status == STATUS_OK) {
        status = text_read(&list->style, path, arena, error);
    }
    for (int32_t i = 0; i < list->count && status == STATUS_OK; i++) {
        status = load_figure(&list->figure[i], directory, arena, error);
    }
    if (status == STATUS_OK && list->count == 0) {
        status = error_add(error, STATUS_IO, "%s: holds no figure", directory);
    }
    qsort(list->figure, (size_t)list->count, sizeof *list->figure, compare_figures);
    return status;
}

void figures_free(struct figure_list *list)
{
    for (int32_t i = 0; i < list->count; i++) {
        rows_free(&list->figure[i].rows);
    }
    list->count = 0;
}

bool figure_has_data(const struct figure *figure)
{
    return figure->rows.num_rows >= figure->rows_min;
}

enum status figure_query(struct figure *figure, struct store *store, const char *run_id,
                         struct arena *arena, struct error *error)
{
    enum status status = rows_query(&figure->rows, store, figure->sql, run_id, error);
    struct rows finding = {0};
    if (status == STATUS_OK && figure->finding_sql != NULL && figure_has_data(figure)) {
        status = rows_query(&finding, store, figure->finding_sql, run_id, error);
    }
    if (status == STATUS_OK && finding.num_rows > 0 && rows_value(&finding, 0, 0) != NULL) {
        figure->finding = arena_strdup(arena, rows_value(&finding, 0, 0));
    }
    rows_free(&finding);
    const struct rows *rows = &figure->rows;
    if (status == STATUS_OK && figure->row_column != NULL && rows->num_rows > 0 &&
        (rows_column(rows, figure->row_column) < 0 ||
         rows_column(rows, figure->column_column) < 0)) {
        status = error_add(error, STATUS_INVALID, "%s.sql: hover names columns the query lacks",
                           figure->name);
    }
    return status == STATUS_OK
               ? STATUS_OK
               : error_add(error, status, "while making the figure %s", figure->name);
}
