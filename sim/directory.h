/*
 * directory.h -- directories for results: made with their parents, so that "out/mine" just works.
 */
#ifndef MOESIM_DIRECTORY_H
#define MOESIM_DIRECTORY_H

#include "status.h"

/* Makes a directory and its parents; those that exist are fine. STATUS_IO names the part that could
 * not be made, or says that path is no directory. */
MUST_CHECK enum status directory_make(const char *path, struct error *error);

/* Makes the directories a file or directory of this path would lie in, not path itself. */
MUST_CHECK enum status directory_make_parents(const char *path, struct error *error);

#endif
