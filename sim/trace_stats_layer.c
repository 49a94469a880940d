/*
 * trace_stats_layer.c -- one pass over a layer's rows for load and co-activation, one over its
 * requests for locality, and a sample of rows for the effect of the batch size.
 */
#include "trace_stats_internal.h"

#include <gsl/gsl_statistics_double.h>
#include <math.h>
#include <string.h>

static double ratio(int64_t part, int64_t whole)
{
    return whole > 0 ? (double)part / (double)whole : (double)NAN;
}

static enum status read_rows(const struct trace_stats_job *job,
                             const struct trace_stats_scratch *scratch, int32_t layer,
                             int64_t first, int64_t count, struct error *error)
{
    for (int64_t i = 0; i < count; i++) {
        scratch->row[i] = first + i;
    }
    return trace_read(job->trace, scratch->expert, NULL, layer, scratch->row, (int32_t)count,
                      error);
}

/* A pair is counted where the expert that stands later in the row has its line, so that no order
 * has to be found; measure_lift adds the two places up. */
static void count_row(const struct trace_stats_scratch *scratch, const int32_t *expert,
                      int32_t top_k, int32_t lift_experts, int64_t *half_tokens)
{
    for (int32_t k = 0; k < top_k; k++) {
        if (expert[k] == EXPERT_NOT_ROUTED) {
            continue;
        }
        int64_t *together = scratch->together + (int64_t)expert[k] * lift_experts;
        half_tokens[expert[k]]++;
        for (int32_t other = 0; other < k && lift_experts > 0; other++) {
            if (expert[other] != EXPERT_NOT_ROUTED) {
                together[expert[other]]++;
            }
        }
    }
}

/* As gsl_stats_quantile_from_sorted_data, but sorts no more than it must; value is put in another
 * order. */
static double take_quantile(double *value, size_t count, double fraction)
{
    double index = fraction * (double)(count - 1);
    size_t lower = (size_t)index;
    double delta = index - (double)lower;
    double below = gsl_stats_select(value, 1, count, lower);
    if (lower == count - 1) {
        return below;
    }
    return (1.0 - delta) * below + delta * gsl_stats_select(value, 1, count, lower + 1);
}

/* Quantiles over all pairs of experts that are both alive. */
static void measure_lift(struct trace_stats_layer *layer, const struct trace_stats_scratch *scratch,
                         int32_t num_experts, int64_t routed_rows)
{
    size_t pairs = 0;
    for (int32_t low = 0; low < num_experts; low++) {
        for (int32_t high = low + 1; high < num_experts; high++) {
            double chance = (double)layer->expert_tokens[low] * (double)layer->expert_tokens[high];
            if (chance > 0.0) {
                int64_t together = scratch->together[(int64_t)low * num_experts + high] +
                                   scratch->together[(int64_t)high * num_experts + low];
                scratch->lift[pairs++] = (double)together * (double)routed_rows / chance;
            }
        }
    }
    layer->lift_p5 = layer->lift_median = layer->lift_p95 = (double)NAN;
    if (pairs > 0) {
        layer->lift_p5 = take_quantile(scratch->lift, pairs, 0.05);
        layer->lift_median = take_quantile(scratch->lift, pairs, 0.5);
        layer->lift_p95 = take_quantile(scratch->lift, pairs, 0.95);
    }
}

/* Two rows drawn from the trace: expert e is in both with the square of its share of rows. */
static double overlap_by_chance(const struct trace_stats_layer *layer, int32_t num_experts,
                                int32_t top_k, int64_t routed_rows)
{
    double sum = 0.0;
    for (int32_t expert = 0; expert < num_experts; expert++) {
        double share = (double)layer->expert_tokens[expert] / (double)routed_rows;
        sum += share * share;
    }
    return routed_rows > 0 ? sum / top_k : (double)NAN;
}

/* Total variation distance between the shares of the two halves. */
static double measure_drift(const int64_t *half, int32_t num_experts)
{
    int64_t sum[2] = {0, 0};
    for (int32_t expert = 0; expert < num_experts; expert++) {
        sum[0] += half[expert];
        sum[1] += half[num_experts + expert];
    }
    if (sum[0] == 0 || sum[1] == 0) {
        return (double)NAN;
    }
    double distance = 0.0;
    for (int32_t expert = 0; expert < num_experts; expert++) {
        distance += fabs((double)half[expert] / (double)sum[0] -
                         (double)half[num_experts + expert] / (double)sum[1]);
    }
    return distance / 2.0;
}

