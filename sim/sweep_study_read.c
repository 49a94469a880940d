/*
 * sweep_study_read.c -- reads a study file and spans its points.
 *
 * Only the numbers of combinations that are not excluded are kept.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "data.h"
#include "sweep_internal.h"
#include "sweep_study.h"

struct study_file {
    int32_t version;
    char question[TEXT_BYTES];
    char scenario[PATH_BYTES];
    struct yaml_node *set;
    struct yaml_node *points;
    struct yaml_node *vary;
    struct yaml_node *exclude;
    struct yaml_node *answer;
    struct yaml_node *figures;
    struct yaml_node *notes;
};

static const struct yaml_field study_fields[] = {
    {.key = "version",
     .type = YAML_INT32,
     .offset = offsetof(struct study_file, version),
     .required = true,
     .min = 1,
     .max = 1},
    {.key = "question",
     .type = YAML_TEXT,
     .offset = offsetof(struct study_file, question),
     .size = TEXT_BYTES},
    {.key = "scenario",
     .type = YAML_TEXT,
     .offset = offsetof(struct study_file, scenario),
     .size = PATH_BYTES,
     .required = true},
    {.key = "set", .type = YAML_NODE, .offset = offsetof(struct study_file, set)},
    {.key = "points", .type = YAML_NODE, .offset = offsetof(struct study_file, points)},
    {.key = "vary", .type = YAML_NODE, .offset = offsetof(struct study_file, vary)},
    {.key = "exclude", .type = YAML_NODE, .offset = offsetof(struct study_file, exclude)},
    {.key = "answer", .type = YAML_NODE, .offset = offsetof(struct study_file, answer)},
    {.key = "figures", .type = YAML_NODE, .offset = offsetof(struct study_file, figures)},
    {.key = "notes", .type = YAML_NODE, .offset = offsetof(struct study_file, notes)},
    {0},
};

/* A study being read. */
struct reader {
    struct sweep_study *study;
    struct study_file file;
    struct error *error;
    enum status status; /* of the worst problem so far */
};

static void complain(struct reader *reader, const struct yaml_node *node, const char *key,
                     const char *text)
{
    reader->status = yaml_complain(reader->error, node, key, text);
}

/* Memory of the study's; NULL, and told, when there is none. */
static void *take(struct reader *reader, size_t count, size_t size)
{
    void *memory = arena_alloc(&reader->study->arena, count, size);
    if (memory == NULL) {
        reader->status = error_add(reader->error, STATUS_NO_MEMORY, "out of memory");
    }
    return memory;
}

static void read_setting(struct reader *reader, struct sweep_setting *setting, const char *key,
                         const struct yaml_node *value)
{
    const char *problem = sweep_setting_read(setting, key, value, &reader->study->arena);
    if (problem != NULL) {
        complain(reader, value, key, problem);
    }
}

/* The keys of one mapping, each with one value. */
static struct sweep_settings read_map(struct reader *reader, const struct yaml_node *map,
                                      const char *what)
{
    struct sweep_settings settings = {0};
    if (map->kind != YAML_MAPPING) {
        complain(reader, map, what, "expected keys and values");
        return settings;
    }
    int32_t count = yaml_count(map);
    settings.setting = take(reader, (size_t)count, sizeof *settings.setting);
    if (settings.setting == NULL) {
        return settings;
    }
    for (const struct yaml_node *child = map->child; child != NULL; child = child->next) {
        read_setting(reader, &settings.setting[settings.count++], child->key, child);
    }
    return settings;
}

static void read_points(struct reader *reader)
{
    const struct yaml_node *points = reader->file.points;
    if (points != NULL && (points->kind != YAML_SEQUENCE || points->child == NULL)) {
        complain(reader, points, "points", "expected a list of keys and values");
        return;
    }
    int32_t count = points != NULL ? yaml_count(points) : 1;
    reader->study->item = take(reader, (size_t)count, sizeof *reader->study->item);
    reader->study->num_items = reader->study->item != NULL ? count : 0;
    if (points == NULL || reader->study->item == NULL) {
        return;
    }
    struct sweep_settings *item = reader->study->item;
    for (const struct yaml_node *child = points->child; child != NULL; child = child->next) {
        *item = read_map(reader, child, "points");
        for (int32_t i = 0; i < item->count; i++) {
            struct sweep_setting *setting = &item->setting[i];
            bool is_name = setting->key != NULL && strcmp(setting->key, "name") == 0;
            setting->assignment = is_name ? NULL : setting->assignment;
        }
        item++;
    }
}

