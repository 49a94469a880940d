/*
 * fake_results.c -- writes a results file of invented runs, for looking at reports.
 *
 * Usage: fake_results RESULTS.db [one | compare | dense | small]
 */
#include <stdio.h>
#include <string.h>

#include "fake_run.h"

static enum status store_one(const char *path, struct fake_size size, const char *label,
                             struct error *error)
{
    struct arena arena = {NULL, NULL};
    struct fake_run run;
    char run_id[RUN_ID_BYTES];
    fake_run_make(&run, &size, &arena);
    enum status status = fake_run_store(run_id, path, &run, label, error);
    if (status == STATUS_OK) {
        printf("%s %s\n", run_id, label);
    }
    arena_free(&arena);
    return status;
}

int main(int argc, char **argv)
{
    static struct error error;
    const char *kind = argc == 3 ? argv[2] : "one";
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: fake_results RESULTS.db [one | compare | dense | small]\n");
        return 1;
    }
    enum status status;
    if (strcmp(kind, "compare") == 0) {
        status = store_one(argv[1], (struct fake_size){58, 256, 32, 64, 0.9}, "static", &error);
        status = status == STATUS_OK ? store_one(argv[1], (struct fake_size){58, 256, 32, 64, 0.5},
                                                 "greedy_replicate", &error)
                                     : status;
        status = status == STATUS_OK
                     ? store_one(argv[1], (struct fake_size){58, 256, 32, 64, 0.3}, "eplb", &error)
                     : status;
    } else if (strcmp(kind, "dense") == 0) {
        status = store_one(argv[1], (struct fake_size){0, 0, 1, 1, 0}, "", &error);
    } else if (strcmp(kind, "small") == 0) {
        status = store_one(argv[1], (struct fake_size){1, 4, 2, 1, 0.4}, "", &error);
    } else {
        status = store_one(argv[1], (struct fake_size){58, 256, 32, 64, 0.8}, "", &error);
    }
    if (status != STATUS_OK) {
        fprintf(stderr, "%s", error.text);
        return 1;
    }
    return 0;
}
