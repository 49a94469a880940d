/* test_store.c -- results survive crashes, and files that are no results are refused. */
#include "store.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fake_run.h"
#include "store_internal.h"

static char directory[] = "/tmp/moesim-store-XXXXXX";
static char path[64];
static struct arena arena;
static struct fake_run run;
static struct error error;
static char run_id[RUN_ID_BYTES];

static void set_up(void)
{
    cr_assert(mkdtemp(directory) != NULL);
    snprintf(path, sizeof path, "%s/results.db", directory);
    fake_run_make(&run, &(struct fake_size){4, 16, 8, 3, 0.8}, &arena);
}

static void tear_down(void)
{
    char journal[80];
    snprintf(journal, sizeof journal, "%s-journal", path);
    unlink(journal);
    unlink(path);
    rmdir(directory);
    arena_free(&arena);
}

TestSuite(store, .init = set_up, .fini = tear_down);

static void store_run(const char *label)
{
    cr_assert(fake_run_store(run_id, path, &run, label, &error) == STATUS_OK, "%s", error.text);
}

static bool keep_first(void *context, const struct store_row *row)
{
    snprintf(context, 256, "%s", row->value[0] == NULL ? "NULL" : row->value[0]);
    return false;
}

/* The first value of a query over the file as a reader sees it. */
static const char *ask(const char *sql)
{
    static char value[256];
    struct store *store = NULL;
    value[0] = '\0';
    cr_assert(store_open(&store, path, false, &error) == STATUS_OK, "%s", error.text);
    enum status status = store_query(store, sql, run_id, keep_first, value, &error);
    cr_assert(status == STATUS_OK, "%s", error.text);
    store_close(store);
    return value;
}

static void write_with_sqlite(const char *sql)
{
    sqlite3 *database = NULL;
    cr_assert(sqlite3_open(path, &database) == SQLITE_OK);
    cr_assert(sqlite3_exec(database, sql, NULL, NULL, NULL) == SQLITE_OK);
    sqlite3_close(database);
}

static void assert_refused(bool write, enum status expected, const char *words)
{
    struct store *store = NULL;
    error = (struct error){0};
    cr_assert(store_open(&store, path, write, &error) == expected, "%s", error.text);
    cr_assert(store == NULL);
    cr_assert(error.num_problems == 1);
    cr_assert(strstr(error.text, words) != NULL, "%s", error.text);
}

Test(store, keeps_what_the_run_measured)
{
    store_run("");

    cr_expect_str_eq(ask("SELECT count(*) FROM run WHERE complete AND run_id = ?1"), "1");
    cr_expect_str_eq(ask("SELECT count(*) FROM expert_load WHERE run_id = ?1"), "64"); /* 4 x 16 */
    cr_expect_str_eq(ask("SELECT count(*) FROM rank_load"), "32");                     /* 4 x 8 */
    cr_expect_str_eq(ask("SELECT count(*) FROM rank_window"), "24");                   /* 3 x 8 */
    cr_expect_str_eq(ask("SELECT count(*) FROM step_phase"), "30");                    /* 3 x 10 */
    cr_expect_str_eq(ask("SELECT count(*) FROM traffic"), "64");                       /* 8 x 8 */
    cr_expect_str_eq(ask("SELECT count(*) FROM drop_curve"), "18");                    /* 2 x 9 */
    cr_expect_str_eq(ask("SELECT min(layer) || ' ' || max(layer) FROM layer"), "3 6");
    char expected[32];
    int64_t tokens = run.metrics.expert_tokens[2 * 16 + 5];
    snprintf(expected, sizeof expected, "%lld", (long long)tokens);
    cr_expect_str_eq(ask("SELECT tokens FROM expert_load WHERE layer = 5 AND expert = 5"),
                     expected);
}

Test(store, keeps_64_bit_seeds_and_digests_as_text)
{
    store_run("");

    cr_expect_str_eq(ask("SELECT seed FROM run"), "18446744073709551615");
    cr_expect_str_eq(ask("SELECT digest FROM run"), "0123456789abcdef");
    cr_expect_str_eq(ask("SELECT trace_digest FROM run"), "fedcba9876543210");
}

