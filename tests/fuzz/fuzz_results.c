/*
 * fuzz_results.c -- a damaged results file: refused with words, or read by every figure.
 *
 * Bytes chosen at random are no database, so the input is a list of injuries to a good file: two
 * bytes say how much of its end is missing, and each four bytes after them write one byte at an
 * offset of three.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../fake_run.h"
#include "arena.h"
#include "figure.h"
#include "html.h"
#include "input.h"

#define TEMPLATE_BYTES_MAX (1 << 20)

static uint8_t template[TEMPLATE_BYTES_MAX];
static size_t template_bytes;
static char run_id[RUN_ID_BYTES];
static struct figure_list figures;
static FILE *nowhere;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static struct arena arena; /* the figures' texts live as long as the process */
    static struct error error;
    static struct fake_run run;
    const char *path = input_path("template.db");
    (void)argc;
    (void)argv;
    fake_run_make(&run, &(struct fake_size){2, 8, 4, 2, 0.8}, &arena);
    FILE *file = NULL;
    if (fake_run_store(run_id, path, &run, "", &error) != STATUS_OK ||
        figures_load(&figures, SOURCE_DIRECTORY "/reports", &arena, &error) != STATUS_OK ||
        (file = fopen(path, "rb")) == NULL || (nowhere = fopen("/dev/null", "w")) == NULL) {
        fprintf(stderr, "%s", error.text);
        abort();
    }
    template_bytes = fread(template, 1, sizeof template, file);
    fclose(file);
    return 0;
}

static void read_all(struct store *store, struct error *error)
{
    struct arena arena = {NULL, NULL};
    for (int32_t i = 0; i < figures.count; i++) {
        struct figure *figure = &figures.figure[i];
        figure->finding = NULL;
        enum status status = figure_query(figure, store, run_id, &arena, error);
        if ((status == STATUS_OK) != (error->num_problems == 0)) {
            __builtin_trap();
        }
        if (status == STATUS_OK && figure->rows.num_rows > 0) {
            html_table(nowhere, &figure->rows, 50, figure->title, &figures.shown);
            rows_write_tabs(&figure->rows, nowhere);
        }
        if (status == STATUS_OK && figure->row_column != NULL && figure->rows.num_rows > 0) {
            html_cells(nowhere, &figure->rows, figure->row_column, figure->column_column);
        }
        error->num_problems = 0;
        error->text_bytes = 0;
    }
    arena_free(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static uint8_t copy[TEMPLATE_BYTES_MAX];
    static struct error error;
    size_t missing = bytes < 2 ? 0 : (data[0] + 256u * data[1]) * 16 % template_bytes;
    size_t left = template_bytes - missing;
    memcpy(copy, template, left);
    for (size_t i = 2; i + 4 <= bytes; i += 4) {
        size_t offset = (data[i] + 256u * data[i + 1] + 65536u * data[i + 2]) % left;
        copy[offset] = data[i + 3];
    }
    const char *path = input_write("results.db", copy, left);
    for (int write = 0; write < 2; write++) {
        struct store *store = NULL;
        error.num_problems = 0;
        error.text_bytes = 0;
        enum status status = store_open(&store, path, write != 0, &error);
        if ((status == STATUS_OK) != (error.num_problems == 0) ||
            (status == STATUS_OK) != (store != NULL)) {
            __builtin_trap();
        }
        if (status == STATUS_OK && write == 0) {
            read_all(store, &error);
        }
        store_close(store);
    }
    return 0;
}
