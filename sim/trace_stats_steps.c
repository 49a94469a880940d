/*
 * trace_stats_steps.c -- what a layer tells of the next one, and what capacities drop in a step.
 *
 * Information: I(X; Y) / sqrt(H(X) H(Y)) of a row's best experts X here and Y in the next layer,
 * from their joint counts; 0 when they are independent, 1 when one determines the other.
 *
 * Drops: an expert takes at most ceil(T top_k factor / num_experts) of the T tokens of a step, over
 * all ranks together; the rest of its assignments is dropped.
 */
#include "trace_stats_internal.h"

#include <math.h>
#include <string.h>

static double entropy_term(int64_t count, double total)
{
    return count > 0 ? -(double)count / total * log((double)count / total) : 0.0;
}

/* together[low][high]: rows whose best experts are these two. */
static double information(const int64_t *together, int64_t *load, int32_t num_experts)
{
    double total = 0.0;
    for (int64_t i = 0; i < (int64_t)num_experts * num_experts; i++) {
        total += (double)together[i];
    }
    double here = 0.0; /* entropies */
    double there = 0.0;
    double both = 0.0;
    memset(load, 0, (size_t)num_experts * sizeof *load);
    for (int32_t expert = 0; expert < num_experts; expert++) {
        int64_t sum = 0;
        for (int32_t next = 0; next < num_experts; next++) {
            int64_t count = together[(int64_t)expert * num_experts + next];
            sum += count;
            load[next] += count;
            both += entropy_term(count, total);
        }
        here += entropy_term(sum, total);
    }
    for (int32_t next = 0; next < num_experts; next++) {
        there += entropy_term(load[next], total);
    }
    double scale = sqrt(here * there);
    return scale > 0.0 ? (here + there - both) / scale : (double)NAN;
}

enum status trace_stats_information(const struct trace_stats_job *job,
                                    struct trace_stats_layer *layer,
                                    const struct trace_stats_scratch *scratch, int32_t index,
                                    struct error *error)
{
    const struct trace *trace = job->trace;
    const int64_t num_experts = job->lift_experts;
    layer->next_information = (double)NAN;
    if (index + 1 == trace->num_layers || num_experts == 0) {
        return STATUS_OK;
    }
    memset(scratch->together, 0, (size_t)(num_experts * num_experts) * sizeof *scratch->together);
    for (int64_t first = 0; first < trace->num_tokens; first += CHUNK_ROWS) {
        int64_t count = trace->num_tokens - first;
        count = count < CHUNK_ROWS ? count : CHUNK_ROWS;
        for (int64_t i = 0; i < count; i++) {
            scratch->row[i] = first + i;
        }
        enum status status =
            trace_read(trace, scratch->expert, NULL, index, scratch->row, (int32_t)count, error);
        if (status == STATUS_OK) {
            status = trace_read(trace, scratch->next, NULL, index + 1, scratch->row, (int32_t)count,
                                error);
        }
        if (status != STATUS_OK) {
            return status;
        }
        for (int64_t i = 0; i < count; i++) {
            int32_t here = scratch->expert[i * trace->top_k];
            int32_t there = scratch->next[i * trace->top_k];
            if (here != EXPERT_NOT_ROUTED && there != EXPERT_NOT_ROUTED) {
                scratch->together[here * num_experts + there]++;
            }
        }
    }
    layer->next_information = information(scratch->together, scratch->load, (int32_t)num_experts);
    return STATUS_OK;
}

/* Adds what each factor drops of a step's load, and its assignments. */
static void add_step(int64_t dropped[TRACE_DROP_FACTORS], int64_t *assignments,
                     const int64_t *load_tokens, const struct trace *trace)
{
    for (int32_t factor = 0; factor < TRACE_DROP_FACTORS; factor++) {
        int64_t capacity = (int64_t)ceil((double)TRACE_DROP_TOKENS * trace->top_k *
                                         trace_drop_factor[factor] / trace->num_experts);
        for (int32_t expert = 0; expert < trace->num_experts; expert++) {
            int64_t over = load_tokens[expert] - capacity;
            dropped[factor] += over > 0 ? over : 0;
        }
    }
    for (int32_t expert = 0; expert < trace->num_experts; expert++) {
        *assignments += load_tokens[expert];
    }
}

static void divide(double share[TRACE_DROP_FACTORS], const int64_t dropped[TRACE_DROP_FACTORS],
                   int64_t assignments)
{
    for (int32_t factor = 0; factor < TRACE_DROP_FACTORS; factor++) {
        share[factor] =
            assignments > 0 ? (double)dropped[factor] / (double)assignments : (double)NAN;
    }
}

enum status trace_stats_drops(const struct trace_stats_job *job, struct trace_stats_layer *layer,
                              const struct trace_stats_scratch *scratch, int32_t index,
                              struct error *error)
{
    const struct trace *trace = job->trace;
    const size_t load_bytes = (size_t)trace->num_experts * sizeof *scratch->load;
    int64_t dropped[TRACE_DROP_FACTORS] = {0};
    int64_t assignments = 0;
    for (int64_t first = 0; first + TRACE_DROP_TOKENS <= trace->num_tokens;
         first += TRACE_DROP_TOKENS) {
        memset(scratch->load, 0, load_bytes);
        enum status status =
            trace_count(trace, scratch->load, index, first, TRACE_DROP_TOKENS, error);
        if (status != STATUS_OK) {
            return status;
        }
        add_step(dropped, &assignments, scratch->load, trace);
    }
    divide(layer->drop_consecutive, dropped, assignments);
    memset(dropped, 0, sizeof dropped);
    assignments = 0;
    for (int32_t step = 0; job->step_row != NULL && step < TRACE_STATS_STEPS; step++) {
        const int64_t *row = job->step_row + (int64_t)step * TRACE_DROP_TOKENS;
        enum status status =
            trace_read(trace, scratch->expert, NULL, index, row, TRACE_DROP_TOKENS, error);
        if (status != STATUS_OK) {
            return status;
        }
        memset(scratch->load, 0, load_bytes);
        for (int32_t i = 0; i < TRACE_DROP_TOKENS * trace->top_k; i++) {
            if (scratch->expert[i] != EXPERT_NOT_ROUTED) {
                scratch->load[scratch->expert[i]]++;
            }
        }
        add_step(dropped, &assignments, scratch->load, trace);
    }
    divide(layer->drop_mixed, dropped, assignments);
    return STATUS_OK;
}
