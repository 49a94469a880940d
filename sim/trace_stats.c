/*
 * trace_stats.c -- deals the layers of a trace out to threads.
 *
 * A failure is found by many threads in any order; the lowest layer that failed is measured again
 * to word it, so that the message does not depend on the threads either.
 */
#include "trace_stats.h"

#include <assert.h>
#include <math.h>
#include <omp.h>
#include <string.h>

#include "rng.h"
#include "trace_stats_internal.h"

#define UNIFORM_BATCHES 2048 /* shared by all layers, so worth more than a layer's own */

const int32_t trace_lag_rows[TRACE_LAGS] = {1, 2, 4, 16, 64, LAG_ROWS_MAX};
const int32_t trace_batch_tokens[TRACE_BATCH_SIZES] = {8, 32, 128, 512};
const double trace_drop_factor[TRACE_DROP_FACTORS] = {1.0, 1.25, 1.5, 2.0, 3.0};

static bool scratch_init(struct trace_stats_scratch *scratch, const struct trace_stats_job *job,
                         struct arena *arena)
{
    size_t rows = CHUNK_ROWS + LAG_ROWS_MAX;
    size_t experts = (size_t)job->trace->num_experts;
    size_t pairs = (size_t)job->lift_experts * (size_t)job->lift_experts;
    scratch->row = arena_alloc(arena, rows, sizeof *scratch->row);
    scratch->expert = arena_alloc(arena, rows * (size_t)job->trace->top_k, sizeof *scratch->expert);
    scratch->next = arena_alloc(arena, rows * (size_t)job->trace->top_k, sizeof *scratch->next);
    scratch->chosen = arena_alloc(arena, rows * (size_t)job->words, sizeof *scratch->chosen);
    scratch->half = arena_alloc(arena, 2 * experts, sizeof *scratch->half);
    scratch->together = arena_alloc(arena, pairs, sizeof *scratch->together);
    scratch->lift = arena_alloc(arena, pairs / 2, sizeof *scratch->lift);
    scratch->load = arena_alloc(arena, experts, sizeof *scratch->load);
    return scratch->row != NULL && scratch->expert != NULL && scratch->next != NULL &&
           scratch->chosen != NULL && scratch->half != NULL && scratch->together != NULL &&
           scratch->lift != NULL && scratch->load != NULL;
}

/* Rows drawn with replacement; NULL: no memory. */
static int64_t *draw_rows(int64_t num_tokens, int64_t count, gsl_rng *rng, struct arena *arena)
{
    int64_t *rows = arena_alloc(arena, (size_t)count, sizeof(int64_t));
    for (int64_t i = 0; rows != NULL && i < count; i++) {
        int64_t row = (int64_t)(gsl_rng_uniform(rng) * (double)num_tokens);
        rows[i] = row < num_tokens ? row : num_tokens - 1;
    }
    return rows;
}

/* A batch of a busy server mixes rows of many requests. */
static bool draw_batches(struct trace_stats_job *job, uint64_t seed, gsl_rng *rng,
                         struct arena *arena)
{
    int64_t num_tokens = job->trace->num_tokens;
    rng_restream(rng, seed, "trace_stats.steps", 0);
    if (num_tokens >= TRACE_DROP_TOKENS) {
        job->step_row = draw_rows(num_tokens, TRACE_STATS_STEPS * TRACE_DROP_TOKENS, rng, arena);
    }
    bool complete = num_tokens < TRACE_DROP_TOKENS || job->step_row != NULL;
    rng_restream(rng, seed, "trace_stats", 0);
    for (int32_t size = 0; complete && size < TRACE_BATCH_SIZES; size++) {
        if (num_tokens >= trace_batch_tokens[size]) {
            int64_t rows = (int64_t)TRACE_STATS_BATCHES * trace_batch_tokens[size];
            job->batch_row[size] = draw_rows(num_tokens, rows, rng, arena);
            complete = job->batch_row[size] != NULL;
        }
    }
    return complete;
}

/* Draws top_k distinct experts (Floyd's sampling, CACM 30(9), 1987) and counts them. */
static void draw_experts(gsl_rng *rng, int64_t *load_tokens, uint64_t *chosen, int32_t num_experts,
                         int32_t top_k)
{
    memset(chosen, 0, (size_t)(num_experts + 63) / 64 * sizeof *chosen);
    for (int32_t last = num_experts - top_k; last < num_experts; last++) {
        int32_t expert = (int32_t)gsl_rng_uniform_int(rng, (unsigned long)last + 1);
        expert = chosen[expert / 64] >> (expert % 64) & 1 ? last : expert;
        chosen[expert / 64] |= UINT64_C(1) << (expert % 64);
        load_tokens[expert]++;
    }
}

