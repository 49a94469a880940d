/*
 * plan_shared.c -- a pool that reads prompts and answers by turns: how long its steps are.
 *
 * The R replicas of a group step together, but each reads a prompt when it has one: a step in which
 * any of them reads lasts as long as that one's chunk, and all others wait. With k readers
 *
 *     step(k) = decode + [k > 0] own + k / R common
 *
 * where own is what a prefill step spends on a rank's own tokens, and common the experts, whose
 * work is spread over the group. Each replica reads in a share x of steps, apart from the others:
 *
 *     step = decode + (1 - (1 - x)^R) own + x common,   x = chunks that come in a step / R
 *
 * For R = 1 these are turns of prefill and decode steps. A pool needs so many groups that answers,
 * a step for each token, and prompts, a step for each chunk, find room.
 *
 * Left out: prompts of unlike length, whose chunks are unlike too, and engines that let replicas
 * wait in order to read together.
 */
#include <math.h>

#include "plan_internal.h"

#define HALVINGS    60
#define DOUBLINGS   24
#define SMALLEST_S  1e-9
#define MANY_GROUPS (1 << DOUBLINGS)

/* A group's steps with prompts of the mean length. */
struct steps {
    double replicas;
    double decode_s;
    double own_s; /* of a chunk */
    double common_s;
    double chunks_per_s; /* that come to the group */
    double chunks_max;   /* that a step of a replica has room for */
};

/* Of a replica and step, when steps are so long. */
static double chunks_read(const struct steps *steps, double step_s)
{
    return fmin(steps->chunks_max, steps->chunks_per_s * step_s / steps->replicas);
}

/* Of steps those in which somebody reads. */
static double read_share(const struct steps *steps, double chunks)
{
    return 1.0 - pow(1.0 - fmin(1.0, chunks), steps->replicas);
}

static double mean_step_s(const struct steps *steps, double step_s)
{
    double chunks = chunks_read(steps, step_s);
    return steps->decode_s + fmax(chunks, read_share(steps, chunks)) * steps->own_s +
           chunks * steps->common_s;
}

/* The length that brings as many chunks as make it. */
static double settle(const struct steps *steps)
{
    double low_s = steps->decode_s;
    double high_s = steps->decode_s + steps->chunks_max * (steps->own_s + steps->common_s);
    for (int32_t i = 0; i < HALVINGS; i++) {
        double middle_s = low_s + (high_s - low_s) / 2.0;
        if (mean_step_s(steps, middle_s) > middle_s) {
            low_s = middle_s;
        } else {
            high_s = middle_s;
        }
    }
    return round(high_s / SMALLEST_S) * SMALLEST_S; /* pow is the machine's */
}

struct plan_turns plan_take_turns(const struct plan *plan, const struct plan_point *prefill,
                                  const struct plan_point *decode, int32_t groups)
{
    const struct cost_traffic *traffic = &plan->traffic;
    double prompt_chunks = plan_prompt_steps(plan, prefill);
    double full = plan_computed_tokens(traffic) / prompt_chunks / plan_replica_tokens(prefill);
    double common_ns = prefill->phase_ns[STEP_EXPERT] + prefill->phase_ns[STEP_FETCH] +
                       prefill->phase_ns[STEP_WAITING];
    double requests_per_s = plan_peak_requests_per_s(traffic) / (double)groups;
    const struct steps steps = {.replicas = (double)(prefill->ep / prefill->tp),
                                .decode_s = decode->step_ns * 1e-9,
                                .own_s = (prefill->step_ns - common_ns) * 1e-9 * full,
                                .common_s = common_ns * 1e-9 * full,
                                .chunks_per_s = requests_per_s * prompt_chunks,
                                .chunks_max = 1.0 / full};
    struct plan_turns turns = {.prompt_chunks = prompt_chunks, .step_s = settle(&steps)};
    double chunks = chunks_read(&steps, turns.step_s);
    double others = fmin(1.0, chunks) * (steps.replicas - 1.0);
    double places = plan_replica_tokens(decode) * steps.replicas;
    turns.read_share = read_share(&steps, chunks);
    turns.read_s = steps.decode_s + steps.own_s + (1.0 + others) / steps.replicas * steps.common_s;
    turns.load[COST_PREFILL] =
        steps.chunks_per_s * turns.read_s / steps.replicas / steps.chunks_max;
    turns.load[COST_DECODE] = requests_per_s * traffic->output_tokens * turns.step_s / places;
    return turns;
}

static bool is_enough(const struct plan *plan, const struct plan_point *prefill,
                      const struct plan_point *decode, int32_t groups)
{
    struct plan_turns turns = plan_take_turns(plan, prefill, decode, groups);
    return fmax(turns.load[COST_PREFILL], turns.load[COST_DECODE]) <= plan->utilisation_max;
}

int32_t plan_shared_groups(const struct plan *plan, const struct plan_point *prefill,
                           const struct plan_point *decode, int32_t least)
{
    int32_t few = least - 1;
    int32_t enough = least;
    while (enough < MANY_GROUPS && !is_enough(plan, prefill, decode, enough)) {
        few = enough;
        enough *= 2;
    }
    while (enough - few > 1) {
        int32_t middle = few + (enough - few) / 2;
        if (is_enough(plan, prefill, decode, middle)) {
            enough = middle;
        } else {
            few = middle;
        }
    }
    return enough;
}
