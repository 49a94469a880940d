/*
 * yaml_edit.c -- looks up, merges, overrides and writes YAML trees.
 *
 * Trees are walked with a stack of their own: their depth is bounded, the C stack's is not ours.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "yaml_file.h"
#include "yaml_tree.h"

void yaml_excerpt(char excerpt[YAML_EXCERPT_BYTES], const char *text)
{
    const size_t room = YAML_EXCERPT_BYTES - 4; /* "..." and NUL */
    size_t length = 0;
    while (text[length] != '\0' && length < room) {
        unsigned char byte = (unsigned char)text[length];
        excerpt[length] = byte < 0x20 || byte == 0x7f ? '?' : text[length];
        length++;
    }
    bool is_cut = text[length] != '\0';
    while (is_cut && length > 0 && ((unsigned char)text[length] & 0xc0) == 0x80) {
        length--; /* never half a UTF-8 character */
    }
    memcpy(excerpt + length, is_cut ? "..." : "", is_cut ? 4 : 1);
}

int32_t yaml_count(const struct yaml_node *node)
{
    int32_t count = 0;
    for (const struct yaml_node *child = node->child; child != NULL; child = child->next) {
        count++;
    }
    return count;
}

struct yaml_node *yaml_get(const struct yaml_node *mapping, const char *key)
{
    if (mapping == NULL || mapping->kind != YAML_MAPPING) {
        return NULL;
    }
    for (struct yaml_node *child = mapping->child; child != NULL; child = child->next) {
        if (strcmp(child->key, key) == 0) {
            return child;
        }
    }
    return NULL;
}

static void append_child(struct yaml_node *parent, struct yaml_node *child)
{
    struct yaml_node **link = &parent->child;
    while (*link != NULL) {
        link = &(*link)->next;
    }
    child->next = NULL;
    *link = child;
}

/* node takes over what replacement says but keeps its place among its siblings. */
static void replace_node(struct yaml_node *node, const struct yaml_node *replacement)
{
    struct yaml_node *next = node->next;
    const char *key = node->key;
    *node = *replacement;
    node->next = next;
    node->key = key;
}

struct yaml_node *yaml_merge(struct yaml_node *base, struct yaml_node *overlay)
{
    struct {
        struct yaml_node *base;
        struct yaml_node *overlay; /* its next child to be merged */
    } stack[YAML_TREE_DEPTH];
    if (base == NULL || overlay == NULL) {
        return base == NULL ? overlay : base;
    }
    if (base->kind != YAML_MAPPING || overlay->kind != YAML_MAPPING) {
        return overlay;
    }
    int32_t depth = 0;
    stack[depth].base = base;
    stack[depth++].overlay = overlay->child;
    while (depth > 0) {
        struct yaml_node *parent = stack[depth - 1].base;
        struct yaml_node *child = stack[depth - 1].overlay;
        if (child == NULL) {
            depth--;
            continue;
        }
        stack[depth - 1].overlay = child->next;
        struct yaml_node *known = yaml_get(parent, child->key);
        if (known == NULL) {
            append_child(parent, child);
        } else if (known->kind == YAML_MAPPING && child->kind == YAML_MAPPING) {
            assert(depth < YAML_TREE_DEPTH);
            stack[depth].base = known;
            stack[depth++].overlay = child->child;
        } else {
            replace_node(known, child);
        }
    }
    return base;
}

void yaml_remove(struct yaml_node *parent, const struct yaml_node *child)
{
    struct yaml_node **link = &parent->child;
    while (*link != NULL && *link != child) {
        link = &(*link)->next;
    }
    if (*link != NULL) {
        *link = child->next;
    }
}

/* The child a part of an override's path names; a missing key of a mapping is made. NULL: there is
 * no such child, and error says why. */
static struct yaml_node *override_child(struct yaml_node *parent, const char *part,
                                        const char *assignment, struct arena *arena,
                                        struct error *error)
{
    if (parent->kind == YAML_SEQUENCE) {
        char *end = NULL;
        unsigned long index = strtoul(part, &end, 10);
        bool is_index = *part >= '0' && *part <= '9' && *end == '\0';
        struct yaml_node *item = is_index ? parent->child : NULL;
        for (unsigned long i = 0; i < index && item != NULL; i++) {
            item = item->next;
        }
        if (item == NULL) {
            (void)error_add(error, STATUS_INVALID, "--set %s: the list has no item '%s'",
                            assignment, part);
        }
        return item;
    }
    if (parent->kind == YAML_SCALAR) { /* a value gives way to a mapping */
        parent->kind = YAML_MAPPING;
        parent->text = "";
    }
    struct yaml_node *child = yaml_get(parent, part);
    if (child == NULL) {
        child = arena_alloc(arena, 1, sizeof *child);
        char *key = arena_strdup(arena, part);
        if (child == NULL || key == NULL) {
            (void)error_add(error, STATUS_NO_MEMORY, "--set %s: out of memory", assignment);
            return NULL;
        }
        *child = (struct yaml_node){.kind = YAML_SCALAR, .file = YAML_OVERRIDE_NAME, .text = ""};
        child->key = key;
        append_child(parent, child);
    }
    return child;
}

