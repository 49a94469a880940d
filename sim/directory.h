/*
 * directory.h -- directories for results: made with their parents, so that "out/mine" just works.
 */
#ifndef MOESIM_DIRECTORY_H
#define MOESIM_DIRECTORY_H

#include <stddef.h>

#include "status.h"

/* Makes a directory and its parents; those that exist are fine. STATUS_IO names the part that could
 * not be made, or says that path is no directory. */
MUST_CHECK enum status directory_make(const char *path, struct error *error);

/* Makes the directories a file or directory of this path would lie in, not path itself. */
MUST_CHECK enum status directory_make_parents(const char *path, struct error *error);

/* Returns how many leading bytes of path name a directory that exists: 0, none of it. */
size_t directory_existing(const char *path);

/* Removes path and its parents as long as they are empty, but not what directory_existing gave. */
void directory_unmake(const char *path, size_t existing);

/* Says before long work what directory_make would say after it; leaves nothing behind. */
MUST_CHECK enum status directory_check(const char *path, struct error *error);

#endif
