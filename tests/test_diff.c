/* test_diff.c -- two stored runs side by side, and limits on how far they may be apart. */
#include "diff.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fake_run.h"
#include "metrics.h"

static char directory[] = "/tmp/moesim-diff-XXXXXX";
static char path[64];
static struct arena arena;
static struct error error;
static struct diff diff;
static char base_text[] = "version: 1\ncluster:\n  nodes: 4\n  sizes:\n    - 1\n    - 2\nseed: 1\n";
static char other_text[] = "version: 1\ncluster:\n  nodes: 8\n  sizes:\n    - 1\n    - 3\n"
                           "\"a:b\": \"x: y\"\n";

/* Two runs: one as invented, one whose second layer, steps and scenario differ. */
static void store_two(void)
{
    cr_assert(mkdtemp(directory) != NULL);
    snprintf(path, sizeof path, "%s/results.db", directory);
    struct fake_run run;
    char run_id[RUN_ID_BYTES];
    fake_run_make(&run, &(struct fake_size){4, 16, 8, 3, 0.8}, &arena);
    run.scenario.text = base_text;
    cr_assert(fake_run_store(run_id, path, &run, "base", &error) == STATUS_OK, "%s", error.text);
    run.scenario.text = other_text;
    run.metrics.digest++;
    run.metrics.messages *= 2;
    run.metrics.layer[1].layer_ns_sum *= 3.0;
    run.metrics.layer[2].layer_ns_sum *= 1.5;
    run.totals.step_ns_mean *= 1.1;
    cr_assert(fake_run_store(run_id, path, &run, "other", &error) == STATUS_OK, "%s", error.text);
}

static void tear_down(void)
{
    unlink(path);
    rmdir(directory);
    diff_free(&diff);
    arena_free(&arena);
}

TestSuite(diff, .init = store_two, .fini = tear_down);

static void load(const char *a, const char *b)
{
    struct diff_options options = {{path, path}, {a, b}};
    cr_assert(diff_load(&diff, &options, &error) == STATUS_OK, "%s", error.text);
}

static const struct diff_metric *metric(const char *name)
{
    for (int32_t index = 0; index < diff.num_metrics; index++) {
        if (strcmp(diff.metric[index].name, name) == 0) {
            return &diff.metric[index];
        }
    }
    cr_assert_fail("no metric %s", name);
    return NULL;
}

static const struct diff_key *key(const char *name)
{
    for (int32_t index = 0; index < diff.num_keys; index++) {
        if (strcmp(diff.key[index].key, name) == 0) {
            return &diff.key[index];
        }
    }
    return NULL;
}

Test(diff, finds_runs_by_label_place_and_id)
{
    load("first", "last");
    cr_expect_str_eq(diff.run[0].label, "base");
    cr_expect_str_eq(diff.run[1].label, "other");
    char id[32];
    snprintf(id, sizeof id, "%s", diff.run[1].run_id);
    diff_free(&diff);

    load("other", id);

    cr_expect_str_eq(diff.run[0].run_id, id);
    cr_expect_str_eq(diff.run[1].run_id, id);
}

Test(diff, knows_equal_runs_by_their_digests)
{
    load("base", "first");

    cr_expect(diff.equal);
    cr_expect_eq(diff.num_keys, 0);
    cr_expect_eq(diff.num_layers, 0);
    for (int32_t index = 0; index < diff.num_metrics; index++) {
        const struct diff_metric *each = &diff.metric[index];
        cr_expect(!diff_has(each) || diff_change(each) == 0.0, "%s", each->name);
    }
}

Test(diff, sets_metrics_side_by_side)
{
    load("base", "other");

    cr_expect_not(diff.equal);
    cr_expect_float_eq(diff_relative(metric("step_ns_mean")), 0.1, 1e-9);
    cr_expect_float_eq(metric("messages")->value[0], 123456789.0, 1e-9); /* fake_run.c */
    cr_expect_float_eq(diff_change(metric("messages")), 123456789.0, 1e-9);
    cr_expect_eq(diff_change(metric("bytes_sent")), 0.0);
}

Test(diff, phases_sum_to_the_step)
{
    load("base", "base");
    double sum_ns = 0.0;

    for (int phase = 0; phase < STEP_PHASE_COUNT; phase++) {
        char name[64];
        snprintf(name, sizeof name, "%s_ns_mean", step_phase_name((enum step_phase)phase));
        sum_ns += metric(name)->value[0];
    }

    cr_expect_float_eq(sum_ns / metric("step_ns_mean")->value[0], 1.0, 1e-6);
}

/* The stored layers are 3 to 6; the second and third were slowed. */
Test(diff, lists_the_layers_that_changed_most_first)
{
    load("base", "other");

    cr_assert_eq(diff.num_layers, 2);
    cr_expect_eq(diff.layer[0].layer, 4);
    cr_expect_eq(diff.layer[1].layer, 5);
    cr_expect_float_eq(diff.layer[0].layer_ns[1] / diff.layer[0].layer_ns[0], 3.0, 1e-9);
}

