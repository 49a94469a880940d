/*
 * yaml_load.c -- libyaml's events into a tree that keeps the line of every key.
 *
 * Everything a small configuration file does not need is refused rather than understood: aliases
 * and tags, keys that are no words, a second document, more than YAML_DEPTH_MAX levels.
 */
#include "yaml_file.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <yaml.h>

#include "yaml_tree.h"

#define FILE_BYTES_MAX ((size_t)1 << 20)
#define KEYS_MAX       1024 /* a mapping: the search for duplicates is quadratic */

/* An unfinished sequence or mapping. */
struct level {
    struct yaml_node *node;
    struct yaml_node *last; /* its last child, or NULL */
    const char *key;        /* read, its value still to come; or NULL */
    int32_t key_line;
    int32_t num_keys;
};

struct builder {
    yaml_parser_t parser;
    struct arena *arena;
    struct error *error;
    const char *name; /* of the file */
    bool is_override; /* lines mean nothing */
    enum status status;
    struct yaml_node *root;
    int32_t depth;
    struct level level[YAML_DEPTH_MAX];
};

static int32_t event_line(const struct builder *builder, const yaml_event_t *event)
{
    return builder->is_override ? 0 : (int32_t)event->start_mark.line + 1;
}

/* Remembers a problem at a line; the first one's status stays. */
static void complain(struct builder *builder, int32_t line, enum status status, const char *what)
{
    if (line > 0) {
        (void)error_add(builder->error, status, "%s:%d: %s", builder->name, line, what);
    } else {
        (void)error_add(builder->error, status, "%s: %s", builder->name, what);
    }
    if (builder->status == STATUS_OK) {
        builder->status = status;
    }
}

static void complain_parser(struct builder *builder)
{
    const yaml_parser_t *parser = &builder->parser;
    if (parser->error == YAML_MEMORY_ERROR) {
        complain(builder, 0, STATUS_NO_MEMORY, "out of memory");
        return;
    }
    char text[256];
    const char *problem = parser->problem != NULL ? parser->problem : "cannot be parsed";
    (void)snprintf(text, sizeof text, "%s%s%s", problem, parser->context != NULL ? " " : "",
                   parser->context != NULL ? parser->context : "");
    bool is_located = !builder->is_override && parser->error != YAML_READER_ERROR;
    complain(builder, is_located ? (int32_t)parser->problem_mark.line + 1 : 0, STATUS_INVALID,
             text);
}

static bool key_is_taken(const struct level *level, const char *key, int32_t *line)
{
    for (const struct yaml_node *child = level->node->child; child != NULL; child = child->next) {
        if (strcmp(child->key, key) == 0) {
            *line = child->line;
            return true;
        }
    }
    return false;
}

/* Takes a scalar as the key of the value that comes next. */
static void set_key(struct builder *builder, struct level *level, const char *key, int32_t line)
{
    int32_t first_line = 0;
    if (key_is_taken(level, key, &first_line)) {
        char shown[YAML_EXCERPT_BYTES];
        char text[YAML_EXCERPT_BYTES + 64];
        yaml_excerpt(shown, key);
        (void)snprintf(text, sizeof text, "%s: given twice, first on line %d", shown, first_line);
        complain(builder, line, STATUS_INVALID, text);
    }
    if (strlen(key) > YAML_KEY_BYTES_MAX) {
        complain(builder, line, STATUS_INVALID, "a key longer than 256 bytes");
    }
    if (++level->num_keys > KEYS_MAX) {
        complain(builder, line, STATUS_INVALID, "more than 1024 keys in one mapping");
    }
    level->key = key;
    level->key_line = line;
}

/* Hangs a new node into the tree. NULL: no memory. */
static struct yaml_node *add_node(struct builder *builder, enum yaml_kind kind, int32_t line)
{
    struct yaml_node *node = arena_alloc(builder->arena, 1, sizeof *node);
    if (node == NULL) {
        complain(builder, line, STATUS_NO_MEMORY, "out of memory");
        return NULL;
    }
    *node = (struct yaml_node){.kind = kind, .file = builder->name, .line = line, .text = ""};
    if (builder->depth == 0) {
        builder->root = node;
        return node;
    }
    struct level *level = &builder->level[builder->depth - 1];
    if (level->node->kind == YAML_MAPPING) {
        node->key = level->key;
        node->line = level->key_line;
        level->key = NULL;
    }
    if (level->last == NULL) {
        level->node->child = node;
    } else {
        level->last->next = node;
    }
    level->last = node;
    return node;
}

/* Is the next node a key, not a value? */
static bool expects_key(const struct builder *builder)
{
    if (builder->depth == 0) {
        return false;
    }
    const struct level *level = &builder->level[builder->depth - 1];
    return level->node->kind == YAML_MAPPING && level->key == NULL;
}

static void add_scalar(struct builder *builder, const yaml_event_t *event)
{
    int32_t line = event_line(builder, event);
    const char *value = (const char *)event->data.scalar.value;
    bool quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    if (event->data.scalar.tag != NULL) {
        complain(builder, line, STATUS_INVALID, "tags ('!...') are not understood");
    }
    if (strlen(value) != event->data.scalar.length) { /* "\0" in double quotes */
        complain(builder, line, STATUS_INVALID, "a NUL character in a text");
    }
    bool is_nothing = !quoted && (strcmp(value, "~") == 0 || strcmp(value, "null") == 0);
    char *text = arena_strdup(builder->arena, is_nothing ? "" : value);
    if (text == NULL) {
        complain(builder, line, STATUS_NO_MEMORY, "out of memory");
        return;
    }
    if (expects_key(builder)) {
        set_key(builder, &builder->level[builder->depth - 1], text, line);
        return;
    }
    struct yaml_node *node = add_node(builder, YAML_SCALAR, line);
    if (node != NULL) {
        node->text = text;
        node->quoted = quoted;
    }
}

