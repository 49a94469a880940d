/*
 * bench_import.c -- how fast moesim trace import reads, beside a plain copy of the same file.
 *
 *     bench_import [DIRECTORY [MEGABYTES]]
 *
 * Writes DeepSeek-V3 routing (58 layers, top-8 of 256; the JSON has all 61) into files of two sizes
 * in DIRECTORY, then copies each (read, write, fsync, 1 MiB at a time) and imports it in turn,
 * every time in a process of its own, and prints the best of several runs as CSV: bytes of the file
 * by wall and by processor time, the import's rate over the copy's, and the largest memory. Memory
 * must not grow with the file. Where other programs run, trust processor time.
 *
 * Measured 2026-11-22 on two cores of an AMD EPYC (Zen 5) that nine other programs kept busy, gcc
 * 12.2 -O2, on a RAM disk, bench_import /dev/shm 400, the import's rate over the copy's by wall
 * (processor) time, best and worst of three: int32 0.81, 0.75 (0.81, 0.79), uint8 0.68, 0.58 (0.65,
 * 0.63); 15 MiB.
 */
#define _DEFAULT_SOURCE /* wait4 */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench_clock.h"
#include "import/import.h"
#include "rng.h"

#define NUM_RUNS   7
#define NUM_LAYERS 58
#define ALL_LAYERS 61
#define TOP_K      8
#define BLOCK      513 /* different tokens, repeated */
#define PATH_BYTES 512
#define COPY_BYTES (1 << 20)

static int32_t expert[BLOCK][ALL_LAYERS][TOP_K]; /* the first three layers are dense */

struct measured {
    double wall_s;
    double cpu_s;
    double memory_mib;
};

static double seconds(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec * 1e-6;
}

static void die(const char *what)
{
    fprintf(stderr, "bench_import: %s\n", what);
    exit(1);
}

static void draw_routing(void)
{
    gsl_rng *rng = rng_stream(1, "bench_import", 0);
    for (int32_t token = 0; token < BLOCK; token++) {
        for (int32_t layer = ALL_LAYERS - NUM_LAYERS; layer < ALL_LAYERS; layer++) {
            for (int32_t k = 0; k < TOP_K; k++) { /* one of 32 each: all differ */
                expert[token][layer][k] = k * 32 + (int32_t)gsl_rng_uniform_int(rng, 32);
            }
        }
    }
    gsl_rng_free(rng);
}

static void write_npy(const char *path, enum npy_type type, int64_t bytes)
{
    struct npy_writer writer;
    struct error error = {0};
    unsigned char row[NUM_LAYERS * TOP_K * sizeof(int32_t)];
    const int32_t width = npy_type_bytes(type);
    const int64_t dim[3] = {bytes / (NUM_LAYERS * TOP_K * width), NUM_LAYERS, TOP_K};
    enum status status = npy_writer_open(&writer, path, type, 3, dim, &error);
    for (int64_t token = 0; token < dim[0] && status == STATUS_OK; token++) {
        const int32_t *from = expert[token % BLOCK][ALL_LAYERS - NUM_LAYERS];
        for (int32_t i = 0; i < NUM_LAYERS * TOP_K; i++) {
            memcpy(row + i * width, &from[i], (size_t)width);
        }
        status = npy_writer_append(&writer, row, (size_t)(NUM_LAYERS * TOP_K * width), &error);
    }
    if (status != STATUS_OK || npy_writer_close(&writer, &error) != STATUS_OK) {
        die(error.text);
    }
}

/* SGLang's responses of BLOCK tokens each. */
static void write_json(const char *path, int64_t bytes)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *from = (const unsigned char *)expert;
    const size_t length = sizeof expert / 3 * 4; /* a multiple of three bytes */
    char *text = malloc(length + 1);
    FILE *file = fopen(path, "w");
    if (text == NULL || file == NULL || sizeof expert % 3 != 0) {
        die("cannot write JSON");
    }
    for (size_t i = 0; i < sizeof expert / 3; i++) {
        uint32_t group =
            (uint32_t)from[3 * i] << 16 | (uint32_t)from[3 * i + 1] << 8 | from[3 * i + 2];
        for (int32_t place = 0; place < 4; place++) {
            text[4 * i + (size_t)place] = alphabet[group >> (18 - 6 * place) & 63];
        }
    }
    text[length] = '\0';
    for (int64_t written = 0; written < bytes; written += (int64_t)length) {
        fprintf(file, "{\"meta_info\": {\"routed_experts\": \"%s\"}}\n", text);
    }
    free(text);
    if (fclose(file) != 0) {
        die("cannot write JSON");
    }
}

