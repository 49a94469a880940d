/*
 * test_trace_writer.c -- a trace is written whole or not at all, and only what can be read back.
 */
#include "trace_writer.h"

#include <criterion/criterion.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "small_trace.h"
#include "trace_internal.h"

TestSuite(trace_writer, .init = small_make_directory, .fini = small_remove_directory);

Test(trace_writer, the_writer_takes_two_bytes_for_256_experts_only_with_gaps)
{
    for (int32_t gaps = 0; gaps < 2; gaps++) {
        struct trace_description description = small_description();
        struct trace_writer *writer;
        struct trace trace;
        const int32_t expert[SMALL_LAYERS * SMALL_TOP_K] = {255, 0, 1, 2};
        description.num_experts = 256;
        description.has_gaps = gaps != 0;
        description.has_gate_weights = false;
        cr_assert_eq(trace_writer_open(&writer, small_path, &description, true, &small_error),
                     STATUS_OK);
        cr_assert_eq(trace_writer_append(writer, expert, NULL, 1, &small_error), STATUS_OK);
        cr_assert_eq(trace_writer_finish(writer, NULL, 0, &small_error), STATUS_OK, "%s",
                     small_error.text);
        cr_assert_eq(trace_open(&trace, small_path, &small_error), STATUS_OK, "%s",
                     small_error.text);
        cr_expect_eq(trace.shards[0].expert_u8 != NULL, gaps == 0);
        int32_t read[SMALL_TOP_K];
        const int64_t row = 0;
        cr_assert_eq(trace_read(&trace, read, NULL, 0, &row, 1, &small_error), STATUS_OK);
        cr_expect_eq(read[0], 255);
        trace_close(&trace);
    }
}

Test(trace_writer, the_writer_refuses_ids_and_weights_it_cannot_hold)
{
    struct trace_description description = small_description();
    struct trace_writer *writer;
    int32_t expert[SMALL_LAYERS * SMALL_TOP_K] = {0, 1, 2, 8};
    float weight[SMALL_LAYERS * SMALL_TOP_K] = {1, 1, 1, 1};
    cr_assert_eq(trace_writer_open(&writer, small_path, &description, false, &small_error),
                 STATUS_OK);

    cr_expect_eq(trace_writer_append(writer, expert, weight, 1, &small_error), STATUS_INVALID);
    expert[3] = 7;
    weight[2] = NAN;
    cr_expect_eq(trace_writer_append(writer, expert, weight, 1, &small_error), STATUS_INVALID);
    trace_writer_abandon(writer);

    cr_expect_not_null(strstr(small_error.text, "layer 1, token 0: expert 8 is out of range\n"));
    cr_expect_not_null(
        strstr(small_error.text, "layer 1, token 0: gate weight nan is not between"));
    cr_expect_eq(small_error.num_problems, 2);
}

Test(trace_writer, an_abandoned_or_failed_trace_leaves_nothing)
{
    struct trace_description description = small_description();
    struct trace_request requests[2];
    struct trace_writer *writer;
    small_requests(requests);
    requests[1].row_offset = 4; /* row 3 belongs to nobody */

    cr_assert_eq(trace_writer_open(&writer, small_path, &description, false, &small_error),
                 STATUS_OK);
    cr_expect(small_exists("small.partial"));
    small_append(writer, true);
    trace_writer_abandon(writer);
    cr_expect(!small_exists("small.partial") && !small_exists("small"));
    cr_assert_eq(trace_writer_open(&writer, small_path, &description, false, &small_error),
                 STATUS_OK);
    small_append(writer, true);
    cr_expect_eq(trace_writer_finish(writer, requests, 2, &small_error), STATUS_INVALID);

    cr_expect(!small_exists("small.partial") && !small_exists("small"));
    cr_expect_not_null(strstr(small_error.text, "request 1 must begin where"), "%s",
                       small_error.text);
    trace_writer_abandon(NULL);
}

Test(trace_writer, a_trace_is_replaced_only_on_demand_and_nothing_else_ever)
{
    struct trace_description description = small_description();
    struct trace_writer *writer;
    small_write();

    cr_expect_eq(trace_writer_open(&writer, small_path, &description, false, &small_error),
                 STATUS_INVALID);
    cr_expect_not_null(strstr(small_error.text, "small: exists"), "%s", small_error.text);
    small_write();
    cr_expect(small_exists("small/trace.yaml"));
    cr_expect(!small_exists("small.partial") && !small_exists("small.replaced"));
    small_write_text("thesis.tex", "ten years");
    cr_expect_eq(trace_writer_open(&writer, small_path, &description, true, &small_error),
                 STATUS_INVALID);
    cr_expect_not_null(strstr(small_error.text, "not replaced"), "%s", small_error.text);
    cr_expect(small_exists("small/thesis.tex") && !small_exists("small.partial"));
}

Test(trace_writer, what_a_crash_left_is_cleared_by_the_next_writer)
{
    char partial[128];
    (void)snprintf(partial, sizeof partial, "%s.partial", small_path);
    cr_assert_eq(mkdir(partial, 0777), 0);
    (void)snprintf(partial, sizeof partial, "%s.partial/experts-00000.npy", small_path);
    FILE *file = fopen(partial, "w");
    cr_assert_not_null(file);
    fclose(file);

    small_write();

    cr_expect(small_exists("small") && !small_exists("small.partial"));
}

/* A limit on the size of files stands for the full disk: the header fits, the ids do not. */
Test(trace_writer, of_two_that_write_one_trace_the_second_is_refused)
{
    struct trace_description description = small_description();
    struct trace_request requests[2];
    struct trace_writer *first;
    struct trace_writer *second;
    small_requests(requests);
    cr_assert_eq(trace_writer_open(&first, small_path, &description, false, &small_error),
                 STATUS_OK);
    small_append(first, true);

    cr_expect_eq(trace_writer_open(&second, small_path, &description, true, &small_error),
                 STATUS_IO);

    cr_expect_not_null(strstr(small_error.text, "small.partial: another process writes there"));
    cr_expect_eq(trace_writer_finish(first, requests, 2, &small_error), STATUS_OK, "%s",
                 small_error.text);
    cr_expect(small_exists("small") && !small_exists("small.partial"));
}

Test(trace_writer, a_full_disk_is_reported_and_leaves_nothing)
{
    struct trace_description description = small_description();
    const int32_t expert[SMALL_LAYERS * 2 * SMALL_TOP_K] = {0};
    struct trace_writer *writer;
    struct rlimit limit;
    description.has_gate_weights = false;
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    cr_assert_eq(trace_writer_open(&writer, small_path, &description, false, &small_error),
                 STATUS_OK);
    cr_assert_neq(signal(SIGXFSZ, SIG_IGN), SIG_ERR);
    limit.rlim_cur = 130;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);

    enum status status = trace_writer_append(writer, expert, NULL, 2, &small_error);
    limit.rlim_cur = limit.rlim_max;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    trace_writer_abandon(writer);

    cr_expect_eq(status, STATUS_IO);
    cr_expect_not_null(
        strstr(small_error.text, "small.partial/experts-00000.npy: cannot be written"), "%s",
        small_error.text);
    cr_expect(!small_exists("small") && !small_exists("small.partial"));
}