static void measure_uniform(struct trace_stats *stats, const struct trace_stats_scratch *scratch,
                            gsl_rng *rng, int32_t top_k, bool no_uniform)
{
    size_t load_bytes = (size_t)stats->num_experts * sizeof *scratch->load;
    stats->uniform_overlap = (double)top_k / stats->num_experts;
    for (int32_t size = 0; size < TRACE_BATCH_SIZES; size++) {
        int64_t max_sum = 0;
        stats->uniform_max_over_mean[size] = (double)NAN;
        if (no_uniform) {
            continue;
        }
        for (int32_t batch = 0; batch < UNIFORM_BATCHES; batch++) {
            memset(scratch->load, 0, load_bytes);
            for (int32_t token = 0; token < trace_batch_tokens[size]; token++) {
                draw_experts(rng, scratch->load, scratch->chosen, stats->num_experts, top_k);
            }
            int64_t max = 0;
            for (int32_t expert = 0; expert < stats->num_experts; expert++) {
                max = scratch->load[expert] > max ? scratch->load[expert] : max;
            }
            max_sum += max;
        }
        double mean = (double)trace_batch_tokens[size] * top_k / stats->num_experts;
        stats->uniform_max_over_mean[size] = (double)max_sum / UNIFORM_BATCHES / mean;
    }
}

static enum status measure_layers(const struct trace_stats_job *job,
                                  const struct trace_stats_scratch *scratch, int32_t num_threads,
                                  const struct trace_stats_options *options, struct error *error)
{
    int32_t num_layers = job->trace->num_layers;
    int32_t num_done = 0;
    int32_t failed_layer = num_layers;
#pragma omp parallel for schedule(dynamic) num_threads(num_threads)
    for (int32_t layer = 0; layer < num_layers; layer++) {
        enum status status = trace_stats_layer(job, &scratch[omp_get_thread_num()], layer, NULL);
#pragma omp critical(trace_stats_done)
        {
            num_done++;
            if (status != STATUS_OK && layer < failed_layer) {
                failed_layer = layer;
            }
            if (options->progress != NULL) {
                options->progress(options->context, num_done, num_layers);
            }
        }
    }
    return failed_layer == num_layers ? STATUS_OK
                                      : trace_stats_layer(job, &scratch[0], failed_layer, error);
}

static enum status choose_ep(struct trace_stats *stats, const struct trace_stats_options *options,
                             struct error *error)
{
    stats->ep_ranks = options->ep_ranks;
    if (options->ep_ranks == 0 && stats->num_experts % 8 == 0) {
        stats->ep_ranks = 8;
    }
    if (stats->ep_ranks < 0 || (stats->ep_ranks > 0 && stats->num_experts % stats->ep_ranks != 0)) {
        return error_add(error, STATUS_INVALID,
                         "%d EP ranks do not share %d experts evenly: give a divisor of %d",
                         stats->ep_ranks, stats->num_experts, stats->num_experts);
    }
    return STATUS_OK;
}

enum status trace_stats_read(struct trace_stats *stats, const struct trace *trace,
                             const struct trace_stats_options *options, struct error *error)
{
    assert(trace->num_layers >= 1);
    assert(trace->num_experts >= trace->top_k);
    *stats = (struct trace_stats){
        .num_layers = trace->num_layers,
        .num_experts = trace->num_experts,
    };
    enum status status = choose_ep(stats, options, error);
    if (status != STATUS_OK) {
        return status;
    }
    int32_t num_threads = options->num_threads > 0 ? options->num_threads : omp_get_max_threads();
    num_threads = num_threads < trace->num_layers ? num_threads : trace->num_layers;
    struct trace_stats_job job = {
        .trace = trace,
        .stats = stats,
        .words = (trace->num_experts + 63) / 64,
        .lift_experts = trace->num_experts <= LIFT_EXPERTS_MAX ? trace->num_experts : 0,
    };
    struct arena arena = {0}; /* scratch: gone when the figures are there */
    gsl_rng *rng = rng_stream(options->seed, "trace_stats", 0);
    struct trace_stats_scratch *scratch = arena_alloc(&arena, (size_t)num_threads, sizeof *scratch);
    size_t layers = (size_t)trace->num_layers;
    stats->layer = arena_alloc(&stats->arena, layers, sizeof *stats->layer);
    job.expert_tokens =
        arena_alloc(&stats->arena, layers * (size_t)trace->num_experts, sizeof *job.expert_tokens);
    bool ready = rng != NULL && scratch != NULL && stats->layer != NULL &&
                 job.expert_tokens != NULL && draw_batches(&job, options->seed, rng, &arena);
    for (int32_t thread = 0; ready && thread < num_threads; thread++) {
        ready = scratch_init(&scratch[thread], &job, &arena);
    }
    if (ready) {
        measure_uniform(stats, &scratch[0], rng, trace->top_k, options->no_uniform);
        status = measure_layers(&job, scratch, num_threads, options, error);
    } else {
        status = error_add(error, STATUS_NO_MEMORY, "no memory for the statistics of a trace");
    }
    arena_free(&arena);
    gsl_rng_free(rng);
    return status;
}

void trace_stats_free(struct trace_stats *stats)
{
    arena_free(&stats->arena);
    *stats = (struct trace_stats){0};
}
