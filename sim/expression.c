/*
 * expression.c -- two stacks (Dijkstra's shunting yard, 1961): numbers, and operators that wait for
 * their right side.
 */
#include "expression.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 64

enum operation {
    OR,
    AND,
    NOT,
    LESS,
    LESS_EQUAL,
    MORE,
    MORE_EQUAL,
    EQUAL,
    UNEQUAL,
    ADD,
    SUBTRACT,
    MULTIPLY,
    DIVIDE,
    NEGATE,
    POWER,
    ABS,
    CEIL,
    FLOOR,
    SQRT,
    LOG2,
    MIN,
    MAX,
    PARENTHESIS,
    COMMA,
    NOTHING,
};

static const struct {
    const char *text;
    int rank;     /* higher binds closer */
    int operands; /* 0: not applied by itself */
    bool is_prefix;
} operations[] = {
    [OR] = {"or", 1, 2, false},         [AND] = {"and", 2, 2, false},
    [NOT] = {"not", 3, 1, true},        [LESS] = {"<", 4, 2, false},
    [LESS_EQUAL] = {"<=", 4, 2, false}, [MORE] = {">", 4, 2, false},
    [MORE_EQUAL] = {">=", 4, 2, false}, [EQUAL] = {"==", 4, 2, false},
    [UNEQUAL] = {"!=", 4, 2, false},    [ADD] = {"+", 5, 2, false},
    [SUBTRACT] = {"-", 5, 2, false},    [MULTIPLY] = {"*", 6, 2, false},
    [DIVIDE] = {"/", 6, 2, false},      [NEGATE] = {"-", 7, 1, true},
    [POWER] = {"^", 8, 2, false},       [ABS] = {"abs", 9, 1, true},
    [CEIL] = {"ceil", 9, 1, true},      [FLOOR] = {"floor", 9, 1, true},
    [SQRT] = {"sqrt", 9, 1, true},      [LOG2] = {"log2", 9, 1, true},
    [MIN] = {"min", 9, 2, true},        [MAX] = {"max", 9, 2, true},
    [PARENTHESIS] = {"(", 0, 0, true},  [COMMA] = {",", 0, 0, false},
    [NOTHING] = {"", 0, 0, false},
};

struct machine {
    double number[DEPTH_MAX];
    int num_numbers;
    enum operation waiting[DEPTH_MAX];
    int num_waiting;
    int commas[DEPTH_MAX]; /* seen behind each parenthesis that is open */
    bool is_finite;        /* every number so far */
    char *problem;
};

static bool refuse(struct machine *machine, const char *what, const char *at)
{
    snprintf(machine->problem, EXPRESSION_PROBLEM, "%s at '%.40s'", what,
             *at == '\0' ? "the end" : at);
    return false;
}

static double apply(enum operation operation, double a, double b)
{
    switch (operation) {
    case OR:
        return a != 0.0 || b != 0.0;
    case AND:
        return a != 0.0 && b != 0.0;
    case NOT:
        return b == 0.0;
    case LESS:
        return a < b;
    case LESS_EQUAL:
        return a <= b;
    case MORE:
        return a > b;
    case MORE_EQUAL:
        return a >= b;
    case EQUAL:
        return a == b;
    case UNEQUAL:
        return a != b;
    case ADD:
        return a + b;
    case SUBTRACT:
        return a - b;
    case MULTIPLY:
        return a * b;
    case DIVIDE:
        return a / b;
    case NEGATE:
        return -b;
    case POWER:
        return pow(a, b);
    case ABS:
        return fabs(b);
    case CEIL:
        return ceil(b);
    case FLOOR:
        return floor(b);
    case SQRT:
        return sqrt(b);
    case LOG2:
        return log2(b);
    case MIN:
        return fmin(a, b);
    case MAX:
        return fmax(a, b);
    case PARENTHESIS:
    case COMMA:
    case NOTHING:
        break;
    }
    return (double)NAN;
}

