/*
 * fuzz_yaml.c -- any text as YAML: refused, or written and read again without a change.
 */
#include <stdlib.h>
#include <string.h>

#include "yaml_file.h"

#define KEY_CHARS_MAX 1024 /* YAML 1.2, 7.4: a longer key needs a ?, which is not written */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static bool has_long_line(const char *text)
{
    size_t length = 0;
    while (*text != '\0' && length < KEY_CHARS_MAX) {
        length = strcspn(text, "\n");
        text += length + (text[length] == '\n');
    }
    return length >= KEY_CHARS_MAX;
}

/* The first line overrides a key of the rest; a key is made of words, as yaml_fill refuses all
 * others. Canonical YAML is a fixed point: what it says when read again is written as the same
 * bytes. */
static void check(char *text, struct arena *arena, struct error *error)
{
    struct yaml_node *root = NULL;
    char *rest = strchr(text, '\n');
    size_t key = strspn(text, "abcdefghijklmnopqrstuvwxyz_0123456789.");
    if (rest == NULL || text[key] != '=') {
        return;
    }
    *rest++ = '\0';
    if (yaml_parse(&root, rest, "fuzz", arena, error) != STATUS_OK || root == NULL) {
        return;
    }
    if (root->kind == YAML_MAPPING && yaml_override(root, text, arena, error) != STATUS_OK) {
        return;
    }
    char *once = yaml_write(root, arena);
    struct yaml_node *again = NULL;
    if (once != NULL && has_long_line(once)) {
        return;
    }
    if (once == NULL || yaml_parse(&again, once, "again", arena, error) != STATUS_OK) {
        __builtin_trap();
    }
    char *twice = yaml_write(again, arena);
    if (twice == NULL || strcmp(once, twice) != 0) {
        __builtin_trap();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct error error;
    static struct arena arena;
    char *text = malloc(bytes + 1);
    if (text == NULL) {
        return 0;
    }
    memcpy(text, data, bytes);
    text[bytes] = '\0';
    error.num_problems = 0;
    error.text_bytes = 0;
    check(text, &arena, &error);
    arena_free(&arena);
    free(text);
    return 0;
}
