/* test_timeline.c -- booked time fills every step exactly, and the file says the same. */
#include "timeline.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "random_run.h"
#include "two_ranks.h"

#define RANKS_MAX  64
#define ROUNDS     300
#define FILE_BYTES (1 << 20)

static char directory[] = "/tmp/moesim-timeline-XXXXXX";
static char path[64];
static char partial[80];

static void set_up(void)
{
    cr_assert(mkdtemp(directory) != NULL);
    snprintf(path, sizeof path, "%s/timeline.json", directory);
    snprintf(partial, sizeof partial, "%s.partial", path);
}

static void tear_down(void)
{
    unlink(path);
    cr_expect(access(partial, F_OK) != 0);
    rmdir(directory);
}

TestSuite(timeline, .init = set_up, .fini = tear_down);

/* The step that test_engine.c computes by hand, under names that JSON has to escape. */
static struct scenario quoted_two_ranks(void)
{
    struct scenario scenario = two_ranks();
    snprintf(scenario.model.name, sizeof scenario.model.name, "tiny \"model\"");
    snprintf(scenario.name, sizeof scenario.name, "two \\ ranks\n");
    return scenario;
}

static struct engine *simulate(const struct scenario *scenario, const struct trace *trace,
                               const struct engine_observer *observer)
{
    struct engine *engine = NULL;
    struct error error = {0};
    cr_assert_eq(engine_open(&engine, scenario, trace, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(engine_run(engine, observer, &error), STATUS_OK, "%s", error.text);
    return engine;
}

/* What the observer has seen of each rank. */
struct ledger {
    int32_t num_ranks;
    int64_t step;
    int64_t begin_ns;          /* of the step */
    int64_t end_ns[RANKS_MAX]; /* of the last stretch */
    int64_t phase_ns[STEP_PHASE_COUNT];
    int64_t num_rebalances;
    int64_t moves;
};

static void book(void *context, const struct booked_time *booked)
{
    struct ledger *ledger = context;
    cr_assert_lt(booked->rank, ledger->num_ranks);
    cr_assert_eq(booked->step, ledger->step);
    cr_assert_eq(booked->begin_ns, ledger->end_ns[booked->rank]); /* no gap, no overlap */
    cr_assert_gt(booked->end_ns, booked->begin_ns);
    ledger->end_ns[booked->rank] = booked->end_ns;
    ledger->phase_ns[booked->phase] += booked->end_ns - booked->begin_ns;
}

static void note_rebalance(void *context, const struct rebalance_record *record, int64_t now_ns)
{
    struct ledger *ledger = context;
    ledger->num_rebalances++;
    ledger->moves += record->moves;
    cr_assert_eq(record->step, ledger->step + 1);
    cr_assert_eq(now_ns, ledger->end_ns[0]);
}

/* All ranks end with the step, and all begin the next together. */
static bool close_step(void *context, int64_t step, int64_t num_steps)
{
    struct ledger *ledger = context;
    (void)num_steps;
    for (int32_t rank = 1; rank < ledger->num_ranks; rank++) {
        cr_assert_eq(ledger->end_ns[rank], ledger->end_ns[0]);
    }
    ledger->step = step;
    return true;
}

/* Observed, a run has the digest of a run that nobody watches, and the phases seen sum to those of
 * the metrics, which are means over ranks. */
static void check_round(uint64_t round)
{
    struct random_run run;
    random_run_make(&run, round);
    const struct trace *trace = model_num_moe_layers(&run.scenario.model) > 0 ? &run.trace : NULL;
    struct ledger ledger = {.num_ranks = run.scenario.ep};
    cr_assert_leq(run.scenario.ep, RANKS_MAX);
    struct engine_observer observer = {.context = &ledger,
                                       .step_done = close_step,
                                       .time_booked = book,
                                       .rebalanced = note_rebalance};
    struct engine *alone = simulate(&run.scenario, trace, NULL);
    struct engine *watched = simulate(&run.scenario, trace, &observer);

    const struct run_metrics *metrics = engine_metrics(watched);
    cr_assert_eq(metrics->digest, engine_metrics(alone)->digest);
    cr_assert_eq(ledger.num_rebalances, metrics->num_rebalances);
    for (int32_t phase = 0; phase < STEP_PHASE_COUNT; phase++) {
        double sum_ns = 0.0;
        for (int32_t window = 0; window < metrics->num_windows; window++) {
            sum_ns += metrics->window[window].phase_ns[phase] * run.scenario.ep;
        }
        cr_assert_float_eq((double)ledger.phase_ns[phase], sum_ns, 1e-9 * sum_ns + 1e-3,
                           "round %d, %s", (int)round, step_phase_name((enum step_phase)phase));
    }
    engine_close(watched);
    engine_close(alone);
    random_run_free(&run);
}

Test(timeline, booked_time_fills_every_step_of_every_rank)
{
    for (uint64_t round = 0; round < ROUNDS; round++) {
        check_round(round);
    }
}

static void write_time(void *context, const struct booked_time *booked)
{
    timeline_time_booked(context, booked);
}

/* Writes the steps first to last of a run and reads them back. */
static cJSON *timeline_of(const struct scenario *scenario, const struct trace *trace, int64_t first,
                          int64_t last)
{
    struct error error = {0};
    struct timeline *timeline = NULL;
    struct timeline_options options = {path, first, last, scenario, "0123456789abcdef"};
    cr_assert_eq(timeline_open(&timeline, &options, &error), STATUS_OK, "%s", error.text);
    struct engine_observer observer = {.context = timeline, .time_booked = write_time};
    struct engine *engine = simulate(scenario, trace, &observer);
    cr_assert(access(path, F_OK) != 0); /* not before it is whole */
    cr_assert_eq(timeline_finish(timeline, engine_metrics(engine)->digest, &error), STATUS_OK, "%s",
                 error.text);
    timeline_close(timeline);
    engine_close(engine);
    FILE *file = fopen(path, "r");
    char *text = calloc(1, FILE_BYTES);
    cr_assert(file != NULL && text != NULL);
    cr_assert_lt(fread(text, 1, FILE_BYTES - 1, file), FILE_BYTES - 1);
    fclose(file);
    unlink(path);
    cJSON *json = cJSON_Parse(text);
    cr_assert_not_null(json, "%.400s", text);
    free(text);
    return json;
}

static const char *text_of(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItem(object, name);
    return cJSON_IsString(item) ? item->valuestring : "";
}

/* Whole nanoseconds of a slice's ts or dur. */
static int64_t ns_of(const cJSON *event, const char *name)
{
    return llround(cJSON_GetNumberValue(cJSON_GetObjectItem(event, name)) * 1000.0);
}

/* The slices of a rank, as "begin+duration name;" in the order of the file. */
static void list_slices(char *list, size_t bytes, const cJSON *json, int rank)
{
    const cJSON *event;
    size_t used = 0;
    list[0] = '\0';
    cJSON_ArrayForEach(event, cJSON_GetObjectItem(json, "traceEvents"))
    {
        bool is_slice = strcmp(text_of(event, "ph"), "X") == 0;
        const cJSON *args = cJSON_GetObjectItem(event, "args");
        bool is_rank = cJSON_GetObjectItem(event, "pid")->valueint == 0 && is_slice &&
                       cJSON_GetObjectItem(event, "tid")->valueint == rank;
        if (is_rank && cJSON_GetObjectItem(args, "step")->valueint == 0) {
            used += (size_t)snprintf(list + used, bytes - used, "%lld+%lld %s;",
                                     (long long)ns_of(event, "ts"), (long long)ns_of(event, "dur"),
                                     text_of(event, "name"));
            cr_assert_lt(used, bytes);
        }
    }
}

/*
 * Both tokens want expert 1 on rank 1 (test_engine.c, times_a_step_as_computed_by_hand).
 *   rank 0: attention to 1000, gate to 1100, start-up to 31100, nothing to compute; waits until
 *           rank 1 is done at 31850; start-up and result to 62100, head to 62110
 *   rank 1: token in at 31350, experts to 31850, start-up to 61850, head to 61860, then waits
 */
Test(timeline, shows_a_step_as_computed_by_hand)
{
    struct scenario scenario = quoted_two_ranks();
    struct trace trace;
    two_ranks_trace(&trace, &scenario, "11");

    cJSON *json = timeline_of(&scenario, &trace, 0, 1);

    char list[512];
    list_slices(list, sizeof list, json, 0);
    cr_expect_str_eq(list, "0+1000 attention;1000+100 gate;1100+30000 dispatch;31100+750 waiting;"
                           "31850+30250 combine;62100+10 dense;");
    list_slices(list, sizeof list, json, 1);
    cr_expect_str_eq(list, "0+1000 attention;1000+100 gate;1100+30250 dispatch;31350+500 expert;"
                           "31850+30000 combine;61850+10 dense;61860+250 waiting;");
    const cJSON *other = cJSON_GetObjectItem(json, "otherData");
    cr_expect_str_eq(text_of(other, "scenario"), "two \\ ranks\n");
    cr_expect_str_eq(text_of(other, "model"), "tiny \"model\"");
    cJSON_Delete(json);
    trace_close(&trace);
}

Test(timeline, shows_the_steps_asked_for_only)
{
    struct scenario scenario = quoted_two_ranks();
    struct trace trace;
    two_ranks_trace(&trace, &scenario, "1101100101");

    cJSON *json = timeline_of(&scenario, &trace, 1, 3);

    const cJSON *event;
    int32_t num_slices[5] = {0};
    int32_t num_steps = 0;
    cJSON_ArrayForEach(event, cJSON_GetObjectItem(json, "traceEvents"))
    {
        const cJSON *step = cJSON_GetObjectItem(cJSON_GetObjectItem(event, "args"), "step");
        num_slices[step != NULL ? step->valueint : 0] += step != NULL;
        num_steps += strncmp(text_of(event, "name"), "step ", 5) == 0;
    }
    cr_expect_eq(num_slices[0], 0);
    cr_expect_gt(num_slices[1], 10); /* five slices or more a rank */
    cr_expect_gt(num_slices[3], 10);
    cr_expect_eq(num_slices[4], 0);
    cr_expect_eq(num_steps, 3);
    cJSON_Delete(json);
    trace_close(&trace);
}

Test(timeline, a_full_disk_is_an_error)
{
    struct scenario scenario = quoted_two_ranks();
    struct error error = {0};
    struct timeline *timeline = NULL;
    cr_assert_eq(symlink("/dev/full", partial), 0);
    struct timeline_options options = {path, 0, 1, &scenario, "0123456789abcdef"};
    cr_assert_eq(timeline_open(&timeline, &options, &error), STATUS_OK, "%s", error.text);

    cr_expect_eq(timeline_finish(timeline, 0, &error), STATUS_IO);

    cr_expect_eq(error.num_problems, 1);
    cr_expect_not_null(strstr(error.text, "No space left"), "%s", error.text);
    cr_expect(access(path, F_OK) != 0);
    cr_expect(access(partial, F_OK) != 0);
    timeline_close(timeline);
}