/* Applies the operation on top. */
static bool reduce(struct machine *machine, const char *at)
{
    enum operation operation = machine->waiting[--machine->num_waiting];
    int operands = operations[operation].operands;
    if (machine->num_numbers < operands) {
        return refuse(machine, "a value is missing", at);
    }
    double b = machine->number[machine->num_numbers - 1];
    double a = operands == 2 ? machine->number[machine->num_numbers - 2] : 0.0;
    machine->num_numbers -= operands;
    double result = apply(operation, a, b);
    machine->is_finite = machine->is_finite && isfinite(result);
    machine->number[machine->num_numbers++] = result;
    return true;
}

static bool hold(struct machine *machine, enum operation operation, const char *at)
{
    if (machine->num_waiting == DEPTH_MAX) {
        return refuse(machine, "too deep", at);
    }
    machine->commas[machine->num_waiting] = 0;
    machine->waiting[machine->num_waiting++] = operation;
    return true;
}

/* Applies what binds at least as close as a new operation. */
static bool reduce_to(struct machine *machine, enum operation operation, const char *at)
{
    int rank = operations[operation].rank + (operation == POWER); /* powers group from the right */
    bool is_sound = true;
    while (is_sound && machine->num_waiting > 0 &&
           machine->waiting[machine->num_waiting - 1] != PARENTHESIS &&
           operations[machine->waiting[machine->num_waiting - 1]].rank >= rank) {
        is_sound = reduce(machine, at);
    }
    return is_sound;
}

/* ")" or ",": back to the parenthesis that is open. */
static bool close_to(struct machine *machine, bool is_comma, const char *at)
{
    while (machine->num_waiting > 0 && machine->waiting[machine->num_waiting - 1] != PARENTHESIS) {
        if (!reduce(machine, at)) {
            return false;
        }
    }
    if (machine->num_waiting == 0) {
        return refuse(machine, "no parenthesis is open", at);
    }
    int top = machine->num_waiting - 1;
    enum operation function = top > 0 ? machine->waiting[top - 1] : NOTHING;
    bool is_function = function >= ABS && function <= MAX;
    if (is_comma) {
        machine->commas[top]++;
        return (is_function && machine->commas[top] < operations[function].operands) ||
               refuse(machine, "a comma too many", at);
    }
    int wanted = is_function ? operations[function].operands - 1 : 0;
    if (machine->commas[top] != wanted) {
        return refuse(machine, "a value is missing", at);
    }
    machine->num_waiting--;
    return !is_function || reduce(machine, at);
}

static enum operation word_operation(const char *text, size_t length)
{
    for (enum operation operation = OR; operation < NOTHING; operation++) {
        if (isalpha((unsigned char)operations[operation].text[0]) &&
            strlen(operations[operation].text) == length &&
            strncmp(operations[operation].text, text, length) == 0) {
            return operation;
        }
    }
    return NOTHING;
}

static enum operation sign_operation(const char *text, size_t *length)
{
    enum operation found = NOTHING;
    *length = 0;
    for (enum operation operation = OR; operation < NOTHING; operation++) {
        size_t bytes = strlen(operations[operation].text);
        if (!isalpha((unsigned char)operations[operation].text[0]) && bytes > *length &&
            operation != NEGATE && strncmp(text, operations[operation].text, bytes) == 0) {
            found = operation;
            *length = bytes;
        }
    }
    return found;
}

/* One operator, function or parenthesis; *wants_value: a value has to follow. */
static bool take_operation(struct machine *machine, enum operation operation, const char *at,
                           bool *wants_value)
{
    if (*wants_value && operation == SUBTRACT) {
        operation = NEGATE;
    }
    if (operations[operation].is_prefix != *wants_value) {
        return refuse(machine, *wants_value ? "expected a value" : "expected an operator", at);
    }
    if (operations[operation].is_prefix) {
        if (operation >= ABS && operation <= MAX &&
            at[strlen(operations[operation].text) +
               strspn(at + strlen(operations[operation].text), " ")] != '(') {
            return refuse(machine, "expected a parenthesis behind the function", at);
        }
        return hold(machine, operation, at);
    }
    *wants_value = true;
    if (operation == COMMA) {
        return close_to(machine, true, at);
    }
    return reduce_to(machine, operation, at) && hold(machine, operation, at);
}

