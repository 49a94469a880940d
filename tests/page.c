/* page.c -- tags of a page, held against a stack. */
#include "page.h"

#include <stdio.h>
#include <string.h>

#define DEPTH_MAX  64
#define NAME_BYTES 32

bool page_holds(const char *text, const char *words)
{
    return strstr(text, words) != NULL;
}

int page_count(const char *text, const char *words)
{
    int found = 0;
    for (const char *at = strstr(text, words); at != NULL; at = strstr(at + 1, words)) {
        found++;
    }
    return found;
}

static bool is_void(const char *name)
{
    return strcmp(name, "meta") == 0 || strcmp(name, "!DOCTYPE") == 0;
}

/* What looks like a tag inside style and script is none. */
static const char *skip_raw(const char *name, const char *at)
{
    if (strcmp(name, "style") == 0) {
        return strstr(at, "</style>");
    }
    return strcmp(name, "script") == 0 ? strstr(at, "</script>") : at;
}

const char *page_unbalanced(const char *text)
{
    static char open[DEPTH_MAX][NAME_BYTES];
    static char name[NAME_BYTES];
    int depth = 0;
    const char *at = strchr(text, '<');
    while (at != NULL) {
        bool closes = at[1] == '/';
        at += closes ? 2 : 1;
        snprintf(name, sizeof name, "%.*s", (int)strcspn(at, " >/\n"), at);
        at = strchr(at, '>');
        if (at == NULL || (closes && (depth == 0 || strcmp(open[depth - 1], name) != 0))) {
            return name;
        }
        if (closes) {
            depth--;
        } else if (!is_void(name) && at[-1] != '/') {
            if (depth == DEPTH_MAX) {
                return "too deep";
            }
            memcpy(open[depth++], name, sizeof name);
            at = skip_raw(name, at);
        }
        at = at == NULL ? NULL : strchr(at, '<');
    }
    return depth == 0 ? "" : open[depth - 1];
}
