/* test_case_study.c -- studies: what is shipped can be read, mistakes are told with their place. */
#include "case_study.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char directory[] = "/tmp/moesim-study-XXXXXX";
static char path[64];
static struct error error;
static struct case_study study;

static void set_up(void)
{
    cr_assert(mkdtemp(directory) != NULL);
    snprintf(path, sizeof path, "%s/study.yaml", directory);
}

static void tear_down(void)
{
    char command[128];
    case_study_free(&study);
    snprintf(command, sizeof command, "rm -rf %s", directory);
    cr_assert(system(command) == 0);
}

TestSuite(case_study, .init = set_up, .fini = tear_down);

static enum status load(const char *text)
{
    FILE *file = fopen(path, "w");
    fputs(text, file);
    fclose(file);
    error = (struct error){0};
    return case_study_load(&study, path, &error);
}

/* Four lines. */
#define HEAD                                                                                       \
    "version: 1\nquestion: q\nscenario: scenarios/studies/gpt_oss_20b_decode_8xh100.yaml\n"        \
    "vary: {trace.steps: [1, 2]}\n"
#define FIGURE                                                                                     \
    "figures:\n  - name: f\n    title: t\n    caption: c\n    x_label: x\n    y_label: y\n"

Test(case_study, a_study_has_points_queries_and_figures)
{
    cr_assert(load(HEAD "answer: [\"SELECT 'yes'\"]\n" FIGURE
                        "    x: step\n    y: ns\n    kind: bars\n    log: xy\n"
                        "    rows: SELECT point AS step, run_id AS ns FROM point\n"
                        "notes: [one, two]\n") == STATUS_OK,
              "%s", error.text);
    cr_expect(study.points.num_points == 2);
    cr_expect(study.num_answers == 1);
    cr_expect_str_eq(study.answer[0], "SELECT 'yes'");
    cr_assert(study.num_figures == 1);
    cr_expect(study.figure[0].kind == CHART_BARS);
    cr_expect(study.figure[0].log == CHART_LOG_XY);
    cr_expect(study.num_notes == 2);
    cr_expect_str_eq(study.question, "q");
}

Test(case_study, queries_see_points_with_their_names_and_settled_steps)
{
    cr_assert(
        load("version: 1\nquestion: q\n"
             "scenario: scenarios/studies/gpt_oss_20b_decode_8xh100.yaml\n"
             "points:\n  - {name: one, trace.steps: 1}\n"
             "answer: [\"SELECT name || step_ns FROM point JOIN settled USING (run_id)\"]\n") ==
            STATUS_OK,
        "%s", error.text);
    cr_expect_str_eq(sweep_study_point_name(&study.points, 0), "one");
}

Test(case_study, a_list_of_faults_is_one_setting)
{
    const struct sweep_setting *setting[SWEEP_KEYS_MAX];
    char label[SWEEP_LABEL];
    cr_assert(load("version: 1\nquestion: q\n"
                   "scenario: scenarios/studies/gpt_oss_20b_decode_8xh100.yaml\n"
                   "points:\n  - {name: slow, faults: [{rank: 3, compute: 0.8}, {rank: 2}], "
                   "trace.path: [\"a, b\", 'it''s']}\nanswer: [\"SELECT ''\"]\n") == STATUS_OK,
              "%s", error.text);
    cr_assert(sweep_study_point(&study.points, 0, setting, label) == 3);
    cr_expect_str_eq(setting[1]->assignment, "faults=[{rank: 3, compute: 0.8}, {rank: 2}]");
    cr_expect_str_eq(setting[2]->assignment, "trace.path=['a, b', 'it''s']");
    cr_expect(setting[0]->assignment == NULL);
    cr_expect(strncmp(label, "slow faults=[{rank: 3", 21) == 0, "%s", label);
}

Test(case_study, every_mistake_is_told_with_its_line)
{
    static const struct {
        const char *text;
        const char *expected;
    } cases[] = {
        {HEAD, "a study says its question and how the answer follows"},
        {HEAD "answer: SELECT 1\n", ":5: answer: expected a list of queries"},
        {HEAD "answer: [SELEKT 1]\n", ":5: answer: near \"SELEKT\": syntax error"},
        {HEAD "answer: [SELECT wrong FROM point]\n", ":5: answer: no such column: wrong"},
        {HEAD "answer: [DELETE FROM run]\n", ":5: answer: expected a query"},
        {HEAD "answer: [\"ATTACH 'x' AS y\"]\n", ":5: answer: expected a query"},
        {HEAD "answer: [WITH p AS (SELECT 1) DELETE FROM run]\n",
         ":5: answer: a query that writes"},
        {HEAD "answer: [SELECT 1; SELECT 2]\n", ":5: answer: expected one query"},
        {HEAD "answer: [{a: b}]\n", ":5: answer: expected a text"},
        {HEAD "answer: [SELECT 1]\nnotes: x\n", ":6: notes: expected a list"},
        {HEAD "answer: [SELECT 1]\nfigure: []\n", ":6: figure: unknown key"},
        {HEAD "answer: [SELECT 1]\nfigures: {}\n", ":6: figures: expected a list of figures"},
        {HEAD "answer: [SELECT 1]\nfigures: [1]\n", ":6: figures: expected keys and values"},
        {HEAD "answer: [SELECT 1]\n" FIGURE "    x: a\n    y: b\n    rows: SELECT 1 AS a\n",
         ":14: rows: the query returns no column b"},
        {HEAD "answer: [SELECT 1]\n" FIGURE
              "    x: a\n    y: a\n    series: s\n    rows: SELECT 1 AS a\n",
         "the query returns no column s"},
        {HEAD "answer: [SELECT 1]\n" FIGURE "    x: a\n    y: a\n    kind: pie\n    rows: S\n",
         "kind"},
        {HEAD "answer: [SELECT 1]\nfigures:\n  - {name: A-b, title: t, caption: c, x: a, y: a, "
              "x_label: x, y_label: y, rows: SELECT 1 AS a}\n",
         "a figure's name is made of a-z, 0-9 and _"},
        {"version: 1\nquestion: q\nplan: none_such\n", "is neither a file nor one of the plans"},
        {"version: 1\nquestion: q\nplan: deepseek_r1_h800\nvary: {}\n", ":4: vary: unknown key"},
        {"version: 1\nplan: deepseek_r1_h800\n", "question"},
        {"version: 1\nmodel: deepseek-v3\nphase: decode\n", "is a scenario, one point"},
        {"[1, 2]\n", ""},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cr_expect(load(cases[i].text) == STATUS_INVALID, "case %zu", i);
        cr_expect(strstr(error.text, cases[i].expected) != NULL, "case %zu: %s", i, error.text);
        case_study_free(&study);
    }
}

Test(case_study, all_that_are_shipped_can_be_read)
{
    struct arena arena = {0};
    struct case_study_entry *entry = NULL;
    int32_t count = 0;
    error = (struct error){0};
    cr_assert(case_study_list(&entry, &count, &arena, &error) == STATUS_OK, "%s", error.text);
    cr_expect(count >= 8, "%d studies", (int)count);
    for (int32_t i = 0; i < count; i++) {
        cr_expect(case_study_load(&study, entry[i].name, &error) == STATUS_OK, "%s: %s",
                  entry[i].name, error.text);
        cr_expect(study.num_answers > 0, "%s has no answer", entry[i].name);
        cr_expect_str_eq(study.question, entry[i].question);
        case_study_free(&study);
    }
    arena_free(&arena);
}
