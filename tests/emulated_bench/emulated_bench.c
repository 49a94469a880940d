/* emulated_bench.c -- moe-bench check where a CPU runs the kernels' own source. */
#include <stdio.h>
#include <string.h>

#include "bench_cuda.h"

int main(void)
{
    static struct error error;
    char name[] = "emulated_bench";
    char command[] = "check";
    char size[] = "--size";
    char small[] = "small";
    char kernels[] = "--kernels";
    char which[] = "gate,permute,permute_rows,combine,layer,ep,ep_nccl";
    char *arguments[] = {name, command, size, small, kernels, which};
    struct bench_options options;
    struct bench_csv csv;
    if (bench_options_parse(&options, 6, arguments, &error) != STATUS_OK ||
        bench_csv_open(&csv, NULL, options.seed, &error) != STATUS_OK) {
        fputs(error.text, stderr);
        return 1;
    }
    int code = bench_cuda_check(&options, &csv);
    return bench_csv_close(&csv) == STATUS_OK ? code : 1;
}
