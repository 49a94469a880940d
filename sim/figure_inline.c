/*
 * figure_inline.c -- puts gnuplot's SVG into a page.
 *
 * Several figures share one page, so ids get the figure's name; text and axes take the page's
 * colour, dark or light; titles that a browser would show as tooltips go.
 */
#include <string.h>

#include "figure.h"
#include "textfile.h"

struct replacement {
    const char *from;
    const char *to; /* a % stands for the figure's name and form */
};

static const struct replacement replacements[] = {
    {"\"rgb(0,0,0)\"", "\"currentColor\""},
    {"'rgb(  0,   0,   0)'", "'currentColor'"},
    {"\"black\"", "\"currentColor\""},
    {"'black'", "'currentColor'"},
    {" id=\"", " id=\"%"},
    {" id='", " id='%"},
    {"href='#", "href='#%"},
    {"href=\"#", "href=\"#%"},
    {"url(#", "url(#%"},
};

static void write_replacement(const char *to, const struct figure *figure, enum figure_form form,
                              FILE *page)
{
    for (; *to != '\0'; to++) {
        if (*to == '%') {
            fprintf(page, "%s-%d-", figure->name, (int)form);
        } else {
            fputc(*to, page);
        }
    }
}

/* Bytes of a <title>...</title> at text, which names a curve for nobody; else 0. */
static size_t title_bytes(const char *text, size_t length)
{
    static const char end[] = "</title>";
    if (length < 7 || memcmp(text, "<title>", 7) != 0) {
        return 0;
    }
    for (size_t i = 7; i + sizeof end - 1 <= length; i++) {
        if (memcmp(text + i, end, sizeof end - 1) == 0) {
            return i + sizeof end - 1;
        }
    }
    return 0;
}

/* Copies length bytes of a line; words that are shown stay what they are. */
static void write_line(const char *line, size_t length, const struct figure *figure,
                       enum figure_form form, FILE *page)
{
    bool is_text = strncmp(line + strspn(line, " \t"), "<text>", 6) == 0;
    size_t i = 0;
    while (i < length) {
        i += title_bytes(line + i, length - i);
        const struct replacement *found = NULL;
        for (size_t r = 0; r < sizeof replacements / sizeof replacements[0] && !is_text; r++) {
            size_t bytes = strlen(replacements[r].from);
            if (bytes <= length - i && memcmp(line + i, replacements[r].from, bytes) == 0) {
                found = &replacements[r];
            }
        }
        if (found != NULL) {
            write_replacement(found->to, figure, form, page);
            i += strlen(found->from);
        } else if (i < length) {
            fputc(line[i++], page);
        }
    }
    fputc('\n', page);
}

static bool is_dropped(const char *line)
{
    line += strspn(line, " \t");
    return strncmp(line, "<title>", 7) == 0 || strncmp(line, "<desc>", 6) == 0 ||
           strncmp(line, "xmlns", 5) == 0 || strncmp(line, "width=\"", 7) == 0;
}

static enum status read_svg(const char **svg, const struct figure *figure, enum figure_form form,
                            const char *directory, struct arena *arena, struct error *error)
{
    char path[FILE_PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s%s", directory, figure->name,
             form == FIGURE_NARROW ? ".narrow.svg" : ".svg");
    enum status status = text_read(svg, path, arena, error);
    if (status == STATUS_OK && strstr(*svg, "<svg") == NULL) {
        status = error_add(error, STATUS_IO, "%s: gnuplot left no figure there", path);
    }
    return status;
}

enum status figure_inline(const struct figure *figure, enum figure_form form, const char *directory,
                          FILE *page, struct error *error)
{
    struct arena arena = {NULL, NULL};
    const char *svg = NULL;
    enum status status = read_svg(&svg, figure, form, directory, &arena, error);
    if (status == STATUS_OK) {
        const char *line = strstr(svg, "<svg") + 4;
        fputs("<svg aria-hidden=\"true\" focusable=\"false\"", page);
        while (*line != '\0') {
            size_t length = strcspn(line, "\n");
            if (!is_dropped(line)) {
                write_line(line, length, figure, form, page);
            }
            line += length + (line[length] == '\n');
        }
    }
    arena_free(&arena);
    return status;
}
