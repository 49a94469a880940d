/* test_claims.c -- claims: verdicts follow from cases, and mistakes are told with their place. */
#include "claims.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char directory[] = "/tmp/moesim-claims-XXXXXX";
static char path[64];
static struct error error;
static struct claims claims;

static void set_up(void)
{
    cr_assert(mkdtemp(directory) != NULL);
    snprintf(path, sizeof path, "%s/claim.yaml", directory);
}

static void tear_down(void)
{
    char command[128];
    claims_free(&claims);
    snprintf(command, sizeof command, "rm -rf %s", directory);
    cr_assert(system(command) == 0);
}

TestSuite(claims, .init = set_up, .fini = tear_down);

static enum status load(const char *text)
{
    const char *name = path;
    FILE *file = fopen(path, "w");
    fputs(text, file);
    fclose(file);
    error = (struct error){0};
    return claims_load(&claims, &name, 1, &error);
}

static const struct claim *judge(const char *text)
{
    cr_assert(load(text) == STATUS_OK, "%s", error.text);
    cr_assert(claims_judge(&claims, NULL, &error) == STATUS_OK, "%s", error.text);
    return &claims.claim[0];
}

#define HEAD "version: 1\nclaim: c\nsource: s\nnumber_name: n\nunit: x\n" /* five lines */

Test(claims, a_verdict_follows_from_the_cases)
{
    static const struct {
        const char *second; /* the second case's b */
        const char *holds;
        enum claim_verdict verdict;
    } cases[] = {
        {"3", "a + b < 10", CLAIM_HOLDS},     {"30", "a + b < 10", CLAIM_HOLDS_IF},
        {"30", "a + b > 10", CLAIM_HOLDS_IF}, {"3", "a + b > 10", CLAIM_DOES_NOT_HOLD},
        {"0", "a / b > 0", CLAIM_UNKNOWN}, /* no finite number */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[512];
        snprintf(text, sizeof text,
                 HEAD "number: sum\nholds: %s\nvalues:\n  a: 1\n"
                      "  b: {given: 2, source: t}\n  sum: a + b\n"
                      "cases:\n  - {name: other, values: {b: {given: %s, source: t}}}\n",
                 cases[i].holds, cases[i].second);

        const struct claim *claim = judge(text);

        cr_expect(claim->verdict == cases[i].verdict, "case %zu: %s", i,
                  claim_verdict_name(claim->verdict));
        cr_expect(claim->item[0].number == 3.0);
        claims_free(&claims);
    }
}

Test(claims, a_condition_names_the_cases_in_which_it_holds)
{
    char words[CLAIM_TEXT];
    const struct claim *claim =
        judge(HEAD "number: a\nholds: a > 1\nbase: small\nvalues: {a: {given: 1, source: t}}\n"
                   "cases:\n  - {name: larger, values: {a: {given: 2, source: t}}}\n"
                   "  - {name: largest, values: {a: {given: 3, source: t}}}\n");

    claim_verdict_text(claim, words);

    cr_expect_str_eq(words, "holds if larger; or largest");
}

Test(claims, a_case_may_give_another_kind_of_value_and_new_names)
{
    const struct claim *claim =
        judge(HEAD "number: a\nholds: a > 0\nvalues: {a: {model: mixtral-8x7b, figure: top_k}}\n"
                   "cases:\n  - {name: c, values: {a: b + 1, b: {given: 41, source: t}}}\n");

    cr_expect(claim->item[0].number == 2.0); /* Mixtral picks two experts */
    cr_expect(claim->item[1].number == 42.0);
}

Test(claims, figures_of_presets_are_those_of_the_rest_of_moesim)
{
    /* DeepSeek-V3: 671 GB in fp8 and less than 1 % more for embeddings and router in bf16; 70,272
     * bytes of KV cache a token = 61 layers x 576 x 2 bytes; an H800's lease is $2 in its file. */
    const struct claim *claim =
        judge(HEAD "number: weights\nholds: weights > 671e9 and weights < 678e9 and kv == 70272 "
                   "and lease == 2 and experts == 256\n"
                   "values:\n"
                   "  weights: {model: deepseek-v3, figure: weight_bytes, precision: fp8}\n"
                   "  kv: {model: deepseek-v3, figure: kv_bytes_per_token}\n"
                   "  experts: {model: deepseek-v3, figure: num_experts}\n"
                   "  lease: {price: h800-lease}\n");

    cr_expect(claim->verdict == CLAIM_HOLDS, "%g", claim->item[0].number);
}

