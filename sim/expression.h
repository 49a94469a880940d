/*
 * expression.h -- arithmetic over named numbers: "ceil(weights / (0.9 * hbm)) <= 8 and cost < 2".
 *
 * Operators, the weakest first: or, and, not, < <= > >= == !=, + -, * /, unary -, ^ (power, from
 * the right). Truth is 1, anything but 0 is true. Functions: abs, ceil, floor, min, max, sqrt,
 * log2.
 */
#ifndef MOESIM_EXPRESSION_H
#define MOESIM_EXPRESSION_H

#include <stdbool.h>

#define EXPRESSION_PROBLEM 256

/* The number of a name; false: there is none. name is not ended by NUL. */
typedef bool expression_lookup(const void *context, const char *name, int length, double *number);

/* Evaluates text. Returns false, and in words why, when it is no expression, a name is unknown or
 * a number on the way is not finite. */
bool expression_evaluate(double *result, const char *text, expression_lookup *lookup,
                         const void *context, char problem[EXPRESSION_PROBLEM]);

/* Checks text without numbers: every name is 1, and a result that is not finite is none's fault. */
bool expression_check(const char *text, expression_lookup *lookup, const void *context,
                      char problem[EXPRESSION_PROBLEM]);

#endif
