/* test_utf8.c -- characters and what is none, by RFC 3629. */
#include <criterion/criterion.h>

#include "utf8.h"

/* The first and the last character of each length, and the bytes beside them. */
Test(utf8, knows_characters_by_their_bytes)
{
    static const struct {
        const char *text;
        int bytes;
    } cases[] = {
        {"a", 1},
        {"\x7f", 1},
        {"\xc2\x80", 2},
        {"\xdf\xbf", 2},
        {"\xe0\xa0\x80", 3},
        {"\xed\x9f\xbf", 3},
        {"\xef\xbf\xbf", 3},
        {"\xf0\x90\x80\x80", 4},
        {"\xf4\x8f\xbf\xbf", 4},
        {"\x80", 0},             /* the rest of a character */
        {"\xc1\xbf", 0},         /* overlong, as are the next two */
        {"\xe0\x9f\xbf", 0},     /* */
        {"\xf0\x8f\xbf\xbf", 0}, /* */
        {"\xed\xa0\x80", 0},     /* a surrogate */
        {"\xf4\x90\x80\x80", 0}, /* beyond U+10FFFF */
        {"\xff", 0},
        {"\xe2\x82", 0}, /* cut off */
        {"\xc3(", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cr_expect_eq(utf8_bytes(cases[i].text), cases[i].bytes, "case %zu", i);
    }
}

Test(utf8, mends_what_is_no_character_and_nothing_else)
{
    char text[] = "n\xff"
                  "a\xe4me \xc3\xa4 \xe2\x82";
    utf8_mend(text);
    cr_expect_str_eq(text, "n?a?me \xc3\xa4 ??");
    char empty[] = "";
    utf8_mend(empty);
    cr_expect_str_eq(empty, "");
}
