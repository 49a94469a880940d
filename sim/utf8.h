/*
 * utf8.h -- names of files may hold any byte; pages and JSON may not.
 */
#ifndef MOESIM_UTF8_H
#define MOESIM_UTF8_H

/* Bytes of the character at text, or 0 if they are none in UTF-8. Of text that has ended: 1. */
int utf8_bytes(const char *text);

/* Puts a question mark in place of every byte that is no part of a character. */
void utf8_mend(char *text);

#endif
