/*
 * yaml_file.h -- YAML files against a table of keys, all problems at once.
 *
 * libyaml parses; this module keeps line numbers, merges inherited files, applies overrides and
 * fills a struct from a table of fields. Unknown keys name the nearest known one.
 */
#ifndef MOESIM_YAML_FILE_H
#define MOESIM_YAML_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arena.h"
#include "status.h"

enum yaml_kind { YAML_SCALAR, YAML_SEQUENCE, YAML_MAPPING };

struct yaml_node {
    enum yaml_kind kind;
    const char *file;        /* or "--set" */
    int32_t line;            /* 1-based; of an override: 0 */
    bool quoted;             /* a quoted scalar is a string, never a number */
    const char *text;        /* scalar */
    const char *key;         /* within its mapping, else NULL */
    struct yaml_node *child; /* first of a sequence or mapping */
    struct yaml_node *next;  /* sibling */
};

/* Parses one file (one document, at most 1 MiB). Memory is the arena's. */
MUST_CHECK enum status yaml_load(struct yaml_node **root, const char *path, struct arena *arena,
                                 struct error *error);

/* Parses text; name stands for the file in messages. */
MUST_CHECK enum status yaml_parse(struct yaml_node **root, const char *text, const char *name,
                                  struct arena *arena, struct error *error);

/* Lays overlay over base, key by key; mappings merge, all else is replaced. Changes base. */
struct yaml_node *yaml_merge(struct yaml_node *base, struct yaml_node *overlay);

/* Applies "a.b.c=value", the value in YAML; list items by index. Creates missing mappings; with no
 * value the key is taken out. */
MUST_CHECK enum status yaml_override(struct yaml_node *root, const char *assignment,
                                     struct arena *arena, struct error *error);

/* Takes a child out of its mapping or list. */
void yaml_remove(struct yaml_node *parent, const struct yaml_node *child);

/* How many items or keys a node has. */
int32_t yaml_count(const struct yaml_node *node);

/* The child of a mapping, or NULL. */
struct yaml_node *yaml_get(const struct yaml_node *mapping, const char *key);

/* Writes canonical YAML: block style, keys in file order, no comments. NULL: no memory. */
char *yaml_write(const struct yaml_node *root, struct arena *arena);

enum yaml_type {
    YAML_TEXT, /* char[size] */
    YAML_INT32,
    YAML_INT64,
    YAML_UINT64,
    YAML_DOUBLE, /* 1.5, 2e12 */
    YAML_BOOL,
    YAML_CHOICE, /* int32_t-sized enum from a NULL-ended list of names */
    YAML_NODE,   /* struct yaml_node *: read by the caller */
    YAML_TABLE,  /* a nested mapping with a table of its own, into the same struct */
};

struct yaml_field {
    const char *key;
    enum yaml_type type;
    size_t offset; /* in the target struct */
    size_t size;   /* YAML_TEXT: bytes */
    bool required;
    double min, max;                /* numbers: inclusive; both 0: any */
    const char *const *choices;     /* YAML_CHOICE, by value */
    const struct yaml_field *table; /* YAML_TABLE: ended by a NULL key */
};

/* Adds "FILE:LINE: KEY: WHAT", or "--set KEY: WHAT" of an override. Returns STATUS_INVALID. */
enum status yaml_complain(struct error *error, const struct yaml_node *node, const char *key,
                          const char *what);

/* Fills target from a mapping. Fields that are absent keep what target holds (its defaults).
 * Reports every unknown key, missing required key, wrong type and value out of range;
 * STATUS_INVALID if there was one. */
MUST_CHECK enum status yaml_fill(void *target, const struct yaml_node *mapping,
                                 const struct yaml_field *table, struct error *error);

#endif
