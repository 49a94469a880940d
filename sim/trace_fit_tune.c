/*
 * trace_fit_tune.c -- corrects a learned table until traces generated from it measure like the
 * trace.
 *
 * A law learned from real rows drifts off when it walks on rows of its own. Each round generates a
 * trace with a seed of its own and measures it; then
 *
 *   base     is lowered by ln(generated / measured) of each expert's tokens
 *   request  is scaled in a layer by what overlaps of rows far apart and drops of consecutive rows
 *            lack: both say how far requests differ; then turned by what each domain has too much
 *            of (trace_fit_loads.c), which leaves it to
 *   sigma    of all domains to be scaled by what those lack on average
 *   repeat   is raised in a layer by what the overlap with the row before, and repeats of the best
 *            expert, lack
 *   first    is scaled in a layer by what information about the layer lacks
 *   together is scaled in a layer by what the spread of lifts lacks
 *   drifts   are widened by what overlaps at middle distances lack against those farther apart
 *
 * and the mean over the second half of the rounds is kept: so what one seed's requests happen to be
 * like goes out (Polyak and Juditsky 1992, SIAM J. Control Optim. 30). Each layer hands on to the
 * next what was corrected in it, so that of a chain of 16 layers corrections by 0.7 of what is
 * found overshoot further with every round; those by STEP settle.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "trace_fit_internal.h"
#include "trace_stats.h"

#define STEP         0.3
#define TOKENS_LEAST 4096
#define WORK_MAX     (INT64_C(1) << 28) /* tokens * layers * experts of a round */
#define COUNT_MIN    0.5                /* of an expert's tokens in a logarithm */
#define DROP_WEIGHT  0.5                /* of a drop's excess beside an overlap's */
#define SCALE_STEP   0.3                /* most that a round may change a scale by */
#define QUICK_LAGS   1                  /* first of the lags 2, 4 */
#define FAR_LAGS     3                  /* first of the lags 16, 64, 256 */

struct tuner {
    struct generate_preset *preset;
    struct coupled_law scaled; /* the law with a cycle that a round gets through */
    float *value;
    const struct trace_stats *target;
    struct fit_loads loads;
    double sigma_scale; /* of the law's domains, beside what they were at first */
    int64_t num_tokens; /* of a round */
    int64_t cells;      /* of a layer's table */
};

static double clamp(double value, double limit)
{
    return fmax(-limit, fmin(limit, value));
}

/* generated / measured - 1; 0 where one of them is not known. */
static double excess(double generated, double measured)
{
    double ratio = generated / measured - 1;
    return isfinite(ratio) ? ratio : 0;
}

/* The mean excess of overlaps from lag first to lag last. */
static double overlap_excess(const struct trace_stats_layer *generated,
                             const struct trace_stats_layer *measured, int32_t first, int32_t last)
{
    double sum = 0;
    int32_t count = 0;
    for (int32_t lag = first; lag <= last; lag++) {
        if (isfinite(generated->overlap[lag]) && isfinite(measured->overlap[lag])) {
            sum += excess(generated->overlap[lag], measured->overlap[lag]);
            count++;
        }
    }
    return count > 0 ? sum / count : 0;
}

static void scale_rows(struct tuner *tuner, int32_t layer, enum coupled_row kind, int32_t count,
                       double change)
{
    const struct coupled_law *law = tuner->preset->coupled;
    float *row = tuner->value + layer * tuner->cells +
                 (int64_t)coupled_first_row(law, kind) * law->num_experts;
    float scale = (float)(1 + clamp(change, SCALE_STEP));
    for (int64_t i = 0; i < (int64_t)count * law->num_experts; i++) {
        row[i] *= scale;
    }
}

