/*
 * step_time_table.c -- makes the table: points where they are needed.
 *
 * Points begin at powers of two. A run in the middle (geometric mean) of every interval tests the
 * line; where it is off by more than the tolerance, the two halves are tested in turn. Every run
 * joins the table.
 */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "serve/step_time_internal.h"

#define ROUNDS_MAX        4 /* of halving intervals */
#define TOLERANCE_DEFAULT 0.02

static void find_kinds(struct step_time *step_time)
{
    const struct moe_model *model = &step_time->scenario.model;
    for (int32_t layer = 0; layer < model->num_layers; layer++) {
        int64_t window = model_attended_tokens(model, layer, INT32_MAX);
        int32_t kind = 0;
        while (kind < step_time->num_kinds && step_time->kind[kind].window != window) {
            kind++;
        }
        assert(kind < 2); /* a model has one window */
        if (kind == step_time->num_kinds) {
            step_time->kind[step_time->num_kinds++] =
                (struct attention_span){.layer = layer, .window = window};
        }
        step_time->kind[kind].num_layers++;
    }
}

static int compare_points(const void *left, const void *right)
{
    const struct step_point *a = left;
    const struct step_point *b = right;
    return (step_point_tokens(a) > step_point_tokens(b)) -
           (step_point_tokens(a) < step_point_tokens(b));
}

/* More tokens never take less time: what is lower by the luck of sampled steps is lifted. */
static void make_monotone(struct step_time *step_time)
{
    for (int32_t i = 1; i < step_time->num_points; i++) {
        struct step_point *point = &step_time->point[i];
        point->own_ns = fmax(point->own_ns, point[-1].own_ns);
        for (int32_t j = 0; j < step_time->num_contexts; j++) {
            point->rest_ns[j] = fmax(point->rest_ns[j], point[-1].rest_ns[j]);
        }
    }
}

static void add_points(struct step_time *step_time, const struct step_point *point, int32_t count)
{
    assert(step_time->num_points + count <= step_time->capacity);
    memcpy(&step_time->point[step_time->num_points], point, (size_t)count * sizeof *point);
    step_time->num_points += count;
    qsort(step_time->point, (size_t)step_time->num_points, sizeof *point, compare_points);
}

/* Takes a point from the store, or simulates and keeps it. */
static enum status find_point(struct step_point *point, const struct step_time *step_time,
                              const struct step_store *store, struct error *error)
{
    bool found = false;
    enum status status =
        store == NULL ? STATUS_OK : store->find(store->context, point, &found, error);
    if (status != STATUS_OK || found) {
        return status;
    }
    status = step_point_run(point, step_time, error);
    return status == STATUS_OK && store != NULL ? store->keep(store->context, point, error)
                                                : status;
}

/* Points are independent, so they run side by side; problems are told in their order. */
static enum status run_points(struct step_time *step_time, struct step_point *point, int32_t count,
                              const struct step_time_options *options, struct error *error)
{
    enum status *status = calloc((size_t)count, sizeof *status);
    struct error *problem = calloc((size_t)count, sizeof *problem);
    enum status worst = status != NULL && problem != NULL ? STATUS_OK : STATUS_NO_MEMORY;
    int32_t num_threads = options->num_threads > 0 ? options->num_threads : 1;
    bool stopped = false;
    int32_t done = 0;
    if (worst == STATUS_OK) {
#pragma omp parallel for schedule(dynamic) num_threads(num_threads)
        for (int32_t i = count - 1; i >= 0; i--) { /* the longest first */
            bool skip = false;
#pragma omp critical(step_time_progress)
            skip = stopped;
            if (skip) {
                continue;
            }
            status[i] = find_point(&point[i], step_time, options->store, &problem[i]);
#pragma omp critical(step_time_progress)
            {
                int32_t before = step_time->error.num_runs;
                done++;
                stopped = status[i] != STATUS_OK ||
                          (options->point_done != NULL &&
                           !options->point_done(options->context, before + done, before + count)) ||
                          stopped;
            }
        }
    }
    for (int32_t i = count - 1; i >= 0 && worst == STATUS_OK; i--) {
        worst = status[i];
        if (worst != STATUS_OK) {
            *error = problem[i];
        }
    }
    if (worst == STATUS_OK && stopped) {
        worst = error_add(error, STATUS_INVALID, "interrupted");
    }
    step_time->error.num_runs += done;
    free(status);
    free(problem);
    return worst;
}

static int compare_doubles(const void *left, const void *right)
{
    double a = *(const double *)left;
    double b = *(const double *)right;
    return (a > b) - (a < b);
}

/* Largest relative error of the line at a point that has just been run, attention over the cache
 * added: what hides behind attention is as large as that, and jumps where attention does. */
