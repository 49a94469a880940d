/* bench_cuda_check.c -- moe-bench check: every version of every kernel against its twin. */
#include "bench_cuda.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench_case.h"
#include "bench_check.h"
#include "quantize.h"

const char *const check_version_names[] = {"", "v1", "v2", "v3", "v4", "v5", "v6"};

static const struct kernel {
    const char *name;
    enum status (*check)(struct check *check);
} kernels[] = {
    {"gate", check_gate},
    {"permute", check_permute},
    {"permute_rows", check_permute_rows},
    {"combine", check_combine},
    {"grouped_gemm", check_grouped_gemm},
    {"layer", check_layer},
    {"ep", check_ep},
    {"ep_nccl", check_ep_nccl},
    {"model", check_model},
};

#define NUM_KERNELS (sizeof kernels / sizeof kernels[0])

void *check_poison(enum check_kind kind, int64_t bytes)
{
    void *memory = malloc((size_t)(bytes > 0 ? bytes : 1));
    if (memory != NULL) {
        memset(memory, kind == CHECK_BITS ? CHECK_POISON : CHECK_NAN, (size_t)bytes);
    }
    return memory;
}

bool check_goes_on(const struct check *check)
{
    return check->options->budget_s <= 0.0 ||
           bench_now_s() - check->start_s < check->options->budget_s;
}

void check_plan(const struct check *check, const char *kernel, const char *what,
                int32_t num_versions)
{
    fprintf(check->csv->table, "%-15s %-60s v1 to v%d\n", kernel, what, (int)num_versions);
}

/* ||got - expected|| / ||expected||; both zero: 0. A NaN on one side alone makes it NaN. */
static double frobenius(const struct check_output *output, const void *got)
{
    double difference = 0.0;
    double norm = 0.0;
    for (int64_t i = 0; i < output->bytes / check_width(output->kind); i++) {
        double expected = check_element(output->kind, output->expected, i);
        double value = check_element(output->kind, got, i);
        if (isnan(expected) && isnan(value)) {
            continue; /* poison that both left alone */
        }
        difference += (value - expected) * (value - expected);
        norm += expected * expected;
    }
    return difference == 0.0 ? 0.0 : sqrt(difference / norm);
}

static double output_error(const struct check_output *output, const void *got)
{
    if (output->kind == CHECK_BITS) {
        return memcmp(got, output->expected, (size_t)output->bytes) == 0 ? 0.0 : HUGE_VAL;
    }
    return frobenius(output, got);
}

/* One run on poison; the outputs into got. */
static enum status run_once(struct gpu *gpu, struct gpu_work work, int32_t version,
                            const struct check_output *output, int32_t num_outputs, void **got)
{
    for (int32_t i = 0; i < num_outputs; i++) {
        int poison = output[i].kind == CHECK_BITS ? CHECK_POISON : CHECK_NAN;
        if (cudaMemsetAsync(output[i].device, poison, (size_t)output[i].bytes, gpu->stream) !=
            cudaSuccess) {
            return STATUS_CUDA;
        }
    }
    enum status status = work.launch(work.context, version, 0, gpu->stream);
    for (int32_t i = 0; i < num_outputs && status == STATUS_OK; i++) {
        if (cudaMemcpyAsync(got[i], output[i].device, (size_t)output[i].bytes,
                            cudaMemcpyDeviceToHost, gpu->stream) != cudaSuccess) {
            return STATUS_CUDA;
        }
    }
    return cudaStreamSynchronize(gpu->stream) == cudaSuccess ? status : STATUS_CUDA;
}

/* Both runs of a version: the error of the first, and whether the second has the same bits. */
static enum status run_twice(struct check *check, struct gpu_work work, int32_t version,
                             const struct check_output *output, int32_t num_outputs,
                             void *got[2][CHECK_OUTPUTS_MAX], struct bench_row *row)
{
    bool passes = true;
    bool repeats = true;
    row->relative_error = 0.0;
    for (int32_t run = 0; run < 2; run++) {
        enum status status = run_once(check->gpu, work, version, output, num_outputs, got[run]);
        if (status != STATUS_OK) {
            row->status = status == STATUS_CUDA ? "failed" : "refused";
            row->relative_error = -1.0;
            return status;
        }
    }
    for (int32_t i = 0; i < num_outputs; i++) {
        double error = output_error(&output[i], got[0][i]);
        passes = passes && error <= output[i].tolerance;
        repeats = repeats && memcmp(got[0][i], got[1][i], (size_t)output[i].bytes) == 0;
        row->relative_error =
            error > row->relative_error || isnan(error) ? error : row->relative_error;
    }
    row->status = !passes ? "differs" : !repeats ? "does not repeat" : "ok";
    return STATUS_OK;
}