static struct sweep_settings read_axis(struct reader *reader, const struct yaml_node *values)
{
    struct sweep_settings axis = {0};
    if (values->kind != YAML_SEQUENCE || values->child == NULL) {
        complain(reader, values, values->key, "expected a list of values, as in [1, 2, 4]");
        return axis;
    }
    int32_t count = yaml_count(values);
    axis.setting = take(reader, (size_t)count, sizeof *axis.setting);
    if (axis.setting == NULL) {
        return axis;
    }
    for (const struct yaml_node *child = values->child; child != NULL; child = child->next) {
        for (int32_t before = 0; before < axis.count; before++) {
            if (child->kind == YAML_SCALAR && axis.setting[before].value != NULL &&
                strcmp(axis.setting[before].value, child->text) == 0) {
                complain(reader, child, values->key, "a value that is in the list already");
            }
        }
        read_setting(reader, &axis.setting[axis.count++], values->key, child);
    }
    return axis;
}

static void read_axes(struct reader *reader)
{
    const struct yaml_node *vary = reader->file.vary;
    if (vary == NULL) {
        return;
    }
    if (vary->kind != YAML_MAPPING || vary->child == NULL) {
        complain(reader, vary, "vary", "expected keys, each with a list of values");
        return;
    }
    int32_t count = yaml_count(vary);
    reader->study->axis = take(reader, (size_t)count, sizeof *reader->study->axis);
    if (reader->study->axis == NULL) {
        return;
    }
    for (const struct yaml_node *child = vary->child; child != NULL; child = child->next) {
        reader->study->axis[reader->study->num_axes++] = read_axis(reader, child);
    }
}

/* Two keys of one point that say different things would depend on their order. */
static void check_keys(struct reader *reader)
{
    const struct sweep_study *study = reader->study;
    for (int32_t axis = 0; axis < study->num_axes; axis++) {
        const struct yaml_node *vary = reader->file.vary->child;
        for (int32_t i = 0; i < axis; i++) {
            vary = vary->next;
        }
        for (int32_t item = 0; item < study->num_items; item++) {
            for (int32_t i = 0; i < study->item[item].count; i++) {
                const struct sweep_setting *setting = &study->item[item].setting[i];
                if (setting->key != NULL && strcmp(setting->key, vary->key) == 0) {
                    reader->status =
                        error_add(reader->error, STATUS_INVALID,
                                  "%s:%d: %s: is varied in line %d too: give it in one place",
                                  study->path, (int)setting->line, setting->key, (int)vary->line);
                }
            }
        }
    }
    for (int32_t item = 0; item < study->num_items; item++) {
        if (study->common.count + study->item[item].count + study->num_axes > SWEEP_KEYS_MAX) {
            reader->status =
                error_add(reader->error, STATUS_INVALID, "%s: more than %d keys of one point",
                          study->path, SWEEP_KEYS_MAX);
        }
    }
}

/* The value of a point's key, or NULL: it leaves the key alone. */
static const char *value_of(const struct sweep_setting *const *setting, int32_t count,
                            const char *key)
{
    for (int32_t i = count - 1; i >= 0; i--) {
        if (strcmp(setting[i]->key, key) == 0) {
            return setting[i]->value;
        }
    }
    return NULL;
}

static bool is_among(const char *value, const struct yaml_node *wanted)
{
    if (value == NULL || wanted->kind == YAML_SCALAR) {
        return value != NULL && strcmp(value, wanted->text) == 0;
    }
    for (const struct yaml_node *one = wanted->child; one != NULL; one = one->next) {
        if (strcmp(value, one->text) == 0) {
            return true;
        }
    }
    return false;
}

static bool matches(const struct sweep_setting *const *setting, int32_t count,
                    const struct yaml_node *item)
{
    for (const struct yaml_node *key = item->child; key != NULL; key = key->next) {
        if (!is_among(value_of(setting, count, key->key), key)) {
            return false;
        }
    }
    return true;
}

static bool check_exclude(struct reader *reader, const struct yaml_node *exclude)
{
    bool is_sound = exclude->kind == YAML_SEQUENCE;
    for (const struct yaml_node *item = exclude->child; is_sound && item != NULL;
         item = item->next) {
        is_sound = item->kind == YAML_MAPPING && item->child != NULL;
        for (const struct yaml_node *key = item->child; is_sound && key != NULL; key = key->next) {
            is_sound = key->kind != YAML_MAPPING;
            for (const struct yaml_node *one = key->child; is_sound && one != NULL;
                 one = one->next) {
                is_sound = one->kind == YAML_SCALAR;
            }
        }
    }
    if (!is_sound) {
        complain(reader, exclude, "exclude", "expected a list of keys with a value or values");
    }
    return is_sound;
}

/* Returns the number of combinations, or 0 and a problem when there are too many. */
static int64_t count_combinations(struct reader *reader)
{
    int64_t count = reader->study->num_items;
    for (int32_t axis = 0; axis < reader->study->num_axes; axis++) {
        count *= reader->study->axis[axis].count;
        if (count > SWEEP_POINTS_MAX) {
            reader->status = error_add(reader->error, STATUS_INVALID, "%s: more than %d points",
                                       reader->study->path, SWEEP_POINTS_MAX);
            return 0;
        }
    }
    return count;
}

