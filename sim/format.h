/*
 * format.h -- numbers for people: three significant digits and a unit that fits; and sentences.
 *
 * Each number is written into text [FORMAT_BYTES], which is returned.
 */
#ifndef MOESIM_FORMAT_H
#define MOESIM_FORMAT_H

#include <stddef.h>

#define FORMAT_BYTES 32

char *format_ns(char *text, double ns);            /* "812 ns", "3.41 ms" */
char *format_bytes(char *text, double bytes);      /* "7.34 GB", powers of 1000 */
char *format_count(char *text, double count);      /* "812", "1.45 M" */
char *format_percent(char *text, double fraction); /* "14.2 %" */

/* Appends to text [bytes], which holds a string; what does not fit is left out. */
__attribute__((format(printf, 3, 4))) void format_append(char *text, size_t bytes,
                                                         const char *format, ...);

#endif
