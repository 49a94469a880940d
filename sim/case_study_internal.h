/*
 * case_study_internal.h -- what the case_study*.c files share and nobody else includes.
 */
#ifndef MOESIM_CASE_STUDY_INTERNAL_H
#define MOESIM_CASE_STUDY_INTERNAL_H

#include "case_study.h"
#include "figure.h"

/* Asks for a figure's rows and writes the gnuplot commands that draw them; chart is the text of
 * reports/study/KIND.gp. Memory is the arena's, but for the rows (figures_free). */
MUST_CHECK enum status case_study_chart(struct figure *figure, const struct case_study *study,
                                        const struct case_figure *from, struct store *store,
                                        const char *chart, struct arena *arena,
                                        struct error *error);

#endif