Test(store, knows_no_error_where_none_was_measured)
{
    store_run("");

    cr_expect_str_eq(ask("SELECT error_median FROM run"), "NULL");
}

Test(store, keeps_a_dense_run_without_experts)
{
    struct fake_run dense;
    fake_run_make(&dense, &(struct fake_size){0, 0, 1, 1, 0}, &arena);

    cr_assert(fake_run_store(run_id, path, &dense, "", &error) == STATUS_OK, "%s", error.text);

    cr_expect_str_eq(ask("SELECT count(*) FROM expert_load"), "0");
    cr_expect_str_eq(ask("SELECT count(*) FROM drop_curve"), "0");
    cr_expect_str_eq(ask("SELECT trace_digest = '' FROM run"), "1");
}

Test(store, names_equal_inputs_alike_and_others_apart)
{
    char same[RUN_ID_BYTES], label[RUN_ID_BYTES], trace[RUN_ID_BYTES];
    struct trace other = run.trace;
    other.digest++;

    store_run_id(run_id, &run.scenario, &run.trace, "a");
    store_run_id(same, &run.scenario, &run.trace, "a");
    store_run_id(label, &run.scenario, &run.trace, "b");
    store_run_id(trace, &run.scenario, &other, "a");

    cr_expect_str_eq(run_id, same);
    cr_expect_str_neq(run_id, label);
    cr_expect_str_neq(run_id, trace);
    cr_expect(strlen(run_id) == 16);
}

Test(store, replaces_a_run_of_the_same_id)
{
    store_run("");
    run.metrics.events = 7;

    store_run("");

    cr_expect_str_eq(ask("SELECT count(*) FROM run"), "1");
    cr_expect_str_eq(ask("SELECT events FROM run"), "7");
    cr_expect_str_eq(ask("SELECT count(*) FROM expert_load"), "64");
}

Test(store, makes_equal_content_of_equal_runs_but_for_the_origin)
{
    char other[80];
    snprintf(other, sizeof other, "%s.other", path);
    store_run("");
    cr_assert(fake_run_store(run_id, other, &run, "", &error) == STATUS_OK, "%s", error.text);
    sqlite3 *database = NULL;
    cr_assert(sqlite3_open(path, &database) == SQLITE_OK);
    char *sql = sqlite3_mprintf("ATTACH %Q AS other", other);
    cr_assert(sqlite3_exec(database, sql, NULL, NULL, NULL) == SQLITE_OK);
    sqlite3_free(sql);

    for (int32_t table = 0; store_schema[table].name != NULL; table++) {
        sqlite3_stmt *statement = NULL;
        const char *name = store_schema[table].name;
        sql = sqlite3_mprintf("SELECT count(*) FROM (SELECT * FROM main.%s EXCEPT "
                              "SELECT * FROM other.%s)",
                              name, name);
        cr_assert(sqlite3_prepare_v2(database, sql, -1, &statement, NULL) == SQLITE_OK);
        cr_assert(sqlite3_step(statement) == SQLITE_ROW);
        if (strcmp(name, "run_origin") != 0) {
            cr_expect(sqlite3_column_int(statement, 0) == 0, "%s", name);
        }
        sqlite3_finalize(statement);
        sqlite3_free(sql);
    }
    sqlite3_close(database);
    unlink(other);
}

Test(store, keeps_every_step_layer_and_expert_of_a_detailed_run)
{
    const int64_t tokens[4] = {5, 0, 7, 1};
    struct store *store = NULL;
    store_run_id(run_id, &run.scenario, &run.trace, "");
    cr_assert(store_open(&store, path, true, &error) == STATUS_OK, "%s", error.text);
    cr_assert(store_begin(store, run_id, "", &run.scenario, &run.trace, &error) == STATUS_OK);

    cr_assert(store_detail(store, 0, 3, tokens, 4, &error) == STATUS_OK, "%s", error.text);
    cr_assert(store_detail(store, 1, 3, tokens, 4, &error) == STATUS_OK, "%s", error.text);
    cr_assert(store_finish(store, &run.metrics, &run.totals, &error) == STATUS_OK);
    store_close(store);

    cr_expect_str_eq(ask("SELECT count(*) || ' ' || sum(tokens) FROM expert_load_detail"), "8 26");
    cr_expect_str_eq(ask("SELECT tokens FROM expert_load_detail WHERE step = 1 AND expert = 2"),
                     "7");
}

