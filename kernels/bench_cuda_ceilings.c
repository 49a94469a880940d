/*
 * bench_cuda_ceilings.c -- moe-bench device and ceilings: which GPU this is, what it does at best,
 * and what a launch costs.
 */
#include "bench_case.h"
#include "bench_cuda.h"

static enum status nothing(void *context, int32_t version, int32_t input, cudaStream_t stream)
{
    (void)version;
    (void)input;
    return gpu_fill(context, DTYPE_FP32, 32, 1.0f, 1, stream);
}

static enum status write_rate(struct gpu *gpu, struct bench_csv *csv, const char *kernel,
                              double flops, double bytes, double per_s)
{
    struct bench_row row = {.command = "ceilings",
                            .kernel = kernel,
                            .num_samples = 1,
                            .flops = flops,
                            .bytes = bytes,
                            .relative_error = -1.0,
                            .status = "ok"};
    row.median_ns = (flops > 0.0 ? flops : bytes) / per_s * 1e9;
    row.min_ns = row.p10_ns = row.p90_ns = row.median_ns;
    gpu_read_clocks(gpu, &csv->machine);
    return bench_csv_row(csv, &row);
}

/* The shortest kernel there is, timed as all others are: what is in every number. */
static enum status time_launch(struct gpu *gpu, const struct bench_options *options,
                               struct bench_csv *csv)
{
    struct dev_memory memory = {0};
    void *data = dev_alloc(&memory, 32 * 4);
    struct gpu_contender contender = {.name = "launch", .work = {nothing, data}};
    struct bench_row row = {
        .command = "ceilings", .kernel = "launch", .relative_error = -1.0, .status = "ok"};
    enum status status =
        memory.failed ? STATUS_CUDA : gpu_time(gpu, &contender, 1, 1, options->num_samples, 2.0);
    status = status == STATUS_OK ? gpu_write_row(gpu, csv, &row, &contender) : status;
    gpu_contenders_free(&contender, 1);
    dev_memory_free(&memory);
    return status;
}

int bench_cuda_ceilings(const struct bench_options *options, struct bench_csv *csv)
{
    static struct error error;
    struct gpu gpu;
    int code = gpu_begin(&gpu, options, csv, &error);
    if (code != BENCH_OK) {
        return code;
    }
    if (options->dry_run) {
        fputs("copy            device to device, 1 GiB read and 1 GiB written\n"
              "dense_bf16      cuBLASLt, 8192 x 8192 x 8192, random data\n"
              "launch          a kernel of one warp in a graph\n",
              csv->table);
        return BENCH_OK;
    }
    enum status status = gpu_ceilings(&gpu);
    if (status == STATUS_OK) {
        status = write_rate(&gpu, csv, "copy", 0.0, 2.0 * 0x1p30, gpu.copy_bytes_per_s);
    }
    if (status == STATUS_OK) {
        status = write_rate(&gpu, csv, "dense_bf16", 2.0 * 0x1p39, 0.0, gpu.bf16_flops_per_s);
    }
    if (status == STATUS_OK) {
        status = time_launch(&gpu, options, csv);
    }
    return gpu_end(&gpu, status, &error, 0);
}

int bench_cuda_device(const struct bench_options *options, struct bench_csv *csv)
{
    static struct error error;
    struct gpu gpu;
    int code = gpu_begin(&gpu, options, csv, &error);
    if (code == BENCH_OK && !options->dry_run) {
        const struct bench_machine *machine = &gpu.machine;
        fprintf(csv->table, "%s, %d SMs at %d MHz, HBM at %d MHz, driver %s, moe-bench %s\n",
                machine->device, (int)machine->num_sms, (int)machine->sm_mhz, (int)machine->hbm_mhz,
                machine->driver, bench_commit());
        gpu_close(&gpu);
    }
    return code;
}
