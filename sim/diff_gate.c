/* diff_gate.c -- limits on how far a run may be off another. */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "diff_internal.h"
#include "suggest.h"

#define NAME_LENGTH_MAX 63

static const char *skip_spaces(const char *text)
{
    while (isspace((unsigned char)*text)) {
        text++;
    }
    return text;
}

static enum status find_metric(struct diff_gate *gate, const char *name, struct error *error)
{
    struct suggestion suggestion = {.word = name};
    const char *known;
    const char *longer = NULL; /* the first that the word is a part of */
    for (int32_t index = 0; (known = diff_metric_name(index)) != NULL; index++) {
        if (strcmp(known, name) == 0) {
            gate->metric = index;
            return STATUS_OK;
        }
        suggest_offer(&suggestion, known);
        longer = longer == NULL && strstr(known, name) != NULL ? known : longer;
    }
    const char *nearest = suggestion.nearest != NULL ? suggestion.nearest : longer;
    if (nearest != NULL) {
        return error_add(error, STATUS_INVALID,
                         "--fail-if '%s': there is no metric '%s'; did you mean %s?",
                         gate->expression, name, nearest);
    }
    return error_add(error, STATUS_INVALID,
                     "--fail-if '%s': there is no metric '%s'; moesim diff --help lists them",
                     gate->expression, name);
}

/* A decimal number that ends the expression, "%" apart. */
static bool parse_limit(struct diff_gate *gate, const char *text)
{
    char *end = NULL;
    if (text[strspn(text, "+-.0123456789eE% \t")] != '\0') {
        return false; /* strtod would also take nan, inf and hexadecimals */
    }
    gate->limit = strtod(text, &end);
    if (end == text || !isfinite(gate->limit)) {
        return false;
    }
    const char *rest = skip_spaces(end);
    gate->relative = *rest == '%';
    if (gate->relative) {
        gate->limit /= 100.0;
        rest = skip_spaces(rest + 1);
    }
    return *rest == '\0';
}

enum status diff_gate_parse(struct diff_gate *gate, const char *expression, struct error *error)
{
    *gate = (struct diff_gate){.expression = expression};
    const char *begin = skip_spaces(expression);
    size_t length = strcspn(begin, "<> \t");
    const char *relation = skip_spaces(begin + length);
    if (length == 0 || (*relation != '<' && *relation != '>')) {
        return error_add(error, STATUS_INVALID,
                         "--fail-if '%s': expected METRIC>LIMIT or METRIC<LIMIT, "
                         "as in 'step_ns_mean>+3%%'",
                         expression);
    }
    char name[NAME_LENGTH_MAX + 1] = "";
    if (length > NAME_LENGTH_MAX) {
        length = NAME_LENGTH_MAX; /* no metric is as long: it will not be found */
    }
    memcpy(name, begin, length);
    enum status status = find_metric(gate, name, error);
    if (status != STATUS_OK) {
        return status;
    }
    gate->above = *relation == '>';
    if (!parse_limit(gate, skip_spaces(relation + 1))) {
        return error_add(error, STATUS_INVALID,
                         "--fail-if '%s': expected a percentage as in +3%% or a number behind '%c'",
                         expression, *relation);
    }
    return STATUS_OK;
}

enum status diff_gate_check(const struct diff_gate *gate, const struct diff *diff,
                            struct error *error)
{
    const struct diff_metric *metric = &diff->metric[gate->metric];
    return diff_has(metric)
               ? STATUS_OK
               : error_add(error, STATUS_INVALID,
                           "--fail-if '%s': %s has no %s; runs of moesim serve do",
                           gate->expression, isnan(metric->value[0]) ? "A" : "B", metric->name);
}

bool diff_gate_fails(const struct diff_gate *gate, const struct diff *diff)
{
    const struct diff_metric *metric = &diff->metric[gate->metric];
    double change = gate->relative ? diff_relative(metric) : diff_change(metric);
    return gate->above ? change > gate->limit : change < gate->limit;
}
