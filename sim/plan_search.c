/*
 * plan_search.c -- simulates what bounds cannot rule out.
 *
 * Open points run in waves of equal size, most promising (cheapest by bound) first; between waves a
 * point is dropped when one that was simulated is as fast and as cheap as its bound. Waves do not
 * depend on the number of threads, so neither does the answer.
 */
#include <stdlib.h>
#include <string.h>

#include "plan_internal.h"
#include "store_plan.h"

#define WAVE 8

struct order {
    int32_t point;
    double usd_per_million; /* at the bound */
};

struct search {
    struct plan_answer *answer;
    const struct plan *plan;
    const struct plan_options *options;
    struct plan_world world;
    struct order *order; /* [num_open] */
    int32_t num_open;
};

static double usd_per_million(const struct plan *plan, const struct plan_point *point, double ns)
{
    return plan_gpu_s_per_million(point, ns) * plan->gpu[point->gpu].price.usd_per_gpu_hour /
           3600.0;
}

static int compare_order(const void *left, const void *right)
{
    const struct order *a = left;
    const struct order *b = right;
    if (a->usd_per_million != b->usd_per_million) {
        return a->usd_per_million < b->usd_per_million ? -1 : 1;
    }
    return (a->point > b->point) - (a->point < b->point);
}

static enum status order_points(struct search *search)
{
    const struct plan_answer *answer = search->answer;
    search->order = calloc((size_t)answer->num_points + 1, sizeof *search->order);
    if (search->order == NULL) {
        return STATUS_NO_MEMORY;
    }
    bool is_open[PLAN_GPUS_MAX][COST_POOLS] = {{false}};
    for (int32_t i = 0; i < answer->num_points; i++) {
        const struct plan_point *point = &answer->point[i];
        is_open[point->gpu][point->pool] |= point->fate == PLAN_OPEN;
    }
    for (int32_t i = 0; i < answer->num_points; i++) {
        const struct plan_point *point = &answer->point[i];
        bool has_partner = is_open[point->gpu][COST_PREFILL] && is_open[point->gpu][COST_DECODE];
        if (point->fate == PLAN_OPEN && has_partner) {
            search->order[search->num_open++] =
                (struct order){i, usd_per_million(search->plan, point, point->bound_ns)};
        }
    }
    qsort(search->order, (size_t)search->num_open, sizeof *search->order, compare_order);
    return STATUS_OK;
}

/* Time until a token, or until a prompt is through behind half a step that runs: what a point is as
 * fast as. */
static double latency_ns(const struct plan *plan, const struct plan_point *point, double step_ns)
{
    return point->pool == COST_DECODE ? step_ns : step_ns * (0.5 + plan_prompt_steps(plan, point));
}

/* A point is only worth what its partner in a deployment makes of it: only points of the same kind
 * of GPU, and where pools may be shared of the same layout, dominate; there answers wait for chunks
 * of prompts, so smaller ones are worth something too. Groups are rented whole, so a
 * smaller group may be cheaper although its rate is worse. */
static bool dominates(const struct plan *plan, const struct plan_point *done,
                      const struct plan_point *open)
{
    return done->fate == PLAN_SIMULATED && done->pool == open->pool && done->gpu == open->gpu &&
           done->ep <= open->ep &&
           (!plan->shared ||
            (plan_same_layout(done, open) &&
             (done->pool == COST_DECODE || done->tokens_per_rank <= open->tokens_per_rank))) &&
           usd_per_million(plan, done, done->step_ns) <=
               usd_per_million(plan, open, open->bound_ns) &&
           latency_ns(plan, done, done->step_ns) <= latency_ns(plan, open, open->bound_ns);
}

static void drop_dominated(struct search *search, int32_t first)
{
    struct plan_answer *answer = search->answer;
    for (int32_t i = first; i < search->num_open; i++) {
        struct plan_point *open = &answer->point[search->order[i].point];
        for (int32_t j = 0; j < answer->num_points && open->fate == PLAN_OPEN; j++) {
            if (dominates(search->plan, &answer->point[j], open)) {
                open->fate = PLAN_DOMINATED;
            }
        }
    }
}