static void base_correct(struct tuner *tuner, int32_t layer,
                         const struct trace_stats_layer *generated)
{
    const struct coupled_law *law = tuner->preset->coupled;
    const struct trace_stats_layer *measured = &tuner->target->layer[layer];
    double per_token = (double)generated->assignments / (double)measured->assignments;
    for (int32_t expert = 0; expert < law->num_experts; expert++) {
        double wanted = (double)measured->expert_tokens[expert] * per_token;
        double got = (double)generated->expert_tokens[expert];
        float down = (float)(STEP * log((got + COUNT_MIN) / (wanted + COUNT_MIN)));
        for (int32_t k = 0; k < law->top_k; k++) {
            tuner->value[layer * tuner->cells + (int64_t)k * law->num_experts + expert] -= down;
        }
    }
}

/* How much too far a layer's requests differ. */
static double far_excess(const struct tuner *tuner, int32_t layer, const struct trace_stats *stats)
{
    const struct trace_stats_layer *generated = &stats->layer[layer];
    const struct trace_stats_layer *measured = &tuner->target->layer[layer];
    return overlap_excess(generated, measured, FAR_LAGS, TRACE_LAGS - 1) +
           DROP_WEIGHT * excess(generated->drop_consecutive[0], measured->drop_consecutive[0]);
}

static void sigmas_set(struct tuner *tuner, double scale)
{
    struct coupled_law *law = tuner->preset->coupled;
    for (int32_t i = 0; i < law->num_domains; i++) {
        for (int32_t f = 0; f < law->num_factors; f++) {
            law->domain[i].sigma[f] *= scale / tuner->sigma_scale;
        }
        memcpy(tuner->scaled.domain[i].sigma, law->domain[i].sigma, sizeof law->domain[i].sigma);
    }
    tuner->sigma_scale = scale;
}

static void sigmas_correct(struct tuner *tuner, const struct trace_stats *stats)
{
    const int32_t num_layers = tuner->preset->coupled->num_layers;
    double far = 0;
    for (int32_t layer = 0; layer < num_layers; layer++) {
        far += far_excess(tuner, layer, stats) / num_layers;
    }
    sigmas_set(tuner, tuner->sigma_scale * (1 - clamp(1.6 * STEP * far, SCALE_STEP)));
}

static void layer_correct(struct tuner *tuner, int32_t layer, const struct trace_stats *stats)
{
    const struct coupled_law *law = tuner->preset->coupled;
    const struct trace_stats_layer *generated = &stats->layer[layer];
    const struct trace_stats_layer *measured = &tuner->target->layer[layer];
    base_correct(tuner, layer, generated);
    double far = far_excess(tuner, layer, stats);
    scale_rows(tuner, layer, COUPLED_REQUEST, law->num_factors, -1.6 * STEP * far);
    double near = clamp(overlap_excess(generated, measured, 0, 0), SCALE_STEP);
    double best = clamp(excess(generated->top1_repeat, measured->top1_repeat), SCALE_STEP) - near;
    float *repeat = tuner->value + layer * tuner->cells +
                    (int64_t)coupled_first_row(law, COUPLED_REPEAT) * law->num_experts;
    for (int32_t expert = 0; expert < law->num_experts; expert++) {
        repeat[expert] -= (float)(4 * STEP * near);
        repeat[law->num_experts + expert] -= (float)(STEP * best);
    }
    double lift = excess(generated->lift_p95, measured->lift_p95) -
                  excess(generated->lift_median, measured->lift_median);
    scale_rows(tuner, layer, COUPLED_TOGETHER, law->num_experts, -0.4 * STEP * lift);
    if (layer > 0) {
        double information = excess(stats->layer[layer - 1].next_information,
                                    tuner->target->layer[layer - 1].next_information);
        scale_rows(tuner, layer, COUPLED_FIRST, law->num_experts, -0.8 * STEP * information);
    }
}

/* A drift is too wide where overlaps at small distances are in excess of those at larger ones.
 * Requests too short for the farthest lag have no slow drift. */
