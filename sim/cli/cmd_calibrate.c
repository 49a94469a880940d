/* cmd_calibrate.c -- moesim calibrate. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "calibrate.h"
#include "cli/bench_cli.h"
#include "cli/cli.h"
#include "cli/network_cli.h"

#define FILE_BYTES 4096

static const char help[] =
    "usage: moesim calibrate --kernels-moe FILE.csv | --alltoall FILE.csv | --bench FILE.csv "
    "[options]\n\n"
    "Fits the compute model 'fitted' to measured MoE operations, a GPU, set of kernels and format\n"
    "at a time, or collectives to measured exchanges, and tells how far they are off on rows that "
    "a\n"
    "fit has not seen.\n\n"
    "      --kernels-moe FILE   measurements, in the columns of aiconfigurator's MoE tables\n"
    "      --alltoall FILE      measured exchanges, in the columns of alltoall.csv; --holdout is "
    "then "
    "ep\n"
    "                           (default: a degree at a time), size or random:F\n"
    "      --bench FILE         what moe-bench forward measured: each phase is fitted by itself, "
    "and\n"
    "                           constants and held-out errors are printed; takes no other option\n"
    "      --gpu NAME           only this GPU\n"
    "      --holdout shape      leave one model shape out at a time (default)\n"
    "      --holdout random:F   leave the share F of the rows out, for example random:0.2\n"
    "      --bootstrap N        resampled fits for confidence intervals, default 0: none\n"
    "  -o, --out DIR            write DIR/GPU.yaml: the preset's section 'fitted:', or "
    "DIR/CLUSTER.yaml\n\n"
    "example:\n"
    "  moesim calibrate --kernels-moe kernels_moe.csv --gpu h100-sxm --out out/fitted\n";

struct options {
    const char *table;
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
    if (strncmp(text, "random:", 7) == 0) {
        options->calibrate.random_share = strtod(text + 7, &end);
        if (end != text + 7 && *end == '\0' && options->calibrate.random_share > 0.0 &&
            options->calibrate.random_share < 1.0) {
            return 0;
        }
    }
    return cli_usage("calibrate", "--holdout is shape or random:F with F between 0 and 1, not '%s'",
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
    while (code == 0 && (option = getopt_long(argc, argv, "o:h", known, NULL)) != -1) {
        if (option == 'h') {
            fputs(help, stdout);
            return 0;
        } else if (option == 'k') {
            options->table = optarg;
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
            code = cli_usage(argv[0], "unknown option or missing value: %s", argv[optind - 1]);
        }
    }
    if (code == 0 && optind < argc) {
        code = cli_usage(argv[0], "what is '%s'?", argv[optind]);
    }
    int num_tables =
        (options->table != NULL) + (options->bench != NULL) + (options->alltoall != NULL);
    if (code == 0 && num_tables != 1) {
        code =
            cli_usage(argv[0], "one of --kernels-moe, --alltoall and --bench FILE.csv is needed");
    }
    if (code == 0 && options->table != NULL && options->holdout != NULL) {
        code = parse_holdout(options, options->holdout);
    }
    return code == 0 ? -1 : code;
}

static void print_table(const struct calibration *calibration, int32_t count,
                        const struct moe_rows *rows)
{
    puts("held-out error, median / 90th percentile\n");
    printf("%-12s %-19s %-6s %6s", "GPU", "kernels", "format", "fitted");
    for (int32_t class = 0; class < MOE_CLASS_COUNT; class ++) {
        printf("  %19s", moe_class_name((enum moe_class) class));
    }
    putchar('\n');
    for (int32_t i = 0; i < count; i++) {
        const struct fitted_kernels *fitted = &calibration[i].fitted;
        printf("%-12s %-19s %-6s %6d", rows->gpu[calibration[i].gpu].name, fitted->kernels,
               precision_name(fitted->precision), (int)fitted->num_rows);
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

static enum status write_gpu(const struct calibration *calibration, int32_t count,
                             const struct moe_rows *rows, int32_t gpu, const char *directory,
                             struct error *error)
{
    char path[FILE_BYTES];
    (void)snprintf(path, sizeof path, "%s/%s.yaml", directory, rows->gpu[gpu].name);
    FILE *file = fopen(path, "w");
    if (file == NULL) {
        return error_add(error, STATUS_IO, "%s: %s", path, strerror(errno));
    }
    fputs("fitted:\n", file);
    for (int32_t i = 0; i < count; i++) {
        if (calibration[i].gpu == gpu) {
            calibrate_write_yaml(&calibration[i], file);
        }
    }
    if (fclose(file) != 0) {
        return error_add(error, STATUS_IO, "%s: %s", path, strerror(errno));
    }
    printf("\nwrote %s", path);
    return STATUS_OK;
}

static enum status write_all(const struct calibration *calibration, int32_t count,
                             const struct moe_rows *rows, const char *directory,
                             struct error *error)
{
    bool is_written[MOE_GPUS_MAX] = {false};
    enum status status = STATUS_OK;
    if (mkdir(directory, 0777) != 0 && errno != EEXIST) {
        return error_add(error, STATUS_IO, "%s: %s", directory, strerror(errno));
    }
    for (int32_t i = 0; i < count && status == STATUS_OK; i++) {
        if (!is_written[calibration[i].gpu]) {
            is_written[calibration[i].gpu] = true;
            status = write_gpu(calibration, count, rows, calibration[i].gpu, directory, error);
        }
    }
    putchar('\n');
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
        return network_calibrate(options.alltoall, options.holdout, options.calibrate.num_bootstrap,
                                 options.out);
    }
    const char *slash = strrchr(options.table, '/');
    options.calibrate.table = slash != NULL ? slash + 1 : options.table;
    struct moe_rows rows = {0};
    int32_t count = 0;
    struct error *error = calloc(1, sizeof *error);
    struct calibration *calibration = calloc(CALIBRATE_SOURCES, sizeof *calibration);
    enum status status = error == NULL || calibration == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    if (status == STATUS_OK) {
        status = moe_rows_read(&rows, options.table, error);
    }
    if (status == STATUS_OK) {
        status = calibrate_all(calibration, &count, &rows, &options.calibrate, error);
    }
    if (status == STATUS_OK) {
        print_table(calibration, count, &rows);
        status = options.out != NULL ? write_all(calibration, count, &rows, options.out, error)
                                     : STATUS_OK;
    }
    code = status == STATUS_OK ? 0 : cli_fail(status, error != NULL ? error : &(struct error){0});
    moe_rows_free(&rows);
    free(calibration);
    free(error);
    return code;
}