enum status yaml_override(struct yaml_node *root, const char *assignment, struct arena *arena,
                          struct error *error)
{
    char shown[YAML_EXCERPT_BYTES];
    yaml_excerpt(shown, assignment);
    char *path = arena_strdup(arena, assignment);
    if (path == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "--set %s: out of memory", shown);
    }
    char *equals = strchr(path, '=');
    if (equals == NULL || equals == path) {
        return error_add(error, STATUS_INVALID, "--set %s: expected key=value", shown);
    }
    *equals = '\0';
    struct yaml_node *value = NULL; /* stays NULL: the key is taken out */
    if (equals[1] != '\0') {
        enum status status = yaml_parse(&value, equals + 1, YAML_OVERRIDE_NAME, arena, error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    struct yaml_node *parent = NULL;
    struct yaml_node *node = root;
    char *part = path;
    for (int32_t parts = 0; part != NULL; parts++) {
        char *dot = strchr(part, '.');
        if (dot != NULL) {
            *dot = '\0';
        }
        if (*part == '\0' || strlen(part) > YAML_KEY_BYTES_MAX || parts == YAML_OVERRIDE_PARTS) {
            return error_add(error, STATUS_INVALID, "--set %s: expected key=value, key as a.b.c",
                             shown);
        }
        parent = node;
        node = override_child(node, part, shown, arena, error);
        if (node == NULL) {
            return STATUS_INVALID;
        }
        part = dot != NULL ? dot + 1 : NULL;
    }
    if (value == NULL) {
        yaml_remove(parent, node);
    } else {
        replace_node(node, value);
    }
    return STATUS_OK;
}

/* Text that grows in an arena. */
struct writer {
    struct arena *arena;
    char *text;
    size_t used;
    size_t capacity;
    bool out_of_memory;
};

static void put(struct writer *writer, const char *text, size_t length)
{
    if (writer->used + length + 1 > writer->capacity) {
        size_t capacity = 2 * (writer->used + length + 1) + 256;
        char *grown = arena_alloc(writer->arena, capacity, 1);
        if (grown == NULL) {
            writer->out_of_memory = true;
            return;
        }
        if (writer->used > 0) {
            memcpy(grown, writer->text, writer->used);
        }
        writer->text = grown;
        writer->capacity = capacity;
    }
    memcpy(writer->text + writer->used, text, length);
    writer->used += length;
    writer->text[writer->used] = '\0';
}

static void put_text(struct writer *writer, const char *text)
{
    put(writer, text, strlen(text));
}

static bool is_letter(char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || byte == '_';
}

/* Can text stand without quotes and mean the same? Careful rather than clever: words, numbers. */
static bool is_plain(const char *text, bool quoted)
{
    if (!quoted && yaml_is_number(text)) {
        return true;
    }
    if (!is_letter(text[0]) && text[0] != '/' && text[0] != '.') {
        return false;
    }
    for (const char *byte = text; *byte != '\0'; byte++) {
        bool is_digit = *byte >= '0' && *byte <= '9';
        if (!is_letter(*byte) && !is_digit && strchr("-./+", *byte) == NULL) {
            return false;
        }
    }
    static const char *const words[] = {"null", "true", "false"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(text, words[i]) == 0) {
            return !quoted && i > 0;
        }
    }
    return strcmp(text, "...") != 0 && !yaml_is_number(text);
}

static void put_scalar(struct writer *writer, const char *text, bool quoted)
{
    if (is_plain(text, quoted)) {
        put_text(writer, text);
        return;
    }
    if (*text == '\0' && !quoted) {
        put_text(writer, "null");
        return;
    }
    put_text(writer, "\"");
    for (const char *byte = text; *byte != '\0'; byte++) {
        char escape[8];
        unsigned char code = (unsigned char)*byte;
        if (code < 0x20 || code == 0x7f) {
            (void)snprintf(escape, sizeof escape, "\\x%02x", code);
            put_text(writer, escape);
        } else if (*byte == '"' || *byte == '\\') {
            put(writer, "\\", 1);
            put(writer, byte, 1);
        } else {
            put(writer, byte, 1);
        }
    }
    put_text(writer, "\"");
}

/* Writes "key:" or "-" and what fits behind it. Returns the first child when lines must follow. */
static const struct yaml_node *put_item(struct writer *writer, const struct yaml_node *node,
                                        int32_t indent)
{
    for (int32_t i = 0; i < indent; i++) {
        put_text(writer, "  ");
    }
    if (node->key != NULL) {
        put_scalar(writer, node->key, true);
        put_text(writer, ":");
    } else {
        put_text(writer, "-");
    }
    if (node->kind == YAML_SCALAR) {
        put_text(writer, " ");
        put_scalar(writer, node->text, node->quoted);
    } else if (node->child == NULL) {
        put_text(writer, node->kind == YAML_MAPPING ? " {}" : " []");
    }
    put_text(writer, "\n");
    return node->child;
}

char *yaml_write(const struct yaml_node *root, struct arena *arena)
{
    struct writer writer = {.arena = arena};
    const struct yaml_node *stack[YAML_TREE_DEPTH + 1]; /* next node to be written, by level */
    int32_t depth = 0;
    put_text(&writer, "");
    if (root->kind == YAML_SCALAR) {
        put_scalar(&writer, root->text, root->quoted);
        put_text(&writer, "\n");
    } else if (root->child == NULL) {
        put_text(&writer, root->kind == YAML_MAPPING ? "{}\n" : "[]\n");
    } else {
        stack[depth++] = root->child;
    }
    while (depth > 0) {
        const struct yaml_node *node = stack[depth - 1];
        if (node == NULL) {
            depth--;
            continue;
        }
        stack[depth - 1] = node->next;
        const struct yaml_node *child = put_item(&writer, node, depth - 1);
        if (child != NULL) {
            assert(depth <= YAML_TREE_DEPTH);
            stack[depth++] = child;
        }
    }
    return writer.out_of_memory ? NULL : writer.text;
}
