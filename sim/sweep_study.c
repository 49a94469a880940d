/*
 * sweep_study.c -- the points of a study.
 *
 * A point is a number in a mixed radix: the item of `points`, then a digit for every key of `vary`,
 * the last fastest.
 */
#include "sweep_study.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int32_t sweep_study_settings(const struct sweep_study *study, int64_t combination,
                             const struct sweep_setting *setting[SWEEP_KEYS_MAX])
{
    int32_t count = 0;
    for (int32_t i = 0; i < study->common.count; i++) {
        setting[count++] = &study->common.setting[i];
    }
    int64_t radix = 1;
    for (int32_t axis = 0; axis < study->num_axes; axis++) {
        radix *= study->axis[axis].count;
    }
    const struct sweep_settings *item = &study->item[combination / radix];
    for (int32_t i = 0; i < item->count; i++) {
        setting[count++] = &item->setting[i];
    }
    for (int32_t axis = 0; axis < study->num_axes; axis++) {
        combination %= radix;
        radix /= study->axis[axis].count;
        setting[count++] = &study->axis[axis].setting[combination / radix];
    }
    assert(count <= SWEEP_KEYS_MAX);
    return count;
}

void sweep_study_free(struct sweep_study *study)
{
    arena_free(&study->arena);
    *study = (struct sweep_study){0};
}

int32_t sweep_study_point(const struct sweep_study *study, int64_t point,
                          const struct sweep_setting *setting[SWEEP_KEYS_MAX],
                          char label[SWEEP_LABEL])
{
    assert(point >= 0);
    assert(point < study->num_points);
    int32_t count = sweep_study_settings(study, study->combination[point], setting);
    size_t used = 0;
    label[0] = '\0';
    for (int32_t i = study->common.count; i < count && used < SWEEP_LABEL; i++) {
        bool is_name = setting[i]->assignment == NULL;
        used +=
            (size_t)snprintf(label + used, SWEEP_LABEL - used, "%s%s%s%s", used > 0 ? " " : "",
                             is_name ? "" : setting[i]->key, is_name ? "" : "=", setting[i]->value);
    }
    return count;
}

const char *sweep_study_point_name(const struct sweep_study *study, int64_t point)
{
    const struct sweep_setting *setting[SWEEP_KEYS_MAX];
    int32_t count = sweep_study_settings(study, study->combination[point], setting);
    for (int32_t i = 0; i < count; i++) {
        if (setting[i]->assignment == NULL) {
            return setting[i]->value;
        }
    }
    return "";
}

/* A problem "--set KEY: ..." of a value gets the place in the study where the value stands. */
static void tell_place(const struct sweep_study *study, const char *line, int length,
                       const struct sweep_setting *const *setting, int32_t count,
                       struct error *error)
{
    static const char mark[] = "--set ";
    const char *rest = line + sizeof mark - 1;
    bool is_override = strncmp(line, mark, sizeof mark - 1) == 0;
    for (int32_t i = count - 1; is_override && i >= 0; i--) {
        size_t key = strlen(setting[i]->key);
        if (strncmp(rest, setting[i]->key, key) == 0 && strchr(":.=", rest[key]) != NULL) {
            (void)error_add(error, STATUS_INVALID, "%s:%d: %.*s", study->path,
                            (int)setting[i]->line, length - (int)(rest - line), rest);
            return;
        }
    }
    (void)error_add(error, STATUS_INVALID, "%.*s", length, line);
}

static void study_label(const void *context, int64_t point, char label[SWEEP_LABEL])
{
    const struct sweep_setting *setting[SWEEP_KEYS_MAX];
    (void)sweep_study_point(context, point, setting, label);
}

static const char *study_path(const void *context, int64_t point)
{
    (void)point; /* all have the same */
    return ((const struct sweep_study *)context)->scenario;
}

static enum status study_scenario(const void *context, int64_t point, struct scenario *scenario,
                                  struct error *error)
{
    const struct sweep_study *study = context;
    const struct sweep_setting *setting[SWEEP_KEYS_MAX];
    const char *override[2 * SWEEP_KEYS_MAX];
    char label[SWEEP_LABEL];
    int32_t num_settings = sweep_study_point(study, point, setting, label);
    int32_t count = 0;
    for (int32_t i = 0; i < num_settings; i++) {
        if (setting[i]->assignment != NULL) {
            override[count++] = setting[i]->assignment;
        }
    }
    for (int32_t i = 0; i < study->num_overrides && i < SWEEP_KEYS_MAX; i++) {
        override[count++] = study->override[i];
    }
    struct error *problems = calloc(1, sizeof *problems);
    if (problems == NULL) {
        *scenario = (struct scenario){0};
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    enum status status = scenario_load(scenario, study->scenario, override, count, problems);
    for (const char *line = problems->text; *line != '\0';) {
        int length = (int)strcspn(line, "\n");
        tell_place(study, line, length, setting, num_settings, error);
        line += length + (line[length] == '\n');
    }
    free(problems);
    if (study->question[0] != '\0') {
        memcpy(scenario->question, study->question, sizeof scenario->question);
    }
    return status;
}

struct sweep_source sweep_study_source(const struct sweep_study *study)
{
    return (struct sweep_source){study->num_points, study, study_label, study_path, study_scenario};
}
