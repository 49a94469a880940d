/*
 * claims_internal.h -- what the claims*.c files share and nobody else includes.
 */
#ifndef MOESIM_CLAIMS_INTERNAL_H
#define MOESIM_CLAIMS_INTERNAL_H

#include "claims.h"
#include "store.h"
#include "yaml_file.h"

/* How a number is shown. */
struct claim_unit {
    const char *name; /* as in the file */
    double divisor;
    int decimals;
    const char *before;
    const char *behind;
};

extern const struct claim_unit claim_units[]; /* ended by a NULL name */

/* A claim being read. */
struct claim_reader {
    struct claims *claims;
    struct claim *claim;
    struct error *error;
    enum status status;
    const struct yaml_node *runs; /* of the case in hand */
    const struct yaml_node *set;  /* of the case: for all its runs */
};

/* Tells a problem of a key with its place. */
void claim_complain(struct claim_reader *reader, const struct yaml_node *node, const char *key,
                    const char *text);

/* Memory, and a copy of text, of the claims; a lack of it is told. */
void *claim_take(struct claim_reader *reader, size_t count, size_t size);
const char *claim_keep(struct claim_reader *reader, const char *text); /* never NULL */

/* Reads a value that is a mapping. */
void claim_read_value(struct claim_reader *reader, struct claim_value *value,
                      const struct yaml_node *node);

/* Lays a case's runs or values over the file's; a value of another form replaces the old one. */
void claim_lay_over(struct yaml_node *base, struct yaml_node *overlay);

/* Reads one file and adds its claim and its runs. All problems are told. */
MUST_CHECK enum status claim_read(struct claims *claims, struct claim *claim, const char *path,
                                  struct error *error);

/* Whether a figure of this kind is known; if not, names the nearest in error. */
bool claim_figure_is_known(const struct claim_value *value, struct error *error);

/* Computes a value that is no expression. store may be NULL where no runs are asked for. */
MUST_CHECK enum status claim_compute(double *result, const struct claims *claims,
                                     const struct claim_value *value, struct store *store,
                                     struct error *error);

struct claim_run_figure {
    const char *name;
    const char *sql; /* one number; ?1 is the run's id */
};
extern const struct claim_run_figure claim_run_figures[]; /* ended by a NULL name */

/* The same of a run's figure. */
MUST_CHECK enum status claim_compute_run(double *result, const struct claims *claims,
                                         const struct claim_value *value, struct store *store,
                                         struct error *error);

/* The number of a name among the first count values of a case: an expression_lookup whose context
 * is a struct claim_names. */
struct claim_names {
    const struct claim_case *item;
    int32_t count;
};
bool claim_look_up(const void *context, const char *name, int length, double *number);

#endif
