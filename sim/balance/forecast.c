/*
 * forecast.c -- level, mean and scatter of expert loads, fitted by forecasting the past.
 *
 * For each candidate gain the steps of a few layers are gone through once. With l the level and m
 * the mean of the steps so far, and y the tokens lead steps later,
 *     keep = sum (y - m) (l - m) / sum (l - m)^2      the least squares slope, within 0 .. 1;
 * the gain whose forecast misses least is taken. Its squared errors r^2 then give the scatter by
 * two moments:  sum r^2 = noise sum f + drift sum f^2,  sum r^2 f = noise sum f^2 + drift sum f^3.
 */
#include "balance/forecast.h"

#define FIT_LAYERS_MAX 4

static const double gains[] = {1.0, 0.7, 0.45, 0.25, 0.12};
#define NUM_GAINS ((int32_t)(sizeof gains / sizeof gains[0]))

/* Steps first .. first + count - 1 of the window: the newest. */
struct span {
    const struct balance_input *input;
    int32_t first;
    int32_t count;
    int32_t lead;  /* as many steps ahead as the span can judge */
    double *level; /* [num_experts] */
    double *sum;   /* [num_experts] */
};

static const int32_t *tokens_at(const struct balance_input *input, int32_t step, int32_t layer)
{
    return input->step_tokens +
           ((int64_t)step * input->num_layers + layer) * (int64_t)input->num_experts;
}

static void start_layer(struct span *span, int32_t layer)
{
    const int32_t *tokens = tokens_at(span->input, span->first, layer);
    for (int32_t expert = 0; expert < span->input->num_experts; expert++) {
        span->level[expert] = tokens[expert];
        span->sum[expert] = tokens[expert];
    }
}

static void add_step(struct span *span, int32_t step, int32_t layer, double gain)
{
    const int32_t *tokens = tokens_at(span->input, step, layer);
    for (int32_t expert = 0; expert < span->input->num_experts; expert++) {
        double fresh = tokens[expert];
        span->level[expert] += gain * (fresh - span->level[expert]);
        span->sum[expert] += fresh;
    }
}

/* Sums over experts and steps of the products of y - m and l - m. */
struct slope {
    double far_far;
    double far_level;
    double level_level;
};

static void add_slope(struct slope *slope, struct span *span, int32_t layer, double gain)
{
    int32_t last = span->first + span->count - 1;
    start_layer(span, layer);
    for (int32_t step = span->first;; step++) {
        const int32_t *later = tokens_at(span->input, step + span->lead, layer);
        double share = 1.0 / (step - span->first + 1);
        for (int32_t expert = 0; expert < span->input->num_experts; expert++) {
            double mean = span->sum[expert] * share;
            double far = later[expert] - mean;
            double level = span->level[expert] - mean;
            slope->far_far += far * far;
            slope->far_level += far * level;
            slope->level_level += level * level;
        }
        if (step + 1 + span->lead > last) {
            return;
        }
        add_step(span, step + 1, layer, gain);
    }
}

struct scatter {
    double f1, f2, f3; /* sums of powers of the forecast */
    double r0, r1;     /* of the squared error, and of it times the forecast */
};

static void add_scatter(struct scatter *scatter, struct span *span, int32_t layer, double gain,
                        double keep)
{
    int32_t last = span->first + span->count - 1;
    start_layer(span, layer);
    for (int32_t step = span->first;; step++) {
        const int32_t *later = tokens_at(span->input, step + span->lead, layer);
        double share = (1.0 - keep) / (step - span->first + 1);
        for (int32_t expert = 0; expert < span->input->num_experts; expert++) {
            double f = keep * span->level[expert] + share * span->sum[expert];
            double error = later[expert] - f;
            scatter->f1 += f;
            scatter->f2 += f * f;
            scatter->f3 += f * f * f;
            scatter->r0 += error * error;
            scatter->r1 += error * error * f;
        }
        if (step + 1 + span->lead > last) {
            return;
        }
        add_step(span, step + 1, layer, gain);
    }
}

static void solve_scatter(struct forecast *forecast, const struct scatter *s)
{
    double determinant = s->f1 * s->f3 - s->f2 * s->f2;
    if (determinant > 0.0) {
        forecast->noise = (s->r0 * s->f3 - s->r1 * s->f2) / determinant;
        forecast->drift = (s->r1 * s->f1 - s->r0 * s->f2) / determinant;
    }
    if (forecast->drift < 0.0 || determinant <= 0.0) {
        forecast->drift = 0.0;
        forecast->noise = s->f1 > 0.0 ? s->r0 / s->f1 : 1.0;
    }
    if (forecast->noise < 0.0) {
        forecast->noise = 0.0;
        forecast->drift = s->f2 > 0.0 ? s->r0 / s->f2 : 0.0;
    }
}

