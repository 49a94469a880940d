/* test_report_interrupted.c -- a report is there whole, or nothing of it. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "draft.h"
#include "report.h"
#include "report_place.h"
#include "textfile.h"

static struct report_place place;

static void set_up(void)
{
    report_place_make(&place);
    report_place_store(&place, &place.run, "");
}

static void tear_down(void)
{
    report_place_remove(&place);
}

TestSuite(report_interrupted, .init = set_up, .fini = tear_down, .timeout = 120);

/* Puts a script into the way of gnuplot. */
static void replace_gnuplot(const char *script)
{
    char name[2 * PATH_LENGTH], found[3 * PATH_LENGTH];
    snprintf(name, sizeof name, "%s/gnuplot", place.directory);
    FILE *file = fopen(name, "w");
    cr_assert(file != NULL);
    fprintf(file, "#!/bin/sh\n%s\n", script);
    fclose(file);
    cr_assert(chmod(name, 0755) == 0);
    snprintf(found, sizeof found, "%s:/usr/bin:/bin", place.directory);
    setenv("PATH", found, 1);
}

/* Ends the reporting process by a signal, from gnuplot, which then goes on writing. Returns when
 * nobody holds the other end of a pipe any more: the process, its gnuplots, who clears away. */
static void report_until_signal(int number)
{
    char script[128], byte;
    int life[2];
    snprintf(script, sizeof script, "kill -%d $PPID; echo late > late.svg", number);
    replace_gnuplot(script);
    cr_assert(pipe(life) == 0);
    fflush(NULL);
    pid_t child = fork();
    cr_assert(child >= 0);
    if (child == 0) {
        close(life[0]);
        struct report_options options = {.results = place.results, .out = place.out};
        (void)!report_write(&options, &place.error);
        _exit(0);
    }
    close(life[1]);
    int state = 0;
    cr_assert(waitpid(child, &state, 0) == child);
    cr_assert(WIFSIGNALED(state) && WTERMSIG(state) == number);
    cr_assert(read(life[0], &byte, 1) == 0);
    close(life[0]);
}

Test(report_interrupted, leaves_nothing_when_it_is_interrupted)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGKILL};
    snprintf(place.out, sizeof place.out, "%s/made/for/it", place.directory);
    char made[PATH_LENGTH];
    snprintf(made, sizeof made, "%s/made", place.directory);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        report_until_signal(numbers[i]);
        cr_expect(access(made, F_OK) != 0, "signal %d", numbers[i]);
    }
}

Test(report_interrupted, keeps_the_earlier_page_whole_when_it_is_interrupted)
{
    struct report_options options = {.results = place.results, .out = place.out};
    cr_assert(report_write(&options, &place.error) == STATUS_OK, "%s", place.error.text);
    char figure[2 * PATH_LENGTH], draft[2 * PATH_LENGTH];
    snprintf(figure, sizeof figure, "%s/figures/cost.svg", place.out);
    snprintf(draft, sizeof draft, "%s/report.partial", place.out);

    report_until_signal(SIGKILL);

    const char *svg = NULL;
    cr_assert(text_read(&svg, figure, &place.arena, &place.error) == STATUS_OK, "%s",
              place.error.text);
    cr_expect(strstr(svg, "</svg>") != NULL);
    cr_expect(access(draft, F_OK) != 0);
}

/* What a machine that went down has left. */
Test(report_interrupted, clears_away_what_a_crash_left)
{
    char draft[2 * PATH_LENGTH], left[3 * PATH_LENGTH];
    snprintf(draft, sizeof draft, "%s/report.partial", place.out);
    snprintf(left, sizeof left, "%s/cost.svg", draft);
    cr_assert(mkdir(place.out, 0777) == 0 && mkdir(draft, 0777) == 0);
    fclose(fopen(left, "w"));

    struct report_options options = {.results = place.results, .out = place.out};
    cr_assert(report_write(&options, &place.error) == STATUS_OK, "%s", place.error.text);

    cr_expect(access(draft, F_OK) != 0);
}

Test(report_interrupted, does_not_write_where_another_report_is_under_way)
{
    struct draft draft;
    cr_assert(draft_open(&draft, place.out, &place.error) == STATUS_OK, "%s", place.error.text);
    struct report_options options = {.results = place.results, .out = place.out};

    cr_expect(report_write(&options, &place.error) == STATUS_IO);

    cr_expect(strstr(place.error.text, "another report is written there") != NULL, "%s",
              place.error.text);
    draft_close(&draft);
    cr_expect(access(place.out, F_OK) != 0);
}
