/* report_place.c -- a directory with a results file, into which reports of made runs go. */
#include "report_place.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "report.h"
#include "textfile.h"

void report_place_make(struct report_place *place)
{
    *place = (struct report_place){.directory = "/tmp/moesim-report-XXXXXX"};
    cr_assert(mkdtemp(place->directory) != NULL);
    snprintf(place->results, PATH_LENGTH, "%s/results.db", place->directory);
    snprintf(place->out, PATH_LENGTH, "%s/out", place->directory);
    fake_run_make(&place->run, &(struct fake_size){6, 32, 8, 5, 0.8}, &place->arena);
}

void report_place_remove(struct report_place *place)
{
    char command[2 * PATH_LENGTH];
    snprintf(command, sizeof command, "rm -rf %s", place->directory);
    cr_expect(system(command) == 0);
    arena_free(&place->arena);
}

void report_place_store(struct report_place *place, const struct fake_run *run, const char *label)
{
    enum status status = fake_run_store(place->run_id, place->results, run, label, &place->error);
    cr_assert(status == STATUS_OK, "%s", place->error.text);
}

const char *report_place_text(struct report_place *place, const char *name)
{
    char path[2 * PATH_LENGTH];
    const char *text = NULL;
    snprintf(path, sizeof path, "%s/%s", place->out, name);
    cr_assert(text_read(&text, path, &place->arena, &place->error) == STATUS_OK, "%s",
              place->error.text);
    return text;
}

const char *report_place_page(struct report_place *place)
{
    struct report_options options = {.results = place->results, .out = place->out};
    cr_assert(report_write(&options, &place->error) == STATUS_OK, "%s", place->error.text);
    return report_place_text(place, "index.html");
}
