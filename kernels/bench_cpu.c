/* bench_cpu.c -- what the commands of the CPU device have in common, and its ceilings. */
#ifdef _OPENMP
#include <omp.h>
#endif
#include <stdlib.h>
#include <string.h>

#include "bench_cpu_internal.h"
#include "bench_cpu_mpi.h"

int32_t cpu_threads(const struct bench_options *options)
{
    int32_t there = 1;
#ifdef _OPENMP
    there = omp_get_max_threads() / cpu_ranks_on_host();
#endif
    return options->num_threads > 0 ? options->num_threads : there > 1 ? there : 1;
}

void cpu_describe_machine(struct bench_machine *machine, int32_t num_threads)
{
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "r");
    strcpy(machine->device, "CPU");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        char *value = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && value != NULL) {
            line[strcspn(line, "\n")] = '\0';
            snprintf(machine->device, sizeof machine->device, "%.80s", value + 2);
            break;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    for (char *next = machine->device; *next != '\0'; next++) {
        *next = *next == ',' ? ' ' : *next;
    }
    snprintf(machine->driver, sizeof machine->driver, "%.31s", cpu_blas());
    machine->num_sms = num_threads;
}

int cpu_check_device(const struct bench_options *options)
{
    if (cpu_blas() == NULL) {
        fputs("moe-bench: built without OpenBLAS, which the CPU device computes with (Debian: "
              "libopenblas-pthread-dev, then configure again): skipped\n",
              stderr);
        return BENCH_SKIPPED;
    }
    if (options->layer.dtype == DTYPE_FP8_E4M3) {
        fputs("moe-bench: --dtype fp8: the CPU device computes in fp32 (reference/ emulates fp8, "
              "slowly)\n",
              stderr);
        return BENCH_FAILED;
    }
    if (cpu_ranks_are_apart()) {
        fputs("moe-bench: built without MPI, so these processes cannot be ranks (Debian: "
              "libopenmpi-dev, then configure again): skipped\n",
              stderr);
        return BENCH_SKIPPED;
    }
    if (options->num_ranks > 1 && options->num_ranks != cpu_num_ranks()) {
        fprintf(stderr,
                "moe-bench: --ranks %d: ranks of the CPU device are processes; start them with "
                "mpirun -np %d moe-bench ...\n",
                (int)options->num_ranks, (int)options->num_ranks);
        return BENCH_FAILED;
    }
    return BENCH_OK;
}

int cpu_fail(enum status status, struct error *error)
{
    if (status == STATUS_NO_MEMORY) {
        error_add(error, status,
                  "not enough memory for these weights and tokens in float32: take "
                  "fewer experts, smaller matrices or fewer tokens");
    } else if (error->num_problems == 0) {
        error_add(error, status, "the rows could not be written");
    }
    fprintf(stderr, "moe-bench: %s", error->text);
    return BENCH_FAILED;
}

double cpu_dense_ns(float *dense, int32_t num_threads)
{
    const int64_t elements = (int64_t)DENSE_DIM * DENSE_DIM;
    cpu_blas_threads(num_threads);
    double start_s = cpu_busy_s(num_threads);
    cpu_gemm(DENSE_DIM, DENSE_DIM, DENSE_DIM, dense, dense + elements, dense + 2 * elements,
             DENSE_DIM);
    double end_s = cpu_busy_s(num_threads);
    cpu_blas_threads(1);
    return (end_s - start_s) * 1e9;
}

#define COPY_BYTES (INT64_C(256) << 20) /* beyond any last-level cache of one socket's share */

/* Read + written bytes a second, all threads. */
static double copy_ns(char *to, const char *from, int32_t num_threads)
{
    double start_s = bench_now_s();
#pragma omp parallel for schedule(static) num_threads(num_threads)
    for (int32_t part = 0; part < num_threads; part++) {
        int64_t begin = COPY_BYTES * part / num_threads;
        int64_t end = COPY_BYTES * (part + 1) / num_threads;
        memcpy(to + begin, from + begin, (size_t)(end - begin));
    }
    return (bench_now_s() - start_s) * 1e9;
}

static enum status write_ceiling(struct bench_csv *csv, const char *kernel, double *sample_ns,
                                 int32_t count, double flops, double bytes)
{
    struct bench_row row = {.command = "ceilings",
                            .kernel = kernel,
                            .version = "cpu",
                            .flops = flops,
                            .bytes = bytes,
                            .relative_error = -1.0,
                            .status = "ok"};
    bench_row_samples(&row, sample_ns, count);
    return cpu_rank() == 0 ? bench_csv_row(csv, &row) : STATUS_OK;
}

int bench_cpu_ceilings(const struct bench_options *options, struct bench_csv *csv)
{
    int code = cpu_check_device(options);
    if (code != BENCH_OK || options->dry_run) {
        return code;
    }
    int32_t threads = cpu_threads(options);
    size_t samples = (size_t)options->num_samples;
    struct error error = {0};
    struct arena arena = {0};
    char *from = arena_alloc(&arena, 1, (size_t)COPY_BYTES);
    char *to = arena_alloc(&arena, 1, (size_t)COPY_BYTES);
    double *dense_ns = arena_take(&arena, samples, sizeof *dense_ns);
    double *copied_ns = arena_take(&arena, samples, sizeof *copied_ns);
    float *dense = arena_alloc(&arena, 3, (size_t)DENSE_DIM * DENSE_DIM * sizeof *dense);
    bool enough =
        from != NULL && to != NULL && dense_ns != NULL && copied_ns != NULL && dense != NULL;
    enum status status = enough ? STATUS_OK : STATUS_NO_MEMORY;
    if (enough) {
        cpu_describe_machine(&csv->machine, threads);
        for (int32_t i = 0; i < options->num_samples; i++) {
            dense_ns[i] = cpu_dense_ns(dense, threads);
            copied_ns[i] = copy_ns(to, from, threads);
        }
        status = write_ceiling(csv, "dense_gemm", dense_ns, options->num_samples,
                               2.0 * DENSE_DIM * DENSE_DIM * (double)DENSE_DIM, 0.0);
    }
    if (status == STATUS_OK) {
        status = write_ceiling(csv, "copy", copied_ns, options->num_samples, 0.0,
                               2.0 * (double)COPY_BYTES);
    }
    arena_free(&arena);
    return status == STATUS_OK ? BENCH_OK : cpu_fail(status, &error);
}
