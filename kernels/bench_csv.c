/*
 * bench_csv.c -- the schema of moe-bench's rows, once: what the header names, rows write.
 */
#include "bench_csv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* One entry a column: its name, and how it is written from (csv, row, date). A macro, because
 * header and row must never differ. X(name, condition for being there, format, value) */
#define COLUMNS(X)                                                                                 \
    X(device, true, "%s", machine->device)                                                         \
    X(driver, true, "%s", machine->driver)                                                         \
    X(num_sms, machine->num_sms > 0, "%d", (int)machine->num_sms)                                  \
    X(sm_mhz, machine->sm_mhz > 0, "%d", (int)machine->sm_mhz)                                     \
    X(hbm_mhz, machine->hbm_mhz > 0, "%d", (int)machine->hbm_mhz)                                  \
    X(power_w, machine->power_w > 0.0, "%.1f", machine->power_w)                                   \
    X(temperature_c, machine->temperature_c > 0, "%d", (int)machine->temperature_c)                \
    X(date_utc, true, "%s", date)                                                                  \
    X(commit, true, "%s", bench_commit())                                                          \
    X(seed, true, "%llu", (unsigned long long)csv->seed)                                           \
    X(command, true, "%s", text(row->command))                                                     \
    X(kernel, true, "%s", text(row->kernel))                                                       \
    X(version, true, "%s", text(row->version))                                                     \
    X(phase, true, "%s", text(row->phase))                                                         \
    X(model, layer != NULL, "%s", layer->name)                                                     \
    X(dtype, layer != NULL, "%s", bench_dtype_name(layer->dtype))                                  \
    X(num_experts, layer != NULL, "%d", (int)layer->expert.num_experts)                            \
    X(top_k, layer != NULL, "%d", (int)layer->gate.top_k)                                          \
    X(hidden_dim, layer != NULL, "%d", (int)layer->expert.hidden_dim)                              \
    X(ffn_dim, layer != NULL, "%d", (int)layer->expert.ffn_dim)                                    \
    X(shared_ffn_dim, layer != NULL, "%d", (int)layer->shared_ffn_dim)                             \
    X(score, layer != NULL, "%s", bench_score_name(layer->gate.score))                             \
    X(activation, layer != NULL, "%s", bench_activation_name(layer->expert.activation))            \
    X(num_tokens, layer != NULL, "%d", (int)row->num_tokens)                                       \
    X(routing, true, "%s", text(row->routing))                                                     \
    X(rank, row->num_ranks > 0, "%d", (int)row->rank)                                              \
    X(num_ranks, row->num_ranks > 0, "%d", (int)row->num_ranks)                                    \
    X(active_experts, row->num_expert_tokens > 0, "%d", (int)active_experts(row))                  \
    X(expert_rows, row->num_expert_tokens > 0, "%lld", (long long)expert_rows(row))                \
    X(num_samples, row->num_samples > 0, "%d", (int)row->num_samples)                              \
    X(median_ns, row->num_samples > 0, "%.0f", row->median_ns)                                     \
    X(min_ns, row->num_samples > 0, "%.0f", row->min_ns)                                           \
    X(p10_ns, row->num_samples > 0, "%.0f", row->p10_ns)                                           \
    X(p90_ns, row->num_samples > 0, "%.0f", row->p90_ns)                                           \
    X(flops, row->flops > 0.0, "%.6g", row->flops)                                                 \
    X(bytes, row->bytes > 0.0, "%.6g", row->bytes)                                                 \
    X(flops_per_s, flops_per_s(row) > 0.0, "%.5g", flops_per_s(row))                               \
    X(bytes_per_s, bytes_per_s(row) > 0.0, "%.5g", bytes_per_s(row))                               \
    X(share_of_gemm, row->gemm_flops_per_s > 0.0, "%.4f",                                          \
      flops_per_s(row) / row->gemm_flops_per_s)                                                    \
    X(share_of_copy, row->copy_bytes_per_s > 0.0, "%.4f",                                          \
      bytes_per_s(row) / row->copy_bytes_per_s)                                                    \
    X(relative_error, row->relative_error >= 0.0, "%.3e", row->relative_error)                     \
    X(status, true, "%s", text(row->status))

/* Last, as its width is not bounded: counts with blanks between. */
#define LAST_COLUMN                                 "expert_tokens"

#define COLUMN_NAME(name, condition, format, value) #name ","

static const char header[] = COLUMNS(COLUMN_NAME) LAST_COLUMN;

const char *bench_csv_header(void)
{
    return header;
}

const char *bench_commit(void)
{
    return MOESIM_COMMIT;
}

static const char *text(const char *value)
{
    return value == NULL ? "" : value;
}

static int32_t active_experts(const struct bench_row *row)
{
    int32_t active = 0;
    for (int32_t expert = 0; expert < row->num_expert_tokens; expert++) {
        active += row->expert_tokens[expert] > 0;
    }
    return active;
}

static int64_t expert_rows(const struct bench_row *row)
{
    int64_t rows = 0;
    for (int32_t expert = 0; expert < row->num_expert_tokens; expert++) {
        rows += row->expert_tokens[expert];
    }
    return rows;
}

static double flops_per_s(const struct bench_row *row)
{
    return row->median_ns > 0.0 ? row->flops / row->median_ns * 1e9 : 0.0;
}

