/* test_store_made.c -- a results file that nothing came into goes again. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fake_run.h"
#include "store_internal.h"

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

/* When a signal ends a process that opened the file under guard. */
enum moment { OPENED, BEGUN, SPILT, STORED };

/* With one step of detail there is a journal; many spill SQLite's cache into the file. */
static void write_until(enum moment moment, const char *name)
{
    enum { EXPERTS = 1024 };
    static int64_t tokens[EXPERTS];
    const int64_t num_steps = moment == OPENED ? 0 : moment == BEGUN ? 1 : 150;
    struct store *store = NULL;
    cr_assert(store_open_guarded(&store, name, &error) == STATUS_OK, "%s", error.text);
    cr_assert(store_begin(store, "0123456789abcdef", "", &run.scenario, NULL, &error) == STATUS_OK);
    for (int64_t step = 0; step < num_steps; step++) {
        cr_assert(store_detail(store, step, 3, tokens, EXPERTS, &error) == STATUS_OK);
    }
    if (moment == STORED) {
        cr_assert(store_finish(store, &run.metrics, &run.totals, &error) == STATUS_OK);
    }
}

/* Returns when nobody holds the other end of a pipe any more: the process, who clears away. */
static void end_by_signal(int number, enum moment moment, const char *name)
{
    char byte;
    int life[2];
    int state = 0;
    cr_assert(pipe(life) == 0);
    fflush(NULL);
    pid_t child = fork();
    cr_assert(child >= 0);
    if (child == 0) {
        close(life[0]);
        setpgid(0, 0);
        write_until(moment, name);
        kill(0, number); /* the group, as a key does */
        _exit(0);
    }
    close(life[1]);
    cr_assert(waitpid(child, &state, 0) == child);
    cr_assert(WIFSIGNALED(state) && WTERMSIG(state) == number);
    cr_assert(read(life[0], &byte, 1) == 0);
    close(life[0]);
}

static int64_t num_runs_in(const char *name)
{
    struct store *store = NULL;
    int64_t count = -1;
    if (access(name, F_OK) == 0 && store_open(&store, name, false, &error) == STATUS_OK) {
        int code;
        count = store_query_integer(store, "SELECT count(*) FROM run WHERE complete", &code);
        store_close(store);
    }
    return count;
}

Test(store_made, what_was_made_for_nothing_goes_when_a_signal_ends_it)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGKILL};
    char deep[96], made[96];
    snprintf(deep, sizeof deep, "%s/made/for/results.db", directory);
    snprintf(made, sizeof made, "%s/made", directory);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        for (int moment = OPENED; moment <= SPILT; moment++) {
            end_by_signal(numbers[i], (enum moment)moment, deep);
            cr_expect(access(made, F_OK) != 0, "signal %d, moment %d", numbers[i], moment);
        }
    }
}

Test(store_made, a_run_that_is_stored_stays_when_a_signal_ends_the_next)
{
    end_by_signal(SIGKILL, STORED, path);
    cr_expect_eq(num_runs_in(path), 1);

    end_by_signal(SIGKILL, OPENED, path);
    end_by_signal(SIGKILL, SPILT, path);

    cr_expect_eq(num_runs_in(path), 1);
}

/* Whoever makes a file tells nobody, and its guard must not take what another put there. */
Test(store_made, a_guard_leaves_what_another_wrote_into_its_file)
{
    struct store *first = NULL;
    char run_id[RUN_ID_BYTES];
    cr_assert(store_open_guarded(&first, path, &error) == STATUS_OK);
    cr_assert(fake_run_store(run_id, path, &run, "", &error) == STATUS_OK, "%s", error.text);

    store_close(first);

    cr_expect_eq(num_runs_in(path), 1);
}
