/*
 * draft.h -- files that appear in a directory together, or not at all.
 *
 * They are written into OUT/report.partial and moved to their places when all is whole. A sweeper
 * clears away what is left. What even that could not clear (the machine went down) is cleared by
 * the next draft there.
 */
#ifndef MOESIM_DRAFT_H
#define MOESIM_DRAFT_H

#include <stddef.h>
#include <stdio.h>

#include "status.h"
#include "sweeper.h"
#include "textfile.h"

struct draft {
    char directory[FILE_PATH_BYTES]; /* OUT/report.partial */
    char out[FILE_PATH_BYTES];
    size_t out_existing; /* leading bytes of out that were there before */
    int lock;            /* on directory, so that nobody else writes there */
    struct sweeper sweeper;
};

/* Makes OUT with its parents, and an empty directory in it. STATUS_INVALID: the name is too long;
 * STATUS_IO: OUT cannot be made, or another process makes a report there. */
MUST_CHECK enum status draft_open(struct draft *draft, const char *out, struct error *error);

/* Makes draft->directory/name for writing. */
MUST_CHECK enum status draft_create(FILE **file, const struct draft *draft, const char *name,
                                    struct error *error);

/* Closes what draft_create opened. STATUS_IO: not all of it could be written. */
MUST_CHECK enum status draft_finish(FILE *file, const struct draft *draft, const char *name,
                                    struct error *error);

/* Moves draft->directory/name to OUT/path, in place of an old one; directories of path are made. */
MUST_CHECK enum status draft_publish(const struct draft *draft, const char *name, const char *path,
                                     struct error *error);

/* Clears away what was not published, OUT too if it was made and is empty, and waits until that is
 * done. Safe on a zeroed struct, and twice. */
void draft_close(struct draft *draft);

#endif
