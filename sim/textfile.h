/*
 * textfile.h -- whole small files as text.
 */
#ifndef MOESIM_TEXTFILE_H
#define MOESIM_TEXTFILE_H

#include "arena.h"
#include "status.h"

#define FILE_PATH_BYTES 4096

/* Reads a file of at most 16 MiB; its text, NUL added, is the arena's. STATUS_IO: cannot be read,
 * STATUS_INVALID: too large, or holds a NUL. */
MUST_CHECK enum status text_read(const char **text, const char *path, struct arena *arena,
                                 struct error *error);

#endif