static double bytes_per_s(const struct bench_row *row)
{
    return row->median_ns > 0.0 ? row->bytes / row->median_ns * 1e9 : 0.0;
}

/* Whether the file is empty (1), begins with our header (0), or with something else (-1). */
static int begins(FILE *file)
{
    char line[sizeof header + 1] = "";
    rewind(file);
    if (fgets(line, (int)sizeof line, file) == NULL) {
        return 1;
    }
    line[strcspn(line, "\r\n")] = '\0';
    return strcmp(line, header) == 0 ? 0 : -1;
}

enum status bench_csv_open(struct bench_csv *csv, const char *path, uint64_t seed,
                           struct error *error)
{
    *csv = (struct bench_csv){.table = stdout, .seed = seed};
    if (path == NULL) {
        return STATUS_OK;
    }
    if (strcmp(path, "-") == 0) {
        csv->file = stdout;
        csv->table = stderr;
        fprintf(csv->file, "%s\n", header);
        return STATUS_OK;
    }
    FILE *file = fopen(path, "a+");
    if (file == NULL) {
        return error_add(error, STATUS_IO, "%s: %s", path, strerror(errno));
    }
    int state = begins(file);
    if (state < 0) {
        fclose(file);
        return error_add(error, STATUS_INVALID,
                         "%s: its columns are not this program's: take another file", path);
    }
    csv->file = file;
    csv->close = true;
    if (state == 1) {
        fprintf(file, "%s\n", header);
        fflush(file);
    }
    return STATUS_OK;
}

static void write_columns(FILE *file, const struct bench_csv *csv, const struct bench_row *row)
{
    const struct bench_machine *machine = &csv->machine;
    const struct bench_layer *layer = row->layer;
    time_t now = time(NULL);
    struct tm utc;
    char date[32] = "";
    if (gmtime_r(&now, &utc) != NULL) {
        (void)strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &utc);
    }
#define WRITE_COLUMN(name, condition, format, value)                                               \
    if (condition) {                                                                               \
        fprintf(file, format, value);                                                              \
    }                                                                                              \
    fputc(',', file);
    COLUMNS(WRITE_COLUMN)
#undef WRITE_COLUMN
    for (int32_t expert = 0; expert < row->num_expert_tokens; expert++) {
        fprintf(file, "%s%d", expert > 0 ? " " : "", (int)row->expert_tokens[expert]);
    }
    fputc('\n', file);
}

static void write_table(FILE *file, const struct bench_row *row)
{
    fprintf(file, "%-15s %-10s", text(row->kernel),
            row->phase != NULL ? row->phase : text(row->version));
    if (row->layer != NULL) {
        fprintf(file, " %-16s %s %6d %-10s", row->layer->name, bench_dtype_name(row->layer->dtype),
                (int)row->num_tokens, text(row->routing));
    }
    if (row->num_ranks > 1) {
        fprintf(file, " rank %d", (int)row->rank);
    }
    if (row->num_samples > 0) {
        fprintf(file, " %10.2f us", row->median_ns * 1e-3);
    }
    if (row->num_samples > 0 && row->flops > 0.0) {
        fprintf(file, " %8.2f TFLOP/s", flops_per_s(row) * 1e-12);
    }
    if (row->num_samples > 0 && row->bytes > 0.0) {
        fprintf(file, " %8.2f GB/s", bytes_per_s(row) * 1e-9);
    }
    if (row->relative_error >= 0.0) {
        fprintf(file, " error %.2e", row->relative_error);
    }
    fprintf(file, " %s\n", text(row->status));
}

enum status bench_csv_row(struct bench_csv *csv, const struct bench_row *row)
{
    write_table(csv->table, row);
    fflush(csv->table);
    if (csv->file == NULL) {
        return STATUS_OK;
    }
    write_columns(csv->file, csv, row);
    fflush(csv->file);
    return ferror(csv->file) ? STATUS_IO : STATUS_OK;
}

enum status bench_csv_close(struct bench_csv *csv)
{
    int failed = csv->file != NULL && (ferror(csv->file) | fflush(csv->file)) != 0;
    if (csv->close) {
        failed |= fclose(csv->file) != 0;
    }
    *csv = (struct bench_csv){0};
    return failed ? STATUS_IO : STATUS_OK;
}

static int ascending(const void *left, const void *right)
{
    double a = *(const double *)left;
    double b = *(const double *)right;
    return (a > b) - (a < b);
}

static double nearest_rank(const double *sorted, int32_t count, double share)
{
    int32_t rank = (int32_t)(share * (double)count);
    return sorted[rank < count ? rank : count - 1];
}

void bench_row_samples(struct bench_row *row, double *sample_ns, int32_t count)
{
    qsort(sample_ns, (size_t)count, sizeof *sample_ns, ascending);
    row->num_samples = count;
    row->min_ns = sample_ns[0];
    row->median_ns = count % 2 == 1 ? sample_ns[count / 2]
                                    : (sample_ns[count / 2 - 1] + sample_ns[count / 2]) / 2.0;
    row->p10_ns = nearest_rank(sample_ns, count, 0.1);
    row->p90_ns = nearest_rank(sample_ns, count, 0.9);
}