Test(claims, every_mistake_is_told_with_its_line)
{
    static const struct {
        const char *text;
        const char *told; /* behind the path */
    } cases[] = {
        {"version: 1\n", ":1: claim: is missing"},
        {HEAD "number: a\nholds: 1\nvalues: {a: b}\n", ":8: a: an unknown name at 'b'"},
        {HEAD "number: a +\nholds: 1\nvalues: {a: 1}\n", ":6: number: expected a value"},
        {HEAD "number: a\nholds: zz\nvalues: {a: 1}\n", ":7: holds: an unknown name at 'zz'"},
        {HEAD "number: a\nholds: 1\nvalues: {a: {}}\n", ":8: a: expected an expression, or one of"},
        {HEAD "number: a\nholds: 1\nvalues: {a: {given: 1, price: x, source: t}}\n",
         ":8: a: expected an expression, or one of"},
        {HEAD "number: a\nholds: 1\nvalues: {a: {given: 1}}\n",
         ":8: a: a given number needs its source"},
        {HEAD "number: a\nholds: 1\nvalues: {a: {given: many, source: t}}\n",
         ":8: a: given: expected a number"},
        {HEAD "number: a\nholds: 1\nvalues: {a: {model: dbrx}}\n", ":8: a: say which figure of it"},
        {HEAD "number: a\nholds: 1\nvalues: {a: {model: dbrx, figure: top_l}}\n",
         ":8: a: 'top_l' is no figure of it; did you mean 'top_k'?"},
        {HEAD "number: a\nholds: 1\nvalues: {a: {gpu: h20, figures: x}}\n",
         ":8: a.figures: unknown key; did you mean 'figure'?"},
        {HEAD "number: a\nholds: 1\nvalues: {a: {run: r, figure: num_gpus}}\n",
         ":8: r: there is no such run under runs"},
        {HEAD
         "number: a\nholds: 1\nvalues: {a: {run: r, figure: num_gpus}}\nruns: {r: {set: {}}}\n",
         ":9: r: a run needs scenario: FILE"},
        {HEAD "number: a\nholds: 1\nvalues: {a: {run: r, figure: num_gpus}}\n"
              "runs: {r: {scenario: no.yaml}}\n",
         ":9: scenario: there is no such file"},
        {HEAD "number: a\nholds: 1\nvalues: {a: 1}\ncases: {name: x}\n",
         ":9: cases: expected a list of cases"},
        {HEAD "number: a\nholds: 1\nvalues: {a: 1}\ncases:\n  - {value: x}\n",
         ":10: cases: expected a list of cases, each with a name"},
        {HEAD "number: a\nholds: 1\nvalues: {a: 1}\ncases:\n  - {name: x, vaules: 1}\n",
         ":10: vaules: unknown key of a case"},
        {HEAD "number: a\nholds: 1\nvalues: {a-b: 1}\n", ":8: a-b: a name has letters"},
        {"version: 1\nclaim: c\nsource: s\nnumber_name: n\nunit: parsec\nnumber: 1\nholds: 1\n"
         "values: {a: 1}\n",
         ":5: unit: unknown; known are none and %"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char told[256];
        snprintf(told, sizeof told, "%s%s", path, cases[i].told);

        cr_expect(load(cases[i].text) == STATUS_INVALID, "case %zu was accepted", i);
        cr_expect(strstr(error.text, told) != NULL, "case %zu: expected '%s', got '%s'", i, told,
                  error.text);
        claims_free(&claims);
    }
}

Test(claims, equal_runs_of_claims_and_cases_are_one)
{
    cr_assert(load(HEAD
                   "number: a\nholds: 1\n"
                   "runs: {r: {scenario: scenarios/claims/runs/mixtral_8xh100.yaml}}\n"
                   "values: {a: {run: r, figure: num_gpus}, b: {run: r, figure: step_ns_mean}}\n"
                   "cases:\n  - {name: same}\n  - {name: other, set: {seed: 2}}\n") == STATUS_OK,
              "%s", error.text);

    cr_expect(claims.num_runs == 2);
    cr_expect_str_eq(claims.run[1].label, "mixtral_8xh100 seed=2");
}

Test(claims, a_number_is_shown_in_its_unit)
{
    static const struct {
        const char *unit;
        double number;
        const char *text;
    } cases[] = {
        {"%", 0.055, "5.5 %"},  {"x", 27.27, "27.27x"},   {"GB", 671e9, "671 GB"},
        {"$", 60000, "$60000"}, {"$", 0.0003, "$0.0003"}, {"ms", 2.5e6, "2.5 ms"},
        {"", 8, "8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[CLAIM_NUMBER];
        const struct claim claim = {.unit = cases[i].unit};

        claim_number_text(&claim, cases[i].number, text);

        cr_expect_str_eq(text, cases[i].text);
    }
}

Test(claims, every_claim_that_is_shipped_can_be_read)
{
    cr_assert(claims_load(&claims, NULL, 0, &error) == STATUS_OK, "%s", error.text);

    cr_expect(claims.count >= 29);
}
