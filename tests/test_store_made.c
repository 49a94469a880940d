/* test_store_made.c -- a results file that nothing came into goes again. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fake_run.h"
#include "store.h"

static char directory[] = "/tmp/moesim-made-XXXXXX";
static char path[64];
static struct arena arena;
static struct fake_run run;
static struct error error;

static void set_up(void)
{
    cr_assert(mkdtemp(directory) != NULL);
    snprintf(path, sizeof path, "%s/results.db", directory);
    fake_run_make(&run, &(struct fake_size){4, 16, 8, 3, 0.8}, &arena);
}

static void tear_down(void)
{
    unlink(path);
    cr_expect(rmdir(directory) == 0, "something was left");
    arena_free(&arena);
}

TestSuite(store_made, .init = set_up, .fini = tear_down);

/* The second is a file with a slash behind it, which SQLite takes for the file. */
Test(store_made, what_was_made_for_nothing_is_taken_back)
{
    static const char *const names[] = {"made/for/it/results.db", "made/results.db/"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char deep[96], made[96];
        struct store *store = NULL;
        snprintf(deep, sizeof deep, "%s/%s", directory, names[i]);
        snprintf(made, sizeof made, "%s/made", directory);
        cr_assert(store_open(&store, deep, true, &error) == STATUS_OK, "%s", error.text);
        cr_expect(access(made, F_OK) == 0);

        store_close(store);

        cr_expect(access(made, F_OK) != 0, "%s", names[i]);
    }
}

Test(store_made, a_file_that_another_wrote_into_meanwhile_stays)
{
    struct store *first = NULL;
    cr_assert(store_open(&first, path, true, &error) == STATUS_OK);
    char run_id[RUN_ID_BYTES];
    enum status status = fake_run_store(run_id, path, &run, "", &error);
    cr_assert(status == STATUS_OK, "%s", error.text);

    store_close(first);

    cr_assert(store_open(&first, path, false, &error) == STATUS_OK, "%s", error.text);
    store_close(first);
}

Test(store_made, says_that_its_file_was_removed_under_it)
{
    struct store *store = NULL;
    cr_assert(store_open(&store, path, true, &error) == STATUS_OK);
    cr_assert(store_begin(store, "0123456789abcdef", "", &run.scenario, NULL, &error) == STATUS_OK);
    cr_assert(unlink(path) == 0);

    enum status status = store_finish(store, &run.metrics, &run.totals, &error);

    cr_expect(status == STATUS_IO);
    cr_expect(strstr(error.text, "was removed or replaced while it was in use") != NULL, "%s",
              error.text);
    store_close(store);
}
