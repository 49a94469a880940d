/*
 * serve_group.c -- the steps of a group: its replicas begin and end them together.
 *
 * Steps of sequences that only decode differ in their contexts alone, which grow by the same every
 * step. Where the first, the middle and the last of several lie on a line, all of them are taken to
 * (a step is convex in its contexts, so then they do).
 *
 * Every interval of steps weights begin to move; a step that begins before they are in waits.
 */
#include <assert.h>
#include <math.h>

#include "serve/serve_internal.h"

#define STEPS_MAX  (1 << 20) /* simulated together */
#define LINE_NS    0.5       /* off the line is rounding */
#define LINE_TRIES 8

static double length_ns(const struct group *group, int64_t steps)
{
    double count = (double)steps;
    return count * group->first_ns + group->slope_ns * count * (count - 1.0) / 2.0;
}

static int64_t end_ns(const struct group *group, int64_t steps)
{
    return group->begin_ns + llround(length_ns(group, steps));
}

static double decode_step_ns(const struct serving *serving, const struct group *group,
                             int64_t steps_on)
{
    const struct serve_pool *pool = &serving->options->pool[group->pool];
    for (int32_t i = 0; i < pool->replicas_per_group; i++) {
        const struct replica *replica = &serving->replica[group->first_replica + i];
        serving->scratch[i] = batch_decode_load(serving, replica, group->step + steps_on);
    }
    return pool->model.step_ns(pool->model.context, serving->scratch, pool->replicas_per_group);
}

/* How many steps from the one that begins now are simulated together; sets their slope. */
static int32_t steps_together(const struct serving *serving, struct group *group)
{
    int32_t replicas = serving->options->pool[group->pool].replicas_per_group;
    int32_t interval = serving->options->pool[group->pool].stalls.interval_steps;
    int64_t steps = interval > 0 ? interval - group->step % interval : STEPS_MAX;
    for (int32_t i = 0; i < replicas && steps > 1; i++) {
        struct replica *replica = &serving->replica[group->first_replica + i];
        int64_t to_end = batch_steps_to_end(serving, replica);
        int64_t with_room = batch_steps_with_room(serving, replica);
        steps = to_end < steps ? to_end : steps;
        steps = with_room < steps ? with_room : steps;
    }
    for (int32_t try = 0; try < LINE_TRIES && steps > 1; try++) {
        double last_ns = decode_step_ns(serving, group, steps);
        double slope_ns = (last_ns - group->first_ns) / (double)(steps - 1);
        int64_t middle = 1 + steps / 2;
        double middle_ns = decode_step_ns(serving, group, middle);
        if (fabs(group->first_ns + slope_ns * (double)(middle - 1) - middle_ns) <= LINE_NS) {
            group->slope_ns = slope_ns;
            return (int32_t)steps;
        }
        steps /= 2;
    }
    return 1;
}

static enum status push_end(struct serving *serving, int32_t index)
{
    struct group *group = &serving->group[index];
    group->stamp++;
    return key_heap_push(&serving->events,
                         (struct heap_entry){.key = end_ns(group, group->num_steps),
                                             .id = index,
                                             .stamp = group->stamp,
                                             .kind = SERVE_STEP_END});
}

static void set_busy(struct serving *serving, struct group *group, bool is_busy)
{
    if (group->is_busy != is_busy) {
        series_advance(serving);
        serving->series[group->pool].busy_groups += is_busy ? 1 : -1;
        group->is_busy = is_busy;
    }
}