static void drifts_correct(struct tuner *tuner, const struct trace_stats *stats)
{
    struct coupled_law *law = tuner->preset->coupled;
    double lack[COUPLED_DRIFTS] = {0};
    for (int32_t layer = 0; layer < law->num_layers; layer++) {
        const struct trace_stats_layer *generated = &stats->layer[layer];
        const struct trace_stats_layer *measured = &tuner->target->layer[layer];
        double quick = overlap_excess(generated, measured, QUICK_LAGS, FAR_LAGS - 1);
        double middle = overlap_excess(generated, measured, FAR_LAGS, TRACE_LAGS - 2);
        double slow = overlap_excess(generated, measured, TRACE_LAGS - 1, TRACE_LAGS - 1);
        bool is_long = isfinite(measured->overlap[TRACE_LAGS - 1]) &&
                       isfinite(generated->overlap[TRACE_LAGS - 1]);
        lack[0] += 4 * (middle - quick) / law->num_layers;
        lack[1] += is_long ? 6 * (slow - middle) / law->num_layers : 0;
    }
    for (int32_t i = 0; i < COUPLED_DRIFTS; i++) {
        double variance = law->drift_sigma[i] * law->drift_sigma[i] + STEP * lack[i];
        law->drift_sigma[i] = sqrt(fmax(0, variance));
    }
}

/* Where requests are too short for the farthest lag, nothing tells a slow drift from what stays:
 * all of it is left to the requests' own factors, which were measured. */
static void slow_drift_start(struct coupled_law *law, const struct trace_stats *target)
{
    bool is_long = false;
    for (int32_t layer = 0; layer < target->num_layers; layer++) {
        is_long = is_long || isfinite(target->layer[layer].overlap[TRACE_LAGS - 1]);
    }
    law->drift_sigma[1] = is_long ? law->drift_sigma[1] : 0;
}

/* Generates and measures one trace, and corrects what needs its rows. */
static enum status round_measure(struct tuner *tuner, struct trace_stats *stats,
                                 const struct trace_fit_options *options, int32_t round,
                                 struct error *error)
{
    struct trace trace = {0};
    struct generate_preset preset = *tuner->preset;
    struct generate_options generate = {.num_tokens = tuner->num_tokens,
                                        .seed = options->seed + (uint64_t)round + 1,
                                        .num_threads = options->num_threads};
    struct trace_stats_options measure = {
        .num_threads = options->num_threads, .seed = options->seed, .no_uniform = true};
    const struct coupled_law *law = tuner->preset->coupled;
    fit_round(tuner->preset->coupled, tuner->value);
    memcpy(tuner->scaled.drift_sigma, law->drift_sigma, sizeof law->drift_sigma);
    preset.coupled = &tuner->scaled;
    enum status status = generate_from_preset(&trace, &preset, &generate, error);
    if (status == STATUS_OK) {
        status = trace_stats_read(stats, &trace, &measure, error);
    }
    if (status == STATUS_OK) {
        status =
            fit_loads_correct(&tuner->loads, tuner->value, &preset, &generate, &trace, STEP, error);
    }
    trace_close(&trace);
    return status;
}

/* A round's tokens, and a cycle of about as many: enough for every domain to be met in its share.
 */
static void tuner_size(struct tuner *tuner, const struct fit_rows *rows)
{
    struct coupled_law *law = &tuner->scaled;
    int64_t work = (int64_t)law->num_layers * law->num_experts;
    int64_t tokens = rows->num_tokens;
    tokens = tokens * work < WORK_MAX ? tokens : WORK_MAX / work;
    tuner->num_tokens = tokens > TOKENS_LEAST ? tokens : TOKENS_LEAST;
    double cycle = 0;
    for (int32_t i = 0; i < law->num_domains; i++) {
        cycle += law->domain[i].requests;
    }
    double requests = (double)rows->num_requests * (double)tokens / (double)rows->num_tokens;
    for (int32_t i = 0; i < law->num_domains && cycle > requests; i++) {
        law->domain[i].requests *= requests / cycle;
    }
}