static int32_t fit_layer(const struct balance_input *input, int32_t at)
{
    int32_t count = input->num_layers < FIT_LAYERS_MAX ? input->num_layers : FIT_LAYERS_MAX;
    return at < count ? (int32_t)((int64_t)at * input->num_layers / count) : -1;
}

enum status forecast_fit(struct forecast *forecast, const struct balance_input *input,
                         int32_t lead_steps)
{
    *forecast = (struct forecast){.gain = 1.0, .keep = 1.0, .noise = 1.0, .drift = 0.0};
    struct span span = {.input = input};
    span.count = input->num_steps < FORECAST_STEPS_MAX ? input->num_steps : FORECAST_STEPS_MAX;
    span.first = input->num_steps - span.count;
    span.lead = lead_steps < span.count / 2 ? lead_steps : span.count / 2;
    span.level = arena_take(input->scratch, (size_t)input->num_experts, sizeof *span.level);
    span.sum = arena_take(input->scratch, (size_t)input->num_experts, sizeof *span.sum);
    if (span.level == NULL || span.sum == NULL) {
        return STATUS_NO_MEMORY;
    }
    if (span.lead < 1) {
        return STATUS_OK; /* one step tells nothing of drift */
    }
    double least = -1.0;
    for (int32_t at = 0; at < NUM_GAINS; at++) {
        struct slope slope = {0};
        for (int32_t i = 0; fit_layer(input, i) >= 0; i++) {
            add_slope(&slope, &span, fit_layer(input, i), gains[at]);
        }
        double keep = slope.level_level > 0.0 ? slope.far_level / slope.level_level : 1.0;
        keep = keep < 0.0 ? 0.0 : keep > 1.0 ? 1.0 : keep;
        double missed =
            slope.far_far - 2.0 * keep * slope.far_level + keep * keep * slope.level_level;
        if (least < 0.0 || missed < least) {
            least = missed;
            forecast->gain = gains[at];
            forecast->keep = keep;
        }
    }
    struct scatter scatter = {0};
    for (int32_t i = 0; fit_layer(input, i) >= 0; i++) {
        add_scatter(&scatter, &span, fit_layer(input, i), forecast->gain, forecast->keep);
    }
    solve_scatter(forecast, &scatter);
    double keep = forecast->keep; /* farther ahead than could be judged, it fades on */
    for (int32_t steps = 2 * span.lead; steps <= lead_steps; steps += span.lead) {
        forecast->keep *= keep;
    }
    return STATUS_OK;
}

/* tokens: keep * level + (1 - keep) * mean; squares: sums of squares of the steps.  */
static void sum_steps(double *tokens, double *squares, const struct forecast *forecast,
                      const struct balance_input *input, int32_t layer, int32_t count)
{
    double left = forecast->keep; /* weight of the steps not yet counted */
    for (int32_t back = 0; back < count; back++) {
        const int32_t *step = tokens_at(input, input->num_steps - 1 - back, layer);
        double weight = back == count - 1 ? left : left * forecast->gain;
        for (int32_t expert = 0; expert < input->num_experts; expert++) {
            double fresh = step[expert];
            tokens[expert] += weight * fresh;
            squares[expert] += fresh * fresh;
        }
        left -= weight;
    }
}

void forecast_layer(double *tokens, double *variance, const struct forecast *forecast,
                    const struct balance_input *input, int32_t layer)
{
    const int64_t *load_tokens = input->load_tokens + (int64_t)layer * input->num_experts;
    int32_t count = input->num_steps < FORECAST_STEPS_MAX ? input->num_steps : FORECAST_STEPS_MAX;
    double share = input->num_steps > 0 ? 1.0 / input->num_steps : 0.0;
    for (int32_t expert = 0; expert < input->num_experts; expert++) {
        tokens[expert] = (1.0 - forecast->keep) * share * (double)load_tokens[expert];
        variance[expert] = 0.0;
    }
    sum_steps(tokens, variance, forecast, input, layer, count);
    double own_sum = 0.0;
    double pooled_sum = 0.0;
    for (int32_t expert = 0; expert < input->num_experts; expert++) {
        double mean = share * (double)load_tokens[expert];
        double own = count > 0 ? variance[expert] / count - mean * mean : 0.0;
        variance[expert] = own > 0.0 ? own : 0.0;
        own_sum += variance[expert];
        pooled_sum += tokens[expert] * (forecast->noise + forecast->drift * tokens[expert]);
    }
    double scale = own_sum > 0.0 ? 0.5 * pooled_sum / own_sum : 0.0;
    double pooled_part = own_sum > 0.0 ? 0.5 : 1.0;
    for (int32_t expert = 0; expert < input->num_experts; expert++) {
        double pooled = tokens[expert] * (forecast->noise + forecast->drift * tokens[expert]);
        variance[expert] = pooled_part * pooled + scale * variance[expert];
    }
}
