/*
 * plan_page.h -- a plan's answer as one self-contained page with figures.
 */
#ifndef MOESIM_PLAN_PAGE_H
#define MOESIM_PLAN_PAGE_H

#include "plan.h"
#include "status.h"

struct plan_page {
    const char *results; /* SQLite file that holds the answer */
    const char *out;     /* directory, made if missing */
    const char *plan_id; /* store_plan.h */
    const struct plan *plan;
    const struct plan_answer *answer;
    const char *study;       /* whose page it is; NULL: the plan's own */
    const char *const *lead; /* [num_leads] sentences of the study, before the plan's */
    int32_t num_leads;
};

/* Figures are those of reports/plan/, drawn by gnuplot from the results file. index.html appears
 * last and whole. Errors as report_write. */
MUST_CHECK enum status plan_page_write(const struct plan_page *page, struct error *error);

#endif