/* Sums over the rounds that count. */
struct sums {
    double *value; /* [cells of all layers] */
    double drift_sigma[COUPLED_DRIFTS];
    double sigma_scale;
    int32_t count;
};

static void sums_add(struct sums *sums, const struct tuner *tuner, int64_t cells)
{
    for (int64_t i = 0; i < cells; i++) {
        sums->value[i] += (double)tuner->value[i];
    }
    for (int32_t i = 0; i < COUPLED_DRIFTS; i++) {
        sums->drift_sigma[i] += tuner->preset->coupled->drift_sigma[i];
    }
    sums->sigma_scale += tuner->sigma_scale;
    sums->count++;
}

static enum status rounds_run(struct tuner *tuner, double *sum,
                              const struct trace_fit_options *options, int64_t done, int64_t total,
                              struct error *error)
{
    struct coupled_law *law = tuner->preset->coupled;
    const int64_t cells = tuner->cells * law->num_layers;
    struct sums sums = {.value = sum};
    for (int32_t round = 0; round < FIT_ROUNDS; round++) {
        struct trace_stats stats = {0};
        enum status status = round_measure(tuner, &stats, options, round, error);
        for (int32_t layer = 0; status == STATUS_OK && layer < law->num_layers; layer++) {
            layer_correct(tuner, layer, &stats);
        }
        if (status == STATUS_OK) {
            drifts_correct(tuner, &stats);
            sigmas_correct(tuner, &stats);
        }
        trace_stats_free(&stats);
        if (status != STATUS_OK) {
            return status;
        }
        if (round >= FIT_ROUNDS / 2) {
            sums_add(&sums, tuner, cells);
        }
        if (options->progress != NULL) {
            options->progress(options->context, done + round + 1, total);
        }
    }
    for (int64_t i = 0; i < cells; i++) {
        tuner->value[i] = (float)(sums.value[i] / sums.count);
    }
    for (int32_t i = 0; i < COUPLED_DRIFTS; i++) {
        law->drift_sigma[i] = sums.drift_sigma[i] / sums.count;
    }
    sigmas_set(tuner, sums.sigma_scale / sums.count);
    fit_round(law, tuner->value);
    return STATUS_OK;
}

enum status fit_tune(struct generate_preset *preset, float *value, const struct trace *trace,
                     const struct fit_rows *rows, const struct trace_fit_options *options,
                     int64_t done, int64_t total, struct error *error)
{
    struct coupled_law *law = preset->coupled;
    struct tuner *tuner = calloc(1, sizeof *tuner);
    int64_t cells = (int64_t)coupled_first_row(law, COUPLED_ROW_KINDS) * law->num_experts;
    double *sum = calloc((size_t)(cells * law->num_layers), sizeof *sum);
    struct trace_stats target = {0};
    struct trace_stats_options measure = {
        .num_threads = options->num_threads, .seed = options->seed, .no_uniform = true};
    enum status status = STATUS_OK;
    if (tuner == NULL || sum == NULL) {
        status = error_add(error, STATUS_NO_MEMORY, "no memory to fit a trace");
    } else {
        status = trace_stats_read(&target, trace, &measure, error);
    }
    if (status == STATUS_OK) {
        slow_drift_start(law, &target);
        *tuner = (struct tuner){.preset = preset,
                                .scaled = *law,
                                .value = value,
                                .target = &target,
                                .sigma_scale = 1,
                                .cells = cells};
        tuner_size(tuner, rows);
        status = fit_loads_open(&tuner->loads, law, rows, error);
    }
    if (status == STATUS_OK) {
        status = rounds_run(tuner, sum, options, done, total, error);
    }
    if (tuner != NULL) {
        fit_loads_close(&tuner->loads);
    }
    trace_stats_free(&target);
    free(sum);
    free(tuner);
    return status;
}
