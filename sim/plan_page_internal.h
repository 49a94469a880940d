/* plan_page_internal.h -- what the plan_page*.c files share. */
#ifndef MOESIM_PLAN_PAGE_INTERNAL_H
#define MOESIM_PLAN_PAGE_INTERNAL_H

#include <stdio.h>

#include "plan.h"

/* The winner's key numbers; nothing without a winner. */
void plan_page_write_tiles(FILE *page, const struct plan *plan, const struct plan_answer *answer);

#endif