Test(store, forgets_a_run_that_was_begun_and_closed)
{
    const int64_t tokens[1] = {5};
    struct store *store = NULL;
    store_run("earlier");
    cr_assert(store_open(&store, path, true, &error) == STATUS_OK);
    cr_assert(store_begin(store, run_id, "earlier", &run.scenario, NULL, &error) == STATUS_OK);
    cr_assert(store_detail(store, 0, 3, tokens, 1, &error) == STATUS_OK);

    store_close(store);

    cr_expect_str_eq(ask("SELECT count(*) FROM run"), "1");
    cr_expect_str_eq(ask("SELECT count(*) FROM expert_load_detail"), "0");
}

Test(store, lets_a_second_writer_in_while_a_run_without_detail_goes_on)
{
    struct store *first = NULL;
    char id[RUN_ID_BYTES];
    store_run_id(id, &run.scenario, &run.trace, "first");
    cr_assert(store_open(&first, path, true, &error) == STATUS_OK);
    cr_assert(store_begin(first, id, "first", &run.scenario, &run.trace, &error) == STATUS_OK);

    store_run("second");

    cr_assert(store_finish(first, &run.metrics, &run.totals, &error) == STATUS_OK);
    store_close(first);
    cr_expect_str_eq(ask("SELECT count(*) FROM run WHERE complete"), "2");
}

Test(store, cleans_up_incomplete_runs_when_it_is_opened_for_writing)
{
    struct store *store = NULL;
    store_run("good");
    write_with_sqlite("CREATE TEMP TABLE half AS SELECT * FROM run;"
                      "UPDATE half SET run_id = 'feedfeedfeedfeed', complete = 0;"
                      "INSERT INTO run SELECT * FROM half;"
                      "INSERT INTO layer VALUES('feedfeedfeedfeed', 1, 1, 1, 1, 1, 1, 1, 1)");

    cr_assert(store_open(&store, path, true, &error) == STATUS_OK, "%s", error.text);
    store_close(store);

    cr_expect_str_eq(ask("SELECT count(*) FROM run"), "1");
    cr_expect_str_eq(ask("SELECT count(*) FROM layer WHERE run_id LIKE 'feed%'"), "0");
}

static int count_down(void *instructions)
{
    if (--*(int *)instructions <= 0) {
        raise(SIGKILL);
    }
    return 0;
}

/* Stores a run of the same id, with enough detail to spill SQLite's cache into the file, and is
 * killed after that many virtual machine instructions of store_finish. */
static void write_and_be_killed(int instructions)
{
    enum { EXPERTS = 1024 };
    static int64_t tokens[EXPERTS];
    struct store *store = NULL;
    run.metrics.events = 99;
    if (store_open(&store, path, true, &error) != STATUS_OK ||
        store_begin(store, run_id, "", &run.scenario, &run.trace, &error) != STATUS_OK) {
        _exit(1);
    }
    for (int64_t step = 0; step < 150; step++) {
        if (store_detail(store, step, 3, tokens, EXPERTS, &error) != STATUS_OK) {
            _exit(1);
        }
    }
    sqlite3_progress_handler(store->database, 1, count_down, &instructions);
    _exit(store_finish(store, &run.metrics, &run.totals, &error) == STATUS_OK ? 0 : 1);
}

Test(store, survives_being_killed_while_it_writes)
{
    static const int moments[] = {1, 30, 500, 2000, 5000};
    store_run("");
    char first[32];
    snprintf(first, sizeof first, "%s", ask("SELECT events FROM run"));

    for (size_t i = 0; i < sizeof moments / sizeof moments[0]; i++) {
        pid_t child = fork();
        if (child == 0) {
            write_and_be_killed(moments[i]);
        }
        int state = 0;
        cr_assert(waitpid(child, &state, 0) == child);
        cr_assert(WIFSIGNALED(state) && WTERMSIG(state) == SIGKILL);

        cr_expect_str_eq(ask("SELECT events FROM run WHERE complete"), first);
        cr_expect_str_eq(ask("SELECT count(*) FROM expert_load_detail"), "0");
        cr_expect_str_eq(ask("PRAGMA integrity_check"), "ok");
    }
    store_run("");
    cr_expect_str_eq(ask("SELECT count(*) FROM run"), "1");
}

