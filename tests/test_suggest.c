/* test_suggest.c -- what is said of a name that is not known. */
#include <criterion/criterion.h>
#include <string.h>

#include "suggest.h"

static const char *const few[] = {"eplb", "swift", "trtllm", "trtllm_cooccurrence"};

static const char *words(const char *word, const char *const *names, int32_t count)
{
    static char text[SUGGEST_BYTES];
    struct suggestion suggestion = {.word = word};
    for (int32_t i = 0; i < count; i++) {
        suggest_offer(&suggestion, names[i]);
    }
    suggest_words(text, sizeof text, &suggestion, names, count, "strategies");
    return text;
}

Test(suggest, names_that_hold_the_word_come_before_the_nearest)
{
    static const char known[] = "Known: eplb, swift, trtllm, trtllm_cooccurrence";
    cr_expect_not_null(strstr(words("TRT", few, 4), known));
    cr_expect_eq(
        strncmp(words("TRT", few, 4), "; did you mean 'trtllm' or 'trtllm_cooccurrence'? ", 49), 0);
    cr_expect_eq(strncmp(words("wsift", few, 4), "; did you mean 'swift'? Known", 29), 0);
    cr_expect_eq(strncmp(words("nothing alike", few, 4), ". Known", 7), 0);
    cr_expect_eq(strncmp(words("t", few, 4), ". Known", 7), 0); /* in nearly every name */
}

Test(suggest, many_names_are_left_to_the_list)
{
    const char *many[30];
    for (int32_t i = 0; i < 30; i++) {
        many[i] = "the-same-name";
    }
    const char *text = words("same", many, 30);
    cr_expect_not_null(strstr(text, "? moesim list strategies shows all"), "%s", text);
    cr_expect_null(strstr(text, "Known"), "%s", text);
    cr_expect_lt(strlen(text), 300, "at most twelve are offered");
}

Test(suggest, what_does_not_fit_is_cut)
{
    static char text[20];
    const struct suggestion suggestion = {.word = "trtllm"};
    suggest_words(text, sizeof text, &suggestion, few, 4, "strategies");
    cr_expect_str_eq(text, "; did you mean 'trt");
}