static double test_point(const struct step_time *step_time, const struct step_point *point)
{
    double worst = 0.0;
    for (int32_t i = 0; i < step_time->num_contexts; i++) {
        double line_ns = step_look_up(step_time, STEP_COLUMN_REST, (double)point->tokens_per_rank,
                                      point->extra_ns[i]);
        double off = (line_ns - point->rest_ns[i]) / (point->extra_ns[i] + point->rest_ns[i]);
        worst = fmax(worst, fabs(off));
    }
    return worst;
}

/* Runs the middles of the intervals that are marked, and marks their halves where the line was off.
 * fresh and is_open hold num_points more than there are. Returns how many were run. */
static enum status refine(struct step_time *step_time, bool *is_open, int32_t *num_run,
                          const struct step_time_options *options, struct error *error)
{
    double tolerance = options->tolerance > 0.0 ? options->tolerance : TOLERANCE_DEFAULT;
    int32_t count = 0;
    struct step_point *fresh = calloc((size_t)step_time->num_points, sizeof *fresh);
    if (fresh == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t i = 0; i + 1 < step_time->num_points; i++) {
        double product = (double)step_time->point[i].tokens_per_rank *
                         (double)step_time->point[i + 1].tokens_per_rank;
        int32_t middle = (int32_t)lround(sqrt(product));
        if (is_open[step_time->point[i].tokens_per_rank] &&
            middle > step_time->point[i].tokens_per_rank &&
            middle < step_time->point[i + 1].tokens_per_rank) {
            fresh[count++] =
                (struct step_point){.tokens_per_rank = middle, .reads = step_time->is_reading};
        }
    }
    enum status status = STATUS_OK;
    if (count > 0) {
        status = run_points(step_time, fresh, count, options, error);
    }
    for (int32_t i = 0; i < count && status == STATUS_OK; i++) {
        double off = test_point(step_time, &fresh[i]);
        int32_t left = step_interval(step_time, (double)fresh[i].tokens_per_rank);
        step_time->tested[step_time->error.num_tests++] = off;
        is_open[step_time->point[left].tokens_per_rank] = off > tolerance;
        is_open[fresh[i].tokens_per_rank] = off > tolerance;
    }
    if (status == STATUS_OK) {
        add_points(step_time, fresh, count);
        make_monotone(step_time);
    }
    *num_run = count;
    free(fresh);
    return status;
}

/* Of one token in all, two, four and so on, while there are fewer than ranks: steps that decode
 * only, for prompts have more. Returns how many. */
static int32_t share_tokens(struct step_point *point, const struct step_time *step_time)
{
    const struct scenario *scenario = &step_time->scenario;
    int32_t count = 0;
    if (!step_time->has_trace || scenario->phase != PHASE_DECODE) {
        return 0;
    }
    for (int32_t ranks = scenario->ep; ranks > 1; ranks /= 2) {
        if (scenario->ep % ranks == 0 && step_time->trace.num_tokens >= scenario->ep / ranks) {
            point[count++] = (struct step_point){.tokens_per_rank = 1, .ranks_per_token = ranks};
        }
    }
    return count;
}

/* Powers of two up to the most tokens, and those themselves. */
static enum status begin_table(struct step_time *step_time, int32_t tokens_max,
                               const struct step_time_options *options, struct error *error)
{
    struct step_point first[64] = {{0}};
    int32_t count = share_tokens(first, step_time);
    for (int32_t tokens = 1; tokens < tokens_max && count < 63; tokens *= 2) {
        first[count++].tokens_per_rank = tokens;
    }
    first[count++].tokens_per_rank = tokens_max;
    for (int32_t i = 0; i < count; i++) {
        first[i].reads = step_time->is_reading;
    }
    step_time->capacity = count << ROUNDS_MAX;
    step_time->point = calloc((size_t)step_time->capacity, sizeof *step_time->point);
    step_time->tested = calloc((size_t)step_time->capacity, sizeof *step_time->tested);
    if (step_time->point == NULL || step_time->tested == NULL) {
        return STATUS_NO_MEMORY;
    }
    enum status status = run_points(step_time, first, count, options, error);
    if (status == STATUS_OK) {
        add_points(step_time, first, count);
        make_monotone(step_time);
    }
    return status;
}

static void note_error(struct step_time *step_time)
{
    int32_t tests = step_time->error.num_tests;
    if (tests > 0) {
        qsort(step_time->tested, (size_t)tests, sizeof(double), compare_doubles);
        step_time->error.median = step_time->tested[tests / 2];
        step_time->error.max = step_time->tested[tests - 1];
    }
}

static enum status make_table(struct step_time *step_time, int32_t tokens_max,
                              const struct step_time_options *options, struct error *error)
{
    bool *is_open = malloc((size_t)tokens_max + 1);
    enum status status = is_open == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    if (status == STATUS_OK) {
        memset(is_open, true, (size_t)tokens_max + 1);
        status = begin_table(step_time, tokens_max, options, error);
    }
    int32_t num_run = 1;
    for (int32_t round = 0; round < ROUNDS_MAX && num_run > 0 && status == STATUS_OK; round++) {
        status = refine(step_time, is_open, &num_run, options, error);
    }
    free(is_open);
    note_error(step_time);
    return status;
}