Test(store, says_that_the_disk_is_full_and_keeps_the_earlier_run)
{
    struct store *store = NULL;
    store_run("");
    cr_assert(store_open(&store, path, true, &error) == STATUS_OK);
    cr_assert(store_begin(store, "0123456789abcdef", "", &run.scenario, NULL, &error) == STATUS_OK);
    cr_assert(store_execute(store, "PRAGMA max_page_count = 1", &error) == STATUS_OK);
    error = (struct error){0};

    enum status status = store_finish(store, &run.metrics, &run.totals, &error);

    cr_expect(status == STATUS_IO);
    cr_expect(strstr(error.text, "the disk is full") != NULL, "%s", error.text);
    store_close(store);
    cr_expect_str_eq(ask("SELECT count(*) FROM run"), "1");
}

Test(store, refuses_a_file_that_is_no_database)
{
    FILE *file = fopen(path, "w");
    fputs("version: 1\nquestion: what if this is a scenario, and not a database at all?\n", file);
    fclose(file);

    assert_refused(false, STATUS_INVALID, "is not a results file");
    assert_refused(true, STATUS_INVALID, "is not a results file");

    cr_assert(truncate(path, 0) == 0);
    assert_refused(false, STATUS_INVALID, "is empty");
}

Test(store, refuses_somebody_elses_database)
{
    write_with_sqlite("CREATE TABLE recipes(name TEXT)");

    assert_refused(false, STATUS_INVALID, "not one of moesim's results");
    assert_refused(true, STATUS_INVALID, "not one of moesim's results");
}

Test(store, refuses_a_newer_schema)
{
    store_run("");
    write_with_sqlite("PRAGMA user_version = 5");

    assert_refused(false, STATUS_INVALID, "a newer moesim (schema 5, this one knows 4)");
}

Test(store, refuses_tables_that_are_not_its_own)
{
    store_run("");
    write_with_sqlite("DROP TABLE layer; CREATE VIEW layer AS SELECT * FROM run");

    assert_refused(false, STATUS_INVALID, "its tables are not those of moesim");
}

Test(store, refuses_a_directory_and_a_file_in_none)
{
    snprintf(path, sizeof path, "%s", directory);
    assert_refused(true, STATUS_IO, "cannot be opened");

    snprintf(path, sizeof path, "%s/missing/results.db", directory);
    assert_refused(false, STATUS_IO, "cannot be opened");
    snprintf(path, sizeof path, "/dev/null/results.db");
    assert_refused(true, STATUS_IO, "/dev/null");
}

Test(store, refuses_a_damaged_file_with_words)
{
    store_run("");
    int file = open(path, O_WRONLY);
    char junk[8192];
    memset(junk, 0xa5, sizeof junk);
    cr_assert(pwrite(file, junk, sizeof junk, 1000) == (ssize_t)sizeof junk);
    close(file);

    assert_refused(false, STATUS_INVALID, "damaged");
}

Test(store, answers_queries_of_figures_and_refuses_to_write_by_them)
{
    struct store *store = NULL;
    char value[256] = "";
    store_run("");
    cr_assert(store_open(&store, path, true, &error) == STATUS_OK);

    enum status status = store_query(store, "DELETE FROM run", run_id, keep_first, value, &error);
    cr_expect(status == STATUS_INVALID);
    status = store_query(store, "SELECT oddity FROM run", run_id, keep_first, value, &error);
    cr_expect(status == STATUS_IO);
    cr_expect(strstr(error.text, "no such column") != NULL, "%s", error.text);
    status = store_query(store, "-- nothing", run_id, keep_first, value, &error);
    cr_expect(status == STATUS_INVALID);
    store_close(store);
}
