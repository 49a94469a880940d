/* case_study_read.c -- a study's file: what is simulated, and what is asked of the results. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "case_study.h"
#include "data.h"
#include "store_points.h"
#include "textfile.h"
#include "yaml_file.h"

static const char *const kinds[] = {"lines", "bars", NULL};
static const char *const logs[] = {"none", "x", "y", "xy", NULL};

/* The keys of a study that names a plan. */
struct plan_file {
    int32_t version;
    char question[TEXT_BYTES];
    char plan[PATH_BYTES];
    struct yaml_node *answer;
    struct yaml_node *notes;
};

#define TEXT_FIELD(owner, name, is_required)                                                       \
    {                                                                                              \
        .key = #name, .type = YAML_TEXT, .offset = offsetof(struct owner, name),                   \
        .size = sizeof((struct owner *)0)->name, .required = is_required                           \
    }

static const struct yaml_field plan_fields[] = {
    {.key = "version",
     .type = YAML_INT32,
     .offset = offsetof(struct plan_file, version),
     .required = true,
     .min = 1,
     .max = 1},
    TEXT_FIELD(plan_file, question, true),
    TEXT_FIELD(plan_file, plan, true),
    {.key = "answer", .type = YAML_NODE, .offset = offsetof(struct plan_file, answer)},
    {.key = "notes", .type = YAML_NODE, .offset = offsetof(struct plan_file, notes)},
    {0},
};

/* A figure being read. */
struct figure_file {
    struct case_figure figure; /* first: the table counts from its start */
    struct yaml_node *rows;
};

static const struct yaml_field figure_fields[] = {
    TEXT_FIELD(case_figure, name, true),
    TEXT_FIELD(case_figure, title, true),
    TEXT_FIELD(case_figure, caption, true),
    {.key = "kind",
     .type = YAML_CHOICE,
     .offset = offsetof(struct case_figure, kind),
     .choices = kinds},
    TEXT_FIELD(case_figure, x, true),
    TEXT_FIELD(case_figure, y, true),
    TEXT_FIELD(case_figure, series, false),
    TEXT_FIELD(case_figure, x_label, true),
    TEXT_FIELD(case_figure, y_label, true),
    {.key = "log",
     .type = YAML_CHOICE,
     .offset = offsetof(struct case_figure, log),
     .choices = logs},
    {.key = "rows",
     .type = YAML_NODE,
     .offset = offsetof(struct figure_file, rows),
     .required = true},
    {0},
};

/* A study being read. */
struct reader {
    struct case_study *study;
    struct store *empty; /* results without a run, for queries to be tried on; NULL: of a plan */
    struct error *error;
    enum status status; /* of the worst problem so far */
};

static void complain(struct reader *reader, const struct yaml_node *node, const char *key,
                     const char *text)
{
    reader->status = yaml_complain(reader->error, node, key, text);
}

/* A text of the study's, or NULL and told. */
static const char *keep(struct reader *reader, const struct yaml_node *node, const char *key)
{
    if (node->kind != YAML_SCALAR || node->text[0] == '\0') {
        complain(reader, node, key, "expected a text");
        return NULL;
    }
    const char *text = arena_strdup(&reader->study->arena, node->text);
    if (text == NULL) {
        reader->status = error_add(reader->error, STATUS_NO_MEMORY, "out of memory");
    }
    return text;
}

/* A query, tried where there is something to try it on; NULL and told when it is none. */
static const char *keep_query(struct reader *reader, const struct yaml_node *node, const char *key,
                              const char *const *column, int32_t num_columns)
{
    char problem[STORE_PROBLEM] = "";
    const char *sql = keep(reader, node, key);
    if (sql != NULL && reader->empty != NULL &&
        store_check_query(reader->empty, sql, column, num_columns, problem) != STATUS_OK) {
        reader->status = error_add(reader->error, STATUS_NO_MEMORY, "out of memory");
    }
    if (problem[0] != '\0') {
        complain(reader, node, key, problem);
    }
    return sql;
}

/* The texts of a list. is_query: each is one. */
static const char **read_texts(struct reader *reader, int32_t *count, const struct yaml_node *list,
                               const char *key, bool is_query)
{
    if (list == NULL) {
        return NULL;
    }
    if (list->kind != YAML_SEQUENCE || list->child == NULL) {
        complain(reader, list, key, is_query ? "expected a list of queries" : "expected a list");
        return NULL;
    }
    const char **text = arena_alloc(&reader->study->arena, (size_t)yaml_count(list), sizeof *text);
    if (text == NULL) {
        reader->status = error_add(reader->error, STATUS_NO_MEMORY, "out of memory");
        return NULL;
    }
    for (const struct yaml_node *child = list->child; child != NULL; child = child->next) {
        text[(*count)++] =
            is_query ? keep_query(reader, child, key, NULL, 0) : keep(reader, child, key);
    }
    return text;
}

static void check_name(struct reader *reader, const struct case_figure *figure,
                       const struct yaml_node *node)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789_";
    if (figure->name[strspn(figure->name, letters)] != '\0' || figure->name[0] == '\0') {
        complain(reader, node, "name", "a figure's name is made of a-z, 0-9 and _");
    }
    for (int32_t i = 0; i < reader->study->num_figures; i++) {
        if (strcmp(reader->study->figure[i].name, figure->name) == 0) {
            complain(reader, node, "name", "another figure has it too");
        }
    }
}

