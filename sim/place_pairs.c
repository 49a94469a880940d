/*
 * place_pairs.c -- experts that the tokens of a trace choose together, or one layer after another.
 */
#include "place.h"

#include <sys/stat.h>

#include "trace.h"

#define ROWS_AT_ONCE 4096

struct pairs {
    const struct trace *trace;
    int32_t *pair;       /* [num_layers][num_experts][num_experts] or NULL */
    int32_t *transition; /* [num_layers - 1][num_experts][num_experts] or NULL */
    int32_t *before;     /* [ROWS_AT_ONCE][top_k] ids of the layer before */
    int32_t *here;       /* [ROWS_AT_ONCE][top_k] */
    int64_t *row;        /* [ROWS_AT_ONCE] */
};

/* Adds one for every pair of ids of a token, first to second. */
static void count(int32_t *counts, const struct trace *trace, const int32_t *first,
                  const int32_t *second, int32_t num_rows)
{
    for (int32_t row = 0; row < num_rows; row++) {
        const int32_t *from = first + (int64_t)row * trace->top_k;
        const int32_t *to = second + (int64_t)row * trace->top_k;
        for (int32_t i = 0; i < trace->top_k; i++) {
            for (int32_t j = 0; j < trace->top_k && from[i] != EXPERT_NOT_ROUTED; j++) {
                if (to[j] != EXPERT_NOT_ROUTED && (first != second || i != j)) {
                    counts[(int64_t)from[i] * trace->num_experts + to[j]]++;
                }
            }
        }
    }
}

static enum status count_rows(struct pairs *pairs, int64_t first, int32_t num_rows,
                              struct error *error)
{
    const struct trace *trace = pairs->trace;
    int64_t block = (int64_t)trace->num_experts * trace->num_experts;
    enum status status = STATUS_OK;
    for (int32_t i = 0; i < num_rows; i++) {
        pairs->row[i] = first + i;
    }
    for (int32_t layer = 0; layer < trace->num_layers && status == STATUS_OK; layer++) {
        status = trace_read(trace, pairs->here, NULL, layer, pairs->row, num_rows, error);
        if (status == STATUS_OK && pairs->pair != NULL) {
            count(pairs->pair + layer * block, trace, pairs->here, pairs->here, num_rows);
        }
        if (status == STATUS_OK && pairs->transition != NULL && layer > 0) {
            count(pairs->transition + (layer - 1) * block, trace, pairs->before, pairs->here,
                  num_rows);
        }
        int32_t *free_again = pairs->before;
        pairs->before = pairs->here;
        pairs->here = free_again;
    }
    return status;
}

static enum status count_trace(struct place_options *options, const struct trace *trace,
                               struct arena *arena, struct error *error)
{
    unsigned needs = options->strategy->needs;
    size_t block = (size_t)trace->num_experts * (size_t)trace->num_experts;
    size_t layers = (size_t)trace->num_layers;
    size_t ids = ROWS_AT_ONCE * (size_t)trace->top_k;
    struct pairs pairs = {.trace = trace,
                          .before = arena_take(arena, ids, sizeof(int32_t)),
                          .here = arena_take(arena, ids, sizeof(int32_t)),
                          .row = arena_take(arena, ROWS_AT_ONCE, sizeof(int64_t))};
    bool complete = pairs.before != NULL && pairs.here != NULL && pairs.row != NULL;
    if ((needs & BALANCE_NEEDS_PAIRS) != 0) {
        pairs.pair = arena_alloc(arena, layers * block, sizeof(int32_t));
        complete = complete && pairs.pair != NULL;
    }
    if ((needs & BALANCE_NEEDS_TRANSITIONS) != 0) {
        pairs.transition = arena_alloc(arena, (layers - 1) * block, sizeof(int32_t));
        complete = complete && pairs.transition != NULL;
    }
    if (!complete) {
        return error_add(error, STATUS_NO_MEMORY, "no memory for pairs of %d experts in %d layers",
                         (int)trace->num_experts, (int)trace->num_layers);
    }
    options->pair_tokens = pairs.pair;
    options->transition_tokens = pairs.transition;
    enum status status = STATUS_OK;
    for (int64_t first = 0; first < trace->num_tokens && status == STATUS_OK;
         first += ROWS_AT_ONCE) {
        int64_t left = trace->num_tokens - first;
        status =
            count_rows(&pairs, first, left < ROWS_AT_ONCE ? (int32_t)left : ROWS_AT_ONCE, error);
    }
    return status;
}

enum status place_count_pairs(struct place_options *options, const char *path, struct arena *arena,
                              struct error *error)
{
    struct stat entry;
    struct trace trace = {0};
    if ((options->strategy->needs & (BALANCE_NEEDS_PAIRS | BALANCE_NEEDS_TRANSITIONS)) == 0) {
        return STATUS_OK;
    }
    if (stat(path, &entry) == 0 && !S_ISDIR(entry.st_mode)) {
        return error_add(error, STATUS_INVALID,
                         "%s: strategy %s needs to know which experts tokens choose together, "
                         "which loads do not tell: give a trace's directory",
                         path, options->strategy->name);
    }
    enum status status = trace_open(&trace, path, error);
    if (status == STATUS_OK && trace.num_tokens > INT32_MAX) {
        status = error_add(error, STATUS_INVALID,
                           "%s: %lld tokens are too many to place by; moesim trace sample makes a "
                           "smaller trace",
                           path, (long long)trace.num_tokens);
    }
    if (status == STATUS_OK) {
        status = count_trace(options, &trace, arena, error);
    }
    trace_close(&trace);
    return status;
}