/* Keeps the combinations that no item of exclude names; an item that names none is a mistake. */
static void span_points(struct reader *reader)
{
    struct sweep_study *study = reader->study;
    const struct yaml_node *exclude = reader->file.exclude;
    int64_t num_combinations = count_combinations(reader);
    if (num_combinations == 0 || (exclude != NULL && !check_exclude(reader, exclude))) {
        return;
    }
    study->combination = take(reader, (size_t)num_combinations, sizeof *study->combination);
    int32_t num_items = exclude != NULL ? yaml_count(exclude) : 0;
    int64_t *excluded = take(reader, (size_t)num_items + 1, sizeof *excluded);
    if (study->combination == NULL || excluded == NULL) {
        return;
    }
    for (int64_t combination = 0; combination < num_combinations; combination++) {
        const struct sweep_setting *setting[SWEEP_KEYS_MAX];
        int32_t count = sweep_study_settings(study, combination, setting);
        const struct yaml_node *item = exclude != NULL ? exclude->child : NULL;
        bool is_kept = true;
        for (int32_t i = 0; item != NULL; i++, item = item->next) {
            bool is_match = matches(setting, count, item);
            excluded[i] += is_match;
            is_kept = is_kept && !is_match;
        }
        if (is_kept) {
            study->combination[study->num_points++] = combination;
        }
    }
    const struct yaml_node *item = exclude != NULL ? exclude->child : NULL;
    for (int32_t i = 0; item != NULL; i++, item = item->next) {
        if (excluded[i] == 0) {
            complain(reader, item, "exclude", "matches no point");
        }
    }
    if (study->num_points == 0) {
        reader->status =
            error_add(reader->error, STATUS_INVALID, "%s: exclude leaves no point", study->path);
    }
}

/* Relative to the study, to the data directory, to where the command runs. */
static void find_scenario(struct reader *reader, const struct yaml_node *root)
{
    struct sweep_study *study = reader->study;
    const char *written = reader->file.scenario;
    const char *slash = strrchr(study->path, '/');
    int directory = slash != NULL && written[0] != '/' ? (int)(slash - study->path) + 1 : 0;
    int length = snprintf(study->scenario, PATH_BYTES, "%.*s%s", directory, study->path, written);
    if (length < PATH_BYTES && access(study->scenario, R_OK) == 0) {
        return;
    }
    length = snprintf(study->scenario, PATH_BYTES, "%s/%s", data_directory(), written);
    if (written[0] != '/' && length < PATH_BYTES && access(study->scenario, R_OK) == 0) {
        return;
    }
    memcpy(study->scenario, written, PATH_BYTES);
    if (access(written, R_OK) != 0) {
        complain(reader, yaml_get(root, "scenario"), "scenario",
                 "there is no such file beside the study, in the data directory or here");
    }
}

/* What to do where a scenario stands in a study's place. */
static const char scenario_given[] =
    "%s: is a scenario, one point (moesim run); a study names it and says what to vary, as in\n"
    "scenario: %s\nvary: {trace.tokens_per_rank: [16, 32, 64]}\n(see moesim sweep --help)";

static bool is_scenario(const struct yaml_node *root)
{
    return yaml_get(root, "scenario") == NULL &&
           (yaml_get(root, "inherits") != NULL || yaml_get(root, "phase") != NULL ||
            yaml_get(root, "parallel") != NULL);
}

enum status sweep_study_load(struct sweep_study *study, const char *path, struct error *error)
{
    struct reader reader = {.study = study, .error = error};
    struct yaml_node *root = NULL;
    *study = (struct sweep_study){0};
    enum status status = data_find(study->path, sizeof study->path, "sweeps", path, error);
    path = study->path;
    if (status == STATUS_OK) {
        status = yaml_load(&root, path, &study->arena, error);
    }
    if (status == STATUS_OK && is_scenario(root)) {
        return error_add(error, STATUS_INVALID, scenario_given, path, path);
    }
    if (status == STATUS_OK) {
        status = yaml_fill(&reader.file, root, study_fields, error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    study->answer = reader.file.answer;
    study->figures = reader.file.figures;
    study->notes = reader.file.notes;
    memcpy(study->question, reader.file.question, sizeof study->question);
    find_scenario(&reader, root);
    if (reader.file.set != NULL) {
        study->common = read_map(&reader, reader.file.set, "set");
    }
    read_points(&reader);
    read_axes(&reader);
    if (reader.status == STATUS_OK && reader.file.points == NULL && reader.file.vary == NULL) {
        reader.status = error_add(error, STATUS_INVALID,
                                  "%s: says neither what to vary nor which points to run", path);
    }
    if (reader.status == STATUS_OK) {
        check_keys(&reader);
    }
    if (reader.status == STATUS_OK) {
        span_points(&reader);
    }
    return reader.status;
}
