/* test_library_picks.c -- what libraries pick instead of the best tiles: look-ups by hand. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "gpu/fitted_gemm.h"
#include "gpu/gpu.h"
#include "gpu/library_picks.h"

#define CELL(bin, column, depth)                                                                   \
    picks_blackwell_bf16[((bin)*PICKS_COLUMNS + (column)) * PICKS_DEPTHS + (depth)]

static struct error error;

static double ratio(double rows, double columns, double depth)
{
    return library_picks_ratio(PICKS_blackwell_bf16, rows, columns, depth);
}

static double share(int32_t percent)
{
    return 1.0 + (double)percent / 100.0;
}

/* Columns 32, 64, 128, ... are nodes 0, 1, 2, ...; depths 32, 256, 512, ... likewise. Rows up to 8,
 * 15, 16 are the classes 0, 1, 2; the last one has all above 10,000. */
Test(library_picks, are_the_table_s_at_its_nodes)
{
    cr_expect_float_eq(ratio(1.0, 32.0, 32.0), share(CELL(0, 0, 0)), 1e-12);
    cr_expect_float_eq(ratio(8.0, 1024.0, 2048.0), share(CELL(0, 6, 4)), 1e-12);
    cr_expect_float_eq(ratio(9.0, 1024.0, 2048.0), share(CELL(1, 6, 4)), 1e-12);
    cr_expect_float_eq(ratio(16.0, 1024.0, 2048.0), share(CELL(2, 6, 4)), 1e-12);
    cr_expect_float_eq(ratio(32768.0, 65536.0, 65536.0),
                       share(CELL(PICKS_CLASSES - 1, PICKS_COLUMNS - 1, PICKS_DEPTHS - 1)), 1e-12);
    cr_expect_neq(CELL(0, 6, 4), CELL(1, 6, 4), "or the classes could not be told apart");
}

Test(library_picks, are_interpolated_over_logarithms)
{
    double between_columns = 0.5 * (share(CELL(0, 1, 2)) + share(CELL(0, 2, 2)));
    double between_depths = 0.5 * (share(CELL(0, 2, 1)) + share(CELL(0, 2, 2)));

    cr_expect_float_eq(ratio(8.0, sqrt(64.0 * 128.0), 512.0), between_columns, 1e-12);
    cr_expect_float_eq(ratio(8.0, 128.0, sqrt(256.0 * 512.0)), between_depths, 1e-12);
}

Test(library_picks, beyond_the_table_are_those_of_its_edge)
{
    cr_expect_float_eq(ratio(1.0, 1.0, 1.0), share(CELL(0, 0, 0)), 1e-12);
    cr_expect_float_eq(ratio(1e6, 1e6, 1e6), ratio(32768.0, 65536.0, 65536.0), 1e-12);
}

Test(library_picks, change_no_product_s_time_by_more_than_half_between_classes_of_rows)
{
    cr_expect_float_eq(library_picks_ratio(PICKS_none, 8.0, 128.0, 512.0), 1.0, 0.0);
    for (int32_t picks = PICKS_none + 1; picks < PICKS_COUNT; picks++) {
        double different = 0.0;
        for (double rows = 1.0; rows < 65536.0; rows *= 1.5) {
            double found = library_picks_ratio((enum library_picks)picks, rows, 7168.0, 2048.0);
            cr_expect_gt(found, 0.5, "%s", library_picks_names[picks]);
            cr_expect_lt(found, 2.0, "%s", library_picks_names[picks]);
            different += fabs(found - 1.0);
        }
        cr_expect_gt(different, 0.0, "%s is empty", library_picks_names[picks]);
    }
}

/* Everything but the launch costs nothing: 1000 ns, times the ratio. */
Test(library_picks, lengthen_a_product_but_no_grouped_one)
{
    struct gemm_constants constants = {.tiles = TILES_TUNED,
                                       .picks = PICKS_blackwell_bf16,
                                       .t0_ns = 1000.0,
                                       .weight_bytes_per_s = 1e30,
                                       .flops_per_s = 1e30,
                                       .feed_bytes_per_s = 1e30,
                                       .prepare_bytes_per_s = 1e30,
                                       .output_bytes_per_s = 1e30,
                                       .split_ns = 1e9,
                                       .blend = 2.0};
    struct gemm_shape shape = {.rows = 8.0,
                               .columns = 128.0,
                               .depth = 512.0,
                               .groups = 1.0,
                               .weight_bytes = 2.0,
                               .num_sms = 148.0,
                               .gpu_sms = 148.0};

    cr_expect_float_eq(fitted_gemm_ns(&constants, &shape), 1000.0 * share(CELL(0, 2, 2)), 1e-6);
    shape.groups = 2.0;
    cr_expect_float_eq(fitted_gemm_ns(&constants, &shape), 1000.0, 1e-6);
}

/* 7168 x 16384 in bf16 with 8 rows on a B200 takes 43.24 us (kernels.csv, TensorRT-LLM
 * 1.3.0rc20). */
Test(library_picks, stand_in_presets)
{
    struct gpu_spec gpu;
    const struct gemm_constants *found = NULL;
    const struct gemm_shape shape = {.rows = 8.0,
                                     .columns = 7168.0,
                                     .depth = 16384.0,
                                     .groups = 1.0,
                                     .weight_bytes = 2.0,
                                     .rounds = 5.0,
                                     .num_sms = 148.0,
                                     .gpu_sms = 148.0};
    cr_assert_eq(gpu_load(&gpu, "b200-sxm", &error), STATUS_OK, "%s", error.text);
    for (int32_t i = 0; i < gpu.num_gemm; i++) {
        bool is_wanted =
            gpu.gemm[i].precision == PRECISION_BF16 && strcmp(gpu.gemm[i].kernels, "trtllm") == 0;
        found = is_wanted ? &gpu.gemm[i] : found;
    }

    cr_assert_not_null(found);
    cr_expect_eq(found->picks, PICKS_blackwell_bf16);
    cr_expect_float_eq(fitted_gemm_ns(found, &shape) / 43.24e3, 1.0, 0.04);
}
