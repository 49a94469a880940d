/* answer_error.c -- how far the run's times can be believed, in words. */
#include <stdio.h>
#include <string.h>

#include "format.h"
#include "html.h"
#include "report_internal.h"
#include "whole_engine.h"

static bool has_model_error(const struct report *report)
{
    return report_text(report, "fitted_on")[0] != '\0' &&
           report_text(report, "error_median")[0] != '\0';
}

/* Appends a sentence on the exchanges, where the run has any. */
static void add_exchange_error(struct report *report)
{
    size_t used = strlen(report->model_error);
    size_t left = sizeof report->model_error - used;
    for (int64_t row = 0; row < report->assumption.num_rows; row++) {
        const char *name = rows_text(&report->assumption, row, "assumption");
        if (strcmp(name, "median error of the exchange") != 0) {
            continue;
        }
        double percent = rows_number(&report->assumption, row, "value");
        const char *fitted_on = rows_text(&report->assumption, row, "source");
        if (rows_text(&report->assumption, row, "unit")[0] == '\0') {
            snprintf(report->model_error + used, left,
                     " Exchanges are not fitted to measurements.");
        } else {
            snprintf(report->model_error + used, left,
                     " Exchanges are fitted on %s; held out, their median error is %.1f %%.",
                     fitted_on, percent);
        }
    }
}

void answer_model_error(struct report *report)
{
    const char *gpu_model = report_text(report, "gpu_model");
    const char *fitted_on = report_text(report, "fitted_on");
    bool measured = has_model_error(report);
    const struct whole_engine_error *whole =
        whole_engine_error(strcmp(report_text(report, "phase"), "prefill") == 0,
                           report_number(report, "expert_tp") > 1);
    char percent[FORMAT_BYTES];
    html_percent(percent, report_number(report, "error_median"));
    if (fitted_on[0] == '\0') {
        snprintf(report->model_error, sizeof report->model_error,
                 "Times and costs come from the compute model '%s', which is not fitted to "
                 "measurements: error unknown.",
                 gpu_model);
        snprintf(report->model_error_short, sizeof report->model_error_short,
                 "not fitted to measurements: error unknown");
    } else if (!measured) {
        snprintf(
            report->model_error, sizeof report->model_error,
            "Times and costs come from the compute model '%s', fitted on %s; its error was not "
            "measured.",
            gpu_model, fitted_on);
        snprintf(report->model_error_short, sizeof report->model_error_short,
                 "model error not measured");
    } else {
        snprintf(report->model_error, sizeof report->model_error,
                 "Times and costs come from the compute model '%s', fitted on %s; on measurements "
                 "held out from the fit its median error is %s.",
                 gpu_model, fitted_on, percent);
        snprintf(report->model_error_short, sizeof report->model_error_short,
                 "median error %s of kernels, %s", percent, whole->brief);
    }
    if (report_number(report, "ep") > 1.0) {
        add_exchange_error(report);
    }
    if (measured) {
        size_t used = strlen(report->model_error);
        snprintf(report->model_error + used, sizeof report->model_error - used,
                 " Kernels alone are not an engine: %s.", whole->words);
    }
}

/* Whole engines' first tokens were off by other numbers than their steps. */
void answer_first_error(char *words, size_t bytes, const struct report *report)
{
    char time[FORMAT_BYTES], percent[FORMAT_BYTES];
    double host_ns = report_number(report, "host_request_ms") * 1e6;
    double off = report_number(report, "host_error");
    html_percent(percent, off > 0.0 ? off : WHOLE_ENGINE_WITHOUT_HOST - 1.0);
    if (!has_model_error(report)) {
        snprintf(words, bytes, "%s", report->model_error_short);
    } else if (host_ns <= 0.0) {
        snprintf(words, bytes,
                 "no engine's host is in it, with which whole engines took %s longer in the median",
                 percent);
    } else if (off > 0.0) {
        snprintf(words, bytes,
                 "%s of it the engine's host; whole engines' were %s off in the median",
                 format_ns(time, host_ns), percent);
    } else {
        snprintf(words, bytes, "%s of it the engine's host", format_ns(time, host_ns));
    }
}