static void read_figure(struct reader *reader, const struct yaml_node *node)
{
    struct figure_file *file = calloc(1, sizeof *file);
    enum status status =
        file == NULL ? error_add(reader->error, STATUS_NO_MEMORY, "out of memory")
        : node->kind != YAML_MAPPING
            ? error_add(reader->error, STATUS_INVALID, "%s:%d: figures: expected keys and values",
                        node->file, (int)node->line)
            : yaml_fill(file, node, figure_fields, reader->error);
    if (status == STATUS_OK) {
        struct case_figure *figure = &file->figure;
        const char *const column[] = {figure->x, figure->y, figure->series};
        check_name(reader, figure, node);
        figure->line = node->line;
        figure->sql =
            keep_query(reader, file->rows, "rows", column, figure->series[0] != '\0' ? 3 : 2);
        reader->study->figure[reader->study->num_figures++] = *figure;
    } else {
        reader->status = status;
    }
    free(file);
}

static void read_figures(struct reader *reader, const struct yaml_node *list)
{
    struct case_study *study = reader->study;
    if (list == NULL) {
        return;
    }
    if (list->kind != YAML_SEQUENCE || list->child == NULL) {
        complain(reader, list, "figures", "expected a list of figures, each of keys and values");
        return;
    }
    study->figure = arena_alloc(&study->arena, (size_t)yaml_count(list), sizeof *study->figure);
    if (study->figure == NULL) {
        reader->status = error_add(reader->error, STATUS_NO_MEMORY, "out of memory");
        return;
    }
    for (const struct yaml_node *node = list->child; node != NULL; node = node->next) {
        read_figure(reader, node);
    }
}

static enum status read_points(struct reader *reader)
{
    struct case_study *study = reader->study;
    enum status status = sweep_study_load(&study->points, study->path, reader->error);
    if (status != STATUS_OK) {
        return status;
    }
    memcpy(study->question, study->points.question, sizeof study->question);
    if (study->question[0] == '\0' || study->points.answer == NULL) {
        return error_add(reader->error, STATUS_INVALID,
                         "%s: a study says its question and how the answer follows: question, "
                         "answer (see moesim study --help)",
                         study->path);
    }
    status = store_open(&reader->empty, ":memory:", true, reader->error);
    if (status == STATUS_OK) {
        status = store_points(reader->empty, NULL, NULL, 0, reader->error);
    }
    if (status == STATUS_OK) {
        study->answer =
            read_texts(reader, &study->num_answers, study->points.answer, "answer", true);
        study->note = read_texts(reader, &study->num_notes, study->points.notes, "notes", false);
        read_figures(reader, study->points.figures);
    }
    store_close(reader->empty);
    return status;
}

static enum status read_plan(struct reader *reader, const struct yaml_node *root)
{
    struct case_study *study = reader->study;
    struct plan_file file = {0};
    enum status status = yaml_fill(&file, root, plan_fields, reader->error);
    if (status == STATUS_OK) {
        status = data_find(study->plan, sizeof study->plan, "plans", file.plan, reader->error);
    }
    if (status == STATUS_OK) {
        memcpy(study->question, file.question, sizeof study->question);
        study->answer = read_texts(reader, &study->num_answers, file.answer, "answer", true);
        study->note = read_texts(reader, &study->num_notes, file.notes, "notes", false);
    }
    return status;
}

enum status case_study_load(struct case_study *study, const char *name, struct error *error)
{
    struct reader reader = {.study = study, .error = error};
    struct yaml_node *root = NULL;
    *study = (struct case_study){0};
    enum status status =
        data_find_with(study->path, sizeof study->path, "studies", "answer", true, name, error);
    if (status == STATUS_OK) {
        data_stem(study->name, sizeof study->name, study->path);
        status = text_read(&study->text, study->path, &study->arena, error);
    }
    if (status == STATUS_OK) {
        status = yaml_parse(&root, study->text, study->path, &study->arena, error);
    }
    if (status == STATUS_OK) {
        status = yaml_get(root, "plan") != NULL ? read_plan(&reader, root) : read_points(&reader);
    }
    return status != STATUS_OK ? status : reader.status;
}

void case_study_free(struct case_study *study)
{
    sweep_study_free(&study->points);
    arena_free(&study->arena);
    *study = (struct case_study){0};
}

/* The question of a file that is a study; NULL: it is a scenario, or cannot be read. */
static const char *question_of(const char *name, struct arena *arena)
{
    char path[PATH_BYTES];
    struct yaml_node *root = NULL;
    if (data_find(path, sizeof path, "studies", name, NULL) != STATUS_OK ||
        yaml_load(&root, path, arena, NULL) != STATUS_OK) {
        return NULL;
    }
    const struct yaml_node *question = yaml_get(root, "question");
    bool is_study = yaml_get(root, "answer") != NULL || yaml_get(root, "plan") != NULL;
    return is_study && question != NULL && question->kind == YAML_SCALAR ? question->text : NULL;
}

enum status case_study_list(struct case_study_entry **entry, int32_t *count, struct arena *arena,
                            struct error *error)
{
    const char *const *names = NULL;
    int32_t num_names = data_list(&names, "studies", arena);
    *count = 0;
    if (num_names == DATA_NO_DIRECTORY) {
        return error_add(error, STATUS_IO, "%s/scenarios/studies: cannot be read",
                         data_directory());
    }
    *entry = num_names < 0 ? NULL : arena_alloc(arena, (size_t)num_names + 1, sizeof **entry);
    if (*entry == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    for (int32_t i = 0; i < num_names; i++) {
        const char *question = question_of(names[i], arena);
        if (question != NULL) {
            (*entry)[(*count)++] = (struct case_study_entry){names[i], question};
        }
    }
    return STATUS_OK;
}
