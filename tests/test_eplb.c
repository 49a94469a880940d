/* test_eplb.c -- EPLB for one layer: its README, ties, shapes, and every golden placement. */
#include <criterion/criterion.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "balance/eplb.h"
#include "csv.h"

static struct arena arena;

static void stop(void)
{
    arena_free(&arena);
}

TestSuite(eplb, .fini = stop);

/* The example of deepseek-ai/EPLB's README @ d52c72d: two layers of 12 experts on 16 slots, four
 * groups, two nodes, eight GPUs. The expected map is the one the README prints. */
Test(eplb, gives_the_placement_its_readme_prints)
{
    const int64_t load[2][12] = {{90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86},
                                 {20, 107, 104, 64, 19, 197, 187, 157, 172, 86, 16, 27}};
    const int32_t expected[2][16] = {{5, 6, 5, 7, 8, 4, 3, 4, 10, 9, 10, 2, 0, 1, 11, 1},
                                     {7, 10, 6, 8, 6, 11, 8, 9, 2, 4, 5, 1, 5, 0, 3, 1}};
    struct eplb_shape shape = {12, 16, 4, 2, 8};
    for (int32_t layer = 0; layer < 2; layer++) {
        int32_t map[16];

        cr_assert_eq(eplb_layer(map, load[layer], &shape, &arena), STATUS_OK);

        cr_expect_arr_eq(map, expected[layer], sizeof map, "layer %d", layer);
    }
}

/* Without load every expert ties at 0 and the first always wins the spare slot; then each slot in
 * order goes to the pack with the lowest index that is not full. */
Test(eplb, gives_ties_to_the_first)
{
    struct eplb_shape shape = {4, 6, 1, 1, 3};
    const int64_t load[4] = {0};
    const int32_t expected[6] = {0, 1, 2, 3, 0, 0};
    int32_t map[6];

    cr_assert_eq(eplb_layer(map, load, &shape, &arena), STATUS_OK);

    cr_expect_arr_eq(map, expected, sizeof map);
}

/* Three groups do not spread over two nodes: then groups and nodes count for nothing. */
Test(eplb, is_global_when_groups_do_not_fit_nodes)
{
    const int64_t load[12] = {90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86};
    struct eplb_shape three_groups = {12, 16, 3, 2, 8};
    struct eplb_shape global = {12, 16, 1, 1, 8};
    int32_t map[16];
    int32_t expected[16];

    cr_assert_eq(eplb_layer(map, load, &three_groups, &arena), STATUS_OK);
    cr_assert_eq(eplb_layer(expected, load, &global, &arena), STATUS_OK);

    cr_expect_arr_eq(map, expected, sizeof map);
}

Test(eplb, refuses_shapes_with_every_reason)
{
    struct error problems = {0};

    cr_expect_eq(eplb_check(&(struct eplb_shape){12, 16, 4, 2, 8}, NULL), STATUS_OK);
    cr_expect_eq(eplb_check(&(struct eplb_shape){13, 17, 4, 2, 7}, &problems), STATUS_INVALID);

    cr_expect_eq(problems.num_problems, 3, "%s", problems.text);
}

/* Goldens: what the PyTorch original with a stable sort gives, one row a layer. */

static int64_t count_golden_differences(const char *golden_path, const char *load_path,
                                        struct eplb_shape shape)
{
    struct csv golden = csv_read(golden_path);
    struct csv load = csv_read(load_path);
    cr_assert(golden.value != NULL && load.value != NULL, "%s or %s", golden_path, load_path);
    cr_assert_eq(golden.num_rows, load.num_rows);
    shape.num_experts = (int32_t)load.num_columns;
    shape.num_slots = (int32_t)golden.num_columns;
    int32_t *map = calloc((size_t)golden.num_columns, sizeof *map);
    cr_assert_not_null(map);
    int64_t differences = 0;
    for (int64_t layer = 0; layer < golden.num_rows; layer++) {
        cr_assert_eq(eplb_layer(map, load.value + layer * load.num_columns, &shape, &arena),
                     STATUS_OK);
        for (int64_t slot = 0; slot < golden.num_columns; slot++) {
            differences += map[slot] != golden.value[layer * golden.num_columns + slot];
        }
    }
    free(map);
    free(golden.value);
    free(load.value);
    return differences;
}

/* INPUT_SLOTS_nNODESgGPUS_MODE.eplbstable.phy2log.csv; hier has 8 groups, glob 1. */
Test(eplb, equals_every_golden_placement)
{
    glob_t files = {0};
    if (glob(SHARED_DATA "/placement/*_n*g*_*.eplbstable.phy2log.csv", 0, NULL, &files) != 0) {
        cr_skip_test("no data: %s/placement", SHARED_DATA);
    }
    for (size_t i = 0; i < files.gl_pathc; i++) {
        char load_path[1024];
        char mode[8];
        int slots;
        struct eplb_shape shape = {0};
        snprintf(load_path, sizeof load_path, "%s", files.gl_pathv[i]);
        char *tail = strrchr(load_path, '_'); /* _MODE, then _nNODESgGPUS, then _SLOTS */
        for (int32_t part = 0; part < 2; part++) {
            *tail = ' ';
            tail = strrchr(load_path, '_');
        }
        cr_assert_eq(
            sscanf(tail, "_%d n%dg%d %4[a-z]", &slots, &shape.num_nodes, &shape.num_ranks, mode), 4,
            "%s", files.gl_pathv[i]);
        snprintf(tail, sizeof load_path - (size_t)(tail - load_path), ".csv");
        shape.num_groups = strcmp(mode, "hier") == 0 ? 8 : 1;

        cr_expect_eq(count_golden_differences(files.gl_pathv[i], load_path, shape), 0, "%s",
                     files.gl_pathv[i]);
    }
    fprintf(stderr, "eplb: %zu golden files compared\n", files.gl_pathc);
    globfree(&files);
}
