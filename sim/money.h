/*
 * money.h -- amounts for people, in the currency of the prices that they come from.
 *
 * Everything is computed and stored in dollars: public prices are, and dollars add up. A price of
 * one's own may be in another currency; what comes of it is shown in that one, at the rate that the
 * price's file gives.
 */
#ifndef MOESIM_MONEY_H
#define MOESIM_MONEY_H

#include <stdbool.h>

#define CURRENCY_BYTES   4 /* three capital letters, as in ISO 4217 */
#define MONEY_NOTE_BYTES 128

/* Zeroed it is the dollar. */
struct currency {
    char code[CURRENCY_BYTES];
    double usd_per_unit; /* > 0 where it has a code */
};

/* What several prices are shown in: the currency of all, else dollars. Zero-initialise. */
struct money {
    struct currency shown;
    bool is_begun;
    bool is_mixed; /* several currencies, or one at several rates */
};

const char *currency_code(const struct currency *currency);    /* "USD", "EUR" */
double currency_usd_per_unit(const struct currency *currency); /* of the dollar: 1 */

bool currency_is_code(const char *text); /* three capital letters, whichever */

/* Sets a currency; "USD", and what is no currency with a rate, is the dollar. */
void currency_set(struct currency *currency, const char *code, double usd_per_unit);

/* Counts in one more price. */
void money_add(struct money *money, const struct currency *currency);

/* "amounts are in EUR: 1 EUR = 1.16 USD", or that they are in dollars though some price is not; ""
 * where every price is. Writes into text [MONEY_NOTE_BYTES] and returns it. */
char *money_note(char *text, const struct money *money);

/* Dollars in a currency: "$0.413", "EUR 0.356", "$0.0000556". Writes into text [FORMAT_BYTES] and
 * returns it. */
char *format_money(char *text, double usd, const struct currency *currency);

/* The same where a heading names the currency: "$0.413", "0.356"; and such a heading of a million
 * tokens, "$/M tok", "EUR/M tok". */
char *money_cell(char *text, double usd, const struct currency *currency);
char *money_heading(char *text, const struct currency *currency);

struct cJSON;

/* Adds currency and usd_per_unit: what the prices behind an object are in, whose own amounts are
 * dollars. */
void money_json(struct cJSON *object, const struct currency *currency);

#endif
