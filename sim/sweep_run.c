/*
 * sweep_run.c -- points are dealt out to threads and ranks, simulated and stored.
 *
 * Every rank has worker threads, and one thread that talks (sweep_deal.c). Workers take points from
 * the rank's hand and put reports into it; they know of no other rank.
 */
#include <assert.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "engine.h"
#include "sweep_deal.h"

static double seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* A rank that is not the first opens its file when it has something to write. */
static enum status store_result(struct sweep_hand *hand, const char *label, uint64_t id,
                                const struct scenario *scenario, const struct trace *trace,
                                const struct engine *engine, struct error *error)
{
    char run_id[RUN_ID_BYTES];
    const struct run_metrics *metrics = engine_metrics(engine);
    struct run_totals totals = run_totals(metrics, scenario);
    snprintf(run_id, sizeof run_id, "%016llx", (unsigned long long)id);
    pthread_mutex_lock(&hand->store_mutex);
    enum status status = STATUS_OK;
    if (hand->store == NULL) {
        char path[SWEEP_PATH_BYTES];
        sweep_rank_path(path, hand->options->results, hand->team->rank);
        status = store_open(&hand->store, path, true, error);
    }
    if (status == STATUS_OK) {
        status = store_begin(hand->store, run_id, label, scenario, trace, error);
    }
    if (status == STATUS_OK) {
        status = store_finish(hand->store, metrics, &totals, error);
    }
    pthread_mutex_unlock(&hand->store_mutex);
    return status;
}

/* *is_fatal: results cannot be written, so that going on is of no use. */
static enum status simulate_point(struct sweep_hand *hand, const struct sweep_card *card,
                                  struct scenario *scenario, bool *is_fatal, struct error *error)
{
    const struct sweep_source *source = hand->source;
    const struct trace *trace = NULL;
    struct engine *engine = NULL;
    char label[SWEEP_LABEL];
    source->label(source->context, card->point, label);
    enum status status = source->scenario(source->context, card->point, scenario, error);
    if (status == STATUS_OK && model_num_moe_layers(&scenario->model) > 0) {
        status = sweep_traces_take(&hand->traces, scenario, &trace, error);
    }
    if (status == STATUS_OK) {
        status = engine_open(&engine, scenario, trace, error);
    }
    if (status == STATUS_OK) {
        const struct engine_observer nobody = {0};
        status = engine_run(engine, &nobody, error);
    }
    if (status == STATUS_OK) {
        status = store_result(hand, label, card->run_id, scenario, trace, engine, error);
        *is_fatal = status == STATUS_IO;
    }
    engine_close(engine);
    sweep_traces_give(&hand->traces, trace);
    return status;
}

static void *work(void *context)
{
    struct sweep_hand *hand = context;
    struct scenario *scenario = calloc(1, sizeof *scenario);
    struct error *error = calloc(1, sizeof *error);
    struct sweep_card card;
    while (sweep_take(hand, &card)) {
        double begin_s = seconds(CLOCK_THREAD_CPUTIME_ID);
        bool is_fatal = false;
        enum status status = STATUS_NO_MEMORY;
        if (scenario != NULL && error != NULL) {
            *error = (struct error){0};
            status = simulate_point(hand, &card, scenario, &is_fatal, error);
            scenario_free(scenario);
        }
        double cpu_s = seconds(CLOCK_THREAD_CPUTIME_ID) - begin_s;
        sweep_report(hand, &card, status, is_fatal, error != NULL ? error->text : "", cpu_s);
    }
    free(scenario);
    free(error);
    sweep_worker_left(hand);
    return NULL;
}

/* Cores that are this rank's: those it is bound to, or its share of the machine's. */
static int32_t own_threads(const struct sweep_options *options, const struct team *team)
{
    int32_t visible = (int32_t)omp_get_num_procs();
    int32_t online = (int32_t)sysconf(_SC_NPROCESSORS_ONLN);
    int32_t threads = visible < online ? visible : visible / team->size_here;
    threads = options->num_threads > 0 ? options->num_threads : threads;
    threads = threads < 1 ? 1 : threads;
    return threads < SWEEP_THREADS_MAX ? threads : SWEEP_THREADS_MAX;
}

/* Rank 0: opens and mends the results, then finds out what is to be done. */
static enum status prepare(struct sweep_hand *hand, struct error *error)
{
    const char *results = hand->options->results;
    bool is_new = access(results, F_OK) != 0;
    enum status status = STATUS_OK;
    if (!hand->options->check_only) {
        status = sweep_lock(&hand->lock, results, error);
        hand->is_locked = status == STATUS_OK;
    }
    if (status == STATUS_OK && hand->options->check_only && !is_new) {
        status = store_open(&hand->store, results, false, error);
    }
    if (status == STATUS_OK && !hand->options->check_only) {
        status = store_open_guarded(&hand->store, results, error);
    }
    if (status == STATUS_OK && !hand->options->check_only) {
        sweep_forget_failures(results);
        status = sweep_merge(hand->store, results, error);
    }
    if (status == STATUS_OK) {
        status = sweep_check(&hand->plan, hand->source, hand->store, &hand->traces,
                             hand->num_threads, error);
    }
    if (status != STATUS_OK && is_new && hand->store != NULL) {
        store_close(hand->store); /* leaves nothing behind of a study that cannot run */
        hand->store = NULL;
        unlink(results);
    }
    return status;
}