static void copy(const char *from, const char *to)
{
    unsigned char *buffer = malloc(COPY_BYTES);
    int in = open(from, O_RDONLY);
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    ssize_t count = in < 0 || out < 0 || buffer == NULL ? -1 : 1;
    while (count > 0) {
        count = read(in, buffer, COPY_BYTES);
        if (count > 0 && write(out, buffer, (size_t)count) != count) {
            count = -1;
        }
    }
    if (count < 0 || fsync(out) != 0) {
        die("cannot copy");
    }
    free(buffer);
    close(in);
    close(out);
}

static void import(const char *from, const char *to, const char *format)
{
    struct error error = {0};
    struct import_summary summary;
    const struct import_options options = {
        .paths = &from,
        .num_paths = 1,
        .format = format,
        .axis = {TRACE_AXIS_TOKEN, TRACE_AXIS_LAYER, TRACE_AXIS_K},
        .model = "deepseek-v3",
        .replace = true,
    };
    if (import_run(to, &options, &summary, &error) != STATUS_OK) {
        die(error.text);
    }
    if (summary.num_layers != NUM_LAYERS || summary.num_tokens < BLOCK || summary.num_pads != 0) {
        die("the import is not what was written");
    }
}

/* In a process of its own; format NULL: a copy. */
static struct measured measure(const char *from, const char *to, const char *format)
{
    struct rusage usage;
    int state = 0;
    double begin_s = clock_s(CLOCK_MONOTONIC);
    pid_t child = fork();
    if (child == 0) {
        if (format == NULL) {
            copy(from, to);
        } else {
            import(from, to, format);
        }
        _exit(0);
    }
    if (child < 0 || wait4(child, &state, 0, &usage) != child || state != 0) {
        die("a run failed");
    }
    return (struct measured){.wall_s = clock_s(CLOCK_MONOTONIC) - begin_s,
                             .cpu_s = seconds(usage.ru_utime) + seconds(usage.ru_stime),
                             .memory_mib = (double)usage.ru_maxrss / 1024.0};
}

static void keep_best(struct measured *best, struct measured run, bool is_first)
{
    best->wall_s = is_first || run.wall_s < best->wall_s ? run.wall_s : best->wall_s;
    best->cpu_s = is_first || run.cpu_s < best->cpu_s ? run.cpu_s : best->cpu_s;
    best->memory_mib =
        is_first || run.memory_mib > best->memory_mib ? run.memory_mib : best->memory_mib;
}

static void bench(const char *name, const char *format, const char *from, const char *to)
{
    struct measured copied;
    struct measured imported;
    struct stat info;
    char command[PATH_BYTES + 16];
    if (stat(from, &info) != 0) {
        die(from);
    }
    (void)snprintf(command, sizeof command, "rm -rf '%s'", to);
    for (int32_t run = 0; run < NUM_RUNS; run++) {
        keep_best(&copied, measure(from, to, NULL), run == 0);
        (void)unlink(to);
        keep_best(&imported, measure(from, to, format), run == 0);
        if (system(command) != 0) {
            die("cannot remove a trace");
        }
    }
    double megabytes = (double)info.st_size * 1e-6;
    printf("%s,%.0f,%.0f,%.0f,%.2f,%.0f,%.0f,%.2f,%.1f\n", name, megabytes,
           megabytes / imported.wall_s, megabytes / copied.wall_s, copied.wall_s / imported.wall_s,
           megabytes / imported.cpu_s, megabytes / copied.cpu_s, copied.cpu_s / imported.cpu_s,
           imported.memory_mib);
    (void)unlink(from);
}

int main(int argc, char **argv)
{
    const char *directory = argc > 1 ? argv[1] : "/tmp";
    const int64_t large = (argc > 2 ? strtoll(argv[2], NULL, 10) : 400) * 1000000;
    char from[PATH_BYTES];
    char to[PATH_BYTES];
    (void)snprintf(from, sizeof from, "%s/bench_import.%d", directory, (int)getpid());
    (void)snprintf(to, sizeof to, "%s/bench_import.%d.trace", directory, (int)getpid());
    draw_routing();
    puts("format,file_mb,import_mb_per_s,copy_mb_per_s,import_over_copy,import_mb_per_cpu_s,"
         "copy_mb_per_cpu_s,import_over_copy_cpu,memory_mib");
    for (int64_t bytes = large / 4; bytes <= large; bytes += large - large / 4) {
        write_npy(from, NPY_INT32, bytes);
        bench("npy_int32", "npy", from, to);
        write_npy(from, NPY_UINT8, bytes);
        bench("npy_uint8", "npy", from, to);
        write_json(from, bytes);
        bench("json_base64", "sglang_routed_experts", from, to);
    }
    return 0;
}