static enum status measure_load(const struct trace_stats_job *job, struct trace_stats_layer *layer,
                                int64_t *expert_tokens, const struct trace_stats_scratch *scratch,
                                int32_t index, struct error *error)
{
    const struct trace *trace = job->trace;
    int32_t experts = trace->num_experts;
    int64_t routed_rows = 0;
    memset(scratch->half, 0, 2 * (size_t)experts * sizeof *scratch->half);
    memset(scratch->together, 0,
           (size_t)job->lift_experts * (size_t)job->lift_experts * sizeof *scratch->together);
    for (int64_t first = 0; first < trace->num_tokens; first += CHUNK_ROWS) {
        int64_t count = trace->num_tokens - first;
        count = count < CHUNK_ROWS ? count : CHUNK_ROWS;
        enum status status = read_rows(job, scratch, index, first, count, error);
        if (status != STATUS_OK) {
            return status;
        }
        for (int64_t i = 0; i < count; i++) {
            bool second = first + i >= trace->num_tokens / 2;
            const int32_t *expert = scratch->expert + i * trace->top_k;
            count_row(scratch, expert, trace->top_k, job->lift_experts,
                      scratch->half + (second ? experts : 0));
            routed_rows += expert[0] != EXPERT_NOT_ROUTED;
        }
    }
    for (int32_t expert = 0; expert < experts; expert++) {
        expert_tokens[expert] = scratch->half[expert] + scratch->half[experts + expert];
        layer->assignments += expert_tokens[expert];
    }
    layer->skew = load_skew(expert_tokens, experts, scratch->load);
    layer->ep_max_over_mean =
        load_contiguous_max_over_mean(expert_tokens, experts, job->stats->ep_ranks);
    layer->overlap_by_chance = overlap_by_chance(layer, experts, trace->top_k, routed_rows);
    layer->drift = measure_drift(scratch->half, experts);
    measure_lift(layer, scratch, job->lift_experts, routed_rows);
    return STATUS_OK;
}

/* Pairs of rows of one request, by lag. */
struct locality {
    int64_t top1_same;
    int64_t pairs[TRACE_LAGS];
    int64_t shared[TRACE_LAGS]; /* experts in both sets */
};

static void gather_sets(const struct trace_stats_job *job,
                        const struct trace_stats_scratch *scratch, int64_t count)
{
    int32_t top_k = job->trace->top_k;
    memset(scratch->chosen, 0, (size_t)(count * job->words) * sizeof *scratch->chosen);
    for (int64_t i = 0; i < count; i++) {
        uint64_t *chosen = scratch->chosen + i * job->words;
        for (int32_t k = 0; k < top_k; k++) {
            int32_t expert = scratch->expert[i * top_k + k];
            if (expert != EXPERT_NOT_ROUTED) {
                chosen[expert / 64] |= UINT64_C(1) << (expert % 64);
            }
        }
    }
}

/* Compares row `now` of the buffer with the one lag rows before it. */
static void compare_rows(const struct trace_stats_job *job,
                         const struct trace_stats_scratch *scratch, int64_t now, int32_t lag,
                         struct locality *locality)
{
    int32_t top_k = job->trace->top_k;
    int64_t before = now - trace_lag_rows[lag];
    const int32_t *expert = scratch->expert + now * top_k;
    const uint64_t *chosen = scratch->chosen + before * job->words;
    if (expert[0] == EXPERT_NOT_ROUTED || scratch->expert[before * top_k] == EXPERT_NOT_ROUTED) {
        return;
    }
    locality->pairs[lag]++;
    for (int32_t k = 0; k < top_k; k++) {
        if (expert[k] != EXPERT_NOT_ROUTED) {
            locality->shared[lag] += (int64_t)(chosen[expert[k] / 64] >> (expert[k] % 64) & 1);
        }
    }
    if (lag == 0) {
        locality->top1_same += expert[0] == scratch->expert[before * top_k];
    }
}

