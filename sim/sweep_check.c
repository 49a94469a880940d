/*
 * sweep_check.c -- all points before the first: their problems, their ids, and which are done.
 */
#include <stdlib.h>
#include <string.h>

#include "digest.h"
#include "progress.h"
#include "sweep_internal.h"

#define PROBLEMS_MAX    256  /* told, of different wording */
#define POINTS_RELOADED 1000 /* to tell their problems; others are counted */

/* One point: its scenario loaded, its id. */
static enum status check_point(uint64_t *id, const struct sweep_source *source, int64_t point,
                               struct sweep_files *files, struct sweep_traces *traces,
                               struct error *error)
{
    char label[SWEEP_LABEL];
    struct scenario *scenario = calloc(1, sizeof *scenario);
    if (scenario == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    source->label(source->context, point, label);
    enum status status = source->scenario(source->context, point, scenario, error);
    if (status == STATUS_OK) {
        status = sweep_point_id(id, scenario, source->path(source->context, point), label, files,
                                traces, error);
    }
    scenario_free(scenario);
    free(scenario);
    return status;
}

/* A problem's wording, and in how many points it was. */
struct problem {
    uint64_t wording;
    char *line;
    int64_t num_points;
};

static void note(struct problem *problem, int32_t *count, const char *text)
{
    while (*text != '\0') {
        size_t length = strcspn(text, "\n");
        char *line = strndup(text, length);
        uint64_t wording = line != NULL ? digest_text(DIGEST_START, line) : 0;
        int32_t i = 0;
        while (i < *count && problem[i].wording != wording) {
            i++;
        }
        if (i < *count) {
            problem[i].num_points++;
            free(line);
        } else if (i < PROBLEMS_MAX && line != NULL) {
            problem[(*count)++] = (struct problem){wording, line, 1};
        } else {
            free(line);
        }
        text += length + (text[length] == '\n');
    }
}

/* Loads the points that have problems once more, in order, and tells each problem once. */
static enum status tell_problems(const struct sweep_source *source, const uint8_t *outcome,
                                 struct sweep_files *files, struct sweep_traces *traces,
                                 struct error *error)
{
    struct problem *problem = calloc(PROBLEMS_MAX, sizeof *problem);
    struct error *one = calloc(1, sizeof *one);
    int32_t count = 0;
    int64_t num_bad = 0;
    for (int64_t point = 0; point < source->num_points; point++) {
        if (outcome[point] != STATUS_OK && num_bad++ < POINTS_RELOADED && problem != NULL &&
            one != NULL) {
            uint64_t id = 0;
            *one = (struct error){0};
            if (check_point(&id, source, point, files, traces, one) != STATUS_OK) {
                note(problem, &count, one->text);
            }
        }
    }
    for (int32_t i = 0; i < count; i++) {
        if (problem[i].num_points == 1) {
            (void)error_add(error, STATUS_INVALID, "%s", problem[i].line);
        } else {
            (void)error_add(error, STATUS_INVALID, "%s (%lld points)", problem[i].line,
                            (long long)problem[i].num_points);
        }
        free(problem[i].line);
    }
    free(problem);
    free(one);
    return error_add(error, STATUS_INVALID, "%lld of %lld points have problems; none was simulated",
                     (long long)num_bad, (long long)source->num_points);
}

/* The ids of finished runs, sorted. */
struct known {
    uint64_t *id;
    int64_t count;
    int64_t capacity;
    bool is_full; /* no memory */
};

static bool keep_id(void *context, const struct store_row *row)
{
    struct known *known = context;
    if (known->count == known->capacity) {
        int64_t capacity = 2 * known->capacity + 1024;
        uint64_t *id = realloc(known->id, (size_t)capacity * sizeof *id);
        known->is_full = id == NULL;
        if (known->is_full) {
            return false;
        }
        known->id = id;
        known->capacity = capacity;
    }
    known->id[known->count++] = strtoull(row->value[0], NULL, 16);
    return true;
}

static int by_id(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

struct point_id {
    uint64_t id;
    int64_t point;
};

static int by_id_and_point(const void *a, const void *b)
{
    const struct point_id *left = a;
    const struct point_id *right = b;
    int order = by_id(&left->id, &right->id);
    return order != 0 ? order : (left->point > right->point) - (left->point < right->point);
}

/* Marks points that are done or the same as an earlier one; the others are to do. */
static enum status choose(struct sweep_plan *plan, const struct sweep_source *source,
                          const struct known *known, uint8_t *mark, struct error *error)
{
    struct point_id *sorted = malloc((size_t)source->num_points * sizeof *sorted + 1);
    plan->todo = malloc((size_t)source->num_points * sizeof *plan->todo + 1);
    if (sorted == NULL || plan->todo == NULL) {
        free(sorted);
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    for (int64_t point = 0; point < source->num_points; point++) {
        sorted[point] = (struct point_id){plan->run_id[point], point};
    }
    qsort(sorted, (size_t)source->num_points, sizeof *sorted, by_id_and_point);
    for (int64_t i = 0; i < source->num_points; i++) {
        bool is_same = i > 0 && sorted[i].id == sorted[i - 1].id;
        bool is_done = !is_same && bsearch(&sorted[i].id, known->id, (size_t)known->count,
                                           sizeof *known->id, by_id) != NULL;
        mark[sorted[i].point] = is_same || is_done;
        plan->num_same += is_same;
        plan->num_done += is_done;
    }
    free(sorted);
    for (int64_t point = 0; point < source->num_points; point++) {
        if (!mark[point]) {
            plan->todo[plan->num_todo++] = point;
        }
    }
    return STATUS_OK;
}

static enum status choose_missing(struct sweep_plan *plan, const struct sweep_source *source,
                                  struct store *store, uint8_t *mark, struct error *error)
{
    struct known known = {.capacity = 1024};
    known.id = malloc((size_t)known.capacity * sizeof *known.id);
    known.is_full = known.id == NULL;
    enum status status = STATUS_OK;
    if (!known.is_full && store != NULL) {
        status = store_query(store, "SELECT run_id FROM run WHERE complete = 1", NULL, keep_id,
                             &known, error);
    }
    if (known.is_full) {
        status = error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    if (status == STATUS_OK) {
        qsort(known.id, (size_t)known.count, sizeof *known.id, by_id);
        status = choose(plan, source, &known, mark, error);
    }
    free(known.id);
    return status;
}

enum status sweep_check(struct sweep_plan *plan, const struct sweep_source *source,
                        struct store *store, struct sweep_traces *traces, int32_t num_threads,
                        struct error *error)
{
    struct sweep_files *files = calloc(1, sizeof *files);
    uint8_t *outcome = calloc((size_t)source->num_points + 1, 1);
    plan->run_id = calloc((size_t)source->num_points + 1, sizeof *plan->run_id);
    if (files == NULL || outcome == NULL || plan->run_id == NULL) {
        free(files);
        free(outcome);
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    pthread_mutex_init(&files->mutex, NULL);
    struct progress progress;
    int64_t num_checked = 0;
    bool has_problems = false;
    progress_begin(&progress, "checking", "points");
#pragma omp parallel for schedule(dynamic, 8) num_threads(num_threads) reduction(|| : has_problems)
    for (int64_t point = 0; point < source->num_points; point++) {
        outcome[point] =
            (uint8_t)check_point(&plan->run_id[point], source, point, files, traces, NULL);
        has_problems = has_problems || outcome[point] != STATUS_OK;
#pragma omp critical(moesim_progress)
        progress_update(&progress, ++num_checked, source->num_points);
    }
    progress_end(&progress);
    enum status status = has_problems ? tell_problems(source, outcome, files, traces, error)
                                      : choose_missing(plan, source, store, outcome, error);
    pthread_mutex_destroy(&files->mutex);
    free(files);
    free(outcome);
    return status;
}

void sweep_plan_free(struct sweep_plan *plan)
{
    free(plan->run_id);
    free(plan->todo);
    *plan = (struct sweep_plan){0};
}