/* Starts as many workers as there is something to do for. */
static enum status start_workers(struct sweep_hand *hand, pthread_t *thread, struct error *error)
{
    int64_t wanted = hand->num_threads;
    if (hand->team->rank == 0 && hand->plan.num_todo < wanted) {
        wanted = hand->plan.num_todo;
    }
    for (int32_t i = 0; i < (int32_t)wanted; i++) {
        pthread_mutex_lock(&hand->mutex);
        hand->num_workers++;
        hand->num_at_work++;
        pthread_mutex_unlock(&hand->mutex);
        if (pthread_create(&thread[i], NULL, work, hand) != 0) {
            pthread_mutex_lock(&hand->mutex);
            hand->num_workers--;
            hand->num_at_work--;
            pthread_mutex_unlock(&hand->mutex);
            break; /* fewer do it too */
        }
    }
    return hand->num_workers > 0 || wanted == 0
               ? STATUS_OK
               : error_add(error, STATUS_NO_MEMORY, "no thread could be started");
}

static enum status finish_results(struct sweep_hand *hand, struct error *error)
{
    enum status status = sweep_merge(hand->store, hand->options->results, error);
    if (status == STATUS_OK) {
        status = store_order(hand->store, hand->plan.run_id, hand->source->num_points, error);
    }
    return status;
}

static double process_cpu_s(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static enum status run_rank(struct sweep_hand *hand, struct error *error)
{
    bool is_first = hand->team->rank == 0;
    double begin_s = seconds(CLOCK_MONOTONIC);
    double begin_cpu_s = process_cpu_s();
    enum status status = is_first ? prepare(hand, error) : STATUS_OK;
    if (status != STATUS_OK || hand->options->check_only) {
        hand->outcome->num_done = hand->plan.num_done;
        hand->outcome->num_same = hand->plan.num_same;
        hand->plan.num_todo = 0; /* the others are told that there is nothing */
    }
    pthread_t *thread = calloc((size_t)hand->num_threads, sizeof *thread);
    enum status started = thread == NULL ? error_add(error, STATUS_NO_MEMORY, "out of memory")
                                         : start_workers(hand, thread, error);
    enum status dealt = sweep_deal(hand, error);
    for (int32_t i = 0; i < hand->num_workers; i++) {
        pthread_join(thread[i], NULL);
    }
    free(thread);
    status = status != STATUS_OK ? status : started != STATUS_OK ? started : dealt;
    if (!is_first) {
        store_close(hand->store);
        hand->store = NULL;
        hand->cpu_s = process_cpu_s() - begin_cpu_s;
        sweep_say_goodbye(hand);
        return status;
    }
    sweep_send_home(hand);
    if (hand->store != NULL && hand->plan.run_id != NULL && !hand->options->check_only) {
        enum status finished = finish_results(hand, error);
        status = status != STATUS_OK ? status : finished;
    }
    hand->outcome->cpu_s += process_cpu_s() - begin_cpu_s;
    hand->outcome->wall_s = seconds(CLOCK_MONOTONIC) - begin_s;
    return status;
}

enum status sweep_run(const struct sweep_source *source, const struct sweep_options *options,
                      const struct team *team, uint64_t *run_id, struct sweep_outcome *outcome,
                      struct error *error)
{
    struct sweep_hand *hand = calloc(1, sizeof *hand);
    if (hand == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    *outcome = (struct sweep_outcome){.num_points = source->num_points, .num_ranks = team->size};
    hand->source = source;
    hand->options = options;
    hand->team = team;
    hand->outcome = outcome;
    hand->num_threads = own_threads(options, team);
    pthread_mutex_init(&hand->mutex, NULL);
    pthread_mutex_init(&hand->store_mutex, NULL);
    sweep_init_wakes(hand);
    enum status status = sweep_traces_open(&hand->traces, hand->num_threads, error);
    if (status == STATUS_OK) {
        status = run_rank(hand, error);
    }
    if (status == STATUS_OK && run_id != NULL && hand->plan.run_id != NULL) {
        memcpy(run_id, hand->plan.run_id, (size_t)source->num_points * sizeof *run_id);
    }
    store_close(hand->store);
    if (hand->is_locked) {
        sweep_unlock(hand->lock, options->results);
    }
    sweep_plan_free(&hand->plan);
    sweep_traces_close(&hand->traces);
    pthread_cond_destroy(&hand->cards);
    pthread_cond_destroy(&hand->news);
    pthread_mutex_destroy(&hand->store_mutex);
    pthread_mutex_destroy(&hand->mutex);
    free(hand);
    return status;
}
