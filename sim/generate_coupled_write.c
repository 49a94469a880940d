/*
 * generate_coupled_write.c -- writes a fitted preset, both files or neither.
 *
 * Each goes to PATH.partial first; the table is renamed before the YAML that names it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data.h"
#include "generate_coupled.h"
#include "npy.h"

#define PATH_BYTES 4096
#define LINE_ITEMS 16 /* numbers a line */

/* A string that YAML takes for a string whatever is in it. */
static void text_write(FILE *file, const char *key, const char *text)
{
    fprintf(file, "%s\"", key);
    for (const char *next = text; *next != '\0'; next++) {
        if (*next == '"' || *next == '\\') {
            fputc('\\', file);
        }
        fputc(*next, file);
    }
    fputs("\"\n", file);
}

static void numbers_write(FILE *file, const char *key, const double *number, int32_t count,
                          int digits)
{
    fprintf(file, "%s[", key);
    for (int32_t i = 0; i < count; i++) {
        const char *space = i == 0 ? "" : i % LINE_ITEMS == 0 ? ",\n      " : ", ";
        fprintf(file, "%s%.*f", space, digits, number[i]);
    }
    fputs("]\n", file);
}

static void yaml_write_preset(FILE *file, const struct generate_preset *preset, const char *table,
                              const char *comment)
{
    const struct coupled_law *law = preset->coupled;
    for (const char *line = comment; *line != '\0';) {
        int length = (int)strcspn(line, "\n");
        fprintf(file, "#%s%.*s\n", length > 0 ? " " : "", length, line);
        line += length + (line[length] == '\n' ? 1 : 0);
    }
    text_write(file, "model: ", preset->model);
    text_write(file, "source: ", preset->source);
    text_write(file, "licence: ", preset->licence);
    fprintf(file, "num_experts: %d\ntop_k: %d\nnum_factors: %d\n", law->num_experts, law->top_k,
            law->num_factors);
    text_write(file, "couplings: ", table);
    fprintf(file, "quick_drift_tokens: %g\nquick_drift_sigma: %.4f\n", law->drift_tokens[0],
            law->drift_sigma[0]);
    fprintf(file, "slow_drift_tokens: %g\nslow_drift_sigma: %.4f\n", law->drift_tokens[1],
            law->drift_sigma[1]);
    fprintf(file, "gate_scale: %.4f\narrivals_per_s: %.6g\nlayers: [", law->gate_scale,
            preset->arrivals_per_s);
    for (int32_t layer = 0; layer < preset->num_layers; layer++) {
        const char *space = layer == 0 ? "" : layer % LINE_ITEMS == 0 ? ",\n  " : ", ";
        fprintf(file, "%s%d", space, preset->layer[layer].model_layer);
    }
    fputs("]\ndomains:\n", file);
    for (int32_t i = 0; i < law->num_domains; i++) {
        const struct coupled_domain *domain = &law->domain[i];
        text_write(file, "  - tag: ", domain->tag);
        fprintf(file, "    requests: %.6g\n", domain->requests);
        numbers_write(file, "    rows: ", domain->rows, COUPLED_QUANTILES, 0);
        numbers_write(file, "    prompt_tokens: ", domain->prompt_tokens, COUPLED_QUANTILES, 0);
        numbers_write(file, "    mean: ", domain->mean, law->num_factors, 3);
        numbers_write(file, "    sigma: ", domain->sigma, law->num_factors, 3);
    }
}

static enum status table_write(const struct coupled_law *law, const char *path, struct error *error)
{
    struct npy_writer writer;
    const int64_t dim[3] = {law->num_layers, coupled_first_row(law, COUPLED_ROW_KINDS),
                            law->num_experts};
    enum status status = npy_writer_open(&writer, path, NPY_INT16, 3, dim, error);
    if (status != STATUS_OK) {
        return status;
    }
    size_t bytes = (size_t)(dim[0] * dim[1] * dim[2]) * sizeof law->table[0];
    status = npy_writer_append(&writer, law->table, bytes, error);
    if (status != STATUS_OK) {
        npy_writer_abandon(&writer);
        return status;
    }
    return npy_writer_close(&writer, error);
}

static enum status file_write(const struct generate_preset *preset, const char *path,
                              const char *table, const char *comment, struct error *error)
{
    FILE *file = fopen(path, "w");
    if (file == NULL) {
        return error_add(error, STATUS_IO, "%s: %s", path, strerror(errno));
    }
    yaml_write_preset(file, preset, table, comment);
    bool written = ferror(file) == 0;
    written = fclose(file) == 0 && written;
    return written ? STATUS_OK : error_add(error, STATUS_IO, "%s: cannot be written", path);
}

enum status coupled_write(const struct generate_preset *preset, const char *path,
                          const char *comment, struct error *error)
{
    char stem[NAME_BYTES];
    char name[NAME_BYTES + 8];
    char table[PATH_BYTES];
    char table_partial[PATH_BYTES + 16];
    char partial[PATH_BYTES + 16];
    const char *slash = strrchr(path, '/');
    int folder = slash == NULL ? 0 : (int)(slash - path) + 1;
    data_stem(stem, sizeof stem, path);
    (void)snprintf(name, sizeof name, "%s.npy", stem);
    if (snprintf(table, sizeof table, "%.*s%s", folder, path, name) >= (int)sizeof table) {
        return error_add(error, STATUS_INVALID, "%s: the path is too long", path);
    }
    (void)snprintf(table_partial, sizeof table_partial, "%s.partial", table);
    (void)snprintf(partial, sizeof partial, "%s.partial", path);
    enum status status = table_write(preset->coupled, table_partial, error);
    if (status == STATUS_OK) {
        status = file_write(preset, partial, name, comment, error);
    }
    if (status == STATUS_OK && (rename(table_partial, table) != 0 || rename(partial, path) != 0)) {
        status = error_add(error, STATUS_IO, "%s: %s", path, strerror(errno));
    }
    if (status != STATUS_OK) {
        (void)unlink(table_partial);
        (void)unlink(partial);
    }
    return status;
}
