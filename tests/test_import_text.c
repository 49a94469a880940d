/*
 * test_import_text.c -- what text formats are read with: JSON, base64, CSV; and arrivals.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arrivals.h"
#include "import/base64.h"
#include "import/csv_lines.h"
#include "import/json_pull.h"
#include "text_file.h"

static struct import_file file_of(const char *text)
{
    return (struct import_file){
        .path = "text", .data = (const unsigned char *)text, .num_bytes = (int64_t)strlen(text)};
}

/* The tokens of text, a letter each: {}[] " 1 t f n, k before a value with a key, $ at the end, !
 * for what is broken. */
static void expect_tokens(const char *text, const char *expected)
{
    static const char letters[] = {'$', '!', '{', '}', '[', ']', '"', '1', 't', 'f', 'n'};
    char found[256] = "";
    size_t used = 0;
    struct import_file file = file_of(text);
    struct json_reader reader;
    struct json_token token;
    json_begin(&reader, &file);
    do {
        (void)json_next(&reader, &token);
        if (token.key != NULL && token.kind != JSON_BROKEN) {
            found[used++] = 'k';
        }
        found[used++] = letters[token.kind];
    } while (token.kind != JSON_END && token.kind != JSON_BROKEN && used < sizeof found - 2);
    found[used] = '\0';
    cr_expect_str_eq(found, expected, "%s: %s, not %s", text, found, expected);
}

Test(json_pull, walks_values_one_by_one)
{
    expect_tokens("", "$");
    expect_tokens(" {} ", "{}$");
    expect_tokens("[]\n[1]", "[][1]$");
    expect_tokens("{\"a\": [1, -2.5e+3, true, false, null, \"x\"], \"b\": {\"c\": \"\"}}",
                  "{k[11tfn\"]k{k\"}}$");
    expect_tokens("\"a\\\"b\\\\\" 1", "\"1$");
    expect_tokens("\xef\xbb\xbf{}", "{}$");
}

Test(json_pull, stops_at_what_is_no_json)
{
    expect_tokens("{\"a\" 1}", "{!");
    expect_tokens("{a: 1}", "{!");
    expect_tokens("{\"a\": 1,}", "{k1!");
    expect_tokens("[1 2]", "[1!");
    expect_tokens("[1,", "[1!");
    expect_tokens("[NaN]", "[!");
    expect_tokens("[-]", "[!");
    expect_tokens("[1.]", "[!");
    expect_tokens("[01x]", "[1!");
    expect_tokens("tru", "!");
    expect_tokens("\"a\nb\"", "!");
    expect_tokens("\"a\\\"", "!");
    expect_tokens("]", "!");
}

Test(json_pull, bounds_its_depth)
{
    char text[130];
    memset(text, '[', 64);
    memset(text + 64, ']', 64);
    text[128] = '\0';
    struct import_file file = file_of(text);
    struct json_reader reader;
    struct json_token token;
    json_begin(&reader, &file);
    cr_expect_eq(json_next(&reader, &token), JSON_ARRAY);
    cr_expect(json_skip(&reader, &token));
    cr_expect_eq(json_next(&reader, &token), JSON_END);

    memset(text, '[', 65);
    json_begin(&reader, &file);
    (void)json_next(&reader, &token);
    cr_expect_not(json_skip(&reader, &token));
    cr_expect_str_eq(reader.problem, "nested deeper than 64 levels");
}

