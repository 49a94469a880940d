/*
 * zip_file.h -- ZIP archives that others wrote, read under suspicion.
 *
 * libzip knows the container; this module adds the limits. Nothing is ever unpacked to a file, so a
 * member's name ("../../x") is a key to look up and nothing else. The sizes a member claims are
 * held against the archive before a byte is allocated, and against what really comes out.
 */
#ifndef MOESIM_ZIP_FILE_H
#define MOESIM_ZIP_FILE_H

#include <stdint.h>

#include "status.h"

/* Deflate cannot do more than 1032 to 1; zeroes in arrays come close. What unpacks to more than
 * ZIP_FREE_BYTES and this ratio is a bomb, not an array. */
#define ZIP_RATIO_MAX  200
#define ZIP_FREE_BYTES (INT64_C(64) << 20)

struct zip_file {
    const char *path; /* borrowed */
    void *archive;    /* private: libzip's */
    int64_t num_bytes;
    int64_t num_members;
};

/* One member while it is read. Several may be open at once. */
struct zip_member {
    struct zip_file *zip; /* borrowed */
    const char *name;     /* in the archive; valid until zip_file_close */
    int64_t index;
    int64_t num_bytes; /* unpacked, as claimed */
    int64_t num_read;
    void *stream; /* private */
};

/* STATUS_IO: cannot be opened; STATUS_INVALID: no ZIP archive, or its members claim more bytes than
 * the archive has. Release with zip_file_close. */
MUST_CHECK enum status zip_file_open(struct zip_file *zip, const char *path, struct error *error);
void zip_file_close(struct zip_file *zip); /* safe on a zeroed struct, and twice */

/* Its name; valid until zip_file_close. */
const char *zip_file_name(const struct zip_file *zip, int64_t index);

/* The member of a name; -1: there is none. */
int64_t zip_file_find(const struct zip_file *zip, const char *name);

/* Opens a member. STATUS_INVALID: encrypted, packed in another way than stored or deflated, or a
 * bomb. Release with zip_member_close. */
MUST_CHECK enum status zip_member_open(struct zip_member *member, struct zip_file *zip,
                                       int64_t index, struct error *error);

/* Reads exactly bytes more. STATUS_INVALID when the member ends before, or is damaged: with the
 * last byte its checksum is compared too. */
MUST_CHECK enum status zip_member_read(struct zip_member *member, void *data, int64_t bytes,
                                       struct error *error);
void zip_member_close(struct zip_member *member); /* safe on a zeroed struct, and twice */

/* A whole member of at most bytes_max bytes into malloc'ed memory, with a NUL behind it. */
MUST_CHECK enum status zip_member_load(void **data, int64_t *num_bytes, struct zip_file *zip,
                                       int64_t index, int64_t bytes_max, struct error *error);

#endif
