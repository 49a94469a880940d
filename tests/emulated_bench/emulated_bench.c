/*
 * emulated_bench.c -- moe-bench where a CPU runs the kernels' own source: check of every kernel, or
 * the command and options that it is given.
 */
#include <stdio.h>
#include <string.h>

#include "bench_cuda.h"

static int run(int count, char **arguments)
{
    static struct error error;
    int (*command)(const struct bench_options *, struct bench_csv *) =
        strcmp(arguments[1], "time") == 0       ? bench_cuda_time
        : strcmp(arguments[1], "forward") == 0  ? bench_cuda_forward
        : strcmp(arguments[1], "ceilings") == 0 ? bench_cuda_ceilings
        : strcmp(arguments[1], "device") == 0   ? bench_cuda_device
                                                : bench_cuda_check;
    struct bench_options options;
    struct bench_csv csv;
    if (bench_options_parse(&options, count, arguments, &error) != STATUS_OK ||
        bench_csv_open(&csv, options.csv, options.seed, &error) != STATUS_OK) {
        fputs(error.text, stderr);
        return 1;
    }
    int code = command(&options, &csv);
    return bench_csv_close(&csv) == STATUS_OK ? code : 1;
}

int main(int count, char **given)
{
    char name[] = "emulated_bench";
    char command[] = "check";
    char size[] = "--size";
    char small[] = "small";
    char kernels[] = "--kernels";
    char which[] = "gate,permute,permute_rows,combine,layer,ep,ep_nccl";
    char *arguments[] = {name, command, size, small, kernels, which};
    return count > 1 ? run(count, given) : run(6, arguments);
}
