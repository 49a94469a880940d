/* money.c -- which currency a set of prices is shown in, and amounts in it. */
#include "money.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "format.h"

/* Within these an amount with its currency fits FORMAT_BYTES. */
#define DECIMALS_MAX 18
#define AMOUNT_MAX   1e18

static bool is_usd(const struct currency *currency)
{
    return currency->code[0] == '\0';
}

const char *currency_code(const struct currency *currency)
{
    return is_usd(currency) ? "USD" : currency->code;
}

double currency_usd_per_unit(const struct currency *currency)
{
    return is_usd(currency) ? 1.0 : currency->usd_per_unit;
}

bool currency_is_code(const char *text)
{
    return strlen(text) == CURRENCY_BYTES - 1 &&
           strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == CURRENCY_BYTES - 1;
}

void currency_set(struct currency *currency, const char *code, double usd_per_unit)
{
    *currency = (struct currency){0};
    bool is_own = currency_is_code(code) && strcmp(code, "USD") != 0;
    if (is_own && isfinite(usd_per_unit) && usd_per_unit > 0.0) {
        (void)snprintf(currency->code, sizeof currency->code, "%s", code);
        currency->usd_per_unit = usd_per_unit;
    }
}

void money_add(struct money *money, const struct currency *currency)
{
    bool is_same = strcmp(money->shown.code, currency->code) == 0 &&
                   money->shown.usd_per_unit == currency->usd_per_unit;
    if (!money->is_begun) {
        money->is_begun = true;
        money->shown = *currency;
    } else if (!is_same) {
        money->is_mixed = true;
        money->shown = (struct currency){0};
    }
}

char *money_note(char *text, const struct money *money)
{
    const struct currency *shown = &money->shown;
    text[0] = '\0';
    if (money->is_mixed) {
        (void)snprintf(text, MONEY_NOTE_BYTES,
                       "amounts are in dollars: prices differ in currency or rate");
    } else if (!is_usd(shown)) {
        (void)snprintf(text, MONEY_NOTE_BYTES, "amounts are in %s: 1 %s = %.6g USD", shown->code,
                       shown->code, shown->usd_per_unit);
    }
    return text;
}

/* For three significant digits at least. */
static int decimals(double amount)
{
    double size = fabs(amount);
    if (size >= 1.0 || size == 0.0) {
        return size >= 100.0 ? 0 : 2;
    }
    int digits = 3;
    for (; size < 0.1 && digits < DECIMALS_MAX; size *= 10.0) {
        digits++;
    }
    return digits;
}

char *money_cell(char *text, double usd, const struct currency *currency)
{
    double amount = usd / currency_usd_per_unit(currency);
    const char *sign = is_usd(currency) ? "$" : "";
    if (fabs(amount) < AMOUNT_MAX) {
        (void)snprintf(text, FORMAT_BYTES, "%s%.*f", sign, decimals(amount), amount);
    } else {
        (void)snprintf(text, FORMAT_BYTES, "%s%.3g", sign, amount);
    }
    return text;
}

char *format_money(char *text, double usd, const struct currency *currency)
{
    char cell[FORMAT_BYTES];
    (void)snprintf(text, FORMAT_BYTES, "%s%s%.24s", currency->code, is_usd(currency) ? "" : " ",
                   money_cell(cell, usd, currency));
    return text;
}

char *money_heading(char *text, const struct currency *currency)
{
    (void)snprintf(text, FORMAT_BYTES, "%s/M tok", is_usd(currency) ? "$" : currency->code);
    return text;
}

void money_json(struct cJSON *object, const struct currency *currency)
{
    cJSON_AddStringToObject(object, "currency", currency_code(currency));
    cJSON_AddNumberToObject(object, "usd_per_unit", currency_usd_per_unit(currency));
}
