/* measured_read.c -- from rows of measurements to points of a table. */
#include "measured_read.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_rows.h"
#include "digest.h"
#include "error_report.h"
#include "format.h"
#include "gpu/fitted_phases.h"
#include "kernel_rows.h"
#include "moe_rows_internal.h"

/* The constants that the fit takes, for rows of the same kernels alone. */
static enum status add_gemm(struct measured_table *table, const struct kernel_row *row,
                            const struct gpu_spec *gpu, struct error *error)
{
    const struct gemm_constants *constants = fitted_find_gemm(gpu, row->precision);
    if (constants == NULL || strcmp(constants->kernels, row->kernels) != 0) {
        return STATUS_OK;
    }
    struct kernel_row cold = *row; /* a point of the table is met whatever L2 held */
    cold.gemm.rounds = 0.0;
    const struct measured_place place = measured_place_gemm(&row->gemm, row->precision);
    return measured_add(table, &place, row->latency_ns, kernel_row_gemm_ns(&cold, gpu, constants),
                        row->line, error);
}

static enum status add_attention(struct measured_table *table, const struct kernel_row *row,
                                 const struct gpu_spec *gpu, struct error *error)
{
    const struct attention_constants *constants =
        fitted_find_attention(gpu, row->phase, row->precision, row->attention.q_heads);
    if (constants == NULL || strcmp(constants->kernels, row->kernels) != 0) {
        return STATUS_OK;
    }
    const struct measured_place place =
        measured_place_attention(&row->attention, row->phase, row->precision);
    return measured_add(table, &place, row->latency_ns,
                        kernel_row_attention_ns(row, gpu, constants), row->line, error);
}

static enum status read_kernels(struct measured_table *table, const char *path,
                                const struct gpu_spec *gpu, struct error *error)
{
    struct kernel_rows rows = {0};
    enum status status = kernel_rows_read(&rows, path, error);
    for (int64_t i = 0; i < rows.num_rows && status == STATUS_OK; i++) {
        const struct kernel_row *row = &rows.row[i];
        if (row->skip != NULL || strcmp(rows.moe.gpu[row->gpu].name, gpu->name) != 0) {
            continue;
        }
        if (row->class == KERNEL_GEMM) {
            status = add_gemm(table, row, gpu, error);
        } else if (row->class == KERNEL_ATTENTION) {
            status = add_attention(table, row, gpu, error);
        }
    }
    kernel_rows_free(&rows);
    return status;
}

static enum status read_moe(struct measured_table *table, const char *path,
                            const struct gpu_spec *gpu, struct error *error)
{
    struct moe_rows rows = {0};
    const struct fitted_kernels *fitted = &gpu->fitted[gpu->fitted_chosen];
    enum status status = moe_rows_load(&rows, path, error);
    for (int64_t i = 0; i < rows.num_rows; i++) {
        struct moe_row *row = &rows.row[i];
        bool is_wanted = row->skip == MOE_USED &&
                         (row->class == MOE_BALANCED || row->class == MOE_BALANCED_EP) &&
                         strcmp(rows.gpu[row->gpu].name, gpu->name) == 0 &&
                         row->precision == fitted->precision &&
                         strcmp(row->kernels, fitted->kernels) == 0;
        row->skip = is_wanted ? MOE_USED : MOE_SKIP_DISTRIBUTION; /* what is not counted is fast */
    }
    if (status == STATUS_OK) {
        status = moe_rows_count(&rows, error);
    }
    for (int64_t i = 0; i < rows.num_rows && status == STATUS_OK; i++) {
        const struct moe_row *row = &rows.row[i];
        if (row->skip != MOE_USED) {
            continue;
        }
        const struct expert_shape shape = {.hidden_dim = row->hidden_dim, .ffn_dim = row->ffn_dim};
        const struct measured_place place =
            measured_place_experts(&shape, &row->load[0], row->precision);
        status = measured_add(table, &place, row->latency_ns, moe_row_predict(row, gpu, fitted),
                              i + 2, error);
    }
    moe_rows_free(&rows);
    return status;
}

/* What of a step the experts' phase has within. */
static bool is_expert_phase(enum bench_phase phase)
{
    return phase == BENCH_PERMUTE || phase == BENCH_ROWS || phase == BENCH_GATE_UP ||
           phase == BENCH_DOWN || phase == BENCH_COMBINE;
}

static bool is_of_gpu(const struct bench_row *row, const struct gpu_spec *gpu)
{
    struct gpu_spec found;
    struct error unknown = {0};
    return !row->is_cpu && gpu_load(&found, row->device, &unknown) == STATUS_OK &&
           strcmp(found.name, gpu->name) == 0;
}

/* One rank of one step: the sum of its phases, where both GEMMs are among them. */
static enum status add_step(struct measured_table *table, const struct bench_rows *rows,
                            int64_t first, const struct gpu_spec *gpu, struct error *error)
{
    const struct bench_row *step = &rows->row[first];
    const struct fitted_kernels *fitted = &gpu->fitted[gpu->fitted_chosen];
    struct expert_load load = {0};
    double ns = 0.0;
    bool has_down = false;
    for (int64_t i = 0; i < rows->num_rows; i++) {
        const struct bench_row *row = &rows->row[i];
        if (row->skip == BENCH_USED && row->step == step->step && row->rank == step->rank &&
            is_expert_phase(row->phase)) {
            ns += row->ns;
            has_down = has_down || row->phase == BENCH_DOWN;
        }
    }
    for (int32_t slot = 0; slot < step->num_slots; slot++) {
        expert_load_add(&load, step->slot_tokens[slot], 1.0);
    }
    if (!has_down || load.copies <= 0.0) {
        return STATUS_OK;
    }
    load.rows = fmin(load.copies, (double)step->num_tokens);
    const struct expert_shape shape = {.hidden_dim = step->hidden_dim,
                                       .ffn_dim = step->ffn_dim,
                                       .weight_bytes = precision_weight_bytes(fitted->precision),
                                       .num_sms = (double)gpu->num_sms,
                                       .gpu_sms = (double)gpu->num_sms};
    const struct measured_place place = measured_place_experts(&shape, &load, fitted->precision);
    return measured_add(table, &place, ns, fitted_expert_ns(fitted, &shape, &load), first, error);
}

