/* cmd_calibrate.c -- moesim calibrate. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "calibrate.h"
#include "calibrate_kernels.h"
#include "cli/bench_cli.h"
#include "cli/cli.h"
#include "cli/network_cli.h"
#include "cli/print.h"

#define FILE_BYTES 4096

static const char help[] =
    "usage: moesim calibrate --kernels-moe FILE.csv | --kernels FILE.csv | --alltoall FILE.csv |\n"
    "                        --bench FILE.csv [options]\n\n"
    "Fits the compute model 'fitted' to measurements, a GPU, library and format at a time, or\n"
    "collectives to measured exchanges, and tells how far they are off on rows that a fit has not\n"
    "seen.\n\n"
    "      --kernels-moe FILE   measurements, in the columns of aiconfigurator's MoE tables\n"
    "      --kernels FILE       GEMMs, attention and experts of one rank, a kernel a row\n"
    "      --alltoall FILE      measured exchanges, in the columns of alltoall.csv; --holdout is "
    "then "
    "ep\n"
    "                           (default: a degree at a time), size or random:F\n"
    "      --bench FILE         what moe-bench forward measured: each phase is fitted by itself, "
    "and\n"
    "                           constants and held-out errors are printed; takes no other option\n"
    "      --gpu NAME           only this GPU\n"
    "      --holdout shape      leave one shape out at a time (default); shape:K leaves out one\n"
    "                           of K groups of them, where there are many\n"
    "      --holdout gpu        predict a GPU by the constants of all others, scaled by peak, HBM\n"
    "                           and SMs; ep: leave one EP degree out at a time\n"
    "      --holdout random:F   leave the share F of the rows out, for example random:0.2\n"
    "      --bootstrap N        resampled fits for confidence intervals, default 0: none\n"
    "  -o, --out DIR            write DIR/GPU.yaml: the preset's sections 'fitted:', 'gemm:'\n"
    "                           and 'attention:', or DIR/CLUSTER.yaml\n\n"
    "example:\n"
    "  moesim calibrate --kernels-moe kernels_moe.csv --gpu h100-sxm --out out/fitted\n";

struct options {
    const char *table;
    const char *kernels;
    const char *bench;
    const char *alltoall;
    const char *holdout;
    const char *out;
    struct calibrate_options calibrate;
};

static int parse_holdout(struct options *options, const char *text)
{
    char *end = NULL;
    if (strcmp(text, "shape") == 0) {
        return 0;
    }
    if (strncmp(text, "shape:", 6) == 0) {
        long groups = strtol(text + 6, &end, 10);
        if (end != text + 6 && *end == '\0' && groups >= 2 && groups <= 256) {
            options->calibrate.num_groups = (int32_t)groups;
            return 0;
        }
    }
    if (strcmp(text, "ep") == 0 || strcmp(text, "gpu") == 0) {
        options->calibrate.holdout = text[0] == 'e' ? HOLDOUT_EP : HOLDOUT_GPU;
        return 0;
    }
    if (strncmp(text, "random:", 7) == 0) {
        options->calibrate.holdout = HOLDOUT_RANDOM;
        options->calibrate.random_share = strtod(text + 7, &end);
        if (end != text + 7 && *end == '\0' && options->calibrate.random_share > 0.0 &&
            options->calibrate.random_share < 1.0) {
            return 0;
        }
    }
    return cli_usage("calibrate",
                     "--holdout is shape, shape:K with K groups from 2 to 256, gpu, ep or random:F "
                     "with F between 0 and 1, not '%s'",
                     text);
}

static int parse_bootstrap(struct options *options, const char *text)
{
    char *end = NULL;
    long rounds = strtol(text, &end, 10);
    if (end == text || *end != '\0' || rounds < 0 || rounds > 10000) {
        return cli_usage("calibrate", "--bootstrap is a count up to 10000, not '%s'", text);
    }
    options->calibrate.num_bootstrap = (int32_t)rounds;
    return 0;
}

/* Returns -1 to go on, else the exit code. */
static int parse(struct options *options, int argc, char **argv)
{
    static const struct option known[] = {{"kernels-moe", required_argument, NULL, 'k'},
                                          {"kernels", required_argument, NULL, 'K'},
                                          {"bench", required_argument, NULL, 'B'},
                                          {"alltoall", required_argument, NULL, 'a'},
                                          {"gpu", required_argument, NULL, 'g'},
                                          {"holdout", required_argument, NULL, 'H'},
                                          {"bootstrap", required_argument, NULL, 'b'},
                                          {"out", required_argument, NULL, 'o'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    int option = 0;
    int code = 0;
    optind = 1;
    opterr = 0;
    while (code == 0 && (option = getopt_long(argc, argv, ":o:h", known, NULL)) != -1) {
        if (option == 'h') {
            fputs(help, stdout);
            return 0;
        } else if (option == 'k') {
            options->table = optarg;
        } else if (option == 'K') {
            options->kernels = optarg;
        } else if (option == 'B') {
            options->bench = optarg;
        } else if (option == 'a') {
            options->alltoall = optarg;
        } else if (option == 'g') {
            options->calibrate.gpu = optarg;
        } else if (option == 'H') {
            options->holdout = optarg;
        } else if (option == 'b') {
            code = parse_bootstrap(options, optarg);
        } else if (option == 'o') {
            options->out = optarg;
        } else {
            code = cli_refuse_option(argv[0], option, known, argv);
        }
    }
    if (code == 0 && optind < argc) {
        code = cli_usage(argv[0], "what is '%s'?", argv[optind]);
    }
    int num_tables = (options->table != NULL) + (options->kernels != NULL) +
                     (options->bench != NULL) + (options->alltoall != NULL);
    if (code == 0 && num_tables != 1) {
        code = cli_usage(argv[0], "one of --kernels-moe, --kernels, --alltoall and --bench "
                                  "FILE.csv is needed");
    }
    if (code == 0 && options->bench != NULL &&
        (options->calibrate.gpu != NULL || options->holdout != NULL || options->out != NULL ||
         options->calibrate.num_bootstrap > 0)) {
        code = cli_usage(argv[0], "--bench takes no other option: it prints what it fits");
    }
    bool is_gpu = options->table != NULL || options->kernels != NULL;
    if (code == 0 && is_gpu && options->holdout != NULL) {
        code = parse_holdout(options, options->holdout);
    }
    return code == 0 ? -1 : code;
}

static void print_table(const struct calibration *calibration, int32_t count,
                        const struct moe_rows *rows)
{
    puts("experts: held-out error, median / 90th percentile\n");
    printf("%-12s %-19s %-6s %6s", "GPU", "kernels", "format", "fitted");
    for (int32_t class = 0; class < MOE_CLASS_COUNT; class ++) {
        printf("  %19s", moe_class_name((enum moe_class) class));
    }
    putchar('\n');
    for (int32_t i = 0; i < count; i++) {
        const struct fitted_kernels *fitted = &calibration[i].fitted;
        printf("%-12s %-19s %-6s %6d", rows->gpu[calibration[i].gpu].name, fitted->kernels,
               precision_name(fitted->precision), (int)fitted->fit.num_rows);
        for (int32_t class = 0; class < MOE_CLASS_COUNT; class ++) {
            const struct error_summary *summary = &calibration[i].held_out[class];
            if (summary->num_rows > 0) {
                printf("  %6.1f / %6.1f %%   ", 100.0 * summary->median, 100.0 * summary->p90);
            } else {
                printf("  %19s", "no rows");
            }
        }
        putchar('\n');
    }
}

static void print_kernel_table(const struct kernel_calibration *calibration, int32_t count,
                               const struct kernel_rows *rows)
{
    printf("%-14s %-32s %-10s %-19s %6s %6s %9s %9s %9s\n", "GPU", "kernel", "format", "kernels",
           "rows", "shapes", "median", "p90", "max");
    for (int32_t i = 0; i < count; i++) {
        const struct kernel_calibration *one = &calibration[i];
        printf("%-14s %-32s %-10s %-19s %6d %6d %7.1f %% %7.1f %% %7.1f %%\n",
               rows->moe.gpu[one->gpu].name, one->label, one->dtype,
               one->class == KERNEL_GEMM ? one->gemm.kernels : one->attention.kernels,
               (int)one->held_out.num_rows, (int)one->num_shapes, 100.0 * one->held_out.median,
               100.0 * one->held_out.p90, 100.0 * one->held_out.max);
    }
    putchar('\n');
}

/* All that was fitted, and the GPUs that the indices in it mean. */
struct fits {
    const struct gpu_spec *gpu;
    int32_t num_experts;
    const struct calibration *experts;
    int32_t num_kernels;
    const struct kernel_calibration *kernels;
};

static void write_section(const struct fits *fits, const char *gpu, const char *section,
                          enum kernel_class class, FILE *file)
{
    bool has_any = false;
    for (int32_t i = 0; i < fits->num_kernels; i++) {
        const struct kernel_calibration *one = &fits->kernels[i];
        if (one->class == class && strcmp(fits->gpu[one->gpu].name, gpu) == 0) {
            fputs(has_any ? "" : section, file);
            has_any = true;
            calibrate_kernel_write_yaml(one, file);
        }
    }
}

static enum status write_gpu(const struct fits *fits, const char *gpu, const char *directory,
                             struct error *error)
{
    char path[FILE_BYTES];
    (void)snprintf(path, sizeof path, "%s/%s.yaml", directory, gpu);
    FILE *file = fopen(path, "w");
    if (file == NULL) {
        return error_add(error, STATUS_IO, "%s: %s", path, strerror(errno));
    }
    bool has_any = false;
    for (int32_t i = 0; i < fits->num_experts; i++) {
        if (strcmp(fits->gpu[fits->experts[i].gpu].name, gpu) == 0) {
            fputs(has_any ? "" : "fitted:\n", file);
            has_any = true;
            calibrate_write_yaml(&fits->experts[i], file);
        }
    }
    write_section(fits, gpu, "gemm:\n", KERNEL_GEMM, file);
    write_section(fits, gpu, "attention:\n", KERNEL_ATTENTION, file);
    if (fclose(file) != 0) {
        return error_add(error, STATUS_IO, "%s: %s", path, strerror(errno));
    }
    printf("\nwrote %s", path);
    return STATUS_OK;
}

/* A file for every GPU that has a fit. */
static enum status write_all(const struct fits *fits, const char *directory, struct error *error)
{
    const char *written[MOE_GPUS_MAX];
    int32_t num_written = 0;
    enum status status = STATUS_OK;
    if (mkdir(directory, 0777) != 0 && errno != EEXIST) {
        return error_add(error, STATUS_IO, "%s: %s", directory, strerror(errno));
    }
    for (int32_t i = 0; i < fits->num_experts + fits->num_kernels && status == STATUS_OK; i++) {
        int32_t gpu =
            i < fits->num_experts ? fits->experts[i].gpu : fits->kernels[i - fits->num_experts].gpu;
        const char *name = fits->gpu[gpu].name;
        int32_t other = 0;
        while (other < num_written && strcmp(written[other], name) != 0) {
            other++;
        }
        if (other == num_written && num_written < MOE_GPUS_MAX) {
            written[num_written++] = name;
            status = write_gpu(fits, name, directory, error);
        }
    }
    putchar('\n');
    return status;
}

static const char *table_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

static enum status calibrate_moe(struct options *options, struct calibration *calibration,
                                 struct error *error)
{
    struct moe_rows rows = {0};
    int32_t count = 0;
    options->calibrate.table = table_name(options->table);
    enum status status = moe_rows_read(&rows, options->table, error);
    if (status == STATUS_OK) {
        status = calibrate_all(calibration, &count, &rows, &options->calibrate, error);
    }
    if (status == STATUS_OK) {
        const struct fits fits = {.gpu = rows.gpu, .num_experts = count, .experts = calibration};
        print_table(calibration, count, &rows);
        print_odd_rows(&rows.odd);
        status = options->out != NULL ? write_all(&fits, options->out, error) : STATUS_OK;
    }
    moe_rows_free(&rows);
    return status;
}

static bool has_experts(const struct kernel_rows *rows, const char *gpu)
{
    for (int64_t i = 0; i < rows->moe.num_rows; i++) {
        const struct moe_row *row = &rows->moe.row[i];
        if (row->skip == MOE_USED &&
            (gpu == NULL || strcmp(gpu, rows->moe.gpu[row->gpu].name) == 0)) {
            return true;
        }
    }
    return false;
}

static enum status calibrate_table(struct options *options, struct calibration *experts,
                                   struct kernel_calibration *kernels, struct error *error)
{
    struct kernel_rows rows = {0};
    struct fits fits = {.experts = experts, .kernels = kernels};
    const struct calibrate_options *calibrate = &options->calibrate;
    options->calibrate.table = table_name(options->kernels);
    enum status status = kernel_rows_read(&rows, options->kernels, error);
    if (status == STATUS_OK) {
        status = calibrate_kernels(kernels, &fits.num_kernels, &rows, calibrate, error);
    }
    if (status == STATUS_OK && has_experts(&rows, calibrate->gpu)) {
        status = calibrate_all(experts, &fits.num_experts, &rows.moe, calibrate, error);
    }
    if (status == STATUS_OK && fits.num_experts + fits.num_kernels == 0) {
        status = error_add(error, STATUS_INVALID, "%s has no kernel that can be fitted%s%s",
                           calibrate->table, calibrate->gpu != NULL ? " of " : "",
                           calibrate->gpu != NULL ? calibrate->gpu : "");
    }
    if (status == STATUS_OK) {
        fits.gpu = rows.moe.gpu;
        puts("held-out error\n");
        print_kernel_table(kernels, fits.num_kernels, &rows);
        print_table(experts, fits.num_experts, &rows.moe);
        print_odd_rows(&rows.moe.odd);
        status = options->out != NULL ? write_all(&fits, options->out, error) : STATUS_OK;
    }
    kernel_rows_free(&rows);
    return status;
}

int command_calibrate(int argc, char **argv)
{
    struct options options = {0};
    int code = parse(&options, argc, argv);
    if (code >= 0) {
        return code;
    }
    if (options.bench != NULL) {
        return bench_calibrate(options.bench);
    }
    if (options.alltoall != NULL) {
        return network_calibrate(options.alltoall, options.calibrate.gpu, options.holdout,
                                 options.calibrate.num_bootstrap, options.out);
    }
    struct error *error = calloc(1, sizeof *error);
    struct calibration *experts = calloc(CALIBRATE_SOURCES, sizeof *experts);
    struct kernel_calibration *kernels = calloc(KERNEL_CALIBRATIONS_MAX, sizeof *kernels);
    enum status status =
        error == NULL || experts == NULL || kernels == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    if (status == STATUS_OK) {
        status = gpu_check_presets(error);
    }
    if (status == STATUS_OK) {
        status = options.table != NULL ? calibrate_moe(&options, experts, error)
                                       : calibrate_table(&options, experts, kernels, error);
    }
    code = status == STATUS_OK ? 0 : cli_fail(status, error != NULL ? error : &(struct error){0});
    free(experts);
    free(kernels);
    free(error);
    return code;
}
