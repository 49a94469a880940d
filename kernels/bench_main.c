/*
 * bench_main.c -- moe-bench: checks, times and runs the MoE kernels, on a GPU or on this CPU.
 *
 * Exit codes: 0, 1 (a kernel differs, a call fails, an option is wrong), 77 (the device is not
 * there: skipped).
 */
#include <stdio.h>
#include <string.h>

#include "bench.h"
#include "bench_cpu.h"
#include "bench_csv.h"
#ifdef BENCH_CUDA
#include "bench_cuda.h"
#endif

#ifdef BENCH_CUDA
#define CUDA(function) bench_cuda_##function
#else
#define CUDA(function) NULL
#endif
struct command {
    const char *name;
    const char *summary;
    int (*cuda)(const struct bench_options *options, struct bench_csv *csv);
    int (*cpu)(const struct bench_options *options, struct bench_csv *csv);
};

static const struct command commands[] = {
    {"check", "compares every version of every kernel with its twin in reference/", CUDA(check),
     bench_cpu_check},
    {"time", "times every version of every kernel", CUDA(time), NULL},
    {"forward", "runs a whole MoE layer, phase by phase and as one", CUDA(forward),
     bench_cpu_forward},
    {"ceilings", "measures what the device can do: copies and dense GEMMs", CUDA(ceilings),
     bench_cpu_ceilings},
    {"device", "says which GPU this is, or why it cannot be used", CUDA(device), NULL},
};

#define NUM_COMMANDS (sizeof commands / sizeof commands[0])

static void usage(FILE *file)
{
    fputs("usage: moe-bench COMMAND [options]\n\n", file);
    for (size_t index = 0; index < NUM_COMMANDS; index++) {
        fprintf(file, "  %-9s %s\n", commands[index].name, commands[index].summary);
    }
    fputs("\n", file);
    bench_options_help(file);
}

static const struct command *find_command(const char *name)
{
    for (size_t index = 0; index < NUM_COMMANDS; index++) {
        if (strcmp(name, commands[index].name) == 0) {
            return &commands[index];
        }
    }
    return NULL;
}

static int run(const struct command *command, const struct bench_options *options, bool writes)
{
    bool cpu = options->device == BENCH_DEVICE_CPU;
    int (*function)(const struct bench_options *, struct bench_csv *) =
        cpu ? command->cpu : command->cuda;
#ifndef BENCH_CUDA
    if (!cpu) {
        fprintf(stderr, "moe-bench: built without the CUDA kernels: configure where nvcc is, or "
                        "take --device cpu: skipped\n");
        return BENCH_SKIPPED;
    }
#endif
    if (function == NULL) {
        fprintf(stderr, "moe-bench: the %s device has no command %s\n", cpu ? "CPU" : "CUDA",
                command->name);
        return BENCH_FAILED;
    }
    struct error error = {0};
    struct bench_csv csv;
    if (bench_csv_open(&csv, options->dry_run || !writes ? NULL : options->csv, options->seed,
                       &error) != STATUS_OK) {
        fprintf(stderr, "moe-bench: %s", error.text);
        return BENCH_FAILED;
    }
    int code = function(options, &csv);
    if (bench_csv_close(&csv) != STATUS_OK) {
        fprintf(stderr, "moe-bench: %s could not be written\n", options->csv);
        return BENCH_FAILED;
    }
    return code;
}

static int bench(int argc, char **argv, bool writes)
{
    if (argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        usage(stdout);
        return BENCH_OK;
    }
    const struct command *command = argc >= 2 ? find_command(argv[1]) : NULL;
    if (command == NULL) {
        if (argc >= 2) {
            fprintf(stderr, "moe-bench: there is no command %s\n\n", argv[1]);
        }
        usage(stderr);
        return BENCH_FAILED;
    }
    for (int index = 2; index < argc; index++) {
        if (strcmp(argv[index], "--help") == 0) {
            usage(stdout);
            return BENCH_OK;
        }
    }
    static struct error error; /* 16 KiB of text: not for the stack */
    struct bench_options options;
    if (bench_options_parse(&options, argc, argv, &error) != STATUS_OK) {
        fprintf(stderr, "%smoe-bench: see moe-bench --help\n", error.text);
        return BENCH_FAILED;
    }
    return run(command, &options, writes);
}

int main(int argc, char **argv)
{
    int32_t rank = bench_cpu_begin(&argc, &argv); /* of several only the first writes the CSV */
    int code = bench(argc, argv, rank == 0);
    bench_cpu_end(code);
    return code;
}
