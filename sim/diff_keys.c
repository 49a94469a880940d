/*
 * diff_keys.c -- differences of two scenarios, key by key.
 *
 * The store keeps canonical YAML: two spaces a level, a line "key:", "key: value", "-" or
 * "- value". Each line with a value becomes a dotted key; both lists are sorted and merged.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "diff_internal.h"

#define LEVELS_MAX 64
#define KEY_BYTES  1024

struct entry {
    const char *key;
    const char *value;
};

/* Where the walk through a text is: the dotted key of the line, and the item count of each level.
 */
struct walk {
    char key[KEY_BYTES];
    size_t length[LEVELS_MAX + 1]; /* of the key down to a level */
    int32_t item[LEVELS_MAX + 1];  /* next of a list at that level */
};

/* Bytes of a line's key, quotes included. */
static size_t key_length(const char *line, size_t length)
{
    size_t end = 0;
    if (line[0] == '"') {
        for (end = 1; end < length && line[end] != '"'; end++) {
            end += line[end] == '\\';
        }
    }
    while (end < length && line[end] != ':') {
        end++;
    }
    return end;
}

static void append(struct walk *walk, int32_t level, const char *name, size_t length)
{
    size_t used = level > 0 ? walk->length[level - 1] : 0;
    int written = snprintf(walk->key + used, KEY_BYTES - used, "%s%.*s", used > 0 ? "." : "",
                           (int)length, name);
    size_t room = KEY_BYTES - 1 - used;
    walk->length[level] = used + ((size_t)written < room ? (size_t)written : room);
}

/* Takes a line without its newline; its value begins where *value says, "" if it has none. */
static void enter_line(struct walk *walk, const char *line, size_t length, size_t *value)
{
    size_t indent = 0;
    while (indent < length && line[indent] == ' ') {
        indent++;
    }
    int32_t level = indent / 2 < LEVELS_MAX ? (int32_t)(indent / 2) : LEVELS_MAX - 1;
    const char *text = line + indent;
    size_t left = length - indent;
    size_t name;
    if (left > 0 && text[0] == '-' && (left == 1 || text[1] == ' ')) {
        char index[16];
        int written = snprintf(index, sizeof index, "%d", (int)walk->item[level]++);
        append(walk, level, index, (size_t)written);
        name = 1;
    } else {
        name = key_length(text, left);
        append(walk, level, text, name);
        name += name < left; /* the colon */
    }
    walk->item[level + 1] = 0;
    *value = indent + name;
    while (*value < length && line[*value] == ' ') {
        (*value)++;
    }
}

static char *copy(struct arena *arena, const char *text, size_t length)
{
    char *copied = arena_alloc(arena, length + 1, 1);
    if (copied != NULL) {
        memcpy(copied, text, length);
    }
    return copied;
}

static int compare_entries(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->key, ((const struct entry *)b)->key);
}

/* Lists the lines that have a value, sorted by key. NULL: no memory. */
static struct entry *read_entries(const char *text, int32_t *count, struct arena *arena)
{
    size_t num_lines = 1;
    for (const char *byte = text; *byte != '\0'; byte++) {
        num_lines += *byte == '\n';
    }
    struct entry *entry = arena_alloc(arena, num_lines, sizeof *entry);
    struct walk walk = {0};
    *count = 0;
    while (entry != NULL && *text != '\0') {
        size_t length = strcspn(text, "\n");
        size_t value = 0;
        enter_line(&walk, text, length, &value);
        if (value < length) {
            struct entry *next = &entry[(*count)++];
            next->key = arena_strdup(arena, walk.key);
            next->value = copy(arena, text + value, length - value);
            if (next->key == NULL || next->value == NULL) {
                return NULL;
            }
        }
        text += length + (text[length] == '\n');
    }
    if (entry != NULL) {
        qsort(entry, (size_t)*count, sizeof *entry, compare_entries);
    }
    return entry;
}

enum status diff_scenarios(struct diff *diff, const char *const text[2])
{
    int32_t count[2];
    struct entry *entry[2];
    for (int side = 0; side < 2; side++) {
        entry[side] = read_entries(text[side], &count[side], &diff->arena);
        if (entry[side] == NULL) {
            return STATUS_NO_MEMORY;
        }
    }
    diff->key = arena_alloc(&diff->arena, (size_t)count[0] + (size_t)count[1] + DIFF_KEYS_MORE,
                            sizeof *diff->key);
    if (diff->key == NULL) {
        return STATUS_NO_MEMORY;
    }
    int32_t a = 0;
    int32_t b = 0;
    while (a < count[0] || b < count[1]) {
        int order = a == count[0]   ? 1
                    : b == count[1] ? -1
                                    : compare_entries(&entry[0][a], &entry[1][b]);
        const struct entry *left = order <= 0 ? &entry[0][a++] : NULL;
        const struct entry *right = order >= 0 ? &entry[1][b++] : NULL;
        if (left == NULL || right == NULL || strcmp(left->value, right->value) != 0) {
            diff->key[diff->num_keys++] = (struct diff_key){
                left != NULL ? left->key : right->key,
                {left != NULL ? left->value : NULL, right != NULL ? right->value : NULL}};
        }
    }
    return STATUS_OK;
}
