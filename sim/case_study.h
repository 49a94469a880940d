/*
 * case_study.h -- a question, what has to be simulated for it, and how the answer follows.
 *
 * A file of scenarios/studies/ is either a sweep's study (sweep_study.h) with three more keys, or
 * names a plan:
 *
 *     version: 1
 *     question: How wide should the expert-parallel group be?
 *     scenario: deepseek_v3_decode_32xh800.yaml
 *     vary: {trace.tokens_per_rank: [16, 64]}
 *     answer:                  # sentences: queries that return one text each
 *       - SELECT printf('%d points were simulated.', count(*)) FROM point
 *     figures:
 *       - name: latency        # a-z, 0-9 and _
 *         title: What a step takes
 *         caption: what one sees, and what follows
 *         kind: lines          # or bars: y by the names in x
 *         x: tokens_per_rank   # columns of rows
 *         y: step_ms
 *         series: gpu          # optional, of lines: one line each, in the order of its rows
 *         x_label: sequences a GPU
 *         y_label: ms
 *         log: x               # optional: x, y or xy
 *         rows: SELECT tokens_per_rank, gpu, step_ns_mean / 1e6 AS step_ms
 *               FROM point JOIN run USING (run_id) ORDER BY 1
 *     notes: [what the numbers rest on]
 *
 *     version: 1
 *     question: ...
 *     plan: deepseek_r1_h800   # in place of scenario, set, points, vary, exclude and figures
 *
 * Queries see the results file (sim/store_schema.c), the table point(point, run_id, name),
 * one row a point of the study in its order, run_id NULL where a point failed, and the view
 * settled(run_id, step_ns, tokens_per_s_per_gpu, usd_per_million_tokens) of the steps behind a
 * run's last change of placement. Of a plan ?1 is the plan's id in plan_deployment, plan_shift and
 * plan_fate.
 */
#ifndef MOESIM_CASE_STUDY_H
#define MOESIM_CASE_STUDY_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "scenario.h"
#include "status.h"
#include "sweep.h"
#include "sweep_study.h"

enum chart_kind { CHART_LINES, CHART_BARS, CHART_KINDS };
enum chart_log { CHART_LOG_NONE, CHART_LOG_X, CHART_LOG_Y, CHART_LOG_XY };

struct case_figure {
    char name[NAME_BYTES];
    char title[TEXT_BYTES];
    char caption[2 * TEXT_BYTES];
    enum chart_kind kind;
    char x[NAME_BYTES];
    char y[NAME_BYTES];
    char series[NAME_BYTES]; /* "": one line */
    char x_label[NAME_BYTES];
    char y_label[NAME_BYTES];
    enum chart_log log;
    const char *sql;
    int32_t line; /* of the file */
};

/* Zero-initialise; release with case_study_free. */
struct case_study {
    char path[PATH_BYTES];
    char name[NAME_BYTES]; /* of its file */
    char question[TEXT_BYTES];
    char plan[PATH_BYTES];     /* as found; "": points are swept */
    struct sweep_study points; /* of a sweep */
    int32_t num_answers;
    const char **answer; /* [num_answers] SQL */
    int32_t num_figures;
    struct case_figure *figure; /* [num_figures] */
    int32_t num_notes;
    const char **note; /* [num_notes] */
    const char *text;  /* the file's */
    struct arena arena;
};

/* Reads and checks a study of scenarios/studies, by name or path; its queries are tried on empty
 * results. STATUS_INVALID with all problems, each with file and line. */
MUST_CHECK enum status case_study_load(struct case_study *study, const char *name,
                                       struct error *error);
void case_study_free(struct case_study *study); /* safe on a zeroed struct, and twice */

/* Names and questions of all studies there are, sorted; the other files of scenarios/studies are
 * scenarios. Memory is the arena's. */
struct case_study_entry {
    const char *name;
    const char *question;
};
MUST_CHECK enum status case_study_list(struct case_study_entry **entry, int32_t *count,
                                       struct arena *arena, struct error *error);

/* What a swept study came to. Text is the arena's. */
struct case_study_result {
    const char *results;          /* SQLite file */
    const uint64_t *run_id;       /* [points.num_points] of sweep_run */
    const struct error *failures; /* of points; may hold none */
    const char **answer;          /* [num_answers] sentences */
    struct arena *arena;
};

/* Asks the results for the answers. STATUS_INVALID: a query gave no text. */
MUST_CHECK enum status case_study_answer(const struct case_study *study,
                                         struct case_study_result *result, struct error *error);

/* The page of a swept study: question, answers, figures with their tables, notes, assumptions and
 * the models' errors, runs. Errors as report_write. */
MUST_CHECK enum status case_study_write_page(const struct case_study *study,
                                             const struct case_study_result *result,
                                             const char *directory, struct error *error);

#endif