static enum status read_bench(struct measured_table *table, const char *path,
                              const struct gpu_spec *gpu, struct error *error)
{
    struct bench_rows rows = {0};
    const char *precision = precision_name(gpu->fitted[gpu->fitted_chosen].precision);
    const char *device = ""; /* the last one looked up */
    bool is_wanted = false;
    enum status status = bench_rows_read(&rows, path, error);
    for (int64_t i = 0; i < rows.num_rows && status == STATUS_OK; i++) {
        const struct bench_row *row = &rows.row[i];
        if (strcmp(device, row->device) != 0) {
            device = row->device;
            is_wanted = is_of_gpu(row, gpu);
        }
        if (is_wanted && row->skip == BENCH_USED && row->phase == BENCH_GATE_UP && row->is_gated &&
            strcmp(row->dtype, precision) == 0) {
            status = add_step(table, &rows, i, gpu, error);
        }
    }
    bench_rows_free(&rows);
    return status;
}

enum status measured_error(double *median, const struct measured_table *table, struct error *error)
{
    double *off = calloc((size_t)table->num_points + 1, sizeof *off);
    int64_t count = 0;
    if (off == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    for (int64_t i = 0; i < table->num_points; i++) {
        double ratio = 1.0;
        if (measured_ratio(&ratio, table, &table->point[i].place, i)) {
            off[count++] = ratio / exp(table->point[i].log_ratio) - 1.0;
        }
    }
    *median = count > 0 ? error_summarise(off, count).median : -1.0;
    free(off);
    return STATUS_OK;
}

static enum status complain_empty(const char *path, const char *what, const struct gpu_spec *gpu,
                                  bool has_experts, struct error *error)
{
    const struct fitted_kernels *fitted = has_experts ? &gpu->fitted[gpu->fitted_chosen] : NULL;
    return has_experts
               ? error_add(error, STATUS_INVALID,
                           "%s: no row has %s of a %s in %s with kernels '%s'; moesim validate on "
                           "the file lists what it holds",
                           path, what, gpu->name, precision_name(fitted->precision),
                           fitted->kernels)
               : error_add(error, STATUS_INVALID,
                           "%s: no row has %s of a %s with the kernels of its constants; moesim "
                           "validate on the file lists what it holds",
                           path, what, gpu->name);
}

static const char *name_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

enum status measured_read(struct measured_table *table, const struct measured_files *files,
                          const struct gpu_spec *gpu, struct error *error)
{
    const struct {
        const char *path;
        const char *what;
        bool has_experts;
        enum status (*read)(struct measured_table *table, const char *path,
                            const struct gpu_spec *gpu, struct error *error);
    } all[] = {{files->kernels, "GEMMs or attention", false, read_kernels},
               {files->moe, "evenly loaded experts", true, read_moe},
               {files->bench, "experts", true, read_bench}};
    enum status status = STATUS_OK;
    *table = (struct measured_table){0};
    for (size_t i = 0; i < sizeof all / sizeof all[0] && status == STATUS_OK; i++) {
        int64_t before = table->num_points;
        if (all[i].path == NULL) {
            continue;
        }
        bool can = !all[i].has_experts || gpu->fitted_chosen >= 0;
        status = can ? all[i].read(table, all[i].path, gpu, error) : STATUS_OK;
        if (status == STATUS_OK && table->num_points == before) {
            status =
                complain_empty(all[i].path, all[i].what, gpu, all[i].has_experts && can, error);
        }
        int64_t points = table->num_points - before;
        format_append(table->fitted_on, sizeof table->fitted_on, "%s%lld point%s of %.40s",
                      before > 0 ? ", " : "", (long long)points, points == 1 ? "" : "s",
                      name_of(all[i].path));
    }
    if (status == STATUS_OK) {
        format_append(table->fitted_on, sizeof table->fitted_on, ", and beside %s the fit",
                      table->num_points == 1 ? "it" : "them");
        measured_sort(table);
        status = measured_error(&table->error_median, table, error);
    }
    return status;
}

enum status measured_digest(uint64_t *digest, const struct measured_files *files,
                            struct error *error)
{
    const char *const paths[] = {files->kernels, files->moe, files->bench};
    *digest = DIGEST_START;
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        if (paths[i] == NULL) {
            *digest = digest_u64(*digest, i);
            continue;
        }
        FILE *file = fopen(paths[i], "rb");
        if (file == NULL) {
            return error_add(error, STATUS_IO, "%s: %s", paths[i], strerror(errno));
        }
        for (int byte = getc(file); byte != EOF; byte = getc(file)) {
            *digest = digest_u64(*digest, (uint64_t)byte);
        }
        bool is_bad = ferror(file) != 0;
        (void)fclose(file);
        if (is_bad) {
            return error_add(error, STATUS_IO, "%s: cannot be read", paths[i]);
        }
    }
    return STATUS_OK;
}
