/* step_time.c -- the length of a step, from the table and the GPU model. */
#include "serve/step_time.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "digest.h"
#include "serve/step_time_internal.h"

#define GRID 4096.0 /* results of exp and log are kept to 1 / 4096 ns */

void step_load_add_chunk(struct step_load *load, int64_t first, int32_t count)
{
    load->prefill_tokens += count;
    load->prefill_attended += count * first + (int64_t)count * (count + 1) / 2;
    load->prefill_context += first + count;
}

/* So many tokens that look back on nothing but themselves. */
static struct step_load bare_load(enum phase phase, int64_t tokens)
{
    if (phase == PHASE_PREFILL) {
        return (struct step_load){.prefill_tokens = (int32_t)tokens,
                                  .prefill_attended = tokens,
                                  .prefill_context = tokens};
    }
    return (struct step_load){
        .sequences = (int32_t)tokens, .decode_tokens = (int32_t)tokens, .context_tokens = tokens};
}

/* rest or own of a point with this much attention over the cache. */
static double at_extra(const struct step_point *point, int32_t num_contexts, double extra_ns)
{
    int32_t i = 1;
    if (num_contexts == 1 || extra_ns <= point->extra_ns[0]) {
        return point->rest_ns[0];
    }
    while (i + 1 < num_contexts && point->extra_ns[i] < extra_ns) {
        i++;
    }
    double share = (extra_ns - point->extra_ns[i - 1]) /
                   fmax(1.0, point->extra_ns[i] - point->extra_ns[i - 1]);
    return point->rest_ns[i - 1] + fmin(share, 1.0) * (point->rest_ns[i] - point->rest_ns[i - 1]);
}

/* The point at or before this many tokens that has another behind it. */
int32_t step_interval(const struct step_time *step_time, double tokens)
{
    int32_t low = 0;
    int32_t high = step_time->num_points - 1;
    while (high - low > 1) {
        int32_t middle = low + (high - low) / 2;
        if (step_point_tokens(&step_time->point[middle]) <= tokens) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

static double on_line(double x, double x0, double y0, double x1, double y1)
{
    double share = log(x / x0) / log(x1 / x0);
    return round(exp(log(y0) + share * log(y1 / y0)) * GRID) / GRID;
}

double step_look_up(const struct step_time *step_time, enum step_column column, double tokens,
                    double extra_ns)
{
    double y[2];
    double x[2];
    /* However few there are, some rank has one. */
    tokens = column == STEP_COLUMN_OWN ? fmax(1.0, tokens) : tokens;
    int32_t left = step_interval(step_time, tokens);
    for (int32_t i = 0; i < 2; i++) {
        int32_t index = left + i < step_time->num_points ? left + i : left;
        const struct step_point *point = &step_time->point[index];
        x[i] = step_point_tokens(point);
        y[i] = column == STEP_COLUMN_OWN
                   ? point->own_ns
                   : at_extra(point, step_time->num_contexts, extra_ns * x[i] / tokens);
    }
    if (tokens <= x[0] || x[0] == x[1]) {
        return y[0]; /* less than the first point takes as long as it */
    }
    return on_line(tokens, x[0], y[0], x[1], y[1]);
}

/* A group has one collective: if anybody reads, all replicas use that of prompts. */
static const struct step_time *table_of(const struct step_time *step_time,
                                        const struct step_load *load, int32_t num_replicas)
{
    bool reads = false;
    for (int32_t i = 0; i < num_replicas && !reads; i++) {
        reads = load[i].prefill_tokens > 0;
    }
    return reads && step_time->reading != NULL ? step_time->reading : step_time;
}

double step_time_ns(const struct step_time *both, const struct step_load *load,
                    int32_t num_replicas)
{
    const struct step_time *step_time = table_of(both, load, num_replicas);
    double tp = (double)step_time->scenario.tp;
    double attention_ns = 0.0;
    double head_ns = 0.0;
    int64_t tokens = 0;
    int64_t tokens_max = 0;
    const struct step_load *last_head = NULL;
    for (int32_t i = 0; i < num_replicas; i++) {
        int64_t own = (int64_t)load[i].decode_tokens + load[i].prefill_tokens;
        tokens += own;
        tokens_max = own > tokens_max ? own : tokens_max;
        if (own > 0) {
            attention_ns = fmax(attention_ns, step_attention_ns(step_time, &load[i]));
        }
        if (last_head == NULL || load[i].head_tokens > last_head->head_tokens) {
            last_head = &load[i];
        }
    }
    if (tokens == 0) {
        return 0.0;
    }
    if (last_head->head_tokens > 0) {
        head_ns = step_head_ns(step_time, last_head);
    }
    double mean = (double)tokens / ((double)num_replicas * tp);
    double fullest = (double)tokens_max / tp;
    double extra_ns = 0.0;
    if (step_time->num_contexts > 1) {
        struct step_load bare = bare_load(step_time->scenario.phase, tokens_max);
        extra_ns = fmax(0.0, attention_ns - step_attention_ns(step_time, &bare));
    }
    double rest_ns = step_look_up(step_time, STEP_COLUMN_REST, mean, extra_ns);
    if (fullest > mean) {
        rest_ns += step_look_up(step_time, STEP_COLUMN_OWN, fullest, 0.0) -
                   step_look_up(step_time, STEP_COLUMN_OWN, mean, 0.0);
    }
    return attention_ns + head_ns + rest_ns;
}

static void free_table(struct step_time *table)
{
    if (table != NULL) {
        free(table->point);
        free(table->tested);
        arena_free(&table->arena);
        free(table);
    }
}

void step_time_close(struct step_time *step_time)
{
    if (step_time != NULL) {
        free_table(step_time->reading);
        free_table(step_time);
    }
}

int32_t *step_time_placement(const struct step_time *step_time)
{
    return step_time->scenario.initial_expert_of_slot;
}

struct step_time_error step_time_error(const struct step_time *step_time)
{
    return step_time->error;
}

int32_t step_time_num_points(const struct step_time *step_time)
{
    return step_time->num_points;
}

void step_time_point(const struct step_time *step_time, int32_t point, int32_t *tokens_per_rank,
                     double *rest_ns)
{
    assert(point >= 0 && point < step_time->num_points);
    *tokens_per_rank = step_time->point[point].tokens_per_rank;
    *rest_ns = step_time->point[point].rest_ns[0];
}

static uint64_t table_digest(const struct step_time *table, uint64_t digest)
{
    for (int32_t i = 0; i < table->num_points; i++) {
        const struct step_point *point = &table->point[i];
        digest = digest_u64(digest, (uint64_t)point->tokens_per_rank);
        if (point->ranks_per_token > 1) {
            digest = digest_u64(digest, (uint64_t)point->ranks_per_token);
        }
        for (int32_t j = 0; j < table->num_contexts; j++) {
            digest = digest_u64(digest, (uint64_t)llround(point->rest_ns[j]));
        }
        digest = digest_u64(digest, (uint64_t)llround(point->own_ns));
    }
    return digest;
}

uint64_t step_time_digest(const struct step_time *step_time, uint64_t digest)
{
    digest = table_digest(step_time, digest);
    return step_time->reading != NULL ? table_digest(step_time->reading, digest) : digest;
}