static void begin_level(struct builder *builder, const yaml_event_t *event, enum yaml_kind kind,
                        bool is_tagged)
{
    int32_t line = event_line(builder, event);
    if (is_tagged) {
        complain(builder, line, STATUS_INVALID, "tags ('!...') are not understood");
    }
    if (expects_key(builder)) {
        complain(builder, line, STATUS_INVALID, "a key must be a word");
        return;
    }
    if (builder->depth == YAML_DEPTH_MAX) {
        complain(builder, line, STATUS_INVALID, "nested deeper than 32 levels");
        return;
    }
    struct yaml_node *node = add_node(builder, kind, line);
    if (node != NULL) {
        builder->level[builder->depth++] = (struct level){.node = node};
    }
}

static void handle_event(struct builder *builder, const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (builder->root != NULL) {
            complain(builder, event_line(builder, event), STATUS_INVALID,
                     "a second document begins; one file holds one");
        }
        break;
    case YAML_ALIAS_EVENT:
        complain(builder, event_line(builder, event), STATUS_INVALID,
                 "aliases ('*...') are not understood; write the value out");
        break;
    case YAML_SCALAR_EVENT:
        add_scalar(builder, event);
        break;
    case YAML_SEQUENCE_START_EVENT:
        begin_level(builder, event, YAML_SEQUENCE, event->data.sequence_start.tag != NULL);
        break;
    case YAML_MAPPING_START_EVENT:
        begin_level(builder, event, YAML_MAPPING, event->data.mapping_start.tag != NULL);
        break;
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        assert(builder->depth > 0); /* libyaml pairs them */
        builder->depth--;
        break;
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_STREAM_END_EVENT:
    case YAML_DOCUMENT_END_EVENT:
        break;
    }
}

/* Builds the tree from length bytes. Duplicate keys are collected; anything that would shift the
 * tree's structure ends the work. */
static enum status build(struct builder *builder, const char *text, size_t length)
{
    if (yaml_parser_initialize(&builder->parser) == 0) {
        return error_add(builder->error, STATUS_NO_MEMORY, "%s: out of memory", builder->name);
    }
    yaml_parser_set_encoding(&builder->parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&builder->parser, (const unsigned char *)text, length);
    bool is_done = false;
    while (!is_done) { /* every event consumes input, which ends */
        yaml_event_t event;
        if (yaml_parser_parse(&builder->parser, &event) == 0) {
            complain_parser(builder);
            break;
        }
        int32_t problems = builder->error != NULL ? builder->error->num_problems : 0;
        bool was_key = expects_key(builder);
        handle_event(builder, &event);
        bool is_duplicate = was_key && !expects_key(builder) && event.type == YAML_SCALAR_EVENT;
        bool has_complained = builder->error == NULL ? builder->status != STATUS_OK
                                                     : builder->error->num_problems > problems;
        is_done = event.type == YAML_STREAM_END_EVENT || (has_complained && !is_duplicate);
        if (builder->depth > 0 && builder->level[builder->depth - 1].num_keys > KEYS_MAX) {
            is_done = true;
        }
        yaml_event_delete(&event);
    }
    if (builder->status == STATUS_OK && builder->root == NULL) {
        complain(builder, 0, STATUS_INVALID, "is empty");
    }
    yaml_parser_delete(&builder->parser);
    return builder->status;
}

static enum status parse(struct yaml_node **root, const char *text, size_t length, const char *name,
                         struct arena *arena, struct error *error)
{
    *root = NULL;
    if (length > FILE_BYTES_MAX) {
        return error_add(error, STATUS_INVALID, "%s: larger than 1 MiB", name);
    }
    struct builder builder = {.arena = arena, .error = error};
    builder.is_override = strcmp(name, YAML_OVERRIDE_NAME) == 0;
    builder.name = arena_strdup(arena, name);
    if (builder.name == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "%s: out of memory", name);
    }
    const char *nul = memchr(text, '\0', length);
    if (nul != NULL) {
        int32_t line = 1;
        for (const char *byte = text; byte < nul; byte++) {
            line += *byte == '\n' ? 1 : 0;
        }
        complain(&builder, line, STATUS_INVALID, "a NUL byte; this is no text file");
        return STATUS_INVALID;
    }
    enum status status = build(&builder, text, length);
    *root = status == STATUS_OK ? builder.root : NULL;
    return status;
}

enum status yaml_parse(struct yaml_node **root, const char *text, const char *name,
                       struct arena *arena, struct error *error)
{
    return parse(root, text, strlen(text), name, arena, error);
}

enum status yaml_load(struct yaml_node **root, const char *path, struct arena *arena,
                      struct error *error)
{
    *root = NULL;
    enum status status = STATUS_OK;
    char *text = NULL;
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return error_add(error, STATUS_IO, "%s: %s", path, strerror(errno));
    }
    text = malloc(FILE_BYTES_MAX + 1); /* one more byte tells a longer file */
    if (text == NULL) {
        status = error_add(error, STATUS_NO_MEMORY, "%s: out of memory", path);
        goto done;
    }
    size_t length = fread(text, 1, FILE_BYTES_MAX + 1, file);
    if (ferror(file) != 0) {
        status = error_add(error, STATUS_IO, "%s: %s", path, strerror(errno));
        goto done;
    }
    status = parse(root, text, length, path, arena, error);
done:
    free(text);
    (void)fclose(file);
    return status;
}
