/*
 * format.h -- numbers for people: three significant digits and a unit that fits.
 *
 * Each writes into text [FORMAT_BYTES] and returns it.
 */
#ifndef MOESIM_FORMAT_H
#define MOESIM_FORMAT_H

#define FORMAT_BYTES 32

char *format_ns(char *text, double ns);            /* "812 ns", "3.41 ms" */
char *format_bytes(char *text, double bytes);      /* "7.34 GB", powers of 1000 */
char *format_count(char *text, double count);      /* "812", "1.45 M" */
char *format_percent(char *text, double fraction); /* "14.2 %" */

#endif
