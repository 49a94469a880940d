/* test_cluster_preset.c -- presets of clusters, in scenarios and in the engine. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "collective/exchange.h"
#include "data.h"
#include "scenario.h"
#include "text_file.h"

#define DECODE SOURCE_DIRECTORY "/scenarios/studies/deepseek_v3_decode_32xh800.yaml"

static struct error error;
static struct scenario scenario;
static struct cluster cluster;

static enum status load(const char *const *overrides, int32_t count)
{
    error = (struct error){0};
    return scenario_load(&scenario, DECODE, overrides, count, &error);
}

static void expect_error(const char *part)
{
    cr_expect_not_null(strstr(error.text, part), "'%s' is not in: %s", part, error.text);
}

/* Physical bounds: no port passes more than its nominal rate by more than the fit's uncertainty,
 * and no start-up is longer than 100 us. */
Test(cluster_preset, every_preset_loads_with_plausible_constants)
{
    struct arena arena = {0};
    const char *const *names = NULL;
    int32_t count = data_list(&names, "clusters", &arena);
    cr_assert_geq(count, 9);
    for (int32_t i = 0; i < count; i++) {
        error = (struct error){0};
        cr_assert_eq(cluster_load(&cluster, names[i], &error), STATUS_OK, "%s", error.text);
        cr_expect_str_eq(cluster.preset, names[i]);
        cr_expect_geq(cluster.num_fitted, 1);
        for (int32_t k = 0; k < cluster.num_fitted * EXCHANGE_COUNT; k++) {
            const struct fitted_collective *fitted = &cluster.fitted[k / EXCHANGE_COUNT];
            const struct exchange_constants *constants = &fitted->exchange[k % EXCHANGE_COUNT];
            if (!fitted->has[k % EXCHANGE_COUNT]) {
                continue;
            }
            cr_expect_not_null(collective_find(fitted->collective), "%s", fitted->collective);
            cr_expect_lt(constants->scale_up_share, 1.05, "%s", names[i]);
            cr_expect_lt(constants->scale_out_share, 1.05, "%s", names[i]);
            cr_expect_lt(constants->startup_ns, 1e5, "%s", names[i]);
        }
    }
    arena_free(&arena);
}

Test(cluster_preset, a_scenario_takes_gpu_wiring_and_constants_from_it)
{
    static const char *const overrides[] = {"cluster={preset: h100-cx7, nodes: 4}",
                                            "price=neocloud"};
    cr_assert_eq(load(overrides, 2), STATUS_OK, "%s", error.text);
    cr_expect_str_eq(scenario.cluster.gpu.name, "h100-sxm");
    cr_expect_eq(scenario.cluster.gpus_per_node, 8);
    cr_assert_gt(scenario.cluster.fitted_used, 0);
    const struct fitted_collective *used =
        &scenario.cluster.fitted[scenario.cluster.fitted_used - 1];
    cr_expect_str_eq(used->collective, "deepep_low_latency");
    struct exchange_evidence evidence = exchange_evidence(&scenario.cluster);
    cr_expect_eq(evidence.error_median, used->fit.error_median);
    cr_expect_str_eq(evidence.fitted_on, used->fit.fitted_on);
    scenario_free(&scenario);
}

Test(cluster_preset, the_last_of_preset_and_gpu_counts)
{
    static const char *const gpu[] = {"cluster.gpu=h100-sxm", "price=neocloud"};
    static const char *const preset[] = {"cluster.gpu=h200-sxm", "cluster.preset=h100-cx7",
                                         "price=neocloud"};
    cr_assert_eq(load(gpu, 2), STATUS_OK, "%s", error.text);
    cr_expect_str_eq(scenario.cluster.gpu.name, "h100-sxm");
    cr_expect_eq(scenario.cluster.num_fitted, 0);
    scenario_free(&scenario);
    cr_assert_eq(load(preset, 3), STATUS_OK, "%s", error.text);
    cr_expect_str_eq(scenario.cluster.gpu.name, "h100-sxm");
    cr_expect_gt(scenario.cluster.num_fitted, 0);
    scenario_free(&scenario);
    FILE *file = fopen("inherits_gpu.yaml", "w");
    cr_assert_not_null(file);
    cr_assert_geq(fputs("inherits: " DECODE "\ncluster: {gpu: h100-sxm}\nprice: neocloud\n", file),
                  0);
    cr_assert_eq(fclose(file), 0);
    cr_expect_eq(scenario_load(&scenario, "inherits_gpu.yaml", NULL, 0, &error), STATUS_OK, "%s",
                 error.text);
    cr_expect_eq(scenario.cluster.num_fitted, 0);
    scenario_free(&scenario);
    cr_assert_eq(remove("inherits_gpu.yaml"), 0);
}

Test(cluster_preset, constants_follow_the_format_and_a_collective_without_some_keeps_its_own)
{
    static const char *const two_sided[] = {
        "cluster={preset: gb200-nvl72, nodes: 1, gpus_per_node: 32}", "price=neocloud",
        "dispatch.collective=two_sided", "dispatch.dtype=nvfp4"};
    static const char *const hierarchical[] = {"cluster.preset=h800-cx7",
                                               "dispatch.collective=hierarchical_2d"};
    cr_assert_eq(load(two_sided, 4), STATUS_OK, "%s", error.text);
    const struct fitted_collective *used =
        &scenario.cluster.fitted[scenario.cluster.fitted_used - 1];
    cr_expect_str_eq(used->dtype, "nvfp4");
    cr_expect(used->has[EXCHANGE_PREPARE]);
    scenario_free(&scenario);
    cr_assert_eq(load(hierarchical, 2), STATUS_OK, "%s", error.text);
    cr_expect_eq(scenario.cluster.fitted_used, 0);
    cr_expect_lt(exchange_evidence(&scenario.cluster).error_median, 0.0);
    scenario_free(&scenario);
}