Test(diff, names_keys_that_differ_as_set_does)
{
    load("base", "other");

    cr_expect_eq(diff.num_keys, 4);
    cr_assert_not_null(key("cluster.nodes"));
    cr_expect_str_eq(key("cluster.nodes")->value[0], "4");
    cr_expect_str_eq(key("cluster.nodes")->value[1], "8");
    cr_assert_not_null(key("cluster.sizes.1"));
    cr_expect_str_eq(key("cluster.sizes.1")->value[1], "3");
    cr_assert_not_null(key("seed"));
    cr_expect_null(key("seed")->value[1]);
    cr_assert_not_null(key("\"a:b\""));
    cr_expect_str_eq(key("\"a:b\"")->value[1], "\"x: y\"");
}

Test(diff, refuses_runs_that_are_not_there)
{
    struct diff_options options = {{path, path}, {"base", "0123"}};

    cr_expect_eq(diff_load(&diff, &options, &error), STATUS_INVALID);

    cr_expect_not_null(strstr(error.text, "'0123'"), "%s", error.text);
    cr_expect_not_null(strstr(error.text, " other\n"), "%s", error.text);
}

static bool fails(const char *expression)
{
    struct diff_gate gate;
    cr_assert(diff_gate_parse(&gate, expression, &error) == STATUS_OK, "%s", error.text);
    return diff_gate_fails(&gate, &diff);
}

/* Neither run answered requests. */
Test(diff, refuses_a_gate_on_what_a_run_does_not_have)
{
    struct diff_gate gate;
    load("base", "other");

    cr_assert(diff_gate_parse(&gate, "ttft_ns_p99>+3%", &error) == STATUS_OK, "%s", error.text);
    cr_expect(diff_gate_check(&gate, &diff, &error) == STATUS_INVALID);
    cr_expect(strstr(error.text, "A has no ttft_ns_p99; runs of moesim serve do") != NULL, "%s",
              error.text);
    cr_assert(diff_gate_parse(&gate, "step_ns_mean>+3%", &error) == STATUS_OK);
    cr_expect(diff_gate_check(&gate, &diff, &error) == STATUS_OK);
}

/* The mean step is 10 % longer, there are 123,456,789 more messages, and as many bytes. */
Test(diff, gates_fail_beyond_their_limit_only)
{
    load("base", "other");

    cr_expect(fails("step_ns_mean>+9.9%"));
    cr_expect_not(fails("step_ns_mean > 10.1 %"));
    cr_expect_not(fails("step_ns_mean<-1%"));
    cr_expect(fails("step_ns_mean<20%"));
    cr_expect(fails("messages>123456788"));
    cr_expect_not(fails("messages>123456789"));
    cr_expect_not(fails("bytes_sent>0"));
    cr_expect_not(fails("bytes_sent<-0%"));
    diff_free(&diff);
    load("other", "base");
    cr_expect(fails("messages<-49.9%"));
    cr_expect_not(fails("messages<-50%"));
}

Test(diff, a_change_from_nothing_is_beyond_every_percentage)
{
    struct diff_metric appeared = {.value = {0.0, 1.0}};
    struct diff_metric nothing = {.value = {0.0, 0.0}};

    cr_expect_eq(diff_relative(&appeared), (double)INFINITY);
    cr_expect_eq(diff_relative(&nothing), 0.0);
}

Test(diff, says_once_what_is_wrong_with_a_gate)
{
    static const char *const wrong[][2] = {
        {"", "expected METRIC>LIMIT"},
        {"step_ns_mean", "expected METRIC>LIMIT"},
        {"step_ns_mean=3%", "expected METRIC>LIMIT"},
        {">3%", "expected METRIC>LIMIT"},
        {"step_ns_maen>3%", "did you mean step_ns_mean?"},
        {"waiting>3%", "did you mean waiting_ns_mean?"},
        {"colour>3%", "moesim diff --help lists them"},
        {"step_ns_mean>", "expected a percentage"},
        {"step_ns_mean>3%%", "expected a percentage"},
        {"step_ns_mean>nan", "expected a percentage"},
        {"step_ns_mean>1e999", "expected a percentage"},
        {"step_ns_mean>0x10", "expected a percentage"},
        {"step_ns_mean>3 percent", "expected a percentage"},
    };
    for (size_t index = 0; index < sizeof wrong / sizeof wrong[0]; index++) {
        struct diff_gate gate;
        error = (struct error){0};

        cr_expect_eq(diff_gate_parse(&gate, wrong[index][0], &error), STATUS_INVALID);

        cr_expect_eq(error.num_problems, 1);
        cr_expect_not_null(strstr(error.text, wrong[index][1]), "%s", error.text);
    }
}