static enum status begin(struct serving *serving, int32_t index)
{
    struct group *group = &serving->group[index];
    const struct serve_pool *pool = &serving->options->pool[group->pool];
    int64_t tokens = 0;
    group->reads = false;
    for (int32_t i = 0; i < pool->replicas_per_group; i++) {
        struct step_load *load = &group->load[i];
        enum status status = batch_plan(serving, &serving->replica[group->first_replica + i], load);
        if (status != STATUS_OK) {
            return status;
        }
        tokens += load->decode_tokens + load->prefill_tokens;
        group->reads = group->reads || load->prefill_tokens > 0;
    }
    set_busy(serving, group, tokens > 0);
    if (tokens == 0) {
        return STATUS_OK;
    }
    group->begin_ns = serving->now_ns;
    group->first_ns =
        pool->model.step_ns(pool->model.context, group->load, pool->replicas_per_group);
    assert(group->first_ns >= 0.0);
    group->slope_ns = 0.0;
    group->num_steps = 1;
    double stall_ns = fmax(0.0, group->weights_ns - (double)group->begin_ns);
    serving->result->totals.stall_s[group->pool] += stall_ns * 1e-9;
    group->first_ns += stall_ns;
    if (stall_ns <= 0.0 && !group->reads && !serving->options->every_step) {
        group->num_steps = steps_together(serving, group);
    }
    return push_end(serving, index);
}

enum status group_wake(struct serving *serving, int32_t index)
{
    struct group *group = &serving->group[index];
    if (!group->is_busy) {
        return begin(serving, index);
    }
    int64_t low = 1;
    int64_t high = group->num_steps; /* the step under way is one of low .. high */
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (end_ns(group, middle) >= serving->now_ns) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    if (low == group->num_steps) {
        return STATUS_OK;
    }
    group->num_steps = (int32_t)low;
    return push_end(serving, index);
}

/* Every decoding sequence has got a token, or several, in each of the steps. Before its first one,
 * who was read elsewhere has waited for the transfer too. */
static void note_gaps(struct serving *serving, struct replica *replica, const struct group *group)
{
    double step_ns = length_ns(group, group->num_steps) / (double)group->num_steps;
    double rate = (double)replica->context_rate / ((double)replica->decoding * (double)RATE_ONE);
    int64_t gaps = (int64_t)replica->decoding * group->num_steps;
    series_gap(serving, step_ns / rate, gaps - replica->joined.count);
    while (replica->joined.count > 0) {
        int64_t last_ns = serving->request[deque_pop(&replica->joined)].last_token_ns;
        series_gap(serving, step_ns / rate + (double)(group->begin_ns - last_ns), 1);
    }
}

static void note_steps(struct serving *serving, struct group *group)
{
    const struct serve_pool *pool = &serving->options->pool[group->pool];
    for (int32_t i = 0; i < pool->replicas_per_group; i++) {
        struct replica *replica = &serving->replica[group->first_replica + i];
        const struct step_load *load = &group->load[i];
        serving->step_tokens[group->pool] +=
            (int64_t)(load->decode_tokens + load->prefill_tokens) * group->num_steps;
        if (replica->decoding > 0) {
            note_gaps(serving, replica, group);
        }
    }
    serving->result->totals.num_steps[group->pool] += group->num_steps;
    serving->result->totals.num_reading_steps[group->pool] += group->reads ? group->num_steps : 0;
    group->step += group->num_steps;
}

/* Experts begin to move behind the last step of an interval. */
static void rebalance(struct serving *serving, struct group *group)
{
    const struct rebalance_stalls *stalls = &serving->options->pool[group->pool].stalls;
    if (stalls->interval_steps > 0 && group->step % stalls->interval_steps == 0) {
        int64_t turn = group->step / stalls->interval_steps - 1;
        group->weights_ns = (double)serving->now_ns + stalls->stall_ns[turn % REBALANCE_STALLS];
        serving->result->totals.rebalances[group->pool]++;
    }
}

enum status group_step_end(struct serving *serving, int32_t index)
{
    struct group *group = &serving->group[index];
    int32_t replicas = serving->options->pool[group->pool].replicas_per_group;
    enum status status = STATUS_OK;
    note_steps(serving, group);
    rebalance(serving, group);
    for (int32_t i = 0; i < replicas && status == STATUS_OK; i++) {
        status = batch_finish(serving, &serving->replica[group->first_replica + i]);
    }
    return status == STATUS_OK ? begin(serving, index) : status;
}
