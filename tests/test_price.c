/* test_price.c -- prices in files of one's own, in dollars or not, and amounts that come of them.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "format.h"
#include "price.h"
#include "store.h"
#include "text_file.h"

static struct error error;
static struct price price;
static char text[MONEY_NOTE_BYTES];

/* Loads a price file of these lines behind gpu, date and source, which are lines 1 to 3. */
static enum status load(const char *lines)
{
    char file[1024];
    (void)snprintf(file, sizeof file, "gpu: h100-sxm\ndate: \"2026-11\"\nsource: a contract\n%s",
                   lines);
    const char *path = text_file(".yaml", file);
    error = (struct error){0};
    enum status status = price_load(&price, path, &error);
    cr_assert_eq(unlink(path), 0);
    return status;
}

Test(price, of_another_currency_becomes_dollars)
{
    cr_assert_eq(load("per_gpu_hour: 1.55\ncurrency: EUR\nusd_per_unit: 1.16\n"), STATUS_OK, "%s",
                 error.text);
    cr_expect_float_eq(price.usd_per_gpu_hour, 1.798, 1e-12); /* 1.55 x 1.16 */
    cr_expect_str_eq(currency_code(&price.currency), "EUR");
    cr_expect_eq(currency_usd_per_unit(&price.currency), 1.16);
    cr_expect_str_eq(format_money(text, price.usd_per_gpu_hour, &price.currency), "EUR 1.55");

    cr_assert_eq(load("per_gpu_hour: 40000\ncurrency: VND\nusd_per_unit: 3.8e-5\n"), STATUS_OK,
                 "%s", error.text);
    cr_expect_float_eq(price.usd_per_gpu_hour, 1.52, 1e-12);
    cr_expect_str_eq(format_money(text, price.usd_per_gpu_hour, &price.currency), "VND 40000");
}

Test(price, as_a_number_has_the_bounds_of_a_file)
{
    static const char *const bad[] = {"0", "0.0009", "1.1e6", "-2", "inf", "nan"};
    cr_assert_eq(price_load_for(&price, "2", NULL, &error), STATUS_OK);
    cr_expect_eq(price.usd_per_gpu_hour, 2.0);
    cr_expect_str_eq(price.source, "the user");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        error = (struct error){0};
        cr_expect_eq(price_load_for(&price, bad[i], NULL, &error), STATUS_INVALID, "%s", bad[i]);
        cr_expect_not_null(strstr(error.text, "must cost 0.001 to 1e+06 dollars, not "), "%s",
                           error.text);
    }
}

Test(price, in_dollars_needs_no_rate)
{
    static const char *const files[] = {"usd_per_gpu_hour: 1.55\n",
                                        "usd_per_gpu_hour: 1.55\ncurrency: USD\n",
                                        "per_gpu_hour: 1.55\ncurrency: USD\n"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        cr_assert_eq(load(files[i]), STATUS_OK, "%s", error.text);
        cr_expect_eq(price.usd_per_gpu_hour, 1.55);
        cr_expect_str_eq(currency_code(&price.currency), "USD");
        cr_expect_eq(currency_usd_per_unit(&price.currency), 1.0);
        cr_expect_str_eq(format_money(text, 1.55, &price.currency), "$1.55");
    }
}

/* One problem each, at its line; of the last file there are three. */
Test(price, that_is_not_clear_is_refused)
{
    static const struct {
        const char *lines;
        const char *words;
        int32_t count;
    } files[] = {
        {"", ":1: usd_per_gpu_hour: missing; or give per_gpu_hour", 1},
        {"usd_per_gpu_hour: 1\nper_gpu_hour: 1\n", ":5: per_gpu_hour: usd_per_gpu_hour stands", 1},
        {"per_gpu_hour: 1\n", ":4: per_gpu_hour: needs a currency", 1},
        {"usd_per_gpu_hour: 1\ncurrency: EUR\n", ":5: currency: usd_per_gpu_hour is in doll", 1},
        {"per_gpu_hour: 1\ncurrency: EUR\n", ":5: currency: needs usd_per_unit", 1},
        {"per_gpu_hour: 1\ncurrency: eur\nusd_per_unit: 1\n", ":5: currency: must be three", 1},
        {"usd_per_gpu_hour: 2,10\n", "got '2,10'; write a point for the comma", 1},
        {"per_gpu_hour: 1\ncurrency: EURO\nusd_per_unit: 1\n", ":5: currency: must be three", 1},
        {"per_gpu_hour: 1\ncurrency: EUR\nusd_per_unit: 0\n", ":6: usd_per_unit: must be be", 1},
        {"per_gpu_hour: 1\ncurrency: EUR\nusd_per_unit: -1\n", ":6: usd_per_unit: must be be", 1},
        {"per_gpu_hour: 1\ncurrency: USD\nusd_per_unit: 1\n", ":6: usd_per_unit: is the rate", 1},
        {"per_gpu_hour: 1e9\ncurrency: EUR\nusd_per_unit: 1\n", ":4: per_gpu_hour: must be w", 1},
        {"per_gpu_hour: x\ncurrency: Euro\nusd_per_unit: 0\n", ":5: currency: must be three", 3},
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        cr_expect_eq(load(files[i].lines), STATUS_INVALID, "%s", files[i].lines);
        cr_expect_not_null(strstr(error.text, files[i].words), "%s: %s", files[i].words,
                           error.text);
        cr_expect_eq(error.num_problems, files[i].count, "%s: %s", files[i].lines, error.text);
    }
}

