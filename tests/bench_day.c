/*
 * bench_day.c -- the routing of a day of 600 billion prompt tokens, counted whole and sampled.
 *
 * DeepSeek-V3 as DeepSeek served it on one day (open-source week, day 6, 2025: 608 G prompt tokens,
 * 226.75 nodes in use on average and 278 at most; EP32 to read prompts): steps of up to 4096 tokens
 * on each of 32 ranks, fewer when fewer requests come, along a day's cosine whose top is as far
 * above its mean as the 278 nodes are above the 226.75.
 *
 *   bench_day [tokens of trace] [steps sampled]     prints CSV; default 262144 and 64
 *
 * whole: every token-layer of the trace is counted (experts, ranks, traffic between nodes) and the
 * day's CPU time follows from the rate; real_time is 86,400 s over that, one core. sampled: steps
 * drawn over the day by the tokens that come then, each with its rows of the trace; imbalance is
 * the busiest rank over the mean rank, mean over layers, and its 95 % interval comes from 2,000
 * bootstrap samples of steps. Routing is generated with the skew that was measured per layer, its
 * tokens independent, so steps differ by chance and size alone; recorded routing drifts besides.
 * Time is CPU time. Run by hand: it is no test.
 *
 * Measured 2026-11-22 on one core, shared with other work, of an AMD EPYC (Zen 5), gcc 12.2 -O2:
 * whole 1388 million token-layers a second, 25,068 s for the day, 3.4 times real time; sampled 64
 * steps, 1.1 s, 2.614 with a half-width of 0.05 %.
 */
#include <gsl/gsl_sort.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench_clock.h"
#include "generate.h"
#include "rng.h"
#include "trace_replay.h"

#define DAY_S         86400.0
#define DAY_TOKENS    600e9
#define DAY_SWING     (278.0 / 226.75 - 1.0)
#define RANKS         32
#define NODES         4
#define RANK_TOKENS   4096
#define RESAMPLES     2000
#define TWO_PI        6.283185307179586
#define COUNT_REPEATS 5

static struct error error;

static void check(enum status status)
{
    if (status != STATUS_OK) {
        fputs(error.text, stderr);
        exit(1);
    }
}

static void count_all(const struct trace *trace)
{
    const struct trace_replay_options options = {
        .num_ranks = RANKS, .num_nodes = NODES, .tokens_per_rank = RANK_TOKENS, .num_threads = 1};
    double best_s = 1e30;
    for (int32_t repeat = 0; repeat < COUNT_REPEATS; repeat++) {
        struct trace_replay replay;
        double begin_s = clock_s(CLOCK_PROCESS_CPUTIME_ID);
        check(trace_replay_read(&replay, trace, &options, &error));
        best_s = fmin(best_s, clock_s(CLOCK_PROCESS_CPUTIME_ID) - begin_s);
        trace_replay_free(&replay);
    }
    double token_layers_per_s = (double)trace->num_tokens * trace->num_layers / best_s;
    double day_s = DAY_TOKENS * trace->num_layers / token_layers_per_s;
    printf("whole,million_token_layers_per_s,%.1f\n", token_layers_per_s * 1e-6);
    printf("whole,cpu_s_a_day,%.0f\n", day_s);
    printf("whole,real_time,%.2f\n", DAY_S / day_s);
}

/* Tokens of a rank in a step that is drawn by the tokens that come: rejection under the curve. */
static int32_t draw_rank_tokens(gsl_rng *rng)
{
    for (;;) { /* every second draw and more is taken */
        double rate = 1.0 + DAY_SWING * cos(TWO_PI * gsl_rng_uniform(rng));
        if (gsl_rng_uniform(rng) * (1.0 + DAY_SWING) < rate) {
            return (int32_t)lround(RANK_TOKENS * rate / (1.0 + DAY_SWING));
        }
    }
}