Test(cluster_preset, mistakes_are_told_with_their_key)
{
    static const char *const other_gpu[] = {
        "cluster={preset: h100-cx7, gpu: h800-sxm, nodes: 4, gpus_per_node: 8}"};
    static const char *const unknown[] = {"cluster.preset=h100-cx8"};
    static const char *const nothing[] = {"cluster={nodes: 4}"};
    static const char *const sms[] = {"dispatch.num_sms=-1"};
    static const char *const all_sms[] = {"dispatch.num_sms=132"};
    cr_expect_eq(load(other_gpu, 1), STATUS_INVALID);
    expect_error("cluster.gpu: h800-sxm is not the GPU of h100-cx7, which is h100-sxm");
    scenario_free(&scenario);
    cr_expect_eq(load(unknown, 1), STATUS_INVALID);
    expect_error("cluster.preset");
    expect_error("h100-cx7");
    scenario_free(&scenario);
    cr_expect_eq(load(nothing, 1), STATUS_INVALID);
    expect_error("cluster.gpu: is missing; name a GPU, or a cluster");
    expect_error("cluster.gpus_per_node: is missing");
    scenario_free(&scenario);
    cr_expect_eq(load(sms, 1), STATUS_INVALID);
    expect_error("num_sms");
    scenario_free(&scenario);
    cr_expect_eq(load(all_sms, 1), STATUS_INVALID);
    expect_error("dispatch.num_sms: 132 leaves none of the 132 SMs of h800-sxm to compute");
    scenario_free(&scenario);
}

Test(cluster_preset, a_file_with_mistakes_is_refused_with_all_of_them)
{
    const char *path = text_file(
        ".yaml", "source: tests\ngpu: h100-sxm\ngpus_per_node: 8\nfitted:\n"
                 "  - collective: flat\n    dtype: any\n    library: made up\n"
                 "    fitted_on: x\n    holdout: x\n    num_rows: 1\n    error_median: 0.1\n"
                 "    error_p90: 0.2\n    dispatch: {startup_ns: -1, colour: red}\n");
    error = (struct error){0};
    cr_expect_eq(cluster_load(&cluster, path, &error), STATUS_INVALID);
    expect_error("startup_ns");
    expect_error("colour");
    expect_error("dispatch and combine are needed");
    path = text_file(".yaml", "source: tests\ngpu: h100-sxm\ngpus_per_node: 8\nfitted: 3\n");
    error = (struct error){0};
    cr_expect_eq(cluster_load(&cluster, path, &error), STATUS_INVALID);
    expect_error(":4: fitted: a list of at most");
    cr_assert_eq(unlink(path), 0);
}

/* A GPU of one's own lies beside the cluster that names it, and the cluster beside its scenario. */
Test(cluster_preset, a_gpu_of_ones_own_is_looked_for_beside_its_cluster)
{
    static const char *const overrides[] = {"cluster={preset: own_lab/cluster.yaml, nodes: 4}",
                                            "price=2", "compute.model=roofline"};
    static const char *const files[][2] = {
        {"own_lab/cluster.yaml", "source: tests\ngpu: card.yaml\ngpus_per_node: 8\n"},
        {"own_lab/card.yaml",
         "source: tests\nflops_per_s: {bf16: 1e15, fp8: 2e15}\nflops_fraction: 0.7\nhbm_bytes: "
         "64e9\n"
         "hbm_bytes_per_s: 3e12\nhbm_fraction: 0.9\nkernel_ns: 3000\nnum_sms: 100\ntdp_watts: 700\n"
         "scale_up: {bytes_per_s: 400e9, fraction: 0.8, latency_ns: 1000}\n"
         "scale_out: {bytes_per_s: 50e9, fraction: 0.9, latency_ns: 3700}\n"},
        {"own_lab/lost.yaml", "source: tests\n\ngpu: nowhere.yaml\ngpus_per_node: 8\n"}};
    cr_assert_eq(mkdir("own_lab", 0755), 0);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        FILE *file = fopen(files[i][0], "w");
        cr_assert_not_null(file);
        cr_assert_geq(fputs(files[i][1], file), 0);
        cr_assert_eq(fclose(file), 0);
    }
    cr_expect_eq(load(overrides, 3), STATUS_OK, "%s", error.text);
    cr_expect_str_eq(scenario.cluster.gpu.name, "card");
    cr_expect_eq(scenario.cluster.gpu.hbm_bytes, INT64_C(64000000000));
    scenario_free(&scenario);
    cr_expect_eq(cluster_load(&cluster, "own_lab/lost.yaml", &error), STATUS_INVALID);
    expect_error("own_lab/lost.yaml:3: gpu: 'nowhere.yaml' is neither a file nor one of the gpus");
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        cr_assert_eq(remove(files[i][0]), 0);
    }
    cr_assert_eq(rmdir("own_lab"), 0);
}
