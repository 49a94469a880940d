/* test_maxmin.c -- max-min sharing by hand, and on random networks against its definition. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

#include "net/maxmin.h"
#include "rng.h"

static struct maxmin *open_links(const double *capacity, int32_t num_links)
{
    struct maxmin *net = NULL;
    cr_assert_eq(maxmin_open(&net, capacity, num_links), STATUS_OK);
    return net;
}

static void start(struct maxmin *net, double now_ns, const struct maxmin_flow *flow, int32_t count)
{
    cr_assert_eq(maxmin_start(net, now_ns, flow, count), STATUS_OK);
}

static void expect_finish(struct maxmin *net, int32_t id, double time_ns)
{
    cr_expect_float_eq(maxmin_next_ns(net), time_ns, 1e-9, "%f instead of %f", maxmin_next_ns(net),
                       time_ns);
    cr_expect_eq(maxmin_pop(net), id);
}

Test(maxmin, two_flows_share_a_link)
{
    double capacity[] = {10.0};
    struct maxmin_flow flow[] = {{0, 1, {0}, 100.0}, {1, 1, {0}, 200.0}};
    struct maxmin *net = open_links(capacity, 1);

    start(net, 0.0, flow, 2);

    expect_finish(net, 0, 20.0); /* 5 each; the other has 100 left and the link to itself */
    expect_finish(net, 1, 30.0);
    cr_expect(isinf(maxmin_next_ns(net)));
    maxmin_close(net);
}

Test(maxmin, linear_network_of_three_links)
{
    double capacity[] = {1.0, 1.0, 1.0};
    struct maxmin_flow flow[] = {
        {0, 3, {0, 1, 2}, 10.0}, {1, 1, {0}, 1.0}, {2, 1, {1}, 2.0}, {3, 1, {2}, 3.0}};
    struct maxmin *net = open_links(capacity, 3);

    start(net, 0.0, flow, 4);

    /* Every link has the long flow and a short one, so all rates are 1/2 until the last short one
     * is done; then the long one has 10 - 3 left at rate 1. */
    expect_finish(net, 1, 2.0);
    cr_expect_float_eq(maxmin_level_bytes_per_ns(net, 2), 0.5, 1e-12);
    expect_finish(net, 2, 4.0);
    expect_finish(net, 3, 6.0);
    expect_finish(net, 0, 13.0);
    maxmin_close(net);
}

Test(maxmin, parking_lot)
{
    /* Flow 0 passes all three links, flow 1 the last two, flow 2 the last. */
    double capacity[] = {3.0, 10.0, 24.0};
    struct maxmin_flow flow[] = {
        {0, 3, {0, 1, 2}, 30.0}, {1, 2, {1, 2}, 140.0}, {2, 1, {2}, 140.0}};
    struct maxmin *net = open_links(capacity, 3);

    start(net, 0.0, flow, 3);

    /* Rates 3 (link 0), 10 - 3 = 7 (link 1), 24 - 10 = 14 (link 2). At 10 two are done; flow 1 has
     * 70 left at 10. */
    cr_expect_float_eq(maxmin_next_ns(net), 10.0, 1e-9);
    expect_finish(net, 0, 10.0);
    expect_finish(net, 2, 10.0);
    expect_finish(net, 1, 17.0);
    maxmin_close(net);
}

Test(maxmin, a_later_flow_slows_an_earlier_one)
{
    double capacity[] = {10.0};
    struct maxmin_flow flow[] = {{0, 1, {0}, 100.0}, {1, 1, {0}, 100.0}};
    struct maxmin *net = open_links(capacity, 1);

    start(net, 0.0, &flow[0], 1);
    start(net, 4.0, &flow[1], 1);

    expect_finish(net, 0, 16.0); /* 40 alone, 60 at 5 */
    expect_finish(net, 1, 20.0); /* 60 at 5, 40 alone */
    maxmin_close(net);
}

Test(maxmin, a_link_no_longer_needed_is_used_again)
{
    /* Flow 0 and 1 leave link 0 through link 1, which is narrower: link 0 is dropped when flow 2,
     * its only other, is done, and flow 3 needs it again. */
    double capacity[] = {10.0, 4.0, 100.0};
    struct maxmin_flow flow[] = {
        {0, 2, {0, 1}, 200.0}, {1, 2, {0, 1}, 200.0}, {2, 2, {0, 2}, 6.0}, {3, 2, {0, 2}, 60.0}};
    struct maxmin *net = open_links(capacity, 3);

    start(net, 0.0, flow, 3);
    expect_finish(net, 2, 1.0); /* 10 - 4 */
    start(net, 10.0, &flow[3], 1);

    expect_finish(net, 3, 20.0);  /* 6 again */
    expect_finish(net, 0, 100.0); /* 2 all the time */
    expect_finish(net, 1, 100.0);
    maxmin_close(net);
}