static double step_imbalance(const struct trace *trace, int64_t first, int64_t count)
{
    double sum = 0.0;
    int64_t *expert_tokens = malloc((size_t)trace->num_experts * sizeof *expert_tokens);
    if (expert_tokens == NULL) {
        exit(1);
    }
    for (int32_t layer = 0; layer < trace->num_layers; layer++) {
        int64_t most = 0;
        int64_t all = 0;
        for (int32_t expert = 0; expert < trace->num_experts; expert++) {
            expert_tokens[expert] = 0;
        }
        check(trace_count(trace, expert_tokens, layer, first, count, &error));
        for (int32_t rank = 0; rank < RANKS; rank++) {
            int64_t tokens = 0;
            for (int32_t i = 0; i < trace->num_experts / RANKS; i++) {
                tokens += expert_tokens[rank * (trace->num_experts / RANKS) + i];
            }
            most = tokens > most ? tokens : most;
            all += tokens;
        }
        sum += (double)most * RANKS / (double)all;
    }
    free(expert_tokens);
    return sum / trace->num_layers;
}

static double mean_of(const double *value, int32_t count)
{
    double sum = 0.0;
    for (int32_t i = 0; i < count; i++) {
        sum += value[i];
    }
    return sum / count;
}

static void bootstrap(const double *value, int32_t count, double *low, double *high)
{
    double means[RESAMPLES];
    gsl_rng *rng = rng_stream(1, "bootstrap", 0);
    for (int32_t i = 0; i < RESAMPLES; i++) {
        double sum = 0.0;
        for (int32_t j = 0; j < count; j++) {
            sum += value[gsl_rng_uniform_int(rng, (unsigned long)count)];
        }
        means[i] = sum / count;
    }
    gsl_rng_free(rng);
    gsl_sort(means, 1, RESAMPLES);
    *low = means[RESAMPLES * 25 / 1000];
    *high = means[RESAMPLES * 975 / 1000 - 1];
}

static void sample(const struct trace *trace, int32_t num_steps)
{
    double *imbalance = malloc((size_t)num_steps * sizeof *imbalance);
    gsl_rng *rng = rng_stream(1, "steps of a day", 0);
    double begin_s = clock_s(CLOCK_PROCESS_CPUTIME_ID);
    double tokens = 0.0;
    for (int32_t step = 0; step < num_steps; step++) {
        int64_t count = (int64_t)draw_rank_tokens(rng) * RANKS;
        unsigned long starts = (unsigned long)(trace->num_tokens - count + 1);
        imbalance[step] = step_imbalance(trace, (int64_t)gsl_rng_uniform_int(rng, starts), count);
        tokens += (double)count;
    }
    double low = 0.0;
    double high = 0.0;
    bootstrap(imbalance, num_steps, &low, &high);
    double mean = mean_of(imbalance, num_steps);
    printf("sampled,steps,%d\n", num_steps);
    printf("sampled,share_of_day,%.3g\n", tokens / DAY_TOKENS);
    printf("sampled,cpu_s,%.2f\n", clock_s(CLOCK_PROCESS_CPUTIME_ID) - begin_s);
    printf("sampled,rank_tokens_max_over_mean,%.4f\n", mean);
    printf("sampled,low_95,%.4f\n", low);
    printf("sampled,high_95,%.4f\n", high);
    printf("sampled,half_width_percent,%.3f\n", 50.0 * (high - low) / mean);
    gsl_rng_free(rng);
    free(imbalance);
}

int main(int argc, char **argv)
{
    int64_t num_tokens = argc > 1 ? atoll(argv[1]) : 262144;
    int32_t num_steps = argc > 2 ? atoi(argv[2]) : 64;
    if (num_tokens < RANKS * RANK_TOKENS || num_steps < 2) {
        fprintf(stderr, "bench_day: at least %d tokens and 2 steps\n", RANKS * RANK_TOKENS);
        return 1;
    }
    const struct generate_options options = {
        .preset = "deepseek-v3", .num_tokens = num_tokens, .seed = 1, .num_threads = 1};
    struct trace trace;
    double begin_s = clock_s(CLOCK_PROCESS_CPUTIME_ID);
    check(generate_in_memory(&trace, &options, &error));
    printf("what,figure,value\ntrace,cpu_s,%.2f\n", clock_s(CLOCK_PROCESS_CPUTIME_ID) - begin_s);
    count_all(&trace);
    sample(&trace, num_steps);
    trace_close(&trace);
    return 0;
}
