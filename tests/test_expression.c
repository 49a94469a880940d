/* test_expression.c -- arithmetic over names: precedence, functions, and what is no expression. */
#include "expression.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static bool look_up(const void *context, const char *name, int length, double *number)
{
    (void)context;
    *number = strncmp(name, "three", (size_t)length) == 0 ? 3.0 : 0.0;
    return (length == 5 && *number == 3.0) || (length == 4 && strncmp(name, "zero", 4) == 0);
}

static double value(const char *text)
{
    char problem[EXPRESSION_PROBLEM] = "";
    double result = nan("");
    cr_expect(expression_evaluate(&result, text, look_up, NULL, problem), "%s: %s", text, problem);
    return result;
}

Test(expression, operators_bind_as_in_arithmetic)
{
    static const struct {
        const char *text;
        double result;
    } cases[] = {
        {"1 + 2 * 3", 7},     {"(1 + 2) * 3", 9},
        {"2 - 3 - 4", -5},    {"8 / 4 / 2", 1},
        {"2 ^ 3 ^ 2", 512},   {"-2 ^ 2", -4},
        {"2 * -3", -6},       {"--2", 2},
        {"three + 0.5", 3.5}, {"1e3 / 2", 500},
        {".5 * 4", 2},        {"1 < 2", 1},
        {"1 + 1 >= 3", 0},    {"1 == 1 and 2 != 2", 0},
        {"0 or 1 and 0", 0},  {"not 0 and 1", 1},
        {"not (1 < 2)", 0},   {"1 <= 1 or zero / 1", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double result = value(cases[i].text);
        cr_expect(result == cases[i].result, "%s is %g, not %g", cases[i].text, cases[i].result,
                  result);
    }
}

Test(expression, functions_take_their_values_in_order)
{
    cr_expect(value("min(2, 1 + 3)") == 2.0);
    cr_expect(value("max(min(5, 6), three)") == 5.0);
    cr_expect(value("ceil(7 / 8) * 8") == 8.0);
    cr_expect(value("floor(-1.5)") == -2.0);
    cr_expect(value("abs(2 - 5) ^ 2") == 9.0);
    cr_expect(value("sqrt(16) + log2(8)") == 7.0);
    cr_expect(value("-min(1, 2)") == -1.0);
}

Test(expression, what_is_no_expression_is_refused_with_its_place)
{
    static const struct {
        const char *text;
        const char *problem;
    } cases[] = {
        {"", "expected a value at 'the end'"},
        {"1 +", "expected a value at 'the end'"},
        {"1 2", "expected an operator at '2'"},
        {"(1", "a parenthesis is not closed"},
        {"1)", "no parenthesis is open at ')'"},
        {"()", "expected a value at ')'"},
        {"four * 2", "an unknown name at 'four * 2'"},
        {"three three", "expected an operator at 'three'"},
        {"min(1)", "a value is missing at ')'"},
        {"min(1, 2, 3)", "a comma too many at ', 3)'"},
        {"abs(1, 2)", "a comma too many"},
        {"(1, 2)", "a comma too many"},
        {"1, 2", "no parenthesis is open at ', 2'"},
        {"sqrt 4", "expected a parenthesis behind the function"},
        {"1 ? 2", "not understood at '? 2'"},
        {"1 = 1", "not understood at '= 1'"},
        {"* 2", "expected a value at '* 2'"},
        {"1 / zero", "gives no finite number"},
        {"1 / zero > 0", "gives no finite number"},
        {"log2(zero - 1)", "gives no finite number"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char problem[EXPRESSION_PROBLEM] = "";
        double result = 0.0;
        cr_expect(!expression_evaluate(&result, cases[i].text, look_up, NULL, problem),
                  "'%s' was accepted", cases[i].text);
        cr_expect(strstr(problem, cases[i].problem) != NULL, "'%s': expected '%s', got '%s'",
                  cases[i].text, cases[i].problem, problem);
    }
}

Test(expression, depth_is_bounded)
{
    char text[1024];
    char problem[EXPRESSION_PROBLEM] = "";
    double result = 0.0;
    memset(text, '(', 500);
    memcpy(text + 500, "1", 2);

    cr_expect(!expression_evaluate(&result, text, look_up, NULL, problem));
    cr_expect(strstr(problem, "too deep") != NULL, "%s", problem);
}

Test(expression, a_check_needs_no_numbers)
{
    char problem[EXPRESSION_PROBLEM] = "";

    cr_expect(expression_check("1 / (three - 1)", look_up, NULL, problem), "%s", problem);
    cr_expect(!expression_check("three / five", look_up, NULL, problem));
}
