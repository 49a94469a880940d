/*
 * yaml_tree.h -- what the yaml_*.c files share and nobody else includes.
 */
#ifndef MOESIM_YAML_TREE_H
#define MOESIM_YAML_TREE_H

#include "yaml_file.h"

#define YAML_DEPTH_MAX      32 /* levels of a parsed file */
#define YAML_OVERRIDE_NAME  "--set"
#define YAML_OVERRIDE_PARTS 16                                     /* of a.b.c */
#define YAML_TREE_DEPTH     (YAML_DEPTH_MAX + YAML_OVERRIDE_PARTS) /* of an overridden tree */
#define YAML_KEY_BYTES_MAX  256 /* YAML wants a "?" before keys above 1024 */
#define YAML_EXCERPT_BYTES  64

/* A copy of text fit for a message: one line, no control characters, cut when long. */
void yaml_excerpt(char excerpt[YAML_EXCERPT_BYTES], const char *text);

/* Does a plain scalar read as a number, in the way yaml_fill does? */
bool yaml_is_number(const char *text);

#endif