enum status plan_point_find(struct plan_point *point, const struct plan_world *world,
                            struct plan_store *store, struct error *error)
{
    uint64_t digest = plan_point_digest(point, world);
    enum status status = STATUS_OK;
    bool found = false;
    if (store != NULL) {
#pragma omp critical(plan_store)
        status = plan_store_get(store, digest, point, &found, error);
    }
    if (status != STATUS_OK || found) {
        return status;
    }
    status = plan_point_run(point, world, error);
    if (status == STATUS_OK && store != NULL) {
#pragma omp critical(plan_store)
        status = plan_store_put(store, digest, point, error);
    }
    return status;
}

/* Runs the open points among order [first .. first + count - 1]. Of several failures the first in
 * order is told. */
static enum status run_wave(struct search *search, int32_t first, int32_t count,
                            struct error *error)
{
    enum status status[WAVE] = {STATUS_OK};
    struct error *problem = calloc(WAVE, sizeof *problem);
    enum status worst = problem == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    int32_t num_threads = search->options->num_threads;
    if (worst == STATUS_OK) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(num_threads)
        for (int32_t i = 0; i < count; i++) {
            struct plan_point *point = &search->answer->point[search->order[first + i].point];
            if (point->fate == PLAN_OPEN) {
                status[i] =
                    plan_point_find(point, &search->world, search->options->store, &problem[i]);
            }
        }
    }
    for (int32_t i = 0; i < count && worst == STATUS_OK; i++) {
        worst = status[i];
        if (worst != STATUS_OK) {
            *error = problem[i];
        }
    }
    free(problem);
    return worst;
}

static bool report(const struct search *search, int32_t done)
{
    const struct plan_options *options = search->options;
    return options->progress == NULL || options->progress(options->context, done, search->num_open);
}

static enum status run_waves(struct search *search, struct error *error)
{
    for (int32_t first = 0; first < search->num_open; first += WAVE) {
        int32_t count = search->num_open - first < WAVE ? search->num_open - first : WAVE;
        enum status status = run_wave(search, first, count, error);
        if (status != STATUS_OK) {
            return status;
        }
        drop_dominated(search, first + count);
        if (!report(search, first + count)) {
            return error_add(error, STATUS_INVALID, "interrupted");
        }
    }
    return STATUS_OK;
}

static void count_fates(struct plan_answer *answer)
{
    memset(answer->fates, 0, sizeof answer->fates);
    for (int32_t i = 0; i < answer->num_points; i++) {
        answer->fates[answer->point[i].fate]++;
    }
}

static enum status search_points(struct search *search, struct error *error)
{
    struct plan_answer *answer = search->answer;
    enum status status = plan_enumerate(&answer->point, &answer->num_points, search->plan, error);
    if (status == STATUS_OK) {
        status = order_points(search);
    }
    if (status == STATUS_OK && search->num_open > 0) {
        status = plan_world_open(&search->world, search->plan, search->options->num_threads, error);
    }
    if (status == STATUS_OK) {
        status = run_waves(search, error);
    }
    count_fates(answer);
    return status;
}

enum status plan_search(struct plan_answer *answer, const struct plan *plan,
                        const struct plan_options *options, struct error *error)
{
    struct search search = {.answer = answer, .plan = plan, .options = options};
    *answer = (struct plan_answer){.winner = -1, .reference = -1};
    enum status status = search_points(&search, error);
    if (status == STATUS_OK) {
        status = plan_combine(answer, plan);
    }
    if (status == STATUS_OK && answer->winner >= 0 &&
        (plan->ttft_percentile > 0 || plan->tpot_percentile > 0)) {
        status = plan_serve_finalists(answer, &search.world, options, error);
    }
    for (int32_t i = 0; i < answer->num_deployments && status == STATUS_OK; i++) {
        plan_note_interval(&answer->deployment[i], plan, answer->point);
    }
    if (status == STATUS_OK && answer->winner >= 0) {
        status = plan_shift_all(answer, &search.world, options->store, error);
    }
    free(search.order);
    plan_world_close(&search.world);
    if (status == STATUS_NO_MEMORY) {
        return error_add(error, status, "out of memory for the plan");
    }
    return status;
}

void plan_answer_free(struct plan_answer *answer)
{
    free(answer->point);
    free(answer->deployment);
    *answer = (struct plan_answer){.winner = -1, .reference = -1};
}