Test(json_pull, reads_whole_numbers_that_fit)
{
    static const struct {
        const char *text;
        bool is_whole;
        int64_t value;
    } cases[] = {
        {"0", true, 0},
        {"-17", true, -17},
        {"9223372036854775807", true, INT64_MAX},
        {"9223372036854775808", false, 0},
        {"1.0", false, 0},
        {"1e3", false, 0},
        {"\"1\"", false, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct import_file file = file_of(cases[i].text);
        struct json_reader reader;
        struct json_token token;
        int64_t value = 0;
        json_begin(&reader, &file);
        (void)json_next(&reader, &token);
        cr_expect_eq(json_whole(&token, &value), cases[i].is_whole, "%s", cases[i].text);
        cr_expect_eq(value, cases[i].value, "%s", cases[i].text);
    }
}

/* Decodes in portions; "!" at the end where a character is bad. */
static const char *decode(const char *text, int64_t portion)
{
    static char bytes[64];
    struct base64 base64;
    int64_t used = 0;
    int64_t count = 0;
    base64_begin(&base64, text, (int64_t)strlen(text));
    do {
        count = base64_read(&base64, (unsigned char *)bytes + used, portion);
        used += count;
    } while (count > 0);
    cr_expect(base64.bad != NULL || used == base64_size(text, (int64_t)strlen(text)), "%s", text);
    bytes[used] = base64.bad != NULL ? '!' : '\0';
    bytes[used + 1] = '\0';
    return bytes;
}

/* The vectors of RFC 4648, section 10, then what JSON and other alphabets make of them. */
Test(base64, decodes_the_vectors_of_the_rfc_in_any_portions)
{
    static const char *const cases[][2] = {
        {"", ""},
        {"Zg==", "f"},
        {"Zm8=", "fo"},
        {"Zm9v", "foo"},
        {"Zm9vYg==", "foob"},
        {"Zm9vYmE=", "fooba"},
        {"Zm9vYmFy", "foobar"},
        {"Zm9vYmE", "fooba"},
        {"Pz8/Pj4+", "?\x3f?>>>"},
        {"Pz8_Pj4-", "?\x3f?>>>"},
        {"Pz8\\/Pj4+", "?\x3f?>>>"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int64_t portion = 1; portion <= 32; portion++) {
            cr_expect_str_eq(decode(cases[i][0], portion), cases[i][1], "%s by %lld", cases[i][0],
                             (long long)portion);
        }
    }
}

Test(base64, stops_at_what_is_none)
{
    static const char *const cases[][2] = {
        {"Zm9v!", "foo!"}, {"Z", "!"},          {"Zm9vZ===", "foo!"}, {"Zg==Zm9v", "f!"},
        {"Zm\n9v", "!"},   {"Zm9v\\n", "foo!"}, {"Zm9v====", "foo!"}, {"\xff\xff\xff\xff", "!"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *found = decode(cases[i][0], 32);
        cr_expect_eq(found[strlen(found) - 1], '!', "%s: %s", cases[i][0], found);
        cr_expect_leq(strlen(found), strlen(cases[i][1]) + 1, "%s: %s", cases[i][0], found);
    }
}

Test(csv_lines, cuts_lines_and_fields)
{
    struct import_file file = file_of("\xef\xbb\xbf"
                                      "a,\"b, c\",\r\n\n\"x\",,1\n5");
    struct csv_lines lines;
    char text[16];
    int64_t value = 0;
    csv_begin(&lines, &file);

    cr_assert(csv_next(&lines));
    cr_expect_eq(lines.num_fields, 3);
    cr_expect_str_eq(csv_copy(text, sizeof text, &lines, 1), "b, c");
    cr_expect_str_eq(csv_copy(text, sizeof text, &lines, 2), "");
    cr_expect_eq(csv_column(&lines, (const char *const[]){"none", "a", NULL}), 0);
    cr_assert(csv_next(&lines));
    cr_expect_eq(lines.line, 3);
    cr_expect(csv_whole(&lines, 2, 1, &value));
    cr_expect_not(csv_whole(&lines, 2, 0, &value));
    cr_expect_not(csv_whole(&lines, 1, 9, &value));
    cr_expect_not(csv_whole(&lines, 3, 9, &value));
    cr_assert(csv_next(&lines));
    cr_expect(csv_whole(&lines, 0, 9, &value));
    cr_expect_eq(value, 5);
    cr_expect_not(csv_next(&lines));
}

static struct arrivals arrivals;
static struct error arrivals_error;

/* Reads arrivals from a file that holds this text. */
static enum status read_arrivals(const char *text)
{
    const char *path = text_file("", text);
    arrivals_error = (struct error){0};
    enum status status = arrivals_read(&arrivals, path, ARRIVALS_UNKNOWN, &arrivals_error);
    unlink(path);
    return status;
}

/* 29 February and the end of a year: 86,400 s a day, 366 days in 2024. */
Test(arrivals, count_seconds_over_days)
{
    cr_assert_eq(read_arrivals("TIMESTAMP,ContextTokens,GeneratedTokens\n"
                               "2024-02-28 23:59:59.5,1,2\n2024-02-29 00:00:00.75,3,4\n"
                               "2024-03-01T00:00:00Z,5,6\n"
                               "2025-02-28 23:59:59.500000001+00:00,7,8\n"),
                 STATUS_OK, "%s", arrivals_error.text);

    cr_assert_eq(arrivals.count, 4);
    cr_expect_eq(arrivals.arrival[0].arrival_s, 0.0);
    cr_expect_eq(arrivals.arrival[1].arrival_s, 1.25);
    cr_expect_eq(arrivals.arrival[2].arrival_s, 86400.5);
    cr_expect_float_eq(arrivals.arrival[3].arrival_s, 366.0 * 86400.0, 1e-7);
    cr_expect_eq(arrivals.arrival[2].prompt_tokens, 5);
    cr_expect_eq(arrivals.arrival[2].decode_tokens, 6);
    arrivals_free(&arrivals);
}

Test(arrivals, have_at_most_16777216_tokens)
{
    static const char *const texts[] = {
        "arrival_s,prompt_tokens,decode_tokens\n0.5,16777216,16777216\n0.6,5,16777217\n",
        "{\"timestamp\": 0, \"input_length\": 16777216, \"output_length\": 1, \"hash_ids\": []}\n"
        "{\"timestamp\": 0, \"input_length\": 16777217, \"output_length\": 1, \"hash_ids\": []}\n"};
    for (int32_t i = 0; i < 2; i++) {
        cr_expect_eq(read_arrivals(texts[i]), STATUS_INVALID);
        cr_expect_eq(arrivals_error.num_problems, 1, "%s", arrivals_error.text);
        cr_expect_not_null(strstr(arrivals_error.text, "at most 16777216"), "%s",
                           arrivals_error.text);
        arrivals_free(&arrivals);
    }
}

Test(arrivals, span_ten_years_at_most)
{
    cr_expect_eq(read_arrivals("TIMESTAMP,ContextTokens,GeneratedTokens\n"
                               "2023-11-16 18:15:46.68,880,44\n"
                               "4023-11-16 18:15:50.99,396,109\n"),
                 STATUS_INVALID);

    cr_expect_not_null(strstr(arrivals_error.text, "3,650 are the most"), "%s",
                       arrivals_error.text);
    arrivals_free(&arrivals);
}
