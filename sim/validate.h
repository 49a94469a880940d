/*
 * validate.h -- which tables of measurements moesim can hold its models against.
 *
 * A source reads one file in one layout, predicts every row that it can by the constants in the
 * presets, and reports the others with the reason.
 */
#ifndef MOESIM_VALIDATE_H
#define MOESIM_VALIDATE_H

#include <stdbool.h>
#include <stdint.h>

#include "error_report.h"
#include "status.h"

struct validate_source {
    const char *option;  /* moesim validate --OPTION FILE */
    const char *summary; /* of the help text */
    /* Names report's keys and adds the rows of the file at path; the caller sums up. */
    enum status (*validate)(struct error_report *report, const char *path, struct error *error);
    bool may_be_fitted; /* presets may be fitted to the table's rows, which its name then tells */
};

const struct validate_source *validate_sources(int32_t *count);

/* Whole MoE operations, in the columns of aiconfigurator's MoE tables. */
MUST_CHECK enum status validate_moe(struct error_report *report, const char *path,
                                    struct error *error);

/* Single kernels: GEMMs, attention, experts of one rank (sim/kernel_rows.h). */
MUST_CHECK enum status validate_kernels(struct error_report *report, const char *path,
                                        struct error *error);

/* Whether the compute model `measured` beats `fitted`: rows of a table by their neighbours along a
 * curve, without themselves, beside the same rows by the presets' constants. */
MUST_CHECK enum status validate_moe_measured(struct error_report *report, const char *path,
                                             struct error *error);
MUST_CHECK enum status validate_kernels_measured(struct error_report *report, const char *path,
                                                 struct error *error);

/* Exchanges between GPUs, by the constants in the cluster presets. */
MUST_CHECK enum status validate_alltoall(struct error_report *report, const char *path,
                                         struct error *error);

/* Ratios of times of the expert phase under skew, by the constants in the GPU presets. */
MUST_CHECK enum status validate_balance(struct error_report *report, const char *path,
                                        struct error *error);

/* Tokens a second and GPU, by simulating the step that a row describes. */
MUST_CHECK enum status validate_serving(struct error_report *report, const char *path,
                                        struct error *error);

/* TTFT and TPOT of whole engines that keep a number of requests outstanding, by serving the same
 * load; the columns are those of aiconfigurator's silicon_sample.csv. */
MUST_CHECK enum status validate_engines(struct error_report *report, const char *path,
                                        struct error *error);

/* The name of the file at path, as provenance tells it. */
const char *validate_table_name(const char *path);

/* Whether constants whose provenance is fitted_on ("N rows of TABLE, ...") were fitted to rows of a
 * table of that name, and of the same GPU. A copy under another name is not known. */
bool validate_is_fitted_on(const char *fitted_on, const char *table);

#endif
