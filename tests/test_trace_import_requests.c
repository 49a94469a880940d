/*
 * test_trace_import_requests.c -- request lists of other tools, their columns and their mistakes.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "import/sink.h"

static char path[64];
static struct error error;
static struct trace_request *requests;
static int64_t num_requests;

static void make_file(void)
{
    (void)snprintf(path, sizeof path, "/tmp/moesim-requests-XXXXXX");
    int descriptor = mkstemp(path);
    cr_assert_geq(descriptor, 0);
    close(descriptor);
}

static void remove_file(void)
{
    free(requests);
    unlink(path);
}

TestSuite(trace_import_requests, .init = make_file, .fini = remove_file);

static enum status read_text(const char *text, int64_t num_tokens)
{
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    fputs(text, file);
    cr_assert_eq(fclose(file), 0);
    free(requests);
    requests = NULL;
    error = (struct error){0};
    return import_request_list(&requests, &num_requests, path, num_tokens, &error);
}

Test(trace_import_requests, finds_columns_by_name)
{
    const char *text = "\xef\xbb\xbfprompt_tokens,category,x,row_offset,arrival_s,dataset\r\n"
                       "7,\"law, \"\"old\"\"\",1,0,1.5,a\r\n"
                       "\r\n"
                       "9,code,2,4,2,b\r\n";

    cr_assert_eq(read_text(text, 10), STATUS_OK, "%s", error.text);

    cr_assert_eq(num_requests, 2);
    cr_expect_str_eq(requests[0].tag, "law, \"old\"");
    cr_expect_eq(requests[0].prompt_tokens, 7);
    cr_expect_eq(requests[0].arrival_s, 1.5);
    cr_expect_eq(requests[0].num_rows, 4);
    cr_expect_eq(requests[1].row_offset, 4);
    cr_expect_eq(requests[1].num_rows, 6);
}

Test(trace_import_requests, needs_no_more_than_row_offsets)
{
    cr_assert_eq(read_text("row_offset\n0\n3\n", 5), STATUS_OK, "%s", error.text);

    cr_expect_eq(num_requests, 2);
    cr_expect_str_eq(requests[0].tag, "");
    cr_expect_eq(requests[1].prompt_tokens, 0);
    cr_expect_eq(requests[1].num_rows, 2);
}

/* 8 rows for 5 prompt and 4 decode tokens (the last is never routed): the prompt was recorded. The
 * second request has rows for its decode tokens only. */
Test(trace_import_requests, tells_recorded_prompts_from_those_that_are_not)
{
    const char *text = "row_offset,prompt_tokens,decode_tokens\n0,5,4\n8,100,3\n";

    cr_assert_eq(read_text(text, 11), STATUS_OK, "%s", error.text);

    cr_expect_eq(requests[0].prompt_tokens, 0);
    cr_expect_eq(requests[1].prompt_tokens, 100);
}

Test(trace_import_requests, believes_first_position)
{
    const char *text = "row_offset,prompt_tokens,decode_tokens,first_position\n0,5,4,2\n";

    cr_assert_eq(read_text(text, 20), STATUS_OK, "%s", error.text);

    cr_expect_eq(requests[0].prompt_tokens, 2);
}

Test(trace_import_requests, cuts_a_long_tag_between_characters)
{
    /* 62 letters and a character of two bytes: the 63 that fit would end in its middle. */
    const char *text =
        "row_offset,tag\n0,aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffff"
        "gg\xc3\xa4z\n";

    cr_assert_eq(read_text(text, 5), STATUS_OK, "%s", error.text);

    cr_expect_eq(strlen(requests[0].tag), 62);
}

Test(trace_import_requests, names_file_and_line_of_every_mistake)
{
    static const char *const cases[][2] = {
        {"", "is empty"},
        {"request,offset\n0,0\n", ":1: there is no column row_offset"},
        {"row_offset\n", "holds no request"},
        {"row_offset\n1\n", ":2: row_offset '1': the first request must begin at row 0"},
        {"row_offset\n0\n4\n4\n", ":4: row_offset '4': must be larger"},
        {"row_offset\n0\n4\n3\n", ":4: row_offset '3': must be larger"},
        {"row_offset\n0\n9\n", ":3: row_offset '9': the array has only 9 tokens"},
        {"row_offset\n0\n-1\n", ":3: row_offset '-1': expected a whole number"},
        {"row_offset\n0\nx\n", ":3: row_offset 'x': expected a whole number"},
        {"row_offset,tag\n0,a\n,b\n", ":3: row_offset '': every request needs one"},
        {"row_offset\n0\n99999999999999999999\n", "expected a whole number"},
        {"row_offset,tag\n0\n", ":2: line '0': it has not as many fields"},
        {"row_offset,arrival_s\n0,soon\n", ":2: arrival_s 'soon': expected seconds"},
        {"row_offset,arrival_s\n0,-1\n", ":2: arrival_s '-1': expected seconds"},
        {"row_offset,prompt_tokens\n0,3000000000\n", ":2: prompt_tokens '3000000000'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cr_expect_eq(read_text(cases[i][0], 9), STATUS_INVALID, "%s", cases[i][0]);
        cr_expect_not_null(strstr(error.text, cases[i][1]), "'%s' is not in: %s", cases[i][1],
                           error.text);
        cr_expect_null(requests);
        cr_expect_eq(num_requests, 0);
    }
}

Test(trace_import_requests, counts_the_problems_it_has_no_room_for)
{
    cr_expect_eq(read_text("row_offset\na\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\nl\n", 9), STATUS_INVALID);

    cr_expect_eq(error.num_problems, 11);
    cr_expect_not_null(strstr(error.text, "and 2 more problems"), "%s", error.text);
}

Test(trace_import_requests, says_that_a_file_is_missing)
{
    unlink(path);
    error = (struct error){0};

    cr_expect_eq(import_request_list(&requests, &num_requests, path, 9, &error), STATUS_IO);

    cr_expect_not_null(strstr(error.text, "No such file"));
    make_file();
}