Test(maxmin, nothing_to_send_is_done_at_once)
{
    double capacity[] = {10.0};
    struct maxmin_flow flow[] = {{0, 1, {0}, 100.0}, {1, 1, {0}, 0.0}};
    struct maxmin *net = open_links(capacity, 1);

    start(net, 3.0, flow, 2);

    expect_finish(net, 1, 3.0);
    expect_finish(net, 0, 13.0);
    maxmin_close(net);
}

Test(maxmin, bound_is_the_busiest_link)
{
    double capacity[] = {10.0, 1.0};
    struct maxmin_flow flow[] = {{0, 2, {0, 1}, 30.0}, {1, 1, {0}, 20.0}};
    double scratch[2];

    cr_expect_float_eq(maxmin_bound_ns(capacity, 2, flow, 2, scratch), 30.0, 1e-12);
}

enum { LINKS_MAX = 24, FLOWS_MAX = 120 };

/* Max-min sharing as its definition has it: fill all flows alike, freeze those on a full link. */
struct filling {
    int32_t num_links;
    int32_t num_flows;
    double capacity[LINKS_MAX];
    struct maxmin_flow flow[FLOWS_MAX];
    double start_ns[FLOWS_MAX];
    double left[FLOWS_MAX];
    double rate[FLOWS_MAX];
    double finish_ns[FLOWS_MAX];
    bool is_running[FLOWS_MAX];
    double used[LINKS_MAX];
};

static bool on_link(const struct maxmin_flow *flow, int32_t link)
{
    for (int32_t k = 0; k < flow->num_links; k++) {
        if (flow->link[k] == link) {
            return true;
        }
    }
    return false;
}

static int32_t fullest_link(const struct filling *fill, const bool *is_frozen, double *share)
{
    int32_t fullest = -1;
    for (int32_t link = 0; link < fill->num_links; link++) {
        double left = fill->capacity[link];
        int32_t count = 0;
        for (int32_t i = 0; i < fill->num_flows; i++) {
            if (fill->is_running[i] && on_link(&fill->flow[i], link)) {
                left -= is_frozen[i] ? fill->rate[i] : 0.0;
                count += !is_frozen[i];
            }
        }
        if (count > 0 && (fullest < 0 || left / count < *share)) {
            *share = left / count;
            fullest = link;
        }
    }
    return fullest;
}

static void fill_rates(struct filling *fill)
{
    bool is_frozen[FLOWS_MAX] = {false};
    double share = 0.0;
    for (int32_t link = fullest_link(fill, is_frozen, &share); link >= 0;
         link = fullest_link(fill, is_frozen, &share)) {
        for (int32_t i = 0; i < fill->num_flows; i++) {
            if (fill->is_running[i] && !is_frozen[i] && on_link(&fill->flow[i], link)) {
                fill->rate[i] = share;
                is_frozen[i] = true;
            }
        }
    }
}

/* Law: each running flow has a full link on which no flow is faster, and no link is overfull. */
static void check_rates(const struct filling *fill)
{
    double used[LINKS_MAX] = {0.0};
    double fastest[LINKS_MAX] = {0.0};
    for (int32_t i = 0; i < fill->num_flows; i++) {
        for (int32_t k = 0; fill->is_running[i] && k < fill->flow[i].num_links; k++) {
            int32_t link = fill->flow[i].link[k];
            used[link] += fill->rate[i];
            fastest[link] = fmax(fastest[link], fill->rate[i]);
        }
    }
    for (int32_t i = 0; i < fill->num_flows; i++) {
        bool has_bottleneck = !fill->is_running[i];
        for (int32_t k = 0; k < fill->flow[i].num_links; k++) {
            int32_t link = fill->flow[i].link[k];
            cr_assert_leq(used[link], fill->capacity[link] * (1.0 + 1e-9));
            has_bottleneck |= used[link] >= fill->capacity[link] * (1.0 - 1e-9) &&
                              fill->rate[i] >= fastest[link] * (1.0 - 1e-9);
        }
        cr_assert(has_bottleneck, "flow %d has no bottleneck", (int)i);
    }
}