static bool push(struct machine *machine, double number, const char *at)
{
    if (machine->num_numbers == DEPTH_MAX) {
        return refuse(machine, "too deep", at);
    }
    machine->number[machine->num_numbers++] = number;
    return true;
}

/* Takes a value or operation from *text. */
static bool take_token(struct machine *machine, const char **text, bool *wants_value,
                       expression_lookup *lookup, const void *context)
{
    const char *at = *text;
    size_t length = 0;
    enum operation operation = NOTHING;
    if (isdigit((unsigned char)*at) || *at == '.') {
        char *end = NULL;
        double number = strtod(at, &end);
        *text = end;
        if (!*wants_value || end == at) {
            return refuse(machine, "expected an operator", at);
        }
        *wants_value = false;
        return push(machine, number, at);
    }
    if (isalpha((unsigned char)*at) || *at == '_') {
        while (isalnum((unsigned char)at[length]) || at[length] == '_') {
            length++;
        }
        operation = word_operation(at, length);
        *text = at + length;
        double number = 0.0;
        if (operation == NOTHING) {
            if (!*wants_value) {
                return refuse(machine, "expected an operator", at);
            }
            if (!lookup(context, at, (int)length, &number)) {
                return refuse(machine, "an unknown name", at);
            }
            *wants_value = false;
            return push(machine, number, at);
        }
        return take_operation(machine, operation, at, wants_value);
    }
    if (*at == ')') {
        *text = at + 1;
        return *wants_value ? refuse(machine, "expected a value", at)
                            : close_to(machine, false, at);
    }
    operation = sign_operation(at, &length);
    *text = at + length;
    return operation != NOTHING ? take_operation(machine, operation, at, wants_value)
                                : refuse(machine, "not understood", at);
}

/* *is_finite: and so was every number on the way, so that no comparison hides a division by zero.
 */
static bool run(double *result, bool *is_finite, const char *text, expression_lookup *lookup,
                const void *context, char problem[EXPRESSION_PROBLEM])
{
    struct machine machine = {.is_finite = true, .problem = problem};
    bool wants_value = true;
    text += strspn(text, " \t");
    while (*text != '\0') {
        if (!take_token(&machine, &text, &wants_value, lookup, context)) {
            return false;
        }
        text += strspn(text, " \t");
    }
    if (wants_value) {
        return refuse(&machine, "expected a value", text);
    }
    while (machine.num_waiting > 0) {
        if (machine.waiting[machine.num_waiting - 1] == PARENTHESIS) {
            return refuse(&machine, "a parenthesis is not closed", text);
        }
        if (!reduce(&machine, text)) {
            return false;
        }
    }
    *result = machine.number[0];
    *is_finite = machine.is_finite;
    return true;
}

bool expression_evaluate(double *result, const char *text, expression_lookup *lookup,
                         const void *context, char problem[EXPRESSION_PROBLEM])
{
    bool is_finite = false;
    if (!run(result, &is_finite, text, lookup, context, problem)) {
        return false;
    }
    if (!is_finite) {
        snprintf(problem, EXPRESSION_PROBLEM, "'%.200s' gives no finite number", text);
        return false;
    }
    return true;
}

/* Names as the caller knows them, each worth 1. */
struct ones {
    expression_lookup *lookup;
    const void *context;
};

static bool look_up_one(const void *context, const char *name, int length, double *number)
{
    const struct ones *ones = context;
    bool is_known = ones->lookup(ones->context, name, length, number);
    *number = 1.0;
    return is_known;
}

bool expression_check(const char *text, expression_lookup *lookup, const void *context,
                      char problem[EXPRESSION_PROBLEM])
{
    const struct ones ones = {lookup, context};
    double result = 0.0;
    bool is_finite = false;
    return run(&result, &is_finite, text, look_up_one, &ones, problem);
}
