/*
 * claims.h -- popular statements about MoE economics, each with a number and a verdict that follows
 * from it.
 *
 * A claim is a file of scenarios/claims/: values (of models, GPUs, prices, simulated runs, or given
 * with a source), one expression over them that is the claim's number, one that says when it holds,
 * and cases that change values or runs. Nothing says what the verdict is: it holds if it does in
 * every case, does not if it does in none, and else holds if a case is one of those in which it
 * does.
 */
#ifndef MOESIM_CLAIMS_H
#define MOESIM_CLAIMS_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "scenario.h"
#include "status.h"
#include "sweep.h"

#define CLAIM_SETTINGS_MAX 64

enum claim_verdict {
    CLAIM_HOLDS,
    CLAIM_HOLDS_IF,
    CLAIM_DOES_NOT_HOLD,
    CLAIM_UNKNOWN, /* a run failed, or a number is not finite */
};

enum claim_kind {
    CLAIM_EXPRESSION,
    CLAIM_GIVEN,
    CLAIM_MODEL,
    CLAIM_GPU,
    CLAIM_PRICE,
    CLAIM_API_PRICE,
    CLAIM_GPUS_FOR,
    CLAIM_RUN,
};

/* Text is the claims' arena's. */
struct claim_value {
    enum claim_kind kind;
    const char *name;
    const char *file;
    int32_t line;
    const char *text;   /* expression, model, GPU, price, or name of a run */
    const char *figure; /* which number of it */
    const char *on;     /* CLAIM_GPUS_FOR: the GPU */
    const char *source; /* CLAIM_GIVEN */
    double given;       /* likewise */
    int32_t precision;  /* enum precision of all weights; < 0: the model's */
    int32_t experts;    /* in place of the model's; 0: those */
    int32_t top_k;      /* likewise */
    int32_t context_tokens;
    double memory_fraction;
    int32_t run; /* CLAIM_RUN: index into the claims' runs */
};

struct claim_case {
    const char *name;
    int32_t num_values;
    struct claim_value *value; /* [num_values] in the order in which they are computed */
    double *result;            /* [num_values] */
    bool is_computed;
    double number;
    bool holds;
    char problem[512]; /* why it is not computed */
};

struct claim {
    const char *name; /* of its file */
    const char *file;
    const char *claim;       /* in a sentence */
    const char *source;      /* who says so */
    const char *note;        /* what to make of it; "" : nothing */
    const char *number;      /* expression */
    const char *number_name; /* what it is, in words */
    const char *unit;
    const char *holds; /* expression */
    int32_t num_cases;
    struct claim_case *item; /* [num_cases] the first is the claim as stated */
    enum claim_verdict verdict;
};

/* A simulation that a case needs; equal ones are one. */
struct claim_run {
    const char *path; /* of the scenario, as found */
    const char *label;
    int32_t num_settings;
    const char **setting; /* [num_settings] "key=value" */
    const char *where;    /* "file:line" of its first use */
    uint64_t run_id;      /* after claims_simulate */
    char evidence[128];   /* after claims_judge: model of the GPU's times and its error */
};

/* Zero-initialise; release with claims_free. */
struct claims {
    int32_t count;
    struct claim *claim; /* [count] by name */
    int32_t num_runs;
    struct claim_run *run; /* [num_runs] */
    int32_t run_capacity;
    struct arena arena;
};

/* Loads claims by name or path, all of scenarios/claims/ when num_names is 0, and checks them
 * whole: STATUS_INVALID with all problems, each with file and line. */
MUST_CHECK enum status claims_load(struct claims *claims, const char *const *name,
                                   int32_t num_names, struct error *error);
void claims_free(struct claims *claims); /* safe on a zeroed struct, and twice */

/* Simulates the runs that are not in results yet. */
MUST_CHECK enum status claims_simulate(struct claims *claims, const char *results,
                                       int32_t num_threads, struct sweep_outcome *outcome,
                                       struct error *error);

/* Computes every case and every verdict. */
MUST_CHECK enum status claims_judge(struct claims *claims, const char *results,
                                    struct error *error);

const char *claim_verdict_name(enum claim_verdict verdict); /* "holds", "holds if", ... */

/* "holds if A, or B" with the names of the cases. */
#define CLAIM_TEXT 1024
void claim_verdict_text(const struct claim *claim, char text[CLAIM_TEXT]);

/* A number in the claim's unit, for people. */
#define CLAIM_NUMBER 64
void claim_number_text(const struct claim *claim, double number, char text[CLAIM_NUMBER]);

/* "moesim claims NAME -o DIR": what a sceptic types. */
MUST_CHECK enum status claims_write_page(const struct claims *claims, const char *directory,
                                         struct error *error);

#endif