/* Runs the definition from event to event. */
static void fill_run(struct filling *fill)
{
    double now_ns = 0.0;
    int32_t started = 0;
    int32_t finished = 0;
    while (finished < fill->num_flows) {
        fill_rates(fill);
        check_rates(fill);
        double next_ns = started < fill->num_flows ? fill->start_ns[started] : 1e300;
        for (int32_t i = 0; i < started; i++) {
            if (fill->is_running[i]) {
                next_ns = fmin(next_ns, now_ns + fill->left[i] / fill->rate[i]);
            }
        }
        for (int32_t i = 0; i < started; i++) {
            if (!fill->is_running[i]) {
                continue;
            }
            fill->left[i] -= fill->rate[i] * (next_ns - now_ns);
            if (fill->left[i] <= 1e-9 * fill->flow[i].bytes) {
                fill->finish_ns[i] = next_ns;
                fill->is_running[i] = false;
                finished++;
            }
        }
        now_ns = next_ns;
        while (started < fill->num_flows && fill->start_ns[started] <= now_ns) {
            fill->is_running[started] = true;
            fill->left[started] = fill->flow[started].bytes;
            started++;
        }
    }
}

/* Paths of one link up to the most, several capacities and sizes so that ties are frequent, and
 * flows that start together or one by one. */
static void draw_filling(struct filling *fill, uint64_t round)
{
    gsl_rng *rng = rng_stream(round, "maxmin filling", 0);
    *fill = (struct filling){0};
    fill->num_links = 1 + (int32_t)gsl_rng_uniform_int(rng, LINKS_MAX);
    fill->num_flows = 1 + (int32_t)gsl_rng_uniform_int(rng, FLOWS_MAX);
    bool is_even = gsl_rng_uniform_int(rng, 3) == 0;
    bool is_burst = gsl_rng_uniform_int(rng, 2) == 0;
    for (int32_t link = 0; link < fill->num_links; link++) {
        fill->capacity[link] =
            is_even ? 1.0 + (double)gsl_rng_uniform_int(rng, 3) : 0.1 + 10.0 * gsl_rng_uniform(rng);
    }
    double now_ns = 0.0;
    unsigned long links_max = fill->num_links < 4 ? (unsigned long)fill->num_links : 4;
    for (int32_t i = 0; i < fill->num_flows; i++) {
        struct maxmin_flow *flow = &fill->flow[i];
        int32_t wanted = 1 + (int32_t)gsl_rng_uniform_int(rng, links_max);
        flow->id = i;
        while (flow->num_links < wanted) {
            int32_t link = (int32_t)gsl_rng_uniform_int(rng, (unsigned long)fill->num_links);
            if (!on_link(flow, link)) {
                flow->link[flow->num_links++] = link;
            }
        }
        flow->bytes = is_even ? 1.0 + (double)gsl_rng_uniform_int(rng, 5)
                              : 0.01 + 100.0 * gsl_rng_uniform(rng);
        now_ns += is_burst ? 0.0 : 3.0 * gsl_rng_uniform(rng);
        fill->start_ns[i] = now_ns;
    }
    gsl_rng_free(rng);
}

static void pop_and_compare(struct maxmin *net, const struct filling *fill, uint64_t round)
{
    double time_ns = maxmin_next_ns(net);
    int32_t id = maxmin_pop(net);
    cr_assert_float_eq(time_ns, fill->finish_ns[id], 1e-7 * time_ns + 1e-6,
                       "round %llu, flow %d: %.12g instead of %.12g", (unsigned long long)round,
                       (int)id, time_ns, fill->finish_ns[id]);
}

Test(maxmin, every_finish_is_that_of_progressive_filling)
{
    struct filling *fill = malloc(sizeof *fill);
    for (uint64_t round = 0; round < 1500; round++) {
        draw_filling(fill, round);
        fill_run(fill);
        struct maxmin *net = open_links(fill->capacity, fill->num_links);

        int32_t popped = 0;
        for (int32_t i = 0; i < fill->num_flows;) {
            int32_t count = 1;
            while (i + count < fill->num_flows && fill->start_ns[i + count] <= fill->start_ns[i]) {
                count++;
            }
            while (maxmin_next_ns(net) <= fill->start_ns[i]) {
                pop_and_compare(net, fill, round);
                popped++;
            }
            start(net, fmax(fill->start_ns[i], maxmin_now_ns(net)), &fill->flow[i], count);
            i += count;
        }
        for (; popped < fill->num_flows; popped++) {
            pop_and_compare(net, fill, round);
        }

        cr_assert(isinf(maxmin_next_ns(net)));
        maxmin_close(net);
    }
    free(fill);
}