/* Where the outputs of a version that differs do, or its two runs. */
static void report(const struct check *check, const struct check_output *output,
                   int32_t num_outputs, void *got[2][CHECK_OUTPUTS_MAX])
{
    for (int32_t i = 0; i < num_outputs; i++) {
        const struct check_output *of = &output[i];
        struct bench_difference found = bench_difference(of->kind, of->expected, got[0][i],
                                                         of->bytes, of->row_bytes, of->tolerance);
        bench_difference_print(check->csv->table, of->name, &found, of->kind, of->expected,
                               got[0][i], of->row_bytes, (const char *const[]){"expected", "got"});
        found = bench_difference(CHECK_BITS, got[0][i], got[1][i], of->bytes,
                                 of->row_bytes % 4 == 0 ? of->row_bytes : 0, 0.0);
        bench_difference_print(check->csv->table, of->name, &found, CHECK_BITS, got[0][i],
                               got[1][i], of->row_bytes % 4 == 0 ? of->row_bytes : 0,
                               (const char *const[]){"first run", "second"});
    }
    fflush(check->csv->table);
}

/* What the GPU says of a version that failed; false: the context is gone. */
static bool survives(const struct check *check)
{
    cudaError_t code = cudaDeviceSynchronize();
    fprintf(check->csv->table, "    %s\n",
            code != cudaSuccess ? cudaGetErrorString(code)
                                : "refused before the GPU began: CUDA_LOG_FILE=stderr says more");
    fflush(check->csv->table);
    return code == cudaSuccess;
}

static bool differs(const struct bench_row *row)
{
    return strcmp(row->status, "differs") == 0 || strcmp(row->status, "does not repeat") == 0;
}

enum status check_versions(struct check *check, struct bench_row *row,
                           const char *const *version_name, int32_t first_version,
                           int32_t last_version, struct gpu_work work,
                           const struct check_output *output, int32_t num_outputs)
{
    void *got[2][CHECK_OUTPUTS_MAX] = {{NULL}};
    enum status status = STATUS_OK;
    for (int32_t i = 0; i < 2 * num_outputs; i++) {
        got[i / num_outputs][i % num_outputs] =
            check_poison(output[i % num_outputs].kind, output[i % num_outputs].bytes);
        if (got[i / num_outputs][i % num_outputs] == NULL) {
            status = STATUS_NO_MEMORY;
        }
    }
    for (int32_t version = first_version; version <= last_version && status == STATUS_OK;
         version++) {
        if (!bench_wants_version(check->options, version_name[version])) {
            continue;
        }
        row->command = "check";
        row->version = version_name[version];
        status = run_twice(check, work, version, output, num_outputs, got, row);
        check->num_checked++;
        check->num_failed += strcmp(row->status, "ok") != 0;
        enum status written = bench_csv_row(check->csv, row);
        if (status == STATUS_OK && differs(row)) {
            report(check, output, num_outputs, got);
        }
        /* After a refusal the others go on, and after a launch that the GPU has survived. */
        if (status == STATUS_INVALID || (status == STATUS_CUDA && survives(check))) {
            status = STATUS_OK;
        }
        status = status == STATUS_OK ? written : status;
    }
    for (int32_t i = 0; i < 2 * num_outputs; i++) {
        free(got[i / num_outputs][i % num_outputs]);
    }
    return status;
}

int bench_cuda_check(const struct bench_options *options, struct bench_csv *csv)
{
    static struct error error;
    struct gpu gpu;
    int code = gpu_begin(&gpu, options, csv, &error);
    if (code != BENCH_OK) {
        return code;
    }
    struct check check = {&gpu, options, csv, &error, 0, 0, 0, bench_now_s()};
    enum status status = STATUS_OK;
    for (size_t i = 0; i < NUM_KERNELS && status == STATUS_OK; i++) {
        if (bench_wants_kernel(options, kernels[i].name) && check_goes_on(&check)) {
            status = kernels[i].check(&check);
        }
    }
    if (!options->dry_run) {
        fprintf(csv->table, "%d versions checked, %d wrong%s\n", (int)check.num_checked,
                (int)check.num_failed, check_goes_on(&check) ? "" : "; out of time");
    }
    if (check.num_checked == 0 && check.num_skipped > 0 && status == STATUS_OK) {
        gpu_close(&gpu);
        return BENCH_SKIPPED;
    }
    if (!options->dry_run && check.num_checked == 0 && status == STATUS_OK) {
        status = error_add(&error, STATUS_INVALID,
                           "nothing was checked: no such kernel or version, or no time");
    }
    return gpu_end(&gpu, status, &error, check.num_failed);
}
