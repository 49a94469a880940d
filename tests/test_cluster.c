/* test_cluster.c -- GPU and price presets, and the plug-ins that scenarios name. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cluster.h"
#include "data.h"
#include "price.h"
#include "registry.h"

static struct error error;

Test(registry, lists_what_each_kind_finds)
{
    for (int kind = 0; kind < REGISTRY_KIND_COUNT; kind++) {
        int32_t count = registry_count((enum registry_kind)kind);
        cr_expect_geq(count, 1, "%s", registry_kind_name((enum registry_kind)kind));
        for (int32_t i = 0; i < count; i++) {
            struct registry_entry entry = registry_entry((enum registry_kind)kind, i);
            cr_expect_gt(strlen(entry.name), 0);
            cr_expect_gt(strlen(entry.summary), 0, "%s", entry.name);
            cr_expect_not_null(entry.source, "%s", entry.name);
        }
    }
}

Test(cluster, presets_and_prices_load_and_fit)
{
    struct arena arena = {0};
    const char *const *names;
    int32_t count = data_list(&names, "gpus", &arena);
    cr_assert_geq(count, 4);
    for (int32_t i = 0; i < count; i++) {
        struct gpu_spec gpu;
        cr_expect_eq(gpu_load(&gpu, names[i], &error), STATUS_OK, "%s", error.text);
    }
    count = data_list(&names, "prices", &arena);
    cr_assert_geq(count, 5);
    for (int32_t i = 0; i < count; i++) {
        struct price price;
        struct gpu_spec gpu;
        cr_expect_eq(price_load(&price, names[i], &error), STATUS_OK, "%s", error.text);
        cr_expect_eq(gpu_load(&gpu, price.gpu, &error), STATUS_OK, "%s", error.text);
        cr_expect_str_eq(gpu.name, price.gpu);
    }
    arena_free(&arena);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file, "%s", path);
    cr_assert_geq(fputs(text, file), 0);
    cr_assert_eq(fclose(file), 0);
}

Test(cluster, every_broken_preset_is_told)
{
    char directory[] = "/tmp/test-cluster-XXXXXX";
    char path[128];
    static const char *const made[] = {"", "/scenarios", "/scenarios/gpus"};
    static const char *const files[] = {"/scenarios/gpus/no-rates.yaml",
                                        "/scenarios/gpus/no-yaml.yaml"};
    cr_expect_eq(gpu_check_presets(&error), STATUS_OK, "%s", error.text);
    cr_assert_not_null(mkdtemp(directory));
    for (int i = 1; i < 3; i++) {
        (void)snprintf(path, sizeof path, "%s%s", directory, made[i]);
        cr_assert_eq(mkdir(path, 0700), 0);
    }
    (void)snprintf(path, sizeof path, "%s%s", directory, files[0]);
    write_file(path, "hbm_bytes: 80e9\n");
    (void)snprintf(path, sizeof path, "%s%s", directory, files[1]);
    write_file(path, "hbm_bytes: [80e9\n");
    cr_assert_eq(setenv("MOESIM_DATA", directory, 1), 0);

    enum status status = gpu_check_presets(&error);

    cr_expect_eq(status, STATUS_INVALID);
    cr_expect_not_null(strstr(error.text, files[0]), "%s", error.text);
    cr_expect_not_null(strstr(error.text, files[1]), "%s", error.text);
    for (int i = 0; i < 2; i++) {
        (void)snprintf(path, sizeof path, "%s%s", directory, files[i]);
        cr_expect_eq(unlink(path), 0);
    }
    for (int i = 2; i >= 0; i--) {
        (void)snprintf(path, sizeof path, "%s%s", directory, made[i]);
        cr_expect_eq(rmdir(path), 0);
    }
}

Test(cluster, a_gpu_is_found_by_the_name_its_tools_print)
{
    struct gpu_spec gpu;

    cr_expect_eq(gpu_load(&gpu, "NVIDIA H100 80GB HBM3", &error), STATUS_OK);

    cr_expect_str_eq(gpu.name, "h100-sxm");
    cr_expect_eq(gpu.hbm_bytes, INT64_C(85520000000));
    cr_expect_eq(gpu.flops_per_s[PRECISION_BF16], 989e12);
    cr_expect_eq(gpu.port[TIER_SCALE_OUT].bytes_per_s, 50e9);
}
