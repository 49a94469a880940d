/*
 * error_figure.h -- draws an error report: predicted over measured, and how many rows are how far
 * off.
 */
#ifndef MOESIM_ERROR_FIGURE_H
#define MOESIM_ERROR_FIGURE_H

#include "error_report.h"
#include "status.h"

/* Has gnuplot draw both into one file, .svg or .png by its name. STATUS_INVALID where no row was
 * predicted or the name ends otherwise. */
MUST_CHECK enum status error_figure_draw(const struct error_report *report, const char *path,
                                         struct error *error);

#endif
