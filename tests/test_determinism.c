/*
 * test_determinism.c -- pinned digests: the same history on every machine, compiler and build.
 *
 * A digest that moves on purpose is pinned anew here and explained in CHANGELOG.md.
 */
#include <criterion/criterion.h>

#include "digest.h"
#include "random_run.h"

static uint64_t run_digest(uint64_t round)
{
    struct random_run run;
    struct engine *engine = NULL;
    struct error error = {0};
    random_run_make(&run, round);
    cr_assert_eq(engine_open(&engine, &run.scenario, &run.trace, &error), STATUS_OK, "%s",
                 error.text);
    cr_assert_eq(engine_run(engine, NULL, &error), STATUS_OK, "%s", error.text);
    uint64_t digest = engine_metrics(engine)->digest;
    engine_close(engine);
    random_run_free(&run);
    return digest;
}

Test(determinism, digest_words_mix_in_order)
{
    uint64_t ab = digest_u64(digest_u64(DIGEST_START, 1), 2);
    uint64_t ba = digest_u64(digest_u64(DIGEST_START, 2), 1);

    cr_expect_neq(ab, ba);
    cr_expect_neq(digest_text(digest_text(0, "ab"), "c"), digest_text(digest_text(0, "a"), "bc"));
}

/* 500 scenarios of random_run.c, folded into one word. They draw from all registries, so whoever
 * adds a plug-in pins the new digest with it. */
Test(determinism, five_hundred_scenarios_have_the_pinned_digest)
{
    uint64_t digest = DIGEST_START;
    for (uint64_t round = 0; round < 500; round++) {
        digest = digest_u64(digest, run_digest(round));
    }
    cr_expect_eq(digest, UINT64_C(0x54d3cbb7361b0144),
                 "digest is 0x%016llx: results have moved; a new strategy, router, collective or "
                 "network is drawn too, and is the one reason to pin another",
                 (unsigned long long)digest);
}
