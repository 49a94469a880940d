/*
 * sweep_setting.c -- one key and value of a study, as --set would write them.
 *
 * A list goes into one line in YAML's flow style. Its items are values or keys with values: deeper
 * ones are set by their keys.
 */
#include <stdio.h>
#include <string.h>

#include "sweep_internal.h"
#include "sweep_study.h"

#define VALUE_BYTES 4096

struct line {
    char text[VALUE_BYTES];
    size_t used; /* more than VALUE_BYTES: cut */
};

static void add(struct line *line, const char *text)
{
    size_t length = strlen(text);
    if (line->used + length < VALUE_BYTES) {
        memcpy(line->text + line->used, text, length + 1);
    }
    line->used += length;
}

static void add_quoted(struct line *line, const char *text)
{
    add(line, "'");
    for (; *text != '\0'; text++) {
        const char one[] = {*text, '\0'};
        add(line, *text == '\'' ? "''" : one);
    }
    add(line, "'");
}

/* A quoted value in quotes again, so that "1" stays a text; likewise what flow style would part. */
static void add_scalar(struct line *line, const struct yaml_node *value, bool is_item)
{
    if (value->quoted || (is_item && strpbrk(value->text, ",[]{}:#'\"") != NULL)) {
        add_quoted(line, value->text);
    } else {
        add(line, value->text);
    }
}

/* "{a: 1, b: 2}"; false: deeper than that. */
static bool add_mapping(struct line *line, const struct yaml_node *mapping)
{
    add(line, "{");
    for (const struct yaml_node *child = mapping->child; child != NULL; child = child->next) {
        if (child->kind != YAML_SCALAR) {
            return false;
        }
        add(line, child == mapping->child ? "" : ", ");
        add(line, child->key);
        add(line, ": ");
        add_scalar(line, child, true);
    }
    add(line, "}");
    return true;
}

static bool add_list(struct line *line, const struct yaml_node *list)
{
    bool is_flat = true;
    add(line, "[");
    for (const struct yaml_node *child = list->child; child != NULL; child = child->next) {
        add(line, child == list->child ? "" : ", ");
        if (child->kind == YAML_SCALAR) {
            add_scalar(line, child, true);
        } else {
            is_flat = is_flat && child->kind == YAML_MAPPING && add_mapping(line, child);
        }
    }
    add(line, "]");
    return is_flat;
}

const char *sweep_setting_read(struct sweep_setting *setting, const char *key,
                               const struct yaml_node *value, struct arena *arena)
{
    struct line line = {.used = 0};
    bool is_list = value->kind == YAML_SEQUENCE;
    if (is_list ? !add_list(&line, value) : value->kind != YAML_SCALAR) {
        return "expected one value or a list of them; set what lies deeper by its keys";
    }
    if (!is_list) {
        add_scalar(&line, value, false);
    }
    if (line.used >= VALUE_BYTES || strpbrk(line.text, "\r\n") != NULL) {
        return "expected a value on one line, of at most 4,095 bytes";
    }
    if (*key == '\0' || strchr(key, '=') != NULL) {
        return "expected a key of the scenario, as in trace.steps";
    }
    size_t room = strlen(key) + line.used + 2;
    char *assignment = arena_alloc(arena, room, 1);
    const char *written = is_list ? arena_strdup(arena, line.text) : value->text;
    if (assignment == NULL || written == NULL) {
        return "out of memory";
    }
    (void)snprintf(assignment, room, "%s=%s", key, line.text);
    *setting = (struct sweep_setting){key, written, assignment, value->line};
    return NULL;
}
