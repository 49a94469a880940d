/*
 * base64.h -- RFC 4648 base64 of a JSON string, decoded piece by piece.
 *
 * Both alphabets are read, with or without padding, and "\/" as JSON may write a slash.
 */
#ifndef MOESIM_BASE64_H
#define MOESIM_BASE64_H

#include <stdbool.h>
#include <stdint.h>

struct base64 {
    const unsigned char *begin;
    const unsigned char *at;
    const unsigned char *end;
    const unsigned char *bad; /* the first character that is not base64; NULL: none so far */
    unsigned char left[3];    /* decoded, not yet taken */
    int32_t num_left;
    uint32_t value[4][256]; /* six bits of a character, shifted to its place of four; BAD: none */
};

void base64_begin(struct base64 *base64, const char *text, int64_t length);

/* How many bytes the text decodes to, if all of it is base64. */
int64_t base64_size(const char *text, int64_t length);

/* Decodes at most room bytes; fewer only at the end of the text or before a bad character. */
int64_t base64_read(struct base64 *base64, unsigned char *bytes, int64_t room);

#endif
