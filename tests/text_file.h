/*
 * text_file.h -- a file that holds a text, for what reads files.
 */
#ifndef MOESIM_TEXT_FILE_H
#define MOESIM_TEXT_FILE_H

/* Writes the text; a failure ends the test. Returns the path, which ends in the extension (".csv")
 * and is this process's own: a later text of the same extension replaces this one. The caller
 * removes the file (unlink). */
const char *text_file(const char *extension, const char *text);

#endif