static enum status measure_request(const struct trace_stats_job *job,
                                   const struct trace_stats_scratch *scratch, int32_t layer,
                                   const struct trace_request *request, struct locality *locality,
                                   struct error *error)
{
    int64_t end = request->row_offset + request->num_rows;
    for (int64_t first = request->row_offset; first < end; first += CHUNK_ROWS) {
        int64_t begin = first - LAG_ROWS_MAX; /* history is read again: simpler than moved */
        begin = begin > request->row_offset ? begin : request->row_offset;
        int64_t stop = first + CHUNK_ROWS < end ? first + CHUNK_ROWS : end;
        enum status status = read_rows(job, scratch, layer, begin, stop - begin, error);
        if (status != STATUS_OK) {
            return status;
        }
        gather_sets(job, scratch, stop - begin);
        for (int32_t lag = 0; lag < TRACE_LAGS; lag++) {
            int64_t now = first - request->row_offset < trace_lag_rows[lag]
                              ? request->row_offset + trace_lag_rows[lag]
                              : first;
            for (; now < stop; now++) {
                compare_rows(job, scratch, now - begin, lag, locality);
            }
        }
    }
    return STATUS_OK;
}

static enum status measure_locality(const struct trace_stats_job *job,
                                    struct trace_stats_layer *layer,
                                    const struct trace_stats_scratch *scratch, int32_t index,
                                    struct error *error)
{
    struct locality locality = {0};
    for (int64_t i = 0; i < job->trace->num_requests; i++) {
        enum status status =
            measure_request(job, scratch, index, &job->trace->requests[i], &locality, error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    layer->top1_repeat = ratio(locality.top1_same, locality.pairs[0]);
    for (int32_t lag = 0; lag < TRACE_LAGS; lag++) {
        layer->overlap[lag] = ratio(locality.shared[lag], locality.pairs[lag] * job->trace->top_k);
    }
    return STATUS_OK;
}

/* Sums over batches; a batch's own max / mean would weigh batches with gaps as much as full ones.
 */
struct batch_sums {
    int64_t max_tokens;
    int64_t assignments;
    int64_t active;
};

static void add_batch(struct batch_sums *sums, const int64_t *load_tokens, int32_t num_experts)
{
    int64_t max = 0;
    for (int32_t expert = 0; expert < num_experts; expert++) {
        max = load_tokens[expert] > max ? load_tokens[expert] : max;
        sums->assignments += load_tokens[expert];
        sums->active += load_tokens[expert] > 0;
    }
    sums->max_tokens += max;
}

static enum status measure_batches(const struct trace_stats_job *job,
                                   struct trace_stats_layer *layer,
                                   const struct trace_stats_scratch *scratch, int32_t index,
                                   struct error *error)
{
    int32_t experts = job->trace->num_experts;
    for (int32_t size = 0; size < TRACE_BATCH_SIZES; size++) {
        struct batch_sums sums = {0};
        int32_t tokens = trace_batch_tokens[size];
        for (int32_t batch = 0; job->batch_row[size] != NULL && batch < TRACE_STATS_BATCHES;
             batch++) {
            const int64_t *row = job->batch_row[size] + (int64_t)batch * tokens;
            enum status status =
                trace_read(job->trace, scratch->expert, NULL, index, row, tokens, error);
            if (status != STATUS_OK) {
                return status;
            }
            memset(scratch->load, 0, (size_t)experts * sizeof *scratch->load);
            for (int32_t i = 0; i < tokens * job->trace->top_k; i++) {
                if (scratch->expert[i] != EXPERT_NOT_ROUTED) {
                    scratch->load[scratch->expert[i]]++;
                }
            }
            add_batch(&sums, scratch->load, experts);
        }
        layer->batch_max_over_mean[size] = ratio(sums.max_tokens * experts, sums.assignments);
        layer->batch_active[size] =
            job->batch_row[size] == NULL
                ? (double)NAN
                : ratio(sums.active, (int64_t)TRACE_STATS_BATCHES * experts);
    }
    return STATUS_OK;
}

enum status trace_stats_layer(const struct trace_stats_job *job,
                              const struct trace_stats_scratch *scratch, int32_t index,
                              struct error *error)
{
    struct trace_stats_layer *layer = &job->stats->layer[index];
    int64_t *expert_tokens = job->expert_tokens + (int64_t)index * job->trace->num_experts;
    *layer = (struct trace_stats_layer){
        .model_layer = job->trace->model_layer[index],
        .expert_tokens = expert_tokens,
    };
    enum status status = measure_load(job, layer, expert_tokens, scratch, index, error);
    if (status == STATUS_OK) {
        status = measure_locality(job, layer, scratch, index, error);
    }
    if (status == STATUS_OK) {
        status = measure_batches(job, layer, scratch, index, error);
    }
    if (status == STATUS_OK) {
        status = trace_stats_information(job, layer, scratch, index, error);
    }
    if (status == STATUS_OK) {
        status = trace_stats_drops(job, layer, scratch, index, error);
    }
    return status;
}