/* What was tested of the other table counts too. */
static enum status join_errors(struct step_time *step_time)
{
    const struct step_time *reading = step_time->reading;
    int32_t own = step_time->error.num_tests;
    int32_t others = reading->error.num_tests;
    double *tested = realloc(step_time->tested, (size_t)(own + others + 1) * sizeof *tested);
    if (tested == NULL) {
        return STATUS_NO_MEMORY;
    }
    memcpy(tested + own, reading->tested, (size_t)others * sizeof *tested);
    step_time->tested = tested;
    step_time->error.num_runs = reading->error.num_runs;
    step_time->error.num_tests = own + others;
    note_error(step_time);
    return STATUS_OK;
}

/* The steps of the group in which somebody reads. */
static enum status open_reading(struct step_time *step_time,
                                const struct step_time_options *options, struct error *error)
{
    struct step_time *reading = calloc(1, sizeof *reading);
    step_time->reading = reading;
    if (reading == NULL) {
        return STATUS_NO_MEMORY;
    }
    reading->scenario = step_time->scenario;
    reading->trace = step_time->trace;
    reading->is_reading = true;
    reading->has_trace = step_time->has_trace;
    reading->num_contexts = step_time->num_contexts;
    reading->slowdown = step_time->slowdown;
    reading->error.num_runs = step_time->error.num_runs; /* progress goes on from there */
    find_kinds(reading);
    struct scenario *scenario = &reading->scenario;
    scenario->phase = PHASE_PREFILL;
    if (scenario->batching == BATCHING_INTERLEAVED) {
        scenario->batching = BATCHING_CONSECUTIVE; /* a chunk is of one prompt */
    }
    if (scenario->prefill_collective != NULL) {
        scenario->collective = scenario->prefill_collective;
        cluster_use_constants(&scenario->cluster, scenario->collective->name,
                              precision_name(scenario->dispatch_precision));
    }
    if (scenario->cluster.gpu.measured == NULL) { /* a table corrects the kernels it was read for */
        (void)scenario_choose_kernels(scenario);  /* those that go with the exchange */
    }
    enum status status =
        step_keep_gemms(reading, (int64_t)options->tokens_per_rank_max * scenario->tp);
    if (status == STATUS_OK) {
        status = make_table(reading, options->tokens_per_rank_max, options, error);
    }
    return status == STATUS_OK ? join_errors(step_time) : status;
}

static enum status check_faults(struct step_time *step_time, struct error *error)
{
    enum status status = STATUS_OK;
    step_time->slowdown = 1.0;
    for (int32_t i = 0; i < step_time->scenario.num_faults; i++) {
        const struct fault *fault = &step_time->scenario.fault[i];
        step_time->slowdown = fmax(step_time->slowdown, 1.0 / fault->compute);
        if (fault->from_step != 0 || fault->until_step != INT64_MAX) {
            status = error_add(error, STATUS_INVALID,
                               "faults: rank %d is slow in some steps only; the steps of a serving "
                               "simulation are not those of a run, so take from_step and "
                               "until_step out",
                               (int)fault->rank);
        }
    }
    return status;
}

enum status step_time_open(struct step_time **step_time, const struct scenario *scenario,
                           const struct trace *trace, const struct step_time_options *options,
                           struct error *error)
{
    assert(options->tokens_per_rank_max >= 1);
    struct step_time *fresh = calloc(1, sizeof *fresh);
    *step_time = fresh;
    if (fresh == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory for step times");
    }
    fresh->scenario = *scenario;
    fresh->scenario.rebalance_interval_steps = 0;
    fresh->has_trace = trace != NULL;
    if (trace != NULL) {
        fresh->trace = *trace;
        fresh->trace.num_steps = 0; /* batches are of our own size, not as recorded */
        fresh->trace.step_begin = NULL;
    }
    fresh->num_contexts = scenario->micro_batches > 1 ? STEP_CONTEXTS : 1;
    find_kinds(fresh);
    enum status status = check_faults(fresh, error);
    if (status == STATUS_OK && trace != NULL && scenario->strategy->needs != 0) {
        status = step_place(fresh, error);
    }
    bool is_split = options->decode_per_rank_max > 0;
    int32_t tokens_max = is_split ? options->decode_per_rank_max : options->tokens_per_rank_max;
    if (status == STATUS_OK) {
        status = step_keep_gemms(fresh, (int64_t)tokens_max * scenario->tp);
    }
    if (status == STATUS_OK) {
        status = make_table(fresh, tokens_max, options, error);
    }
    if (status == STATUS_OK && is_split) {
        status = open_reading(fresh, options, error);
    }
    if (status == STATUS_NO_MEMORY) {
        status = error_add(error, status, "out of memory for step times");
    }
    return status;
}
