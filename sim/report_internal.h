/*
 * report_internal.h -- what the files of the report share.
 */
#ifndef MOESIM_REPORT_INTERNAL_H
#define MOESIM_REPORT_INTERNAL_H

#include <stdint.h>
#include <stdio.h>

#include "arena.h"
#include "figure.h"
#include "money.h"
#include "report.h"
#include "rows.h"
#include "store.h"

#define MODEL_ERROR_BYTES 1024

/* One report under way. Text is the arena's. */
struct report {
    const struct report_options *options;
    struct store *store;
    struct arena arena;
    char run_id[RUN_ID_BYTES];
    struct rows run;        /* one row: the run, its origin and the shares of its phases */
    struct rows assumption; /* what to believe before believing a time or a price */
    struct rows runs;       /* all complete runs of the file: run_id, label, scenario, strategy */
    struct money money;     /* what prices are shown in: the run's, and those beside it */
    struct figure_list figures;
    const char *css;
    const char *script;
    const char *limits;
    const char *figures_directory;             /* where they are drawn; by report_make */
    char model_error[MODEL_ERROR_BYTES];       /* a sentence */
    char model_error_short[MODEL_ERROR_BYTES]; /* beside a number */
};

/* A column of the run; "" and 0 where it is NULL. */
static inline const char *report_text(const struct report *report, const char *name)
{
    return rows_text(&report->run, 0, name);
}

static inline double report_number(const struct report *report, const char *name)
{
    return rows_number(&report->run, 0, name);
}

/* Puts the compute model's error into words. */
void answer_model_error(struct report *report);

/* What is known of the first token's: its host's share, and how far whole engines' were off. */
void answer_first_error(char *words, size_t bytes, const struct report *report);

/* The answer to the scenario's question, in sentences made of the run's numbers. */
void answer_write(const struct report *report, FILE *page);

/* The key numbers as tiles. */
void answer_write_tiles(const struct report *report, FILE *page);

/* Reads a file of reports/ into the report's arena. */
MUST_CHECK enum status report_load_part(const char **text, const char *name, struct report *report,
                                        struct error *error);

/* Draws the figures, which have been queried, has the page written and puts all in place at once:
 * OUT/figures, and last OUT/index.html. */
MUST_CHECK enum status report_make(struct report *report,
                                   enum status (*write)(const struct report *report, FILE *page,
                                                        struct error *error),
                                   struct error *error);

/* The section of figures; they must be drawn. */
MUST_CHECK enum status page_write_figures(const struct report *report, FILE *page,
                                          struct error *error);

/* The whole page; figures must be drawn. */
MUST_CHECK enum status page_write(const struct report *report, FILE *page, struct error *error);

#endif