Test(price, amounts_are_in_the_currency_that_all_share)
{
    struct currency dollar = {0};
    struct currency euro, later;
    struct money money = {0};
    currency_set(&euro, "EUR", 1.16);
    currency_set(&later, "EUR", 1.2);

    money_add(&money, &euro);
    money_add(&money, &euro);
    cr_expect_str_eq(money_note(text, &money), "amounts are in EUR: 1 EUR = 1.16 USD");
    cr_expect_str_eq(format_money(text, 0.58, &money.shown), "EUR 0.500");
    cr_expect_str_eq(money_cell(text, 0.58, &money.shown), "0.500");
    cr_expect_str_eq(money_heading(text, &money.shown), "EUR/M tok");

    money_add(&money, &dollar);
    money_add(&money, &euro);
    cr_expect_str_eq(money_note(text, &money),
                     "amounts are in dollars: prices differ in currency or rate");
    cr_expect_str_eq(format_money(text, 0.58, &money.shown), "$0.580");

    money = (struct money){0};
    money_add(&money, &euro);
    money_add(&money, &later);
    cr_expect(money.is_mixed);

    money = (struct money){0};
    money_add(&money, &dollar);
    cr_expect_str_eq(money_note(text, &money), "");
    cr_expect_str_eq(money_heading(text, &money.shown), "$/M tok");
}

/* Three digits that count, however small the amount; no exponent that anybody has to read, and
 * nothing cut off. */
Test(price, amounts_keep_their_digits)
{
    static const struct {
        double usd;
        const char *words;
    } amounts[] = {
        {0.0, "$0.00"},
        {5.56e-6, "$0.00000556"},
        {5e-5, "$0.0000500"},
        {0.00123, "$0.00123"},
        {0.0099, "$0.00990"},
        {0.413, "$0.413"},
        {1.0, "$1.00"},
        {99.5, "$99.50"},
        {87072.4, "$87072"},
        {-0.25, "$-0.250"},
        {1e-25, "$0.000000000000000000"},
        {2.5e30, "$2.5e+30"},
    };
    struct currency dollar = {0};
    for (size_t i = 0; i < sizeof amounts / sizeof amounts[0]; i++) {
        cr_expect_str_eq(format_money(text, amounts[i].usd, &dollar), amounts[i].words);
    }
    struct currency euro;
    currency_set(&euro, "EUR", 1.25);
    cr_expect_str_eq(format_money(text, 5e-16, &euro), "EUR 0.000000000000000400");
    cr_expect_str_eq(format_money(text, 1.25e17, &euro), "EUR 100000000000000000");
}

/* A results file may hold anything. */
Test(price, what_is_no_currency_is_the_dollar)
{
    static const char *const codes[] = {"", "USD", "EU", "EURO", "eur", "E'R"};
    struct currency currency;
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        currency_set(&currency, codes[i], 2.0);
        cr_expect_eq(currency_usd_per_unit(&currency), 1.0, "%s", codes[i]);
    }
    currency_set(&currency, "EUR", 0.0);
    cr_expect_str_eq(currency_code(&currency), "USD");
}

static bool keep_first(void *context, const struct store_row *row)
{
    (void)snprintf(context, MONEY_NOTE_BYTES, "%s", row->value[0]);
    return false;
}

Test(price, queries_show_dollars_in_the_currency_that_was_asked_for)
{
    static const char sql[] = "SELECT money(1.16) || ', ' || ifnull(money(NULL), 'none') || ', ' "
                              "|| ifnull(money('words'), 'none')";
    struct store *store = NULL;
    struct currency euro;
    char path[64];
    (void)snprintf(path, sizeof path, "/tmp/moesim-own-price-%d.db", (int)getpid());
    cr_assert_eq(store_open(&store, path, true, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(unlink(path), 0);

    cr_assert_eq(store_query(store, sql, NULL, keep_first, text, &error), STATUS_OK, "%s",
                 error.text);
    cr_expect_str_eq(text, "$1.16, none, none");
    currency_set(&euro, "EUR", 1.16);
    store_show_money(store, &euro);
    cr_assert_eq(store_query(store, sql, NULL, keep_first, text, &error), STATUS_OK, "%s",
                 error.text);
    cr_expect_str_eq(text, "EUR 1.00, none, none");
    store_close(store);
}
