/*
 * page.h -- reads pages as a strict reader would.
 */
#ifndef MOESIM_PAGE_H
#define MOESIM_PAGE_H

#include <stdbool.h>

bool page_holds(const char *text, const char *words);
int page_count(const char *text, const char *words);

/* The name of the first tag that closes what is not open or is left open; "" when all is well. The
 * text is static. */
const char *page_unbalanced(const char *text);

#endif
